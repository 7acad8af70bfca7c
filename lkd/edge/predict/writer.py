"""Predictions of Lightning's `predict`, written to disk batch by batch."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter

from lkd.edge.export.kind import arrays
from lkd.edge.export.preprocessing import class_names
from lkd.edge.predict.folder import fresh
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.outputs import OutputFiles, samples
from lkd.edge.predict.predictor import softmax
from lkd.edge.predict.prepare import back
from lkd.edge.predict.tables import BoxFiles, ProbabilityFile
from lkd.modules import Classifier, Detector
from lkd.pictures import image_size
from lkd.server_model import server_model


class WritePredictions(BasePredictionWriter):
    """Callback that writes predictions as they come; nothing is kept in memory.

    A `Detector` gives `boxes.csv` and its further files, with boxes in pixels of the picture whose path is in
    the batch. A `Classifier`, such as a `MultimodalClient`, gives `predictions.csv`. Any other module whose
    predict_step gives tensors, alone or in dicts and lists, gives the files of
    `lkd.edge.predict.outputs.OutputFiles`. Each rank has files of its own, `.rank1` and so on.

    Args:
        folder: Folder to write into; a number is appended if it has results already.

    Example:
        >>> trainer = Trainer(callbacks=[WritePredictions(Path("runs/one/predict"))], logger=False, accelerator="cpu")
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("batch")
        self.folder = folder
        self.files: BoxFiles | ProbabilityFile | OutputFiles | None = None
        self.done, self._said = 0, False

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the files for the module's kind of prediction."""
        folder = Path(str(trainer.strategy.broadcast(str(fresh(None, self.folder)))))
        folder.mkdir(parents=True, exist_ok=True)
        trainer.strategy.barrier()
        self.folder, self.done = folder, 0
        suffix = f".rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        module: Any = server_model(pl_module)
        data: Any = getattr(trainer, "datamodule", None)
        kinds = {Detector.predict_step: BoxFiles, Classifier.predict_step: ProbabilityFile}
        kind = kinds.get(type(module).predict_step)  # a subclass may predict something else
        if kind is not None:
            given = getattr(module, "class_names", None)
            names = class_names(given, data, module.num_classes)
            self.files = kind(folder, names, suffix=suffix)
        else:
            self.files = OutputFiles(folder, suffix)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes the predictions of a batch."""
        paths = batch.get("paths") if isinstance(batch, dict) else None
        if isinstance(self.files, BoxFiles):
            size = len(prediction)
        else:
            size = samples(prediction)
        numbers = list(batch_indices or range(self.done, self.done + size))
        self.done += size
        if isinstance(self.files, BoxFiles):
            for row, (number, found) in enumerate(zip(numbers, prediction, strict=True)):
                self._boxes(self.files, batch, row, number, arrays(found), paths)
        elif isinstance(self.files, ProbabilityFile):
            each = softmax(prediction.detach().float().cpu().numpy())
            where = paths or [f"dataloader {dataloader_idx}" if dataloader_idx else ""] * size
            self.files.rows.add(
                [
                    [path, n, "", *self.files.columns(p.tolist())]
                    for path, n, p in zip(where, numbers, each, strict=True)
                ]
            )
        elif self.files is not None:
            self.files.write(prediction, numbers, batch_idx, dataloader_idx)

    def _boxes(
        self, files: BoxFiles, batch: Any, row: int, number: int, found: dict[str, Any], paths: Any
    ) -> None:
        height, width = batch["images"].shape[-2:]
        path = paths[row] if paths is not None else ""
        if path and "sizes" in batch and Path(path).is_file():
            h, w = batch["sizes"][row]
            width, height = image_size(Path(path))
            found = back(found, (width / w, height / h), height, width)
        else:
            if not self._said:
                warnings.warn(
                    "the batches do not say the paths and sizes of their pictures: boxes are in pixels of the network's input.",
                    stacklevel=2,
                )
            self._said = True
        files.write(Frame(path, number, None, np.broadcast_to(np.uint8(0), (height, width, 3))), found)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the files, and prints where they are."""
        self._close(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the files of an interrupted prediction, and prints where its results are."""
        self._close(trainer)

    def _close(self, trainer: Trainer) -> None:
        if self.files is None:
            return
        self.files.close()
        written = [path for path in self.files.paths if path.exists()]
        self.files = None
        if trainer.is_global_zero and written:
            names = ", ".join(path.name for path in written[:4]) + (", ..." if len(written) > 4 else "")
            more = f" and those of {trainer.world_size - 1} other ranks" if trainer.world_size > 1 else ""
            print(f"Predictions: {self.folder}: {names}{more}")
