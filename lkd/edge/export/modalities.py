"""Students of several modalities: one input for each, and which sample has which."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from lkd.edge.export.kind import ExportPart
from lkd.edge.export.logits import ClassifierKind
from lkd.edge.exported import PRESENT
from lkd.models.encoders import pooled
from lkd.models.multimodal import Multimodal
from lkd.modules import MultimodalClient


class Dense(nn.Module):
    """A `Multimodal` network without branches: every encoder sees every sample, and masks decide what counts.

    In eval mode it gives the same numbers, as encoders see each sample by itself and masks put zeros where
    others are.
    """

    def __init__(self, network: Multimodal) -> None:
        super().__init__()
        self.module = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns logits `(B, C)` from each modality's tensor, in order, and `present (B, M)` bool."""
        network, there = self.module, inputs[-1]
        embedded = [
            self._where(there[:, i], network.projections[m], pooled(network.encoders[m](inputs[i])))
            for i, m in enumerate(network.modalities)
        ]
        embeddings = torch.stack(embedded, 1)
        if len(network.prototypes):
            embeddings, there = network._complete(embeddings, there)
        if network.late:
            logits = [
                self._where(there[:, i], network.heads[m], embeddings[:, i])
                for i, m in enumerate(network.modalities)
            ]
            fused: Tensor = network.head(torch.stack(logits, 1), there)
        else:
            fused = network.head(network.embedding(embeddings, there))
        return fused

    @staticmethod
    def _where(present: Tensor, layer: nn.Module, values: Tensor) -> Tensor:
        """Returns what a `PresentLinear` gives, computed for all samples."""
        linear = cast(nn.Linear, layer)
        found = nn.functional.linear(values, linear.weight, linear.bias)
        return torch.where(present.unsqueeze(1), found, 0.0)


class MultimodalKind(ClassifierKind):
    """A `MultimodalClient`: `forward` takes the dict of `lkd.modalities`."""

    name = "modalities"

    def __init__(self, module: MultimodalClient) -> None:
        super().__init__(module)
        self.examples: dict[str, Tensor] | None = None

    @property
    def network(self) -> Multimodal:
        """The module's network."""
        return cast(MultimodalClient, self.module).network

    def watch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the forward, to note the first two samples."""

        def forward(x: Any) -> Any:
            found = original(x)
            tensors = self.tensors(x)
            if self.examples is None:
                self.examples, self.classes = {k: v[:2].clone() for k, v in tensors.items()}, found.shape[1]
            for name, value in tensors.items():
                if value.shape[1:] != self.examples[name].shape[1:]:
                    raise ValueError(
                        f"test samples of {name!r} have the shapes {tuple(self.examples[name].shape[1:])} and "
                        f"{tuple(value.shape[1:])}, but a file takes one: let the data give all of one size."
                    )
            return found

        return forward

    def parts(self) -> list[ExportPart]:
        """Returns the one part, with the two samples that were noted."""
        if self.examples is None:
            raise ValueError("the test data are empty, so nothing is known of the student's inputs.")
        return [ExportPart("", Dense(self.network).eval(), self.examples, ["logits"], self.classes)]

    def tensors(self, x: Any) -> dict[str, Tensor]:
        """Returns a tensor for each modality, zeros where a batch has none, and which sample has which."""
        given, there = self.network.owned(x)
        shapes = self.network.shapes
        whole = {m: given[m] if m in given else torch.zeros(len(there), *shapes[m]) for m in shapes}
        return {**whole, PRESENT: there}
