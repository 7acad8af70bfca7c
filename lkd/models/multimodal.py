"""A network with one encoder for each modality, which takes any subset of them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.modalities import PRESENT, split
from lkd.models.encoders import PresentLinear, check_encoders, feature_width, make_encoder, pooled
from lkd.models.fusion import Fusion, MeanFusion, make_fusion
from lkd.models.prototypes import ClassPrototypes, complete

Completion = Literal["zero", "prototype"]


class Multimodal(nn.Module):
    """Encoders of modalities, their fusion, and heads on the fused embedding and on each modality's.

    x is the dict of `lkd.modalities`. An encoder runs only on the samples that have its modality, so that
    values in the other places have no effect, and does not run at all if there are none. Modalities without
    an encoder are ignored: the same batch serves a teacher with all of them and a student with one.

    Layers by address, m being a modality: `encoders.<m>` features of the samples that have m;
    `projections.<m>` `(B, D)` and `heads.<m>` `(B, classes)`, zeros for samples without m; `embedding` `(B,
    D)` fused; `head` `(B, classes)`; `auxiliary.0`, ... `(B, classes)`.

    Args:
        encoders: A module for each modality that gives features `(B, F)` or `(B, F, ...)`, which are averaged
            over all further dimensions; or the name of a timm model.
        classes: Number of classes.
        example: Shape of an input of each modality without the batch, by which widths are found.
        embedding: D, the size of every embedding.
        fusion: `"late"`: the mean of the modalities' logits. `"mean"`, `"concat"`, `"gated"`, `"attention"`:
            a fusion of embeddings, see `lkd.models.fusion`. Or a module that maps embeddings `(B, M, D)`, in
            the order of `encoders`, and `present (B, M)` to `(B, D)`.
        completion: What replaces a missing modality: nothing (`"zero"`: it is masked), or a mixture of the
            prototypes of classes (`"prototype"`, see `lkd.models.prototypes.complete`), which `learn` keeps.
        momentum: Momentum of the prototypes.
        temperature: Temperature of the mixture.
        auxiliary: Number of further heads on the fused embedding, for multi-headed distillation.

    Raises:
        ValueError: For names, numbers, encoders or a fusion that do not fit.

    Example:
        >>> encoders = {"acc": nn.Flatten(), "gyro": nn.Flatten()}
        >>> net = Multimodal(encoders, classes=5, example={"acc": [3, 8], "gyro": [3, 8]}, fusion="gated")
        >>> net({"acc": torch.zeros(2, 3, 8)}).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        encoders: Mapping[str, nn.Module | str],
        classes: int,
        example: Mapping[str, Sequence[int]],
        embedding: int = 64,
        fusion: Fusion | nn.Module = "mean",
        completion: Completion = "zero",
        momentum: float = 0.9,
        temperature: float = 0.1,
        auxiliary: int = 0,
    ) -> None:
        super().__init__()
        expect(classes=classes, embedding=embedding, ge=1)
        expect(auxiliary=auxiliary, ge=0)
        expect(completion=completion, among=("zero", "prototype"))
        expect(temperature=temperature, gt=0)
        check_encoders(encoders, example)
        self.modalities, self.temperature = tuple(encoders), temperature
        self.shapes = {m: tuple(example[m]) for m in encoders}
        made = {m: make_encoder(m, encoder, example[m]) for m, encoder in encoders.items()}
        self.widths = {m: feature_width(m, encoder, example[m]) for m, encoder in made.items()}
        self.encoders = nn.ModuleDict(made)
        self.projections = nn.ModuleDict({m: PresentLinear(f, embedding) for m, f in self.widths.items()})
        self.heads = nn.ModuleDict({m: PresentLinear(embedding, classes) for m in made})
        self.prototypes = nn.ModuleDict(
            {m: ClassPrototypes(classes, embedding, momentum) for m in made if completion == "prototype"}
        )
        self.late = fusion == "late"
        if not isinstance(fusion, nn.Module):
            fusion = make_fusion(fusion, self.modalities, embedding)
        self.embedding: nn.Module = fusion
        self._check_fusion(embedding)
        self.head: nn.Module = MeanFusion() if self.late else nn.Linear(embedding, classes)
        self.auxiliary = nn.ModuleList(nn.Linear(embedding, classes) for _ in range(auxiliary))

    @torch.no_grad()
    def _check_fusion(self, size: int) -> None:
        """Refuses a fusion of the user's own that gives no embeddings; its state stays as it is."""
        training, shape = self.embedding.training, (2, len(self.modalities))
        found: Any = self.embedding.eval()(torch.zeros(*shape, size), torch.ones(shape, dtype=torch.bool))
        self.embedding.train(training)
        if not isinstance(found, Tensor) or found.shape != (2, size):
            raise ValueError(
                f"fusion={type(self.embedding).__name__} must map embeddings (B, M, D) and present (B, M) to (B, D), here "
                f"(2, {size}), not {tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}."
            )

    def owned(self, x: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the parts of a batch that this network has encoders for.

        Args:
            x: The batch.

        Returns:
            Tensors by modality, without those that the batch lacks, and which sample has which modality, `(B,
            M)`, in the order of `modalities`.

        Raises:
            ValueError: If the batch, or one of its samples, has none of the modalities.
        """
        inputs, present = split(x)
        ours = {m: inputs[m] for m in self.modalities if m in inputs}
        if not ours:
            raise ValueError(
                f"x holds {', '.join(inputs)}, and this network has encoders for {', '.join(self.modalities)} only."
            )
        nobody = torch.zeros_like(next(iter(present.values())))
        there = torch.stack([present[m] if m in inputs else nobody for m in self.modalities], 1)
        if not self.everybody(x) and not (anything := there.any(1)).all():
            empty = (~anything).nonzero().squeeze(1)
            raise ValueError(
                f"{len(empty)} of {len(there)} samples, the first being number {int(empty[0])}, have none of the modalities "
                f"{', '.join(self.modalities)}: leave such samples out of the data."
            )
        return ours, there

    def everybody(self, x: dict[str, Any]) -> bool:
        """Returns whether a batch's form alone shows that all of its samples have all modalities."""
        masks = x.get(PRESENT) or {}
        return all(m not in masks and len(x.get(m, ())) > 0 for m in self.modalities)

    def forward(self, x: Any) -> Tensor:
        """Returns logits `(B, classes)` of the fused modalities.

        All heads run, so that they can be tapped.
        """
        inputs, there = self.owned(x)
        whole = self.everybody(x)
        each = [self._embed(m, inputs.get(m), there[:, i], whole) for i, m in enumerate(self.modalities)]
        embeddings = torch.stack([e.to(each[0].dtype) for e in each], 1)
        if len(self.prototypes) and not whole and not there.all():
            embeddings, there = self._complete(embeddings, there)
        # always copies, so that one and the same kernel runs
        rows = [slice(None) if whole else there[:, i] for i in range(len(self.modalities))]
        logits = [
            self.heads[m](embeddings[rows[i], i].contiguous(), there[:, i])
            for i, m in enumerate(self.modalities)
        ]
        fused = self.embedding(embeddings, there)
        for head in self.auxiliary:
            head(fused)
        return self.head(torch.stack(logits, 1), there) if self.late else self.head(fused)

    def _embed(self, modality: str, given: Tensor | None, present: Tensor, whole: bool) -> Tensor:
        """Returns embeddings `(B, D)` of one modality.

        `whole` says that all samples have it, so `present` is not read.
        """
        projection = cast(PresentLinear, self.projections[modality])
        if given is None or not (whole or present.any()):
            return projection(projection.weight.new_zeros(0, self.widths[modality]), present)
        given = given if whole or present.all() else given[present]
        try:
            features = self.encoders[modality](given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # raised by torch if shapes do not fit
            raise ValueError(
                f"the encoder of {modality!r} does not take x[{modality!r}] of shape {tuple(given.shape)}: {error}"
            ) from error
        return projection(pooled(features), present)

    def _complete(self, embeddings: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        prototypes = [cast(ClassPrototypes, self.prototypes[m]) for m in self.modalities]
        means = torch.stack([each.means for each in prototypes])
        known = torch.stack([each.known for each in prototypes])
        return complete(embeddings, there, means, known, self.temperature)

    def learn(
        self, embeddings: Mapping[str, Tensor], present: Mapping[str, Tensor | None], labels: Tensor
    ) -> None:
        """Updates the prototypes by a batch.

        Args:
            embeddings: Outputs of `projections.<m>`, `(B, D)` by modality.
            present: Which samples have it, `(B,)` by modality; None if all do.
            labels: Class labels `(B,)`.
        """
        for m in self.modalities:
            prototypes, rows = cast(ClassPrototypes, self.prototypes[m]), present[m]
            if rows is None:
                prototypes.learn(embeddings[m].detach(), labels)
            else:
                prototypes.learn(embeddings[m][rows].detach(), labels[rows])
