"""Predictions of a user's own module, as files."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lkd.edge.predict.tables import CSVFile

WIDEST = 1000
"""Columns of a CSV file; wider outputs are tensors."""


class OutputFiles:
    """Writer of tensors `(B,)` or `(B, k)` as rows of `outputs.csv`, and of others as one file per batch.

    Such a file is `outputs/<batch>.safetensors`. Its names say where a tensor was: `logits`, `heads.0`, or
    `output`. Lists of numbers and words, one for each sample, are the columns of `values.csv`, by their keys.
    What is neither is not written, with one notice.

    Args:
        folder: Folder to write into.
        suffix: Suffix of the file names, such as `.rank1`.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder, self.suffix = folder, suffix
        self.rows: CSVFile | None = None
        self.values: CSVFile | None = None
        self._keys: list[str] = []
        self.paths: list[Path] = []
        self._shape: tuple[int, ...] | None = None
        self._silent = False

    def write(self, prediction: Any, numbers: Sequence[int], batch: int, loader: int) -> None:
        """Writes the prediction of a batch.

        Args:
            prediction: Result of predict_step.
            numbers: Numbers of its samples.
            batch: Number of the batch.
            loader: Number of the data loader.
        """
        tensors, columns = dict(named(prediction)), _columns(prediction, len(numbers))
        where = f"dataloader {loader}" if loader else ""
        if columns:
            self._add(columns, numbers, where)
        self._say(prediction, bool(tensors), set(columns) & set(self._keys))
        if not tensors:
            return
        if isinstance(prediction, Tensor) and self._is_table(prediction, len(numbers)):
            if self.rows is None:
                width = prediction.reshape(len(prediction), -1).shape[1]
                self.rows = CSVFile(self.folder / f"outputs{self.suffix}.csv", [str(k) for k in range(width)])
                self.paths.append(self.rows.path)
            values = prediction.detach().cpu().reshape(len(prediction), -1).tolist()
            self.rows.add([[where, number, "", *row] for number, row in zip(numbers, values, strict=True)])
            return
        path = (
            self.folder / f"outputs{self.suffix}" / f"{f'{loader}_' if loader else ''}{batch:06d}.safetensors"
        )
        path.parent.mkdir(exist_ok=True)
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)
        if len(self.paths) < 8:  # only shown at the end
            self.paths.append(path)

    def _add(self, columns: Mapping[str, Sequence[Any]], numbers: Sequence[int], where: str) -> None:
        """Appends rows to the table of values, whose columns are those of the first batch."""
        if self.values is None:
            self._keys = list(columns)
            self.values = CSVFile(self.folder / f"values{self.suffix}.csv", self._keys)
            self.paths.append(self.values.path)
        empty = [""] * len(numbers)
        each = zip(*(columns.get(key, empty) for key in self._keys), strict=True)
        self.values.add([[where, number, "", *row] for number, row in zip(numbers, each, strict=True)])

    def _say(self, prediction: Any, tensors: bool, columns: set[str]) -> None:
        """Warns once of what is not written.

        Args:
            prediction: Result of predict_step.
            tensors: Whether there are tensors in it.
            columns: Keys of what is in the table of values.
        """
        if self._silent:
            return
        rest = prediction if not columns else None
        if isinstance(prediction, dict):
            rest = {key: value for key, value in prediction.items() if str(key) not in columns}
        left = [name for name, one in _leaves(rest) if not isinstance(one, Tensor) and one is not None]
        what = f"predict_step gives {type(prediction).__name__}"
        if not (tensors or columns):
            why = f"{what}, in which there is no tensor: nothing of it is written."
        elif left:
            shown = ", ".join(left[:4]) + (", ..." if len(left) > 4 else "")
            why = f"{what}, of which {shown} is not written: give tensors, or lists of a number or word for each sample."
        else:
            return
        self._silent = True
        warnings.warn(why, stacklevel=3)

    def _is_table(self, prediction: Tensor, size: int) -> bool:
        """Returns whether a tensor has a row per sample, the same columns as before, and plain numbers."""
        fits = prediction.ndim in (1, 2) and len(prediction) == size and not prediction.is_complex()
        shape = tuple(prediction.shape[1:])
        if not fits or prediction.numel() > WIDEST * max(len(prediction), 1):
            return False
        self._shape = shape if self._shape is None else self._shape
        return shape == self._shape

    def close(self) -> None:
        """Closes the tables, if there are any."""
        for table in (self.rows, self.values):
            if table is not None:
                table.close()


def named(prediction: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields tensors in dicts, lists and tuples, with their places.

    Example:
        >>> import torch
        >>> [name for name, _ in named({"a": torch.zeros(1), "b": [torch.zeros(2), 3]})]
        ['a', 'b.0']
    """
    for place, one in _leaves(prediction, name):
        if isinstance(one, Tensor):
            yield place, one


def samples(prediction: Any) -> int:
    """Returns of how many samples a prediction is, by its first tensor or list; 1 where nothing says it.

    Example:
        >>> samples({"name": ["a", "b"]}), samples("words")
        (2, 1)
    """
    tensor = next((one for _, one in named(prediction) if one.ndim), None)
    if tensor is not None:
        return len(tensor)
    lists = prediction.values() if isinstance(prediction, dict) else (prediction,)
    return next((len(one) for one in lists if isinstance(one, list | tuple)), 1)


def _columns(prediction: Any, size: int) -> dict[str, Sequence[Any]]:
    """Returns the lists of plain numbers and words, one for each sample, by their keys."""
    entries = prediction if isinstance(prediction, dict) else {"output": prediction}
    return {
        str(key): value
        for key, value in entries.items()
        if isinstance(value, list | tuple)
        and len(value) == size
        and all(isinstance(one, str | Real) for one in value)
    }


def _leaves(prediction: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields what dicts, lists and tuples hold, with its place."""
    if isinstance(prediction, dict):
        entries = list(prediction.items())
    elif isinstance(prediction, list | tuple):
        entries = list(enumerate(prediction))
    else:
        yield name or "output", prediction
        return
    for key, value in entries:
        yield from _leaves(value, f"{name}.{key}" if name else str(key))
