"""A client with several modalities, as a LightningModule."""

from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from lkd.checks import expect
from lkd.finite import require_finite
from lkd.looks import looks_first
from lkd.losses.unimodal import agreement_loss, unimodal_loss
from lkd.modalities import PRESENT, drop
from lkd.models.fusion import Fusion
from lkd.models.multimodal import Completion, Multimodal
from lkd.modules.classifier import Classifier, labeled
from lkd.taps import Taps

NETWORK = "network"


class MultimodalClient(Classifier):
    """Classifier of several modalities, any of which a sample may lack, in training and in use.

    Batches are tuples of x, the dict of `lkd.modalities`, and `y (B,)` int64. The network is
    `lkd.models.Multimodal`. Addresses of its layers are `network.encoders.<m>`, `network.projections.<m>`,
    `network.heads.<m>` for each modality m, `network.embedding` and `network.head`. The loss is

        CE(fused) + unimodal * mean_m CE(head_m) + agreement * mean_m KL(fused ‖ head_m)

    with means over the samples that have m, then over modalities (`lkd.losses.unimodal_loss`,
    `agreement_loss`). The third term gives the fused logits no gradient. Logs `train/loss`; `val/loss` (the
    first term), `val/acc`, `val/f1` (macro), and `val/acc_<m>` of each modality's head on the samples that
    have m; the same for `test`. `predict_step` returns logits.

    In a federation, a client that owns only some modalities is another architecture, with the encoders that
    it has. `Federation(full, other_models=[...], shared_layers="*")` averages each layer over the clients
    that have it; `model`, the first, needs all modalities. Such a client may be given batches with more
    modalities than it has encoders for.

    A checkpoint rebuilds encoders that are timm names, or were made by LightningCLI; other modules have to be
    passed again.

    Args:
        encoders: A module or timm name for each modality, see `lkd.models.Multimodal`.
        num_classes: Number of classes.
        example: Shape of an input of each modality without the batch.
        embedding: Size of the embeddings.
        fusion: `"late"`, `"mean"`, `"concat"`, `"gated"`, `"attention"`, or a module.
        completion: `"zero"`: a missing modality is masked. `"prototype"`: it is filled in from prototypes of
            classes, learned in training, after each step's forward pass.
        momentum: Momentum of the prototypes.
        temperature: Temperature of the mixture of prototypes.
        unimodal: Weight of the modalities' own heads. Default 1.
        agreement: Weight of their agreement with the fused prediction. Default 0. (The form of both is from
            multimodal federated baselines; the weights are our choice.)
        modality_dropout: Probability that a training sample lacks a modality that it has, but never all of
            them, see `lkd.modalities.drop`. In training mode every forward draws it from torch's global
            generator. A federation seeds that from (seed, round, client), a Trainer's `seed_everything` once.
            A teacher is given x without dropout.
        auxiliary: Number of further heads on the fused embedding, for multi-headed distillation.
        optimizer: Creates the optimizer, see `Classifier`.
        scheduler: Creates the scheduler, see `Classifier`.

    Raises:
        ValueError: For a negative weight, a dropout out of [0, 1), and what `Multimodal` refuses.

    Example:
        >>> client = MultimodalClient({"acc": nn.Flatten()}, num_classes=5, example={"acc": [3, 8]})
        >>> client({"acc": torch.zeros(2, 3, 8), "gyro": torch.zeros(2, 3, 8)}).shape
        torch.Size([2, 5])
    """

    network: Multimodal

    def __init__(
        self,
        encoders: dict[str, nn.Module | str],
        num_classes: int,
        example: dict[str, list[int]],
        embedding: int = 64,
        fusion: Fusion | nn.Module = "mean",
        completion: Completion = "zero",
        momentum: float = 0.9,
        temperature: float = 0.1,
        unimodal: float = 1.0,
        agreement: float = 0.0,
        modality_dropout: float = 0.0,
        auxiliary: int = 0,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=0.001),
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        expect(unimodal=unimodal, agreement=agreement, ge=0)
        expect(modality_dropout=modality_dropout, ge=0, lt=1)
        network = Multimodal(
            encoders, num_classes, example, embedding, fusion, completion, momentum, temperature, auxiliary
        )
        super().__init__(network, num_classes, optimizer=optimizer, scheduler=scheduler)
        # names can rebuild the module; set here, since inside a CLI's Federation only its own are saved
        if isinstance(fusion, str):
            self.hparams["fusion"] = fusion
        if all(isinstance(encoder, str) for encoder in encoders.values()):
            self.hparams["encoders"] = dict(encoders)
        self.unimodal, self.agreement, self.modality_dropout = unimodal, agreement, modality_dropout
        self.layers = ["network.head", *(f"network.auxiliary.{i}" for i in range(auxiliary))]
        self.val_f1, self.test_f1 = (MulticlassF1Score(num_classes, average="macro") for _ in range(2))
        self.val_heads, self.test_heads = (
            nn.ModuleDict({m: MulticlassAccuracy(num_classes, average="micro") for m in encoders})
            for _ in range(2)
        )

    def forward(self, x: Any) -> Tensor:
        """Computes logits `(B, num_classes)`; in training mode with modality dropout."""
        if self.training and self.modality_dropout:
            inputs, there = self.network.owned(x)
            present = dict(zip(self.network.modalities, there.unbind(1), strict=True))
            x = {**inputs, PRESENT: drop({m: present[m] for m in inputs}, self.modality_dropout)}
        return self.network(x)

    @looks_first
    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Computes the loss of a labeled batch, and updates the prototypes."""
        x, y = labeled(batch)
        with self._taps() as taps:
            logits = self(x)
        whole = self.network.everybody(taps.input(NETWORK))
        seen: dict[str, Tensor | None] = (
            dict.fromkeys(self.network.modalities) if whole else {**self._seen(taps)}
        )
        heads = self._each(taps, "heads")
        parts = {"cross entropy": self.loss(logits, y)}
        if self.unimodal:
            parts["unimodal"] = self.unimodal * unimodal_loss(heads, seen, y)
        if self.agreement:
            parts["agreement"] = self.agreement * agreement_loss(heads, seen, logits)
        loss = torch.stack(list(parts.values())).sum()
        require_finite(self, loss, parts)
        if len(self.network.prototypes):
            self.network.learn(self._each(taps, "projections"), seen, y)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(y))
        return loss

    def _taps(self) -> Taps:
        each = [f"network.{kind}.{m}" for kind in ("heads", "projections") for m in self.network.modalities]
        return Taps(self, [NETWORK, *each])

    def _seen(self, taps: Taps) -> dict[str, Tensor]:
        """Tells which samples have each modality, from the network's input."""
        _, there = self.network.owned(taps.input(NETWORK))
        return dict(zip(self.network.modalities, there.unbind(1), strict=True))

    def _each(self, taps: Taps, kind: str) -> dict[str, Tensor]:
        return {m: taps.output(f"network.{kind}.{m}") for m in self.network.modalities}

    def measure(self, logits: Tensor, labels: Tensor, stage: Literal["val", "test"]) -> None:
        """Logs the metrics of `Classifier`, and the macro F1."""
        super().measure(logits, labels, stage)
        f1 = self.val_f1 if stage == "val" else self.test_f1
        f1.update(logits, labels)
        self.log(f"{stage}/f1", f1, batch_size=len(labels))

    def _evaluate(self, batch: Any, stage: Literal["val", "test"]) -> None:
        with self._taps() as taps:
            super()._evaluate(batch, stage)
        y, metrics = batch[1], getattr(self, f"{stage}_heads")
        heads = self._each(taps, "heads")
        for m, rows in self._seen(taps).items():
            if rows.any():
                metrics[m].update(heads[m][rows], y[rows])
            # without a sample there is nothing to log, unless ranks are synchronized: then all must take part
            if metrics[m].update_called or metrics[m].distributed_available_fn():
                self.log(f"{stage}/acc_{m}", metrics[m], batch_size=len(y))
