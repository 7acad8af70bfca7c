"""What a module of somebody's own predicts, as files."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lkd.edge.predict.tables import Rows

WIDEST = 1000
"""Columns of a CSV file; wider outputs are tensors."""


class OutputFiles:
    """A tensor `(B,)` or `(B, k)` a batch becomes rows of `outputs.csv`; all else that holds tensors a file a batch.

    Such a file is `outputs/<batch>.safetensors`, whose names say where a tensor lay: `logits`, `heads.0`, or `output`. What has no
    tensor is not written, with one notice.

    Args:
        folder: Where to.
        suffix: Of the names, such as `.rank1`.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder, self.suffix = folder, suffix
        self.rows: Rows | None = None
        self.paths: list[Path] = []
        self._shape: tuple[int, ...] | None = None
        self._silent = False

    def write(self, prediction: Any, numbers: Sequence[int], batch: int, loader: int) -> None:
        """Writes a batch.

        Args:
            prediction: What predict_step gave.
            numbers: Of its samples.
            batch: Its number.
            loader: Of the data loader.
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
                self.rows = Rows(self.folder / f"outputs{self.suffix}.csv", [str(k) for k in range(columns)])
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
        if len(self.paths) < 8:  # for the last word alone
            self.paths.append(path)

    def _is_table(self, prediction: Tensor, size: int) -> bool:
        """Whether a tensor has one row a sample, as many columns as those before, and numbers that text can hold."""
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
    """Tensors in dicts, lists and tuples, with their places.

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
