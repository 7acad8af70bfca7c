"""Detectors: pictures in, boxes and scores out, with suppression inside of the file or beside it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.edge.export.decoded import Decoded, check_decoded, multi_label, require_decoded
from lkd.edge.export.kind import ExportPart, StudentKind, arrays
from lkd.edge.export.parity import Comparison
from lkd.edge.exported import Exported
from lkd.models.per_camera import PerCamera
from lkd.models.suppression import Detections
from lkd.modules import Detector

NMS = Literal["inside", "beside"]
GRAY = 114 / 255  # the padding that YOLO networks are trained with


class DetectorKind(StudentKind):
    """A `Detector`, or each camera's copy of it.

    Args:
        module: The detector.
        nms: Where suppression is done.
        input_size: Height and width of the file's input; None for the largest of the test data, of each
            camera.
        only: Cameras whose copies become files; None for all.
        score_threshold: Score threshold; None for the module's. The module is measured with it.
        iou_threshold: IoU threshold of the suppression; None for the module's.
    """

    name, method = "boxes", "detect"
    module: Detector

    def __init__(
        self,
        module: Detector,
        nms: NMS,
        input_size: tuple[int, int] | None = None,
        only: Sequence[str] | None = None,
        score_threshold: float | None = None,
        iou_threshold: float | None = None,
    ) -> None:
        super().__init__(module)
        for network in module.networks():
            require_decoded(network)
        score, iou, most = module.thresholds
        score, iou = (
            score if score_threshold is None else score_threshold,
            iou if iou_threshold is None else iou_threshold,
        )
        expect(score_threshold=score, iou_threshold=iou, ge=0, le=1)
        self.thresholds = (score, iou, most)
        self.multi_label = multi_label(module.networks()[0])
        self.nms, self.input_size, self.only = nms, input_size, only
        self.images: dict[str, Tensor] = {}

    def watch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the method, to note two pictures of each camera, the largest."""

        def detect(images: Tensor, cameras: Sequence[str] | None = None) -> Any:
            for name, rows in self._rows(images, cameras).items():
                seen = images[rows]
                known = self.images.get(name)
                size = seen.shape[-2:] if known is None else torch.maximum(
                    torch.tensor(known.shape[-2:]), torch.tensor(seen.shape[-2:])
                ).tolist()  # fmt: skip
                self.images[name] = padded((seen if known is None else known)[:2].clone(), size)
            return original(images, cameras)

        return detect

    def _rows(self, images: Tensor, cameras: Sequence[str] | None) -> dict[str, list[int]]:
        """Returns which pictures of a batch are for which file."""
        if not isinstance(self.module.network, PerCamera):
            return {"": list(range(len(images)))}
        copies = list(self.module.network.copies)
        names = list(cameras) if cameras is not None else copies[:1] * len(images)
        found = {name: [row for row, camera in enumerate(names) if camera == name] for name in copies}
        return {name: rows for name, rows in found.items() if rows}

    def parts(self) -> list[ExportPart]:
        """Returns one part, or one for each camera that has a copy."""
        copies = self._copies()
        if self.only is not None and isinstance(self.module.network, PerCamera):
            if strange := sorted(set(self.only) - copies.keys()):
                raise ValueError(
                    f"only={list(self.only)}: there is no {', '.join(strange)}, but {', '.join(copies)}."
                )
            copies = {name: copies[name] for name in self.only}
        if unseen := [name for name in copies if name not in self.images]:
            who = f" of {', '.join(unseen)}" if any(unseen) else ""
            raise ValueError(
                f"there are no test pictures{who}, so nothing could be measured of the file: give test data"
                + (", or name the other cameras in only=[...]." if who else ".")
            )
        return [self._part(name, copy) for name, copy in copies.items()]

    def _copies(self) -> dict[str, nn.Module]:
        network = self.module.network
        names = list(network.copies) if isinstance(network, PerCamera) else [""]
        return dict(zip(names, self.module.networks(), strict=True))

    def _part(self, name: str, network: nn.Module) -> ExportPart:
        images = self.images[name]
        if self.input_size is not None:
            images = padded(images, self.input_size)
        check_decoded(network.eval(), images, self.thresholds)
        classes: int = cast(Any, network).num_classes
        return ExportPart(name, Decoded(network), {"images": images}, ["boxes", "scores"], classes)

    def options(self) -> dict[str, Any]:
        """Returns the thresholds, and where suppression is done."""
        names = ("score_threshold", "iou_threshold", "max_detections")
        limits = dict(zip(names, self.thresholds, strict=True))
        return {"nms": self.nms, **limits, "multi_label": self.multi_label}

    def settings(self) -> dict[str, Any]:
        """Returns the thresholds as attributes of the module."""
        return {"thresholds": self.thresholds}

    def stand_in(
        self, parts: Mapping[str, ExportPart], files: Mapping[str, Exported], parity: Mapping[str, Comparison]
    ) -> Callable[..., Any]:
        """Returns a function that detects with the files."""

        def detect(images: Tensor, cameras: Sequence[str] | None = None) -> Detections:
            found: Detections = [{}] * len(images)
            for name, rows in self._rows(images, cameras).items():
                if name in files:
                    size = parts[name].inputs["images"].shape[-2:]
                    here = self._ask(padded(images[rows], size), parts[name], files[name], parity[name])
                else:  # a camera that is left out, whose figures are not used
                    here = self.module.decode(self._copies()[name](images[rows]))
                for row, one in zip(rows, here, strict=True):
                    found[row] = one
            return found

        return detect

    def _ask(self, batch: Tensor, part: ExportPart, file: Exported, parity: Comparison) -> Detections:
        """Returns what a file finds, compared with its network."""
        got = file(batch.numpy())
        if self.nms == "beside":
            boxes, scores = part.network(batch)
            parity.compare(arrays({"boxes": boxes, "scores": scores}), file.run({"images": batch.numpy()}))
        else:
            wanted = self.module.decode(cast(Decoded, part.network).module(batch))
            parity.compare_detections([arrays(one) for one in wanted], got, max(batch.shape[-2:]))
        return [{key: torch.from_numpy(value) for key, value in one.items()} for one in got]


def padded(images: Tensor, size: Sequence[int]) -> Tensor:
    """Pads images `(B, 3, h, w)` with gray at the bottom and right, up to a size (H, W).

    Raises:
        ValueError: If they are larger.

    Example:
        >>> padded(torch.zeros(1, 3, 32, 32), (32, 64)).shape
        torch.Size([1, 3, 32, 64])
    """
    (height, width), (h, w) = size, images.shape[-2:]
    if h > height or w > width:
        raise ValueError(
            f"test pictures of {h}x{w} (height x width) do not fit into the file's input of {height}x{width}: give "
            f"input_size=[{max(h, height)}, {max(w, width)}], or smaller pictures."
        )
    return nn.functional.pad(images, (0, width - w, 0, height - h), value=GRAY)
