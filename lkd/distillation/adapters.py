"""Adapters of a distillation: sized by what student and teacher give, trained along, kept in checkpoints."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.distillation.pairing import TermPair
from lkd.losses import Term

ADAPTERS = "distillation_adapters"
"""Name of the attribute of the student that holds the adapters while distillation is attached."""
SHAPES = "distillation_shapes"
"""Key of a checkpoint that holds the shapes that the adapters were made from."""
LAYERS = "distillation_layers"
"""Key of a checkpoint that holds the layers that the adapters lie between."""


def may_adapt(terms: Iterable[Term]) -> bool:
    """Returns whether one of the terms may need an adapter.

    Example:
        >>> from lkd.losses import KD, FitNets
        >>> may_adapt([KD()]), may_adapt([KD(), FitNets()])
        (False, True)
    """
    return any(type(term).adapter is not Term.adapter for term in terms)


def make_adapters(module: LightningModule, pairs: Sequence[TermPair]) -> nn.ModuleDict:
    """Makes the adapters that the terms need, in the precision of the module's run.

    The global random state is neither read nor changed, so all ranks of a run make the same adapters.

    Args:
        module: The student.
        pairs: What the terms compare on one batch.

    Raises:
        ValueError: If an adapter depends on which dimension of a sequence holds the channels, and this is not
            known.
    """
    adapters = nn.ModuleDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for pair in pairs:
            if not may_adapt([pair.term]):
                continue
            if pair.unknown and _differ(pair.student, pair.teacher):
                raise ValueError(
                    f"{' and '.join(pair.unknown)}: nothing tells which dimension of this sequence holds the channels; say "
                    "it behind the address, '@NLC' where they come last, '@NCL' where they come first."
                )
            adapter = pair.term.adapter(pair.student, pair.teacher)
            if adapter is not None:
                adapters[pair.name] = adapter
    precision = getattr(module._trainer, "precision_plugin", None)
    return adapters if precision is None else precision.convert_module(adapters)


def hold(module: nn.Module, adapters: nn.ModuleDict, as_child: bool = False) -> Callable[[], None]:
    """Attaches the adapters to the module, outside of its parameters, state and averages of weights.

    Args:
        module: The student.
        adapters: Its adapters.
        as_child: Whether they are among its parameters nevertheless, though not in its state: for callbacks
            that look up by name all that an optimizer trains.

    Returns:
        A function that removes them again.
    """
    handles = []
    if as_child:
        module.add_module(ADAPTERS, adapters)
        handles.append(module.register_state_dict_post_hook(_leave_out))
        handles.append(module.register_load_state_dict_post_hook(_do_not_miss))
    else:
        vars(module)[ADAPTERS] = adapters

    def undo() -> None:
        if hasattr(module, ADAPTERS):
            delattr(module, ADAPTERS)
        for handle in handles:
            handle.remove()

    return undo


def _leave_out(module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}{ADAPTERS}.")]:
        del state[key]


def _do_not_miss(module: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [key for key in keys.missing_keys if f"{ADAPTERS}." not in key]


def _differ(student: Any, teacher: Any) -> bool:
    ours, theirs = ([value] if isinstance(value, Tensor) else value for value in (student, teacher))
    return [tensor.shape[1:] for tensor in ours] != [tensor.shape[1:] for tensor in theirs]


def shapes_of(pairs: Sequence[TermPair]) -> dict[str, list[Any]]:
    """Returns the shapes of what terms with adapters compare, as plain lists, to make the adapters again.

    Example:
        >>> from lkd.losses import FitNets
        >>> shapes_of([TermPair("fitnets", FitNets(), [torch.zeros(2, 3)], torch.zeros(2, 4))])
        {'fitnets': [[[2, 3]], [2, 4]]}
    """

    def shape(value: Any) -> list[Any]:
        return list(value.shape) if isinstance(value, Tensor) else [shape(v) for v in value]

    return {p.name: [shape(p.student), shape(p.teacher)] for p in pairs if may_adapt([p.term])}


def layers_of(terms: Mapping[str, Term]) -> dict[str, list[Any]]:
    """Returns the layers of student and teacher that terms with adapters compare.

    Example:
        >>> from lkd.losses import KD, FitNets
        >>> layers_of({"kd": KD(), "fitnets": FitNets(student_layer="body.3", teacher_layer="body.7")})
        {'fitnets': ['body.3', 'body.7']}
    """
    return {name: [t.student_layer, t.teacher_layer] for name, t in terms.items() if may_adapt([t])}


def pairs_of(
    shapes: dict[str, list[Any]], terms: dict[str, Term], device: torch.device | None = None
) -> list[TermPair]:
    """Makes pairs of zeros in these shapes.

    Example:
        >>> from lkd.losses import FitNets
        >>> pairs_of({"fitnets": [[[2, 3]], [2, 4]]}, {"fitnets": FitNets()})[0].student[0].shape
        torch.Size([2, 3])
    """

    def zeros(shape: list[Any]) -> Any:
        if all(isinstance(n, int) for n in shape):
            return torch.zeros(shape, device=device)
        return [zeros(one) for one in shape]

    return [
        TermPair(name, terms[name], *(zeros(s) for s in both))
        for name, both in shapes.items()
        if name in terms
    ]


def train_along(configured: Any, adapters: nn.ModuleDict) -> None:
    """Lets the first optimizer train the adapters too, if it does not yet.

    They join the first parameter group, because a scheduler that was made with the optimizer would not know a
    group of their own.

    Args:
        configured: An optimizer, or what `configure_optimizers` returns in any of Lightning's forms.
        adapters: The adapters.
    """
    optimizer = configured
    if not configured:  # Lightning can train without an optimizer, too
        return
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer["optimizer"] if isinstance(optimizer, dict) else optimizer[0]
    known = {id(p) for group in optimizer.param_groups for p in group["params"]}
    optimizer.param_groups[0]["params"].extend(p for p in adapters.parameters() if id(p) not in known)
