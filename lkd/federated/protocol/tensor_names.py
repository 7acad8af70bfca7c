"""Names of a module's tensors: shared ones, a client's own, and their names at the server."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lkd.federated.protocol.tensors import Tensors, is_inexact


@dataclass(frozen=True)
class SharedNames:
    """Tensors that clients of one architecture share, by their own names and the server's.

    Attributes:
        weights: The server's name of each shared parameter, by the client's own name.
        buffers: The same of the shared buffers.
    """

    weights: dict[str, str]
    buffers: dict[str, str]

    def of_client(self, tensors: Tensors) -> Tensors:
        """Selects the server's tensors that the architecture has, by its own names."""
        return {
            own: tensors[name] for own, name in {**self.weights, **self.buffers}.items() if name in tensors
        }


@dataclass(frozen=True)
class Split:
    """Names of a module's tensors, by where they belong.

    Attributes:
        shared: Parameters that train and travel.
        buffers: Buffers that travel.
        own: Tensors that stay with a client.
    """

    shared: list[str]
    buffers: list[str]
    own: list[str]


def split_names(module: nn.Module, source: nn.Module, patterns: Sequence[str]) -> Split:
    """Splits names into shared and personal ones; tensors that `source` lacks are the client's own.

    Args:
        module: The module that trains.
        source: The same module at the server.
        patterns: Names of parameters and buffers (`fnmatch`, or a prefix such as `"network.head"`) that never
            leave the client; `"batchnorm"` stands for all layers of that kind (FedBN, Li et al. 2021).

    Raises:
        ValueError: If a pattern matches nothing.

    Example:
        >>> split_names(net := nn.Linear(2, 1), net, ["bias"])
        Split(shared=['weight'], buffers=[], own=['bias'])
    """
    named = dict(module.named_parameters())
    known = source.state_dict(keep_vars=True)
    norms = [n for n, m in source.named_modules() if isinstance(m, _BatchNorm)]
    wanted = [p for p in patterns if p != "batchnorm"] + (norms if "batchnorm" in patterns else [])
    for pattern in patterns:
        if pattern == "batchnorm" and not norms:
            raise ValueError(
                f"personal_layers={patterns}: {type(source).__name__} has no batch normalization."
            )
        if pattern != "batchnorm" and not any(matches(name, [pattern]) for name in known):
            raise ValueError(f"personal_layers={patterns}: no parameter or buffer is called {pattern!r}.")
    weights = {id(p) for p in source.parameters()}  # a buffer may be a parameter, too, and must travel once
    trained = [n for n, p in named.items() if p.requires_grad]
    shared = [n for n in trained if n in known and not matches(n, wanted)]
    buffers = [
        n
        for n, t in source.named_buffers()
        if n in known and is_inexact(t) and id(t) not in weights and not matches(n, wanted)
    ]
    # buffers that are not persistent begin anew for every client
    begins_anew = dict(source.named_buffers()).keys() - known.keys()
    travels = {*shared, *buffers}
    own = [
        n
        for n in {**named, **dict(module.named_buffers())}
        if n not in travels and n not in begins_anew and (matches(n, wanted) or n not in known)
    ]
    return Split(shared, buffers, own)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Tells whether a pattern is the name, a prefix of it up to a dot, or an `fnmatch` pattern of it."""
    return any(fnmatch.fnmatchcase(name, p) or name.startswith(f"{p}.") for p in patterns)
