"""A backbone with an embedding and a chain of heads."""

from typing import Any

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.models.timm_names import timm_network


class MultiHead(nn.Module):
    """An embedding from any backbone, with a main head and auxiliary heads on it, all linear.

    The network of multi-headed distillation (Zhmoginov et al., "Decentralized Learning with Multi-Headed
    Distillation", CVPR 2023, arXiv:2211.15774, Section 3). Layers by address: `embedding` `(B, D)`;
    `heads.0`, the main head, and `heads.1`, `heads.2`, ..., the auxiliary ones, each `(B, classes)`.

    Args:
        backbone: A module that maps inputs to features `(B, F)` or maps `(B, F, H, W)`, which are averaged
            over positions, or the name of a timm model.
        classes: Number of classes.
        heads: Number of auxiliary heads. Default 1.
        embedding: Size D of the embedding. A linear layer brings the features to that size, so that clients
            with different backbones can compare embeddings; None keeps them as they are.
        in_channels: Channels of the input, for timm models.
        answer: Which head `forward` returns: 0 is the main head, -1 the last one. Default 0.
        example: Shape of an input without the batch, such as `[3, 32, 32]`, by which the backbone's width is
            found.

    Raises:
        ValueError: For numbers that do not fit, or a backbone whose output is no feature vector or map.

    Example:
        >>> net = MultiHead(nn.Flatten(), classes=3, heads=2, embedding=5, example=[1, 2, 2])
        >>> net(torch.zeros(7, 1, 2, 2)).shape, len(net.heads)
        (torch.Size([7, 3]), 3)
    """

    def __init__(
        self,
        backbone: nn.Module | str,
        classes: int,
        heads: int = 1,
        embedding: int | None = 64,
        in_channels: int = 3,
        answer: int = 0,
        example: list[int] | None = None,
    ) -> None:
        super().__init__()
        expect(heads=heads, ge=0)
        expect(classes=classes, ge=1)
        expect(embedding=embedding, ge=1, none="the backbone's own size")
        if not -heads - 1 <= answer <= heads:
            raise ValueError(f"answer={answer}: there is a main head, 0, and auxiliary ones, 1 to {heads}.")
        if isinstance(backbone, str):
            backbone = timm_network("backbone", backbone, num_classes=0, in_chans=in_channels)
        self.backbone = backbone
        features = self._width(example or [in_channels, 32, 32])
        self.embedding: nn.Module = nn.Identity() if embedding is None else nn.Linear(features, embedding)
        self.heads = nn.ModuleList(
            nn.Linear(features if embedding is None else embedding, classes) for _ in range(heads + 1)
        )
        self.answer = answer

    @torch.no_grad()
    def _width(self, shape: list[int]) -> int:
        """Returns the number of features, found with one input in eval mode, so that no statistic changes."""
        training = self.backbone.training
        try:
            found: Any = self.backbone.eval()(torch.zeros(1, *shape))
        except RuntimeError as error:
            raise ValueError(
                f"the backbone does not take an input of shape {shape}: give example=[channels, height, width]."
            ) from error
        self.backbone.train(training)
        if not isinstance(found, Tensor) or found.dim() not in (2, 4):
            raise ValueError(
                f"the backbone {type(self.backbone).__name__} must give features (B, F) or (B, F, H, W), not "
                f"{tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__}."
            )
        return found.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `(B, classes)` of the answering head; all heads run, so that they can be tapped."""
        features = self.backbone(x)
        embedding = self.embedding(features.mean((2, 3)) if features.dim() == 4 else features)
        return [head(embedding) for head in self.heads][self.answer]
