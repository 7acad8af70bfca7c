"""A checkpoint with the same answers as its exported file."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from lkd.checkpoint_io import fill, read
from lkd.edge.export.kind import ExportPart, arrays
from lkd.edge.export.preprocessing import class_names, described_inputs
from lkd.edge.export.students import SERVER, students
from lkd.edge.nms import Array
from lkd.edge.predict.prepare import MULTIPLE
from lkd.models import PerCamera
from lkd.models.detector_network import DetectorNetwork
from lkd.modules import Classifier, Detector, MultimodalClient
from lkd.server_model import is_federation

STRIDE = 32  # to whose multiples detection data pad


class Checkpoint:
    """A trained module, NumPy in and NumPy out on the CPU, with the metadata of a file.

    Args:
        module: A `Detector`, a classifier whose forward takes a tensor and gives logits, or a federation of
            these. Its weights are read from `ckpt_path`.
        data: Data module that it was trained on. A detector's files need not exist; a classifier's tell the
            size of its pictures.
        ckpt_path: The checkpoint.
        camera: Camera whose copy of the network is used, if there is one for each.
        client: Client of a federation whose clients have models of their own; None for the server's.
        classes: Names of the classes; default those of the data.

    Attributes:
        spec: Metadata, as in `lkd.edge.Exported`.

    Raises:
        ValueError: For a checkpoint of another class, a missing camera or client, or a module that takes no
            pictures.
    """

    def __init__(
        self,
        module: LightningModule,
        data: LightningDataModule,
        ckpt_path: str,
        camera: str | None = None,
        client: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.module = _loaded(module, data, ckpt_path, client).eval()
        who = type(self.module).__name__
        if isinstance(self.module, Detector):
            self.network = _copy(self.module, camera)
            self.spec = _of_boxes(self.module, data, classes)
            return
        if camera is not None:
            raise ValueError(f"camera={camera!r}: {who} has no copy for each camera; leave it out.")
        if isinstance(self.module, MultimodalClient):
            self.spec = {
                "kind": "modalities",
                "inputs": [{"name": m} for m in self.module.network.modalities],
            }
            return
        if not isinstance(self.module, Classifier):
            raise ValueError(
                f"predict SOURCE takes a checkpoint of a Detector or a Classifier, and the model is {who}: export it, and give the file as "
                "--model student.onnx; without a SOURCE its predict_step runs on the data of the configuration."
            )
        self.spec = _of_logits(self.module, data, classes)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        """Returns the outputs of the network: a classifier's `logits (B, C)`, a detector's raw ones."""
        x = torch.from_numpy(next(iter(inputs.values())))
        if isinstance(self.module, Detector):
            return {"outputs": self.network(x)}
        logits: Tensor = self.module(x)
        return {"logits": logits.float().numpy()}

    @torch.inference_mode()
    def boxes(self, found: dict[str, Any], size: int) -> list[dict[str, Array]]:
        """Returns the detections of each picture."""
        limits = [self.spec[k] for k in ("score_threshold", "iou_threshold", "max_detections")]
        return [arrays(one) for one in self.network.decode(found["outputs"], *limits)]


def _loaded(module: Any, data: LightningDataModule, ckpt_path: str, client: str | None) -> LightningModule:
    federated = is_federation(module)
    if client is not None and not federated:
        raise ValueError(f"client={client!r}: {type(module).__name__} is no federation; leave it out.")
    (student,) = students(module, data, ckpt_path, [client or SERVER] if federated else None, None)
    if not federated:
        checkpoint = read(ckpt_path)
        student.module.configure_model()  # Lightning would call it; a user's module may need it
        student.module.on_load_checkpoint(checkpoint)
        fill(student.module, checkpoint["state_dict"], ckpt_path)
    return student.module


def _copy(module: Detector, camera: str | None) -> DetectorNetwork:
    if not isinstance(module.network, PerCamera):
        if camera is not None:
            raise ValueError(
                f"camera={camera!r}: this detector is one network for all cameras; leave it out."
            )
        return cast(DetectorNetwork, module.network)
    copies = module.network.copies
    if camera is None or camera not in copies:
        raise ValueError(
            f"camera={camera!r}: this detector has a copy for each of {', '.join(copies)}; say whose pictures these are: --camera "
            f"{next(iter(copies))}."
        )
    return cast(DetectorNetwork, copies[camera])


def _of_boxes(module: Detector, data: LightningDataModule, classes: Sequence[str] | None) -> dict[str, Any]:
    source: Any = getattr(data, "data", data)  # a federation's data wrap others
    views = getattr(source, "eval_views", None)
    if views is None:
        raise ValueError(
            f"{type(source).__name__} does not say at which size its pictures are seen (it has no eval_views): predict SOURCE needs a "
            "DetectionDataModule, or an exported file."
        )
    side: int = views.image_size
    part = ExportPart("", module, {"images": torch.zeros(1, 3, side, side)}, [], module.num_classes)
    (entry,) = described_inputs(part, "boxes", data, None, None)
    entry["resize"][MULTIPLE] = STRIDE
    given = classes or module.class_names
    if given is None:
        _look_for_names(source)
    names = class_names(given, data, module.num_classes)
    limits = dict(zip(("score_threshold", "iou_threshold", "max_detections"), module.thresholds, strict=True))
    return {"kind": "boxes", "nms": "beside", "inputs": [entry], "classes": names, **limits}


def _look_for_names(source: Any) -> None:
    """Makes the data read the names of their classes, if the files exist.

    An exported file has these names.
    """
    if getattr(source, "names", None) == [] and not getattr(source, "classes", None):
        try:
            source.prepare_data()
            source.setup("predict")
        except (OSError, ValueError) as error:
            warnings.warn(
                f"the classes are called 0, 1 and so on, as {type(source).__name__} cannot be read ({error}): name them by --classes.",
                stacklevel=2,
            )


def _of_logits(
    module: Classifier, data: LightningDataModule, classes: Sequence[str] | None
) -> dict[str, Any]:
    data.prepare_data()
    if is_overridden("predict_dataloader", data, LightningDataModule):
        data.setup("predict")
        loader = data.predict_dataloader()
    else:  # the data tell the size of their pictures as well
        data.setup("test")
        loader = data.test_dataloader()
    batch = next(iter(loader[0] if isinstance(loader, list | tuple) else loader))
    x = batch if isinstance(batch, Tensor) else batch[0]
    if not isinstance(x, Tensor):
        raise ValueError(
            f"{type(data).__name__} gives no pictures but {type(x).__name__}: predict its data, without a SOURCE."
        )
    part = ExportPart("", module, {"x": x[:1]}, [], module.num_classes)
    entries = described_inputs(part, "logits", data, None, None)
    return {"kind": "logits", "inputs": entries, "classes": class_names(classes, data, module.num_classes)}
