"""The model of the server or of a client, loaded from a federation's checkpoint."""

import inspect
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule

from lkd.own_arguments import class_path, is_plain
from lkd.packages import is_module_class, overrides
from lkd.parser import Parser
from lkd.safe_load import load
from lkd.trust import check, import_trusted

FEDERATION = "federation"
"""Key of a checkpoint that holds the state of algorithm and clients."""
TRAINING = ("optimizer", "scheduler", "lr_scheduler")
"""Arguments of modules that change how they train, not what they compute."""


def describe(module: LightningModule) -> dict[str, Any] | None:
    """Describes how a module is made: its class and its hyperparameters, if they are plain data and complete.

    Args:
        module: Module that called `save_hyperparameters`, or whose class takes no argument.

    Returns:
        `{"class_path": ..., "init_args": ..., "config": whether nested classes are described in it}`; None if
        unknown.

    Example:
        >>> describe(LightningModule())["class_path"]
        'lightning.LightningModule'
    """
    saved = {name: value for name, value in dict(module.hparams).items() if name[:1] != "_"}
    init = type(module).__init__
    takes = init is not LightningModule.__init__  # that one takes anything, and ignores it
    parameters = list(inspect.signature(init).parameters.values())[1:] if takes else []
    named = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    free = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    if free or not named <= {*saved, *TRAINING} or not is_plain(saved):
        return None
    return {
        "class_path": class_path(type(module)),
        "init_args": saved,
        "config": "_class_path" in module.hparams,
    }


