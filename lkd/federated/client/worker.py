"""The copy of a client's module on which the clients of a process train, one after the other."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn.parameter import is_lazy
from torchmetrics import Metric

from lkd.copies import copied, held_by
from lkd.distillation.adapters import ADAPTERS
from lkd.federated.client.fresh_metrics import FreshMetrics
from lkd.federated.client.logger import Log
from lkd.federated.client.parts import named_parts, parameters_of
from lkd.federated.protocol.seeds import GENERATORS, seed_generators
from lkd.federated.protocol.tensor_names import split_names
from lkd.federated.protocol.tensors import Tensors, moved, shapes
from lkd.packages import overrides

UNCALLED = (
    "backward",
    "configure_callbacks",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "optimizer_step",
    "optimizer_zero_grad",
)
"""Hooks that local training does not call; a module that overrides one is refused."""

MOVED = (
    "{} changes {} in training, which is frozen (requires_grad=False), such as a moving average: every client keeps its own "
    "from round to round, and the server's model has that of the start. To average it over the clients, register it as a "
    "buffer."
)
THAWED = (
    "{} trains {} at a client, which was frozen (requires_grad=False) when the federation began: every client keeps its own "
    "from round to round, and the server's model has that of the start. To unfreeze a layer in a later round, leave it "
    "trainable at the start and freeze it in on_train_start in the rounds before (self.current_epoch is the round)."
)


class Worker:
    """Holder of the module, which knows the tensors that are shared and those that are a client's own.

    Args:
        module: The client's LightningModule; it is copied.
        personal: Patterns of parameter and buffer names (`fnmatch`, or a prefix such as `"network.head"`)
            that never leave the client; `"batchnorm"` stands for all layers of that kind (FedBN, Li et al.
            2021).
        argument: Name of the user's argument that held the module, for messages.

    Raises:
        ValueError: If the module cannot be a client's, or a pattern matches nothing.
    """

    def __init__(
        self, module: LightningModule, personal: Sequence[str] = (), argument: str = "model"
    ) -> None:
        if not module.automatic_optimization:
            raise ValueError(
                f"{type(module).__name__} optimizes by hand; a client leaves that to its federation."
            )
        for hook in UNCALLED:
            if overrides(module, hook):
                raise ValueError(
                    f"{type(module).__name__} has a {hook} of its own, which local training does not call."
                )
        self.module: LightningModule = copied(module, argument)
        self.log = Log()
        self.module.log = self.log  # type: ignore[assignment, method-assign]
        for part in self.module.modules():
            if isinstance(part, Metric):  # clients of different ranks must never mix their figures
                part.distributed_available_fn = _never
                part.reset()  # a copy made after a validation holds its figures
        self.patterns = list(personal)
        self._told: set[str] = set()
        self._own_names(module)

    def _own_names(self, source: LightningModule) -> None:
        names = split_names(self.module, source, self.patterns)
        self.shared, self.buffers, self.own = names.shared, names.buffers, names.own

    def prepare(self, source: LightningModule, trainer: Trainer) -> None:
        """Takes over weights, device and precision before the first round.

        Args:
            source: The server's module.
            trainer: The federation's Trainer.

        Raises:
            ValueError: If `setup` makes layers at the server only, or a lazy layer has no size yet.
        """
        self.module.trainer = trainer
        self.module.setup("fit")
        self.module.configure_model()  # a copy may be from before this call; a second call must be harmless
        weights = source.state_dict()
        if lacks := [name for name in weights if name not in self.module.state_dict()]:
            raise ValueError(
                f"{type(source).__name__}.setup made {lacks[0]} in the module at the server and not in the clients' copy: make the "
                "same layers whenever setup is called, or make them in __init__."
            )
        if lazy := [n for n, p in self.module.named_parameters() if is_lazy(p)]:
            raise ValueError(
                f"{type(source).__name__} has a lazy layer, {lazy[0]}, whose size is not known yet: run a batch through the module "
                "before it is given to a Federation."
            )
        self.module.load_state_dict(weights, strict=False)
        self.module.to(source.device)
        trainer.precision_plugin.convert_module(self.module)

    def index(self, source: LightningModule) -> None:
        """Indexes all tensors by name, once all layers exist.

        Args:
            source: The server's module.

        Raises:
            ValueError: If the module has no parameter to train.
        """
        # layers added by a distillation are a client's own, like all layers that the server does not have
        if len(adapters := vars(self.module).get(ADAPTERS, ())):
            del vars(self.module)[ADAPTERS]
            self.module.add_module(ADAPTERS, adapters)
        self._own_names(source)
        self.tensors: Tensors = dict(self.module.named_parameters())
        self.tensors |= dict(self.module.named_buffers(remove_duplicate=False))
        self.generators = [h.value for h in held_by(self.module) if isinstance(h.value, GENERATORS)]
        self._metrics = FreshMetrics(self.module.modules())
        self._buffers = [
            (part, key, f"{prefix}.{key}".lstrip("."))
            for prefix, part in self.module.named_modules()
            for key in part._buffers
            if f"{prefix}.{key}".lstrip(".") in self.tensors
        ]
        self._rest = {
            n: t.detach().clone() for n, t in self.tensors.items() if n not in {*self.shared, *self.buffers}
        }
        frozen = {n for n, p in self.module.named_parameters() if not p.requires_grad}
        self._frozen = [n for n in self._rest if n in frozen and n not in self.own]
        self.moving_names = [n for n in self.tensors if n not in frozen]
        self.parameters = [self.tensors[name] for name in self.shared]
        if not self.parameters and not self.own:
            raise ValueError(f"{type(source).__name__} has no parameter to train: all are frozen.")

    def summary(self) -> dict[str, list[Any]]:
        """Returns shape and type of all tensors that travel, by name, as plain values."""
        return shapes({name: self.tensors[name] for name in [*self.shared, *self.buffers]})

    @torch.no_grad()
    def load(self, x: Tensors, buffers: Tensors, own: Tensors | None) -> None:
        """Loads a client: the server's tensors and the client's own (at first those of the start)."""
        self.log.clear()
        self._metrics.reset()  # with figures of another client or an unlogged pass
        for part, key, name in self._buffers:  # a step may have assigned a new tensor
            part._buffers[key] = self.tensors[name]
        values = {**self._rest, **x, **buffers, **(own or {})}
        torch._foreach_copy_([self.tensors[name] for name in values], list(values.values()))
        for parameter in parameters_of(named_parts(self.module)):
            parameter.grad = None

    def seed(self, seed: int) -> None:
        """Seeds the generators that the module holds."""
        seed_generators(self.generators, seed)

    def start(self, source: LightningModule | None) -> Tensors:
        """Returns the tensors of the start in which `source` differs by now, or all without a source."""
        if source is None:
            return dict(self._rest)
        now = {**dict(source.named_parameters()), **dict(source.named_buffers())}
        return {n: t for n, t in self._rest.items() if n in now and not torch.equal(t, now[n].to(t))}

    def set_start(self, start: Tensors) -> None:
        """Sets tensors that new clients start from."""
        self._rest |= {name: tensor.to(self._rest[name]) for name, tensor in start.items()}

    def take(self, names: Sequence[str]) -> Tensors:
        """Copies tensors by name."""
        now = {name: part._buffers[key] for part, key, name in self._buffers}
        return moved({n: now.get(n, self.tensors[n]) for n in names}, self.module.device)

    def moving(self) -> list[str]:
        """Finds weights that were frozen at the start and that training has changed: the client's own."""
        found = [n for n in self._frozen if not torch.equal(self.tensors[n], self._rest[n])]
        thawed = [n for n in found if self.tensors[n].requires_grad]  # frozen again for the next client
        self._tell(THAWED, thawed)
        self._tell(MOVED, [n for n in found if n not in thawed])
        return found

    def _tell(self, sentence: str, names: Sequence[str]) -> None:
        if names and sentence not in self._told:
            self._told.add(sentence)
            rank_zero_warn(sentence.format(type(self.module).__name__, names[0]))

    @contextlib.contextmanager
    def at(self, point: Sequence[Tensor]) -> Iterator[None]:
        """Sets the shared parameters to other values inside; restores them, buffers and log afterwards."""
        data = [parameter.data for parameter in self.parameters]
        here = [tensor.clone() for tensor in data]
        buffers = [(part, key, b, b.clone()) for part, key, _ in self._buffers for b in [part._buffers[key]]]
        self.module.log = _nothing  # type: ignore[method-assign]
        try:
            for tensor, value in zip(data, point, strict=True):
                tensor.copy_(value)
            yield
        finally:
            for tensor, value in zip(data, here, strict=True):
                tensor.copy_(value)
            self.module.log = self.log  # type: ignore[assignment, method-assign]
            with torch.no_grad():
                for part, key, buffer, before in buffers:
                    part._buffers[key] = buffer.copy_(before)

    def strays(self, own: Tensors) -> list[str]:
        """Finds, in what a client keeps, frozen weights that differ from those of the start."""
        frozen = [name for name in own if name not in self.moving_names]
        return [name for name in frozen if not torch.equal(own[name].to(self._rest[name]), self._rest[name])]

    def serve(self, name: str, answer: Callable[[], Any]) -> None:
        """Lets a method of the module, such as `optimizers`, return `answer()` without a Trainer."""
        setattr(self.module, name, lambda *args, **kwargs: answer())


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Takes a log call and drops it."""


def _never() -> bool:
    return False
