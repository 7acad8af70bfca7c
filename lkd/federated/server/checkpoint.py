"""Checks of a resumed run: algorithm, optimizer, architectures and clients must be the same."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule
from torch.nn.parameter import is_lazy

from lkd.packages import overrides


def check_resumed(saved: dict[str, Any], here: dict[str, str | None]) -> None:
    """Compares a checkpoint with the run that resumes it.

    Args:
        saved: The federation's part of the checkpoint.
        here: This run's `"algorithm"`, `"server_optimizer"`, `"codec"`, `"privacy"` and `"architectures"`.

    Raises:
        ValueError: If they differ.
    """
    for name in ("algorithm", "server_optimizer", "codec"):
        before = saved.get(name)
        if before is not None and before != here[name]:
            raise ValueError(
                f"the checkpoint is of the {name.replace('_', ' ')} {before}, not of {here[name]}: resume with {name}={before}, "
                "or load its weights alone: Federation.load_from_checkpoint(path, model=...)."
            )
    before = (saved.get("privacy") or {}).get("mechanism", "none")
    if before != here.get("privacy", "none"):
        raise ValueError(
            f"the checkpoint is of privacy={before}, not of {here.get('privacy')}: what its rounds have told of the clients would not be "
            "known; resume with the same, or load its weights alone: Federation.load_from_checkpoint(path, model=...)."
        )
    before, now = saved.get("architectures"), here["architectures"]
    if before is not None and before != now:
        raise ValueError(
            f"the checkpoint is of {before}, and this run has {now}: what a client keeps is of its own architecture, so "
            "resume with the same."
        )


def check_state(modules: Sequence[LightningModule], saved: Mapping[str, Any]) -> None:
    """Refuses weights of other shapes, and weights of layers that a module does not have yet.

    Args:
        modules: The first architecture and the others.
        saved: A federation's weights by name.

    Raises:
        ValueError: If there are any; the message names the layer and the architecture.
    """
    for number, module in enumerate(modules):
        prefix, argument = (
            (f"other_models.{number - 1}.", f"other_models[{number - 1}]") if number else ("model.", "model")
        )
        theirs = {name.removeprefix(prefix): t for name, t in saved.items() if name.startswith(prefix)}
        ours = {name: tensor for name, tensor in module.state_dict().items() if not is_lazy(tensor)}
        for name in (name for name in theirs if name in ours):
            before, now = (getattr(t[name], "shape", None) for t in (theirs, ours))
            if before != now:
                raise ValueError(
                    f"{name} of {argument} has the shape {tuple(before or ())} in the checkpoint and {tuple(now or ())} in this run's "
                    f"{type(module).__name__}: go on with the architecture that was saved, or begin anew."
                )
        if (late := [name for name in theirs if name not in module.state_dict()]) and overrides(
            module, "setup"
        ):
            raise ValueError(
                f"the checkpoint has {late[0]} of {argument}, which this {type(module).__name__} has not: if its setup() makes its "
                "layers, call that before, module.setup('fit'), and give the module then."
            )


class ClientRoster:
    """The clients of a fit, which must be those of the checkpoint that it resumes.

    Args:
        known: What a checkpoint holds of them; None for a fit without one.

    Example:
        >>> clients = ClientRoster()
        >>> clients.meet(None, 3), clients.meet(None, 3), clients.known["population"]
        (True, False, 3)
    """

    def __init__(self, known: dict[str, Any] | None = None) -> None:
        self.known, self._met = known, False

    def meet(self, loader: Any, population: int) -> bool:
        """Compares the clients with those of the checkpoint, in the first round; returns whether this is it.

        Args:
            loader: The train loader.
            population: Number of all clients.

        Raises:
            ValueError: If they differ.
        """
        if self._met:
            return False
        here = _told_apart(loader, population)
        known = self.known or {}  # a checkpoint of an earlier version has no rows
        if any(here.get(key) != value for key, value in known.items()):
            raise ValueError(
                f"the checkpoint is of {known['population']} clients, and these {population} are not the same "
                "(number, names or samples): resume with the data, partition and seed it was saved with, or begin anew with its "
                "weights alone: federation.load_state_dict(torch.load(path)['state_dict'])."
            )
        self.known, self._met = here, True
        return True


def _told_apart(loader: Any, population: int) -> dict[str, Any]:
    """Describes a population: its size and, where the data has them, digests of names, sizes and samples.

    A `FederatedDataModule`'s data knows all names, sizes and rows without creating a client. Sizes alone are
    not enough: equal shares drawn with another seed hold other samples.
    """
    data = getattr(loader, "dataset", None)
    names, sizes = getattr(data, "names", None), getattr(data, "sizes", None)
    digest = hashlib.sha256()
    if names is not None and sizes is not None:
        digest.update("\n".join(names).encode())
        digest.update(np.asarray(sizes, dtype=np.int64).tobytes())
    told = {"population": population, "digest": digest.hexdigest()}
    if isinstance(rows := getattr(data, "row_digest", None), str):
        told["rows"] = rows
    return told
