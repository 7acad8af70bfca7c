"""What a step looks at, looked at for each client of a stack."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lkd.looks import EVERY, Refuse, gathering


class StackedLooks:
    """Checks of values, such as labels and losses, that K clients' steps hand to `lkd.looks.later`.

    Inside of a stack a step cannot look. So the values leave it as outputs `(R,)`, and are looked at later,
    with one wait for the device. A client whose check fails has an error, as it would have in the loop; the
    others go on.

    Args:
        clients: K.
    """

    def __init__(self, clients: int) -> None:
        self.errors: dict[int, Exception] = {}  # the first one of each client that has any
        self._clients = clients
        self._refuse: list[Refuse] = []  # of the step that has just run
        self._open: list[tuple[list[int], list[Refuse], list[list[Tensor]]]] = []

    def told(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a step `-> loss, (logs, buffers)` also give what it looks at: `-> loss, (logs, buffers, values)`."""

        def telling(*args: Any, **kwargs: Any) -> Any:
            with gathering() as found:
                loss, (logs, buffers) = step(*args, **kwargs)
            self._refuse = [refuse for _, refuse in found]
            return loss, (logs, buffers, [list(values) for values, _ in found])

        return telling

    def add(self, values: Sequence[Sequence[Tensor]], rows: Tensor | None) -> None:
        """Takes the values of the step that has just run.

        Args:
            values: Of each check, tensors `(R,)`.
            rows: Clients that they are of, `(R,)`; None for all K.
        """
        who = list(range(self._clients)) if rows is None else rows.tolist()
        self._open.append((who, self._refuse, [[t.detach() for t in each] for each in values]))
        if len(self._open) >= EVERY:
            self.look()

    def look(self) -> None:
        """Runs the open checks."""
        steps, self._open = self._open, []
        flat = [t.double() for _, _, values in steps for each in values for t in each]
        found = iter(torch.cat(flat).cpu().split([len(t) for t in flat]) if flat else ())
        for who, refusals, values in steps:
            for refuse, each in zip(refusals, values, strict=True):
                numbers = zip(*(next(found).tolist() for _ in each), strict=True)
                for client, its in zip(who, numbers, strict=True):
                    self._ask(client, refuse, list(its))

    def _ask(self, client: int, refuse: Refuse, values: list[float]) -> None:
        if client in self.errors:
            return
        try:
            refuse(values)
        except Exception as error:  # the loop makes a reply of it, and so does a stack
            self.errors[client] = error
