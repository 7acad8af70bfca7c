"""The form of a teacher's answer: which parts belong to a sample, and which are the same for all."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from lkd.edge.cache.distance import alike, distance
from lkd.nested import apply, children, rebuild

Columns = dict[str, Tensor]
_FORM = "answers are not always of the same form"


class NotBySampleError(ValueError):
    """Error for a sample whose answer alone is not its answer in a batch."""


class RowLeaf:  # no dataclass, since collections are walked through
    """A tensor with one row for each sample."""

    def __init__(self, name: str, like: Tensor) -> None:
        self.name, self.dtype, self.shape = name, like.dtype, like.shape[1:]


class _Each:
    """A list with one dict of tensors for each sample, such as detections."""

    def __init__(self, name: str, kind: type) -> None:
        self.name, self.kind = name, kind


class SampleRows(NamedTuple):
    """The parts of an answer that belong to samples.

    Args:
        columns: Tensors with one row for each sample, by name.
        each: Dicts of tensors of any length, one for each sample, by name.
    """

    columns: Columns
    each: dict[str, list[Columns]]


class AnswerLayout:
    """Layout learned from the answers to a batch of at least two samples, and to the first of them alone.

    Args:
        whole: The answer to the batch.
        alone: The answer to its first sample.
        count: Number of samples in the batch.
        tolerance: Relative distance from which two answers differ.

    Raises:
        NotBySampleError: If the first sample's part of the batch's answer is not its answer alone.

    Example:
        >>> import torch
        >>> anchors = torch.arange(4.0)
        >>> layout = AnswerLayout((torch.eye(3), anchors), (torch.eye(3)[:1], anchors), 3, 1e-3)
        >>> rows = layout.rows((torch.ones(5, 3), anchors), 5)
        >>> [tuple(t.shape) for t in rows.columns.values()], layout.filled(rows)[1]
        ([(5, 3)], tensor([0., 1., 2., 3.]))
    """

    def __init__(self, whole: Any, alone: Any, count: int, tolerance: float) -> None:
        self._count, self.tolerance, self._leaves = count, tolerance, list[Any]()
        self.form = self._learn(whole, alone)

    @property
    def row_leaves(self) -> list[RowLeaf]:
        """Leaves that have a row of one shape for every sample."""
        return [leaf for leaf in self._leaves if isinstance(leaf, RowLeaf)]

    @property
    def by_sample(self) -> bool:
        """Whether any part of the answer belongs to a sample."""
        return bool(self._leaves)

    @property
    def uniform(self) -> bool:
        """Whether all that belongs to a sample has a row of one shape."""
        return len(self.row_leaves) == len(self._leaves)

    @property
    def each_names(self) -> list[str]:
        """Names of the leaves that have a dict for each sample."""
        return [leaf.name for leaf in self._leaves if isinstance(leaf, _Each)]

    def rows(self, answer: Any, count: int) -> SampleRows:
        """Splits an answer to `count` samples into rows.

        Raises:
            NotBySampleError: If it has another form.
        """
        found = SampleRows({}, {})
        self._take(self.form, answer, count, found)
        return found

    def filled(self, rows: SampleRows) -> Any:
        """Returns the answer that has these rows."""

        def fill(leaf: Any) -> Any:
            if isinstance(leaf, RowLeaf):
                return rows.columns[leaf.name]
            if isinstance(leaf, _Each):
                return leaf.kind(rows.each[leaf.name])
            return leaf.clone() if isinstance(leaf, Tensor) else leaf

        return apply(fill, self.form)

    def _learn(self, whole: Any, alone: Any) -> Any:
        name = str(len(self._leaves))
        if isinstance(whole, Tensor) and isinstance(alone, Tensor):
            if (
                whole.ndim
                and (len(whole), len(alone)) == (self._count, 1)
                and whole.shape[1:] == alone.shape[1:]
            ):
                if (off := distance(whole[:1], alone, whole)) > self.tolerance:
                    raise NotBySampleError(f"they differ by {off:.2g} of their norm")
                self._leaves.append(RowLeaf(name, whole))
                return self._leaves[-1]
            if self._alike(whole, alone):
                return whole.detach().clone()
            raise NotBySampleError(
                f"a tensor {tuple(whole.shape)} of {self._count} samples is {tuple(alone.shape)} of one"
            )
        if (
            isinstance(whole, list)
            and isinstance(alone, list)
            and (len(whole), len(alone)) == (self._count, 1)
        ):
            if all(_detections(entry) for entry in (*whole, *alone)):
                if not alike(whole[0], alone[0], self.tolerance):
                    raise NotBySampleError("it finds other objects")
                self._leaves.append(_Each(name, type(whole)))
                return self._leaves[-1]
        entries, single = children(whole), children(alone)
        if entries is None or single is None or entries.keys() != single.keys():
            if self._alike(whole, alone):
                return whole
            raise NotBySampleError(f"a {type(whole).__name__} has no part that is one sample's")
        return rebuild(whole, {key: self._learn(entry, single[key]) for key, entry in entries.items()})

    def _take(self, form: Any, answer: Any, count: int, found: SampleRows) -> None:
        if isinstance(form, RowLeaf):
            if not isinstance(answer, Tensor) or not answer.ndim or len(answer) != count:
                raise NotBySampleError(_FORM)
            found.columns[form.name] = answer
        elif isinstance(form, _Each):
            if not isinstance(answer, list) or len(answer) != count or not all(map(_detections, answer)):
                raise NotBySampleError(_FORM)
            found.each[form.name] = answer
        elif (entries := children(form)) is not None:
            there = children(answer)
            if there is None or there.keys() != entries.keys():
                raise NotBySampleError(_FORM)
            for key, entry in entries.items():
                self._take(entry, there[key], count, found)
        elif not self._alike(form, answer):
            raise NotBySampleError("what is the same for all samples of a batch is another in the next one")

    def _alike(self, one: Any, other: Any) -> bool:
        """Returns whether the parts that belong to no sample are the same in two answers."""
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return one.shape == other.shape and distance(one, other) <= self.tolerance
        plain = isinstance(one, (bool, int, float, str, type(None)))
        return plain and type(one) is type(other) and bool(one == other)


def _detections(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in entry.items()
    )


def picked(rows: SampleRows, places: Sequence[int]) -> SampleRows:
    """Returns the rows of some samples."""
    columns = {name: tensor[list(places)] for name, tensor in rows.columns.items()}
    return SampleRows(
        columns, {name: [found[place] for place in places] for name, found in rows.each.items()}
    )
