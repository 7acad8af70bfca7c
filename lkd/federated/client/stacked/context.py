"""The clients of a stack, as the client half of an algorithm sees and changes them."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lkd.federated.client.context import ClientContext, ClientView, copies
from lkd.federated.client.stacked.training import StackedLoop
from lkd.federated.protocol.client_data import ClientData
from lkd.federated.protocol.messages import Config
from lkd.federated.protocol.tensors import Lists, Tensors


class Dealt(MutableMapping[str, Tensor]):
    """Tensors of K clients by name: reading stacks them, and writing `(K, ...)` gives each its own.

    Args:
        owners: The tensors of each client, which are read and changed.

    Example:
        >>> owners = [{"a": torch.tensor(1.0)}, {"a": torch.tensor(2.0)}]
        >>> dealt = Dealt(owners)
        >>> dealt["b"] = dealt["a"] * 2
        >>> owners[1]["b"]
        tensor(4.)
    """

    def __init__(self, owners: Sequence[Tensors]) -> None:
        self._owners = owners

    def __getitem__(self, name: str) -> Tensor:
        values = [owner[name] for owner in self._owners]
        first = values[0]
        if all(value is first for value in values):
            return first.expand(len(values), *first.shape)
        if any(value.shape != first.shape for value in values):
            raise ValueError(f"{name!r} has other shapes for other clients of a stack, see context.members")
        return torch.stack(values)

    def __setitem__(self, name: str, value: Tensor) -> None:
        if value.shape[:1] != (len(self._owners),):
            raise ValueError(f"{name!r} has no leading dimension of {len(self._owners)} clients")
        for owner, row in zip(self._owners, value.unbind(), strict=True):
            owner[name] = row

    def __delitem__(self, name: str) -> None:
        for owner in self._owners:
            del owner[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._owners[0])

    def __len__(self) -> int:
        return len(self._owners[0])


class Together:
    """Stands where an algorithm looks for its one client.

    Args:
        one: Any of the clients: they have the public data in common.
    """

    def __init__(self, one: ClientData) -> None:
        self.public = getattr(one, "public", None)

    def ordered_batches(self, part: str) -> tuple[()]:
        """Gives nothing: `StackedLoop.full_gradient` asks the clients themselves."""
        return ()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"context.client.{name}: a stack has no single client, see context.members")


class StackedContext(ClientContext):
    """State of the K clients of a stack; all its tensors have a leading dimension K.

    Args:
        members: What each client has for itself.
        loop: Trains them.
        x: The server's values of the shared weights, `(K, ...)`, or `(...)` where they have them in common.
        received: What the server sent beside x, likewise.
        state: The clients' own state.
        config: Plain values that the server sent to all of them.
    """

    loop: StackedLoop

    def __init__(
        self,
        members: Sequence[ClientView],
        loop: StackedLoop,
        x: list[Tensor],
        received: Lists,
        state: Lists,
        config: Config,
    ) -> None:
        client: Any = Together(members[0].client)
        super().__init__(loop, x, received, state, config, client, seed=-1)  # type: ignore[arg-type]
        self._members = members
        self.knowledge: Any = Dealt([one.knowledge for one in members])
        self.memory: Any = Dealt([one.memory for one in members])
        self.reply_tensors: Any = Dealt([one.reply_tensors for one in members])

    @property
    def members(self) -> Sequence[ClientView]:
        """The clients, each for itself."""
        return self._members

    def each(self, function: Callable[[], Any]) -> Any:
        """Calls a function of the module once for all clients; tensors of the result are `(K, ...)`."""
        return self.loop.each(function)

    def minimize(self, batches: Sequence[Iterable[Any]], loss: Callable[[Any], Tensor]) -> None:
        """Makes an optimizer step per batch on another loss than the module's own."""
        self.loop.minimize(batches, loss)

    def map(self, function: Callable[[Any], Any], batches: Sequence[Iterable[Any]]) -> list[list[Any]]:
        """Calls a function of the module on each client's batches."""
        return self.loop.map(function, batches)

    def train(self, batches: Sequence[Iterator[tuple[bool, Any]]]) -> None:
        """Makes `planned` steps with each client on other batches than its own."""
        self.loop.train(batches, self, None)

    def tensors(self) -> Tensors:
        """Copies the weights and buffers of all clients' models, `(K, ...)`; frozen ones are common to all."""
        loop, clients = self.loop, len(self._members)

        def copy(name: str, tensor: Tensor) -> Tensor:
            now = loop.leaves.get(name, loop.buffers.get(name))
            return tensor.detach().expand(clients, *tensor.shape) if now is None else now.clone()

        return copies(self.module, copy)

    def deal(self) -> None:
        """Gives each client its part of what the algorithm has put in place of `reply_tensors` and `memory`."""
        for name in ("reply_tensors", "memory"):
            given = getattr(self, name)
            if not isinstance(given, Dealt):
                for one in self._members:
                    getattr(one, name).clear()
                Dealt([getattr(one, name) for one in self._members]).update(given)
