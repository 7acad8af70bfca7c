"""Torchvision's one-stage detectors (BSD) behind lkd's detector protocol: no resize, no download, no AGPL."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from lkd.checks import expect
from lkd.models.dense import Detections, Outputs, check_targets
from lkd.models.suppression import suppressed
from lkd.models.torchvision_nets import Head, torchvision_net

TERMS = {"bbox_regression": "box", "classification": "cls", "bbox_ctrness": "centerness"}
"""Torchvision's names of the terms of a loss, and lkd's."""
MULTIPLE = 32
"""Torchvision pads images to such sides for FCOS and RetinaNet: on others its anchors would not meet the maps' cells."""


class TorchvisionDetector(nn.Module):
    """SSDLite, FCOS or RetinaNet of torchvision, with random weights, for a `lkd.modules.Detector`.

    Images keep their size, and boxes are in their pixels, since torchvision's own resizing is left out.
    Images are in [0, 1] and normalized inside, as torchvision does: by ImageNet's mean and deviation, for
    SSDLite by .5 and .5.

    Args:
        head: `"ssdlite"` (small and fast, for objects from a tenth of the image on), `"fcos"` (no anchor
            boxes) or `"retinanet"`.
        backbone: Name of a timm model whose maps go through a feature pyramid, such as `"resnet18"`; random
            weights. Default: torchvision's own, MobileNetV3-Large for SSDLite and ResNet-50 with a pyramid
            for the others.
        num_classes: Number of classes, without a background.
        channels: Channels of the pyramid over a timm backbone, and of the head after it. Default 256, as
            torchvision's; 64 makes a detector for the edge. FCOS needs a multiple of 32, from 64 on.
        anchor_scale: Factor of the sizes of torchvision's anchor boxes, for smaller or larger objects.
            RetinaNet's smallest are 32 pixels, SSDLite's a fifth of the image. FCOS has none.
        class_names: Names of the classes, in order.

    Attributes:
        net: The torchvision detector.
        architecture: Plain data: `TorchvisionDetector(**architecture)` is the same network with new weights.

    Raises:
        ValueError: For an unknown head or backbone, or numbers that do not fit.

    Example:
        >>> network = TorchvisionDetector("fcos", "test_resnet", num_classes=2, channels=64)
        >>> outputs = network(torch.zeros(1, 3, 64, 64))
        >>> target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
        >>> sorted(network.loss(outputs, [target])), network.decode(outputs, 0.99)[0]["boxes"].shape
        (['box', 'centerness', 'cls'], torch.Size([0, 4]))
    """

    on_grid, weighs_scores, multi_label = False, False, True

    def __init__(
        self,
        head: Head,
        backbone: str | None = None,
        num_classes: int = 1,
        channels: int = 256,
        anchor_scale: float = 1.0,
        class_names: list[str] | None = None,
    ) -> None:
        super().__init__()
        expect(head=head, among=("ssdlite", "fcos", "retinanet"))
        expect(num_classes=num_classes, ge=1, why="the background is not counted")
        if anchor_scale <= 0 or (head == "fcos" and anchor_scale != 1):
            why = "FCOS has no anchor boxes" if head == "fcos" else "it must be above 0"
            raise ValueError(f"anchor_scale={anchor_scale}: {why}.")
        if channels < 1 or (head == "fcos" and (channels % 32 or channels < 64)):
            least = (
                "a multiple of 32 from 64 on (FCOS normalizes 32 groups)" if head == "fcos" else "at least 1"
            )
            raise ValueError(f"channels={channels} must be {least}.")
        if backbone is None and channels != 256:
            raise ValueError(
                f"channels={channels} is of the pyramid over a timm backbone: name one by `backbone`."
            )
        self.architecture: dict[str, Any] = {
            "head": head,
            "backbone": backbone,
            "num_classes": num_classes,
            "channels": channels,
            "anchor_scale": anchor_scale,
            "class_names": class_names,
        }
        self.num_classes, self.class_names = num_classes, class_names
        self.net = torchvision_net(head, backbone, num_classes, channels, anchor_scale)
        self.background = int(head == "ssdlite")  # SSDLite's class 0, before those of the labels

    @property
    def layers(self) -> list[nn.Module]:
        """The layers from the image on: the backbone's own, the pyramid or extra maps, and the head."""
        backbone = self.net.backbone
        if hasattr(backbone, "body"):
            return [*backbone.body.children(), backbone.fpn, self.net.head]
        return [*(layer for part in backbone.features for layer in part), backbone.extra, self.net.head]

    def forward(self, images: Tensor) -> Outputs:
        """Returns raw outputs of images `(B, 3, H, W)` in [0, 1].

        H and W are multiples of 32, for SSDLite any.

        Returns:
            `cls_logits (B, A, nc)` (SSDLite: one more, the background first), `bbox_regression (B, A, 4)`,
            FCOS's `bbox_ctrness (B, A, 1)`, `feats` (the maps that enter the head), `anchors (A, 4)` in
            pixels, and `sizes (B, 2)`, height and width; the same in train and eval mode.

        Raises:
            ValueError: For another shape, or a single image that is too small to train batch norms on.
        """
        height, width = images.shape[-2:]
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have the shape (B, 3, H, W), got {tuple(images.shape)}.")
        if not self.background and (height % MULTIPLE or width % MULTIPLE):
            raise ValueError(
                f"images: H and W must be multiples of {MULTIPLE}, got shape {tuple(images.shape)}."
            )
        with _watched(self.net, images):
            feats = list(self.net.backbone(self.net.transform.normalize(images)).values())
            outputs: Outputs = self.net.head(feats)
        # in float32 whatever type the maps have: half types cannot hold pixel coordinates
        cells = [torch.empty((1, 1, *level.shape[-2:]), device=images.device) for level in feats]
        (anchors,) = self.net.anchor_generator(ImageList(images[:1], [(height, width)]), cells)
        sizes = torch.tensor([[height, width]], device=images.device).expand(images.shape[0], 2)
        return {**outputs, "feats": feats, "anchors": anchors, "sizes": sizes}

    def loss(self, outputs: Outputs, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Computes torchvision's own loss, in float32.

        Boxes without an area are no objects and are left out, with a warning. SSDLite takes its negatives in
        proportion to the objects of an image, so an image without boxes adds nothing to its loss; FCOS and
        RetinaNet learn from such an image that it is empty.

        Args:
            outputs: Result of `forward`.
            targets: One dict for each image: `boxes (N, 4)` xyxy in pixels of the input, `labels (N,)` int64.

        Returns:
            Scalars `box`, `cls` and, for FCOS, `centerness`: per object of the batch; for RetinaNet per
            object of each image, averaged over the images.

        Raises:
            ValueError: For targets that do not fit the batch, are not finite or inverted, or hold `scores` or
                labels outside the classes.
        """
        heads, device = self._heads(outputs), outputs["anchors"].device
        if len(targets) != len(outputs["sizes"]):
            raise ValueError(
                f"targets holds {len(targets)} dicts, but the batch has {len(outputs['sizes'])} images."
            )
        if any("scores" in target for target in targets):
            raise ValueError(
                "targets have `scores`, but torchvision's losses do not weigh boxes: take hard pseudo-labels (soft=false)."
            )
        boxes = [target["boxes"].to(device, torch.float32).reshape(-1, 4) for target in targets]
        labels = [target["labels"].to(device) for target in targets]
        check_targets(torch.cat(boxes), torch.cat(labels), self.num_classes)
        objects = [
            {"boxes": one[real], "labels": label[real].long() + self.background}
            for one, label, real in zip(boxes, labels, _with_area(boxes), strict=True)
        ]
        anchors = [outputs["anchors"]] * len(targets)
        with torch.autocast(device.type, enabled=False):
            if self.background:
                terms = self.net.compute_loss(
                    objects, heads, anchors, self._matches(objects, outputs["anchors"])
                )
            elif "bbox_ctrness" in heads:
                terms = self.net.compute_loss(objects, heads, anchors, self._counts(outputs))
            else:
                terms = self.net.compute_loss(objects, heads, anchors)
        return {TERMS[name]: term for name, term in terms.items()}

    def boxes_and_scores(self, outputs: Outputs) -> tuple[Tensor, Tensor]:
        """Computes boxes and scores before suppression, by torchvision's own arithmetic.

        Args:
            outputs: Result of `forward`.

        Returns:
            Boxes `(B, A, 4)` xyxy in pixels, clipped to the image, and scores `(B, A, nc)`: sigmoids, for
            FCOS the root of class and centerness, for SSDLite a softmax with the background.
        """
        heads, anchors = self._heads(outputs), outputs["anchors"]
        codes, logits = heads["bbox_regression"], heads["cls_logits"]
        if "bbox_ctrness" in heads:
            scores = torch.sqrt(logits.sigmoid() * heads["bbox_ctrness"].sigmoid())
            boxes = self.net.box_coder.decode(codes, anchors)
        else:
            scores = logits.softmax(-1)[..., 1:] if self.background else logits.sigmoid()
            # decoding knows no batch dimension, but takes several boxes for each anchor
            flat = self.net.box_coder.decode_single(codes.transpose(0, 1).flatten(1), anchors)
            boxes = flat.view(len(anchors), -1, 4).transpose(0, 1)
        sides = outputs["sizes"].flip(1).repeat(1, 2).unsqueeze(1)  # width, height, width, height
        return boxes.clamp(min=0).minimum(sides.to(boxes)), scores

    @torch.no_grad()
    def decode(
        self,
        outputs: Outputs,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.6,
        max_detections: int = 300,
    ) -> Detections:
        """Finds detections in raw outputs, in pixels of the input.

        An anchor may give boxes of several classes, as in torchvision. Suppression is within a class and
        looks at ten times `max_detections` of the best in an image. Torchvision looks at 1000 of each map,
        for SSDLite at 300 of each class. So the detections are torchvision's own if an image has fewer
        candidates.

        Args:
            outputs: Result of `forward`.
            score_threshold: Boxes that score no more than this are dropped.
            iou_threshold: Of two boxes of a class that overlap more than this, the one with the lower score
                is dropped.
            max_detections: Most boxes kept in an image.

        Returns:
            One dict for each image: `boxes (N, 4)` xyxy clipped to the image, `scores (N,)` descending,
            `labels (N,)` int64.
        """
        boxes, scores = self.boxes_and_scores(outputs)
        limits = (score_threshold, iou_threshold, max_detections)
        return suppressed(boxes, scores, *limits, multi_label=self.multi_label)

    def detect(self, images: Tensor) -> Detections:
        """Finds detections in images `(B, 3, H, W)` scored above .001, as mAP needs them.

        Other options have `decode`'s defaults.
        """
        return self.decode(self(images), score_threshold=0.001)

    def _heads(self, outputs: Outputs) -> dict[str, Tensor]:
        names = ("cls_logits", "bbox_regression", "bbox_ctrness")
        return {name: outputs[name].float() for name in names if name in outputs}

    def _counts(self, outputs: Outputs) -> list[int]:
        """Returns the number of anchors of each map."""
        cells = [level.shape[-2] * level.shape[-1] for level in outputs["feats"]]
        return [count * len(outputs["anchors"]) // sum(cells) for count in cells]

    def _matches(self, objects: list[dict[str, Tensor]], anchors: Tensor) -> list[Tensor]:
        """Returns the object of each anchor, or -1, as torchvision's SSD finds it in its forward."""
        nothing = torch.full((len(anchors),), -1, dtype=torch.int64, device=anchors.device)
        return [
            self.net.proposal_matcher(box_iou(one["boxes"], anchors)) if len(one["boxes"]) else nothing
            for one in objects
        ]


def _with_area(boxes: list[Tensor]) -> list[Tensor]:
    """Returns which boxes of each image have an area."""
    sides = torch.cat(boxes)[:, 2:] - torch.cat(boxes)[:, :2]
    if bool((sides < 0).any()):
        wrong = torch.cat(boxes)[(sides < 0).any(1)][0].tolist()
        raise ValueError(
            f"targets: the box {wrong} ends before it begins; boxes are x1, y1, x2, y2 in pixels."
        )
    if empty := int((sides == 0).any(1).sum()):
        rank_zero_warn(f"Boxes without an area (here {empty} of {len(sides)}) are left out of the loss.")
    return list((sides > 0).all(1).split([len(one) for one in boxes]))


@contextmanager
def _watched(network: nn.Module, images: Tensor) -> Iterator[None]:
    """Refuses one image whose coarsest map is one cell: a batch norm that trains has nothing to average there."""

    def look(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].numel() == given[0].shape[1]:
            raise ValueError(
                f"a batch of shape {tuple(images.shape)} leaves batch norms of the coarsest map one value a channel to train on: "
                "take two images or more in every batch, larger ones, or Detector(freeze_batchnorm=true)."
            )

    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    single = bool(norms) and images.shape[0] == 1  # not asked in an export, whose batch has no size
    hooks = [norm.register_forward_pre_hook(look) for norm in norms if single]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
