"""Predictions of a user's own module, as files."""

import warnings
from collections.abc import Iterator, Sequence
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
    `output`. Predictions without a tensor are not written, with one notice.

    Args:
        folder: Folder to write into.
        suffix: Suffix of the file names, such as `.rank1`.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder, self.suffix = folder, suffix
        self.rows: CSVFile | None = None
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
        tensors = dict(named(prediction))
        if not tensors:
            if not self._silent:
                what = type(prediction).__name__
                warnings.warn(
                    f"predict_step gives {what}, in which there is no tensor: nothing of it is written.",
                    stacklevel=2,
                )
            self._silent = True
            return
        if isinstance(prediction, Tensor) and self._is_table(prediction, len(numbers)):
            if self.rows is None:
                columns = prediction.reshape(len(prediction), -1).shape[1]
                self.rows = CSVFile(
                    self.folder / f"outputs{self.suffix}.csv", [str(k) for k in range(columns)]
                )
                self.paths.append(self.rows.path)
            values = prediction.detach().cpu().reshape(len(prediction), -1).tolist()
            where = f"dataloader {loader}" if loader else ""
            self.rows.add([[where, number, "", *row] for number, row in zip(numbers, values, strict=True)])
            return
        path = (
            self.folder / f"outputs{self.suffix}" / f"{f'{loader}_' if loader else ''}{batch:06d}.safetensors"
        )
        path.parent.mkdir(exist_ok=True)
        save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, path)
        if len(self.paths) < 8:  # only shown at the end
            self.paths.append(path)

    def _is_table(self, prediction: Tensor, size: int) -> bool:
        """Returns whether a tensor has a row per sample, the same columns as before, and plain numbers."""
        fits = prediction.ndim in (1, 2) and len(prediction) == size and not prediction.is_complex()
        shape = tuple(prediction.shape[1:])
        if not fits or prediction.numel() > WIDEST * max(len(prediction), 1):
            return False
        self._shape = shape if self._shape is None else self._shape
        return shape == self._shape

    def close(self) -> None:
        """Closes the table, if there is one."""
        if self.rows is not None:
            self.rows.close()


def named(prediction: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields tensors in dicts, lists and tuples, with their places.

    Example:
        >>> import torch
        >>> [name for name, _ in named({"a": torch.zeros(1), "b": [torch.zeros(2), 3]})]
        ['a', 'b.0']
    """
    if isinstance(prediction, Tensor):
        yield name or "output", prediction
        return
    entries = (
        prediction.items()
        if isinstance(prediction, dict)
        else enumerate(prediction)
        if isinstance(prediction, list | tuple)
        else ()
    )
    for key, value in entries:
        yield from named(value, f"{name}.{key}" if name else str(key))
