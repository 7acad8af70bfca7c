"""Boxes as messages: how they are found in public frames, packed, and learned."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.federated.client.minimize import minimize
from lkd.federated.knowledge.common.batch_inputs import public_batches
from lkd.federated.knowledge.common.box_fusion import Found
from lkd.federated.protocol.client_data import PublicSamples
from lkd.federated.protocol.runtime import Runtime
from lkd.federated.protocol.tensors import Tensors

FINEST = 65535
"""Number of steps of a coordinate, a 16-bit fraction of the image: a fiftieth of a pixel at 1280."""


def check_finds(module: nn.Module) -> None:
    """Refuses a module that finds no boxes.

    Raises:
        ValueError: If it has no `detect`.
    """
    if getattr(module, "detect", None) is None:
        raise ValueError(
            f"{type(module).__name__} has no detect(images), so there are no boxes to exchange: federate a "
            "lkd.modules.Detector or give the module that method, or exchange class scores, as FedMD does."
        )


@torch.no_grad()
def find(
    module: LightningModule,
    public: PublicSamples,
    rows: Sequence[int] | np.ndarray,
    runtime: Runtime,
    batch_size: int,
    score_threshold: float,
    top: int,
) -> Tensors:
    """Runs a detector on public frames, and packs the boxes that it finds.

    Args:
        module: Module with a method `detect(images)`, such as `lkd.modules.Detector`.
        public: Frames, as dicts with `images (B, 3, H, W)`.
        rows: Numbers of the frames.
        runtime: How this process moves batches, and in which precision.
        batch_size: Frames at once.
        score_threshold: Boxes of a lower score are left out.
        top: Largest number of boxes per frame.

    Returns:
        The packed boxes, see `pack`.

    Raises:
        ValueError: If the module has no `detect`, or the public data are no frames.
    """
    check_finds(module)
    detect: Any = module.detect
    training = module.training
    module.eval()
    found: list[Found] = []
    for batch in public_batches(public, rows, batch_size, runtime):
        if not isinstance(batch, dict) or "images" not in batch:
            raise ValueError("the public data are no frames: batches must be dicts with `images`.")
        height, width = batch["images"].shape[-2:]
        with runtime.trainer.precision_plugin.forward_context():
            detections = detect(batch["images"])
        for one in detections:
            sure = (one["scores"] >= score_threshold).nonzero().flatten()
            sure = sure[one["scores"][sure].argsort(descending=True, stable=True)][:top]
            size = one["boxes"].new_tensor([width, height, width, height])
            kept = {name: one[name][sure] for name in ("scores", "labels")}
            found.append({**kept, "boxes": (one["boxes"][sure] / size).clamp(0, 1)})
    module.train(training)
    return pack(found)


def pack(found: Sequence[Found]) -> Tensors:
    """Packs detections of several images in 11 bytes per box and 4 per image.

    Args:
        found: Detections of each image; boxes are fractions of the image.

    Raises:
        ValueError: For a label below 0 or above 255.

    Example:
        >>> one = {"boxes": torch.tensor([[0.0, 0.0, 0.5, 1.0]]), "scores": torch.tensor([0.5]), "labels": torch.tensor([1])}
        >>> packed = pack([one, one])
        >>> sum(t.nbytes for t in packed.values()), unpack(packed)[1]["boxes"].round(decimals=4).tolist()
        (30, [[0.0, 0.0, 0.5, 1.0]])
    """
    labels = torch.cat([one["labels"] for one in found]).cpu()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 255:
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())}: a box's class travels in one byte, from 0 to 255."
        )
    boxes = torch.cat([one["boxes"].reshape(-1, 4) for one in found]).cpu()
    return {
        "boxes": (boxes * FINEST).round().to(torch.uint16),
        "scores": torch.cat([one["scores"] for one in found]).cpu().half(),
        "labels": labels.to(torch.uint8),
        "counts": torch.tensor([len(one["scores"]) for one in found], dtype=torch.int32),
    }


def unpack(packed: Tensors) -> list[Found]:
    """Unpacks detections, in float32."""
    counts = packed["counts"].tolist()
    boxes = (packed["boxes"].to(torch.int32).float() / FINEST).split(counts)
    parts = zip(
        boxes, packed["scores"].float().split(counts), packed["labels"].long().split(counts), strict=True
    )
    return [{"boxes": b, "scores": s, "labels": k} for b, s, k in parts]


def learn(
    module: LightningModule,
    optimizer: torch.optim.Optimizer,
    public: PublicSamples,
    rows: np.ndarray,
    packed: Tensors,
    runtime: Runtime,
    seed: int,
    epochs: int,
    batch_size: int,
) -> int:
    """Trains a detector's own loss on public frames, with these boxes as targets.

    Frames are shuffled in each epoch, and come as whole batches. The original `training_step` of the module's
    class runs, so additions to the module's step, such as a teacher for its own frames, do not take part.

    Returns:
        Number of optimizer steps.
    """
    found = unpack({name: tensor.cpu() for name, tensor in packed.items()})
    generator = np.random.default_rng(seed)
    step = type(module).training_step

    def batches() -> Iterator[Any]:
        for _ in range(epochs):
            order = generator.permutation(len(rows))
            places: Iterable[np.ndarray] = np.split(order, range(batch_size, len(order), batch_size))
            for place, batch in zip(
                places, public_batches(public, rows[order], batch_size, runtime), strict=True
            ):
                height, width = batch["images"].shape[-2:]
                size = torch.tensor([width, height, width, height], dtype=torch.float32)
                targets = [{"boxes": found[i]["boxes"] * size, "labels": found[i]["labels"]} for i in place]
                yield {**batch, "targets": [{k: v.to(module.device) for k, v in t.items()} for t in targets]}

    def loss(batch: Any) -> Tensor:
        output: Any = step(module, batch, 0)
        return output["loss"] if isinstance(output, dict) else output

    own = vars(module)
    before = own.get("log")
    own["log"] = _nothing  # the module's log is for its own frames
    try:
        return minimize(module, optimizer, batches(), loss, runtime.trainer, runtime.clip)
    finally:
        own.pop("log")
        if before is not None:
            own["log"] = before


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Takes a log call and drops it."""
