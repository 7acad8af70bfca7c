"""What clients keep, in files, which outlive the process that works for them."""

import os
import shutil
from pathlib import Path

from lkd.federated.client.state import ClientStore
from lkd.federated.protocol.messages import Message
from lkd.federated.protocol.tensors import Groups, moved
from lkd.federated.protocol.wire import pack, unpack

BEFORE = ".before"
"""Ending of the file with what a client kept before its last answer."""


class StateFiles(ClientStore):
    """Store with a file for each client that has a state; a file is written whole or not at all.

    Args:
        folder: Folder of the files.
        shared: Whether other processes keep the states of their clients there, too; what they note before
            their answers is left to them.

    Example:
        >>> import tempfile, torch
        >>> store = StateFiles(Path(tempfile.mkdtemp()))
        >>> store.put(3, {"c": {"w": torch.ones(2)}})
        >>> store.get(3)["c"]["w"], store.get(4), len(store)
        (tensor([1., 1.]), {}, 1)
    """

    def __init__(self, folder: Path, shared: bool = False) -> None:
        super().__init__()
        self._folder, self._shared = folder, shared
        self._noted: set[int] = set()  # by this process

    def _path(self, client: int) -> Path:
        return self._folder / f"{client}.safetensors"

    def get(self, client: int) -> Groups:
        """Reads a client's groups of tensors; empty for a client without a state."""
        path = self._path(client)
        return unpack(path.read_bytes(), Message).tensors if path.is_file() else {}

    def put(self, client: int, groups: Groups) -> None:
        """Writes a client's groups, in place of its former state."""
        kept = {name: moved(group, "cpu") for name, group in groups.items() if group}
        path = self._path(client)
        if not kept:
            path.unlink(missing_ok=True)
            return
        beside = path.with_suffix(".part")
        beside.write_bytes(pack(Message(kept)))
        os.replace(beside, path)

    def _befores(self, client: int | str = "*", mark: int | str | None = "*") -> list[Path]:
        return list(self._folder.glob(f"{client}.{'*' if mark is None else mark}{BEFORE}"))

    def remember(self, client: int) -> None:
        """Notes what a client keeps in a file, since a process that dies after its answer may not have sent it."""
        self._noted.add(client)
        for former in self._befores(client):
            former.unlink()
        before = self._folder / f"{client}.{self.mark}{BEFORE}"
        if not self._path(client).exists():
            before.touch()
            return
        try:
            os.link(self._path(client), before)  # no copy: a state's file is replaced, never changed
        except OSError:  # a file system without links
            part = before.with_suffix(".part")
            shutil.copyfile(self._path(client), part)
            os.replace(part, before)

    def settle(self) -> None:
        """Accepts all answers so far."""
        for client in self._noted if self._shared else ("*",):
            for before in self._befores(client):
                before.unlink()
        self._noted.clear()

    def undo(self, client: int, mark: int | None = None) -> None:
        """Restores what a client kept before its last answer; see `ClientStore.undo`."""
        for before in self._befores(client, mark):
            if before.stat().st_size:
                os.replace(before, self._path(client))
            else:
                self._path(client).unlink(missing_ok=True)
            before.unlink(missing_ok=True)  # where both names were of one file, nothing was replaced

    def keep(self, group: str) -> None:
        """Forgets all groups but this one, of all clients."""
        for client, groups in self.state_dict().items():
            self.put(client, {name: held for name, held in groups.items() if name == group})

    def __len__(self) -> int:
        return len(self._clients())

    def _clients(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.safetensors"))

    def state_dict(self) -> dict[int, Groups]:
        """Reads all states by client."""
        return {client: self.get(client) for client in self._clients()}

    def load_state_dict(self, states: dict[int, Groups]) -> None:
        """Writes these states, and removes all others."""
        self.settle()
        for client in self._clients():
            if client not in states:
                self._path(client).unlink()
        for client, groups in states.items():
            self.put(client, groups)
