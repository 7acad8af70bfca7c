"""A list of sentences that keeps the first and counts all, since a stream may be broken for weeks."""

KEPT = 1000
"""Most sentences that are kept."""


class Sentences(list[str]):
    """The first `KEPT` sentences that are appended.

    Attributes:
        total: Number of all sentences that were appended.

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
        """Counts the sentence, and keeps it if there is room."""
        self.total += 1
        if len(self) < KEPT:
            super().append(sentence)
