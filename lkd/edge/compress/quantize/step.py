"""The step: int8 after training."""

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
    """int8 after training (PTQ): nothing is trained, ranges of activations are found on the camera's own unlabelled frames.

    Output layers stay float: of a detector the convolutions that give its raw outputs, and all that decodes them.

    Args:
        calibration: How many training frames, evenly spaced; of a student that has a copy for each camera, frames of that camera.
        method: Ranges of activations: `percentile` leaves out the outermost thousandth of a percent, `minmax` nothing.
        keep_float: Names of layers that stay float, too, whole or in part: `["model.22", "fc"]`.
        sensitivity: Whether, if int8 loses more than `max_drop`, one group of layers after the other is quantized alone, and a
            table says which costs what.

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
        """Refuses data without any to calibrate on."""
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
