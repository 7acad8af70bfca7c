"""Split computing: a classifier is cut in two, and a bottleneck learns to replace its head."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.losses.feature import fitnets_loss
from lkd.models.bottleneck import BottleneckDecoder, BottleneckEncoder
from lkd.models.cut import Cut
from lkd.models.rounded import rounded
from lkd.modules.classifier import Classifier, labeled
from lkd.modules.started import check_start, resumes, weights_of
from lkd.taps import Taps


class Seen(NamedTuple):
    """Outputs of a batch with and without the bottleneck.

    Attributes:
        logits: Logits through the bottleneck.
        whole: Logits of the whole network.
        distance: Distance of the features, which training lowers.
    """

    logits: Tensor
    whole: Tensor
    distance: Tensor


class SplitClassifier(Classifier):
    """Trained classifier with its first layers replaced by an encoder (device) and a decoder (server).

    Between the two lies a bottleneck, a tensor of few channels, which the device sends. The network is
    frozen. Encoder and decoder learn from its features alone, so no labels are needed: `Σ_l MSE(F_l, F'_l)`
    over the cut layer and `layers` behind it, where the network computes F' from the decoder's output. With
    the cut layer alone it is head network distillation (Matsubara et al.: Head Network Distillation, IEEE
    Access 2020, arXiv:2011.10191, Section IV). With more layers it is generalized head network distillation
    (Matsubara and Levorato: Neural Compression and Filtering for Edge-assisted Real-time Object Detection in
    Challenged Networks, ICPR 2020, arXiv:2007.15818, Equation 2). The papers sum squared errors; here each
    layer has a mean, so layers count alike whatever their size.

    Batches are as for `Classifier`; training ignores `y`. Logs `train/loss`, and for validation and test
    `loss` and `acc` of the answers through the bottleneck, `distance` (which training lowers), and
    `agreement`, the share of answers that are those of the whole network.

    Args:
        network: The classifier's network, see `Classifier`.
        layer: The last layer that is replaced; the decoder imitates its output. See `lkd.models.Cut`.
        layers: Layers behind it whose outputs are compared, too. Default: none.
        channels: Channels of the tensor that is sent.
        stride: How many times smaller its sides are than the image's.
        width: Channels of the encoder's convolutions.
        bits: Rounds what is sent to this many bits, in training (straight through) and afterwards. Default:
            no rounding; it can still be rounded later.
        start: Checkpoint of the trained classifier of this network. It is read when `fit` begins, so a recipe
            may create it first. Default: the network already has its weights.
        start_recipe: A configuration of `python cli.py fit` that trains `start`, if it does not exist or was
            made by another version of the recipe.
        encoder: Another encoder than `lkd.models.BottleneckEncoder`, for images `(B, in_channels, H, W)`.
        decoder: Another decoder than `lkd.models.BottleneckDecoder`.
        num_classes: Number of classes.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels, which sizes the decoder.
        optimizer: Creates the optimizer (default AdamW, lr .001); biases and norms get no weight decay.
        scheduler: Creates the scheduler, stepped once per epoch. Default: constant learning rate.

    Raises:
        ValueError: If the network cannot be cut there, a layer is not behind the cut, or the decoder's output
            has another shape than the layer's.

    Example:
        >>> from lkd.models import CIFARResNet
        >>> split = SplitClassifier(CIFARResNet(8, 10), layer="layer2", layers=["layer3"], channels=3, stride=4)
        >>> split.encoder(torch.zeros(2, 3, 32, 32)).shape, split(torch.zeros(2, 3, 32, 32)).shape
        (torch.Size([2, 3, 8, 8]), torch.Size([2, 10]))
    """

    def __init__(
        self,
        network: nn.Module | str,
        layer: str,
        layers: Sequence[str] = (),
        channels: int = 4,
        stride: int = 2,
        width: int = 16,
        bits: int | None = None,
        start: str | None = None,
        start_recipe: str | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        check_start(start, start_recipe)
        super().__init__(network, num_classes, in_channels, optimizer, scheduler)
        self.hparams.pop("start_recipe", None)
        self.network.requires_grad_(False).eval()
        self.layer, self.layers, self.bits = layer, list(layers), bits
        self.start, self.start_recipe = start, start_recipe
        self.cut = Cut(self.network, layer)
        self.encoder = encoder or BottleneckEncoder(in_channels, channels, stride, width)
        with torch.no_grad():
            black = torch.zeros(1, in_channels, image_size, image_size)
            wanted = self.cut.head(black).shape[1:]
            self.decoder = decoder or BottleneckDecoder(channels, wanted)
            self.eval()
            features = self.features(black)
            if features.shape[1:] != wanted:
                raise ValueError(
                    f"decoder={type(self.decoder).__name__} gives {tuple(features.shape[1:])} a sample, and layer={layer!r} {tuple(wanted)}: "
                    "the two must have one shape."
                )
            self._check_layers(features)
        self.train()
        for stage in ("val", "test"):
            setattr(self, f"{stage}_agreement", MulticlassAccuracy(num_classes, average="micro"))

    def setup(self, stage: str) -> None:
        """Loads the network's weights; when training resumes, those of the checkpoint replace them.

        Raises:
            FileNotFoundError: If the checkpoint `start` does not exist.
            ValueError: If its weights do not fit, or a network without weights has no `start`.
        """
        if stage != "fit" or resumes(self):
            return
        if self.start is None:
            if "network" in self.hparams:
                raise ValueError(
                    "start=None: the network would be one with random weights, of which there is nothing to learn; give start, the "
                    "checkpoint of a trained Classifier of this network."
                )
            return
        weights = weights_of(self.start, self.start_recipe, "Classifier")
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"start={self.start!r} does not fit this network: {error}") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drops `start` in favor of the checkpoint's weights."""
        self.start = None
        super().on_load_checkpoint(checkpoint)

    def train(self, mode: bool = True) -> "SplitClassifier":
        """Sets the mode of encoder and decoder; the network always stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self

    def features(self, x: Tensor) -> Tensor:
        """Computes the features in place of the layer's output: by encoder, link and decoder."""
        sent = self.encoder(x)
        return self.decoder(sent if self.bits is None else rounded(sent, self.bits))

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits `(B, num_classes)` of images, through the bottleneck."""
        return self.cut.tail(self.features(x))

    def rest(self, sent: Tensor) -> Tensor:
        """Computes logits `(B, num_classes)` from what has arrived at the server."""
        return self.cut.tail(self.decoder(sent))

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the distance of the features, for a batch with or without labels."""
        x = batch if isinstance(batch, Tensor) else batch[0]
        loss = self._seen(x).distance
        require_finite(self, loss, {"distance": loss})
        self.log("train/loss", loss, prog_bar=True, batch_size=len(x))
        return loss

    def _check_layers(self, features: Tensor) -> None:
        for name in self.layers:
            with Taps(self.network, [name], "layers") as taps:
                self.cut.tail(features)
            if not taps.complete:
                raise ValueError(
                    f"layers={self.layers}: {name!r} does not run behind layer={self.layer!r}; name layers that do."
                )

    def _seen(self, x: Tensor) -> Seen:
        with torch.no_grad(), Taps(self.network, [self.layer, *self.layers], "layers") as teacher:
            whole = self.network(x)
        with Taps(self, ["decoder", *(f"network.{name}" for name in self.layers)], "layers") as student:
            logits = self(x)
        pairs = [("decoder", self.layer), *((f"network.{name}", name) for name in self.layers)]
        distances = [fitnets_loss(student.output(ours), teacher.output(theirs)) for ours, theirs in pairs]
        return Seen(logits, whole, torch.stack(distances).sum())

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        x, y = labeled(batch)
        logits, whole, distance = self._seen(x)
        self.measure(logits, y, stage)
        agreement = getattr(self, f"{stage}_agreement")
        agreement.update(logits, whole.argmax(1))
        self.log(f"{stage}/agreement", agreement, batch_size=len(x))
        self.log(f"{stage}/distance", distance, batch_size=len(x), sync_dist=True)
