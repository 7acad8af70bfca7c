"""The compression step `Quantize`: int8 after training."""

from collections.abc import Sequence
from typing import Literal

from lightning.pytorch import LightningDataModule, LightningModule

from lkd.checks import expect
from lkd.edge.compress.quantize.frames import calibration_frames, check_calibration
from lkd.edge.compress.quantize.int8 import Calibrated
from lkd.edge.compress.quantize.sensitivity import sensitivity
from lkd.edge.compress.step import Job, Stage, Step
from lkd.edge.extra import optional


class Quantize(Step):
    """int8 after training (PTQ): without training.

    Ranges of activations are found on the camera's unlabeled frames.

    Output layers stay float: in a detector, the convolutions that give its raw outputs, and all that decodes
    them.

    Args:
        calibration: Number of training frames, evenly spaced; if the student has a copy for each camera,
            frames of that camera.
        method: How ranges of activations are found: `percentile` leaves out the outermost thousandth of a
            percent, `minmax` nothing.
        keep_float: Names of further layers that stay float, whole or in part: `["model.22", "fc"]`.
        sensitivity: Whether to quantize each group of layers alone if int8 loses more than `max_drop`, and to
            write a table of what each costs.

    Raises:
        ValueError: For numbers out of range.

    Example:
        >>> Quantize(calibration=64).calibration
        64
    """

    name, ends, bits = "quantize", True, 8

    def __init__(
        self,
        calibration: int = 64,
        method: Literal["percentile", "minmax"] = "percentile",
        keep_float: Sequence[str] = (),
        sensitivity: bool = True,
    ) -> None:
        if calibration < 1:
            raise ValueError(f"calibration={calibration}: int8 needs 1 frame or more to find ranges on.")
        expect(method=method, among=("percentile", "minmax"))
        self.calibration, self.method, self.sensitivity = calibration, method, sensitivity
        self.keep_float = list(keep_float)

    def check(self, module: LightningModule, data: LightningDataModule) -> None:
        """Refuses data without a part to calibrate on."""
        optional("onnxruntime.quantization")
        check_calibration(data)

    def run(self, stage: Stage, job: Job) -> Stage:
        """Quantizes each file of a stage."""
        frames = calibration_frames(job.dense.kind, job.dense.parts, job.data, self.calibration)
        made, files = [], []
        for path, part in zip(stage.files, job.dense.parts, strict=True):
            made.append(Calibrated(path, frames[part], self.method, self.keep_float))
            files.append(job.folder / path.name)
            made[-1].write(files[-1])
        if self.sensitivity and not job.dense.drop(files, job.parent.files) <= job.limits.max_drop:
            sensitivity(made, stage, job)
        return Stage(job.name, job.folder, None, files)
