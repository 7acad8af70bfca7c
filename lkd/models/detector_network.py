"""The interface of a detector's network: the few methods that `Detector` and the callbacks need."""

from typing import Any, Protocol

from torch import Tensor, nn

from lkd.models.dense import Detections, Outputs


class DetectorNetwork(Protocol):
    """The network of a `lkd.modules.Detector`: a module with raw outputs, a loss of them and boxes from them.

    `YOLO` and `TorchvisionDetector` are such networks. Your own can be any `nn.Module` with these four names;
    it need not know lkd. It is copied, saved and trained like any other module. To load a checkpoint, give it
    again, `Detector.load_from_checkpoint(path, network=...)`, unless the command line made it from a
    configuration.

    It may also have:

    - `class_names: list[str]`: names of its classes, by which a teacher's classes are matched with a
      student's.
    - `layers: Sequence[nn.Module]`: its layers from the image on, of which `Detector(freeze=n)` freezes the
      first n.
    - `weighs_scores: bool`: whether `loss` weights a target's boxes by its `scores`, as soft pseudo-labels
      need it.
    - `on_grid = False`: says that the raw outputs are not as `lkd.models.detections` describes, so that dense
      terms are refused before training, and not at the first step.
    - `boxes_and_scores(outputs) -> (boxes, scores)`: all that `decode` chooses from, boxes `(B, A, 4)` xyxy
      in pixels of the input and scores `(B, A, num_classes)` in [0, 1]. `export` needs it to write the
      network as a file, whose suppression is `lkd.models.suppressed`; so `decode` is
      `suppressed(*self.boxes_and_scores(outputs), ...)`, or gives the same.
    - `multi_label = True`: says that `decode` may give a box several classes, each with its own score, and
      not its best one alone.

    Attributes:
        num_classes: Number of classes; labels are 0 to num_classes - 1, there is no background.
    """

    num_classes: int

    def __call__(self, images: Tensor) -> Outputs:
        """Returns raw outputs of images `(B, 3, H, W)` in [0, 1], the same kind in train and eval mode.

        They are a dict, whose tensors have the batch first and whose lists hold such tensors. An entry
        `feats`, the maps that enter the head, is for feature terms. Boxes are in pixels of these very images.
        """
        ...

    def loss(self, outputs: Outputs, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Returns scalars by name, whose sum is minimized; an image may have no boxes.

        Args:
            outputs: What the call returned.
            targets: One dict for each image: `boxes (N, 4)` xyxy in pixels of the input, `labels (N,)` int64.
        """
        ...

    def decode(
        self, outputs: Outputs, score_threshold: float, iou_threshold: float, max_detections: int
    ) -> Detections:
        """Returns for each image `boxes (N, 4)` xyxy in pixels, `scores (N,)` descending, `labels (N,)`."""
        ...


def require_network(network: Any) -> nn.Module:
    """Returns the network, if it is one that `Detector` can train.

    Raises:
        TypeError: If it is no module, or lacks something that the protocol names.

    Example:
        >>> require_network(nn.Linear(1, 1))
        Traceback (most recent call last):
        ...
        TypeError: network=Linear lacks num_classes, loss, decode, which a detector has; see lkd.models.DetectorNetwork.
    """
    missing = [name for name in ("num_classes", "loss", "decode") if not hasattr(network, name)]
    if missing or not isinstance(network, nn.Module):
        lacks = f"lacks {', '.join(missing)}, which a detector has" if missing else "is no nn.Module"
        raise TypeError(f"network={type(network).__name__} {lacks}; see lkd.models.DetectorNetwork.")
    return network
