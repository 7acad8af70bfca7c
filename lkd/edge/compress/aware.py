"""Training for int8, where rounding after training loses too much."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, cast

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from lkd.edge.compress.quantize.fake import Range, fake_int8
from lkd.edge.compress.quantize.frames import calibration_frames, check_calibration
from lkd.edge.compress.quantize.int8 import Calibrated
from lkd.edge.compress.recover import Recover
from lkd.edge.compress.step import Job, Stage


class QuantizationAware(Recover):
    """int8 by training with rounded weights and inputs of layers (QAT), on labels, by distillation, or both.

    It starts from weights. After a `Quantize` it runs only if that was not kept. Ranges are those that
    `Quantize` would find, and stay fixed during training. Then they are found anew, and the file is quantized
    as by `Quantize`. Layers whose weights the export does not keep under their names, such as linear ones on
    sequences, are rounded in the file alone.

    Args:
        epochs: As in `Recover`.
        distillation: As in `Recover`.
        monitor: As in `Recover`.
        optimizer: As in `Recover`; a rate below that of the training is usual.
        scheduler: As in `Recover`.
        calibration: As in `Quantize`.
        method: As in `Quantize`.
        keep_float: As in `Quantize`.

    Raises:
        ValueError: For numbers out of range, or a student without layers that can be rounded in training.

    Example:
        >>> QuantizationAware(epochs=2).epochs
        2
    """

    name, mends, ends, trains, bits = "quantization-aware", False, True, True, 8

    def __init__(
        self,
        epochs: int,
        distillation: Sequence[Callback] = (),
        monitor: str | None = None,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        calibration: int = 64,
        method: Literal["percentile", "minmax"] = "percentile",
        keep_float: Sequence[str] = (),
    ) -> None:
        super().__init__(epochs, distillation, monitor, optimizer, scheduler)
        if calibration < 1:
            raise ValueError(f"calibration={calibration}: int8 needs 1 frame or more to find ranges on.")
        self.calibration, self.method, self.keep_float = calibration, method, list(keep_float)
        self._ranges: dict[str, Range] = {}

    def check(self, module: LightningModule, data: LightningDataModule) -> None:
        """Checks the same as `Recover` and `Quantize`."""
        super().check(module, data)
        check_calibration(data)

    def run(self, stage: Stage, job: Job) -> Stage:
        """Trains with rounding, then exports and quantizes."""
        frames = calibration_frames(job.dense.kind, job.dense.parts, job.data, self.calibration)
        every = [frames[part] for part in job.dense.parts]
        self._ranges = {}
        for path, own in zip(stage.files, every, strict=True):
            for layer, (low, high) in self._calibrated(path, own).input_ranges().items():
                known = self._ranges.get(layer, (low, high))
                self._ranges[layer] = min(low, known[0]), max(high, known[1])
        if not self._ranges:
            raise ValueError(
                "none of the student's int8 layers has a weight that the export keeps under its name, so none can be rounded in "
                "training: use Quantize."
            )
        trained = super().run(stage, job)
        if trained.checkpoint is None or job.export is None:
            raise TypeError("a Job without export cannot make files of what was trained.")
        floats = job.folder / "float"
        floats.mkdir(exist_ok=True)
        files = []
        for path, own in zip(job.export(trained.checkpoint, floats), every, strict=True):
            files.append(job.folder / path.name)
            self._calibrated(path, own).write(files[-1])
        return Stage(job.name, job.folder, None, files, trained.note)

    def _calibrated(self, path: Any, frames: Sequence[Mapping[str, Any]]) -> Calibrated:
        return Calibrated(path, frames, self.method, self.keep_float)

    def _trainer(self, job: Job) -> tuple[Trainer, ModelCheckpoint]:
        trainer, keeper = super()._trainer(job)
        cast(Any, trainer).callbacks.insert(0, _Rounding(self._ranges))
        return trainer, keeper


class _Rounding(Callback):
    """Callback that rounds weights and inputs during a fit, in validation too."""

    def __init__(self, ranges: Mapping[str, Range]) -> None:
        self.ranges, self._open = ranges, ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts to round the module."""
        self._open.enter_context(fake_int8(pl_module, self.ranges))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stops rounding, after errors too."""
        self._open.close()
