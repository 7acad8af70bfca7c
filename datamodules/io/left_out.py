"""What a reader skips: counted while it reads, and reported once when it is done."""

from collections import Counter

from lightning.pytorch.utilities.rank_zero import rank_zero_warn


class LeftOut:
    """Counter of what is left out, reported in one warning: how many of what, with an example of each.

    Attributes:
        classes: objects of classes that are not used, by name, since the last warning.

    Example:
        >>> left_out = LeftOut()
        >>> left_out.add("repeated rows", "a.txt, line 3")
        >>> left_out.add("repeated rows", "b.txt, line 7")
        >>> left_out.classes["bike"] += 5
        >>> print(left_out)
        2 repeated rows (such as a.txt, line 3), 5 objects of other classes (bike 5)
    """

    def __init__(self) -> None:
        self.classes: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, object] = {}
        self._said: set[str] = set()

    def add(self, what: str, example: object, count: int = 1) -> None:
        """Counts `count` more of `what`, a plural; the first example is the one that the warning names."""
        self._counts[what] += count
        self._examples.setdefault(what, example)

    def __str__(self) -> str:
        """Returns all that is counted since the last warning as text; empty if there is nothing."""
        said = [f"{count} {what} (such as {self._examples[what]})" for what, count in self._counts.items()]
        if self.classes:
            said.append(f"{self.classes.total()} objects of other classes ({self._by_class()})")
        return ", ".join(said)

    def say(self, reader: str) -> None:
        """Warns once, on the first rank, of what was counted, and starts to count from zero."""
        if (sentence := str(self)) and sentence not in self._said:
            self._said.add(sentence)
            rank_zero_warn(f"{reader} left out {sentence}.", stacklevel=4)
        self.classes.clear()
        self._counts.clear()
        self._examples.clear()

    def check_classes(self, wanted: str, kept: int) -> None:
        """Refuses a choice of classes that matches no object, if there are objects of other classes.

        Args:
            wanted: the argument that chooses, with its value.
            kept: objects that are kept.

        Raises:
            ValueError: if none is kept, and others were left out.
        """
        if not kept and self.classes:
            raise ValueError(
                f"{wanted} leaves no object at all: the label files have objects of {self._by_class()}."
            )

    def _by_class(self) -> str:
        return ", ".join(f"{name} {count}" for name, count in self.classes.most_common())
