"""Sentences of which the first are kept and all are counted: a stream may be broken for weeks."""

KEPT = 1000
"""Sentences that are kept."""


class Sentences(list[str]):
    """The first `KEPT` that are appended.

    Attributes:
        total: Number of all that were appended.

    Example:
        >>> said = Sentences()
        >>> for number in range(2000):
        ...     said.append(f"frame {number} is damaged.")
        >>> len(said), said.total, said[-1]
        (1000, 2000, 'frame 999 is damaged.')
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def append(self, sentence: str) -> None:
        """Counts it, and keeps it if there is room."""
        self.total += 1
        if len(self) < KEPT:
            super().append(sentence)