def server_state(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns the weights of a checkpoint by their names in its module.

    For a federation, they are those of the server's model.
    """
    check_current(checkpoint)
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return _under("model.", state) if FEDERATION in checkpoint else state


def check_current(checkpoint: dict[str, Any], what: str = "the checkpoint") -> None:
    """Refuses a federation's checkpoint of an older lkd, in which weights have other names.

    Args:
        checkpoint: Contents of a file.
        what: Name of the checkpoint in the message.

    Raises:
        ValueError: If it is such a checkpoint.
    """
    if FEDERATION in checkpoint and any(name.startswith("client.") for name in checkpoint["state_dict"]):
        raise ValueError(
            f"{what} is of an older lkd, which called the server's model `client` where this one says `model`: train the federation "
            "again with this version."
        )


def _under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


def load_client(
    path: str,
    client: int | None = None,
    module: LightningModule | None = None,
    trust: Sequence[str] = (),
) -> LightningModule:
    """Loads a model from a federation's checkpoint.

    Modules are made again by their class and what `save_hyperparameters` saved. In a config the function can
    be named like a class: `model: {class_path: lkd.federated.load_client, init_args: {path: x.ckpt}}` starts
    a federation from it.

    Args:
        path: The checkpoint.
        client: Id of a client, whose own layers the model then has; None for the server's model.
        module: Module to load into, if the checkpoint does not say how its modules are made.
        trust: Packages or classes that the checkpoint may name besides lkd's, torch's and what is imported
            already.

    Returns:
        The module, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a federation's, if it has no such model, or if the module is unknown or of
            another class.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path={path!r} does not exist; give the path of a federation's checkpoint.")
    try:
        checkpoint = load(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"path={path!r} is damaged, or no checkpoint of a federation.") from error
    if not isinstance(checkpoint, dict) or FEDERATION not in checkpoint:
        raise ValueError(f"path={path!r} is no checkpoint of a federation: it has no entry {FEDERATION!r}.")
    check_current(checkpoint, f"path={path!r}")
    saved = checkpoint[FEDERATION]
    kind = _kind(saved, client, path)
    state = _under(f"other_models.{kind - 1}." if kind else "model.", checkpoint["state_dict"])
    if module is None:
        module = _make((saved.get("modules") or [None] * (kind + 1))[kind], path, trust)
    module.configure_model()
    module.on_load_checkpoint({**checkpoint, "state_dict": state})
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        who = type(module).__name__
        late = (
            " If its setup() makes layers, call that first and give the module."
            if overrides(module, "setup")
            else ""
        )
        raise ValueError(
            f"path={path!r} does not fit {who}: {' '.join(str(error).split())}.{late}"
        ) from error
    if client is not None:
        own = {
            **saved["optimizer"][kind].get("start", {}),
            **saved["clients"].get(client, {}).get("personal", {}),
        }
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        with torch.no_grad():
            for name in own.keys() & tensors.keys():  # adapters of a distillation do not belong to the module
                tensors[name].copy_(own[name])
    return module


def own_models(path: str) -> dict[int, int]:
    """Returns the clients of a federation's checkpoint with models of their own: id -> architecture.

    They differ where layers are personal, where there are several architectures, or where no weights are
    shared; in the last case, clients that have not trained yet are left out. Empty where all clients have the
    server's model, and for other checkpoints.
    """
    checkpoint = load(path)
    check_current(checkpoint, f"path={path!r}")
    saved = checkpoint.get(FEDERATION) or {}
    population = (saved.get("population") or {}).get("population")
    if population is None:
        return {}
    shares = saved.get("aggregates_weights", True)
    kept = saved["clients"]
    if shares and len(saved["optimizer"]) == 1 and not any(one.get("personal") for one in kept.values()):
        return {}
    ids = range(population) if shares else sorted(kept)
    return {client: _kind(saved, client, path) for client in ids}


def _kind(saved: dict[str, Any], client: int | None, path: str) -> int:
    """Returns the architecture of the requested model."""
    who = saved.get("algorithm")
    if client is None:
        if not saved.get("trains_server_model", True):
            raise ValueError(
                f"path={path!r}: {who} trained no model at the server; name the client whose model it shall be: "
                f"load_client({path!r}, client=0)."
            )
        return 0
    population = (saved.get("population") or {}).get("population")
    if client < 0 or (population is not None and client >= population):
        raise ValueError(f"client={client}: {path!r} is of {population} clients, numbered from 0.")
    if not saved.get("aggregates_weights", True) and client not in saved["clients"]:
        raise ValueError(
            f"client={client} has not trained yet, and {who} shares no weights, so that {path!r} has no model of it."
        )
    kinds = saved.get("client_models")
    return int(kinds[client]) if kinds is not None else client % len(saved["optimizer"])


def _make(described: dict[str, Any] | None, path: str, trust: Sequence[str]) -> LightningModule:
    if described is None:
        raise ValueError(
            f"path={path!r} does not say how its module is made, which calls no self.save_hyperparameters(), or saves objects or "
            f"not all arguments: give one, load_client({path!r}, module=YourModule(...)), and that to whoever needs it, such as Teacher."
        )
    import lkd.modules  # noqa: F401  (so that its classes are found)

    name, arguments = described["class_path"], described["init_args"]
    module, _, attribute = name.rpartition(".")
    check(arguments, path, trust)
    import_trusted(name, trust)
    # only what is imported already: a file must not choose what code runs
    found = getattr(sys.modules.get(module), attribute, None)
    if found is None or not is_module_class(found):
        raise ValueError(
            f"path={path!r} is of {name}, which is no LightningModule that is imported here: import it first, allow it by trust=[{module!r}], or give the module, "
            f"load_client({path!r}, module={attribute}(...))."
        )
    try:
        return _by_config(name, arguments) if described["config"] else found(**arguments)
    except Exception as error:
        raise ValueError(
            f"path={path!r}: {name} could not be made of {arguments} ({' '.join(str(error).split())}): give the module, "
            f"load_client({path!r}, module={attribute}(...))."
        ) from error


def _by_config(name: str, arguments: dict[str, Any]) -> LightningModule:
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(LightningModule, "module", fail_untyped=False)
    config = parser.parse_object({"module": {"class_path": name, "dict_kwargs": arguments}})
    made: LightningModule = parser.instantiate(config).module
    return made
