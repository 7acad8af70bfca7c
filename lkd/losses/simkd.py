"""Distillation into the teacher's feature space, whose classifier the student then uses."""

import copy
from collections.abc import Mapping
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.adapters import channels
from lkd.losses.feature import fitnets_loss
from lkd.losses.layers import conv2d
from lkd.losses.maps import require_maps, same_size
from lkd.losses.term import Term


class Projector(nn.Module):
    """Bottleneck of 1x1, 3x3 and 1x1 convolutions from the student's last maps to the teacher's space.

    Each is followed by batch normalization and ReLU, since a teacher's classifier gets its input from a ReLU.

    Args:
        in_channels: Channels of the student's maps.
        out_channels: Channels of the teacher's.
        factor: The two layers in between have `out_channels // factor` channels, at least 1.
        seed: Seed of the initial weights.

    Example:
        >>> Projector(8, 16)(torch.zeros(2, 8, 4, 4)).shape
        torch.Size([2, 16, 4, 4])
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        middle = max(1, out_channels // factor)
        layers: list[nn.Module] = []
        for before, after, side in (
            (in_channels, middle, 1),
            (middle, middle, 3),
            (middle, out_channels, 1),
        ):
            conv = conv2d(before, after, generator, kernel_size=side, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, maps: Tensor) -> Tensor:
        """Projects maps `(B, C, H, W)` to `(B, C', H, W)`."""
        return self.layers(maps.to(next(self.parameters()).dtype))

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], prefix: str = "") -> Self:
        """Builds the projector that a state dict describes, such as the adapters' part of a checkpoint.

        Args:
            state: Tensors by name.
            prefix: What the names of the projector's own tensors begin with, such as `"simkd."`.

        Raises:
            ValueError: If there is no projector under this prefix.

        Example:
            >>> adapters = {f"simkd.{name}": value for name, value in Projector(8, 16).state_dict().items()}
            >>> Projector.from_state(adapters, "simkd.")(torch.zeros(2, 8, 4, 4)).shape
            torch.Size([2, 16, 4, 4])
        """
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if "layers.0.weight" not in own or "layers.6.weight" not in own:
            raise ValueError(f"prefix={prefix!r} leads to no projector; the state has {sorted(state)[:4]}")
        first, last = own["layers.0.weight"], own["layers.6.weight"]
        projector = cls(first.shape[1], last.shape[0], factor=last.shape[0] // first.shape[0])
        projector.load_state_dict(own)
        return projector


class SimKD(Term):
    """Feature matching through a projector, for a student that reuses the teacher's classifier.

    `fitnets_loss` (mean squared difference) between the projected maps of the student and the teacher's; the
    larger of the two maps is averaged down first. The authors train with this loss alone (`alpha=0`, weight
    1). The student to deploy is then `ReusedClassifier`. The student's own classifier is not trained, so its
    validation scores mean nothing.

    Chen et al.: Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022, arXiv:2203.14001,
    Section 3.

    Args:
        factor: Reduction of the projector's bottleneck. Default 2.
        weight: Factor of the loss.
        student_layer: Last layer of maps `(B, C, H, W)` of the student, before pooling.
        teacher_layer: Its counterpart in the teacher.
        seed: Seed of the projector's initial weights.

    Raises:
        ValueError: If factor is not above 0.

    Example:
        >>> term = SimKD(student_layer="layer3", teacher_layer="layer3")
        >>> student, teacher = torch.ones(2, 8, 4, 4), torch.zeros(2, 16, 4, 4)
        >>> term(student, teacher, adapter=term.adapter(student, teacher)).requires_grad
        True
    """

    def __init__(
        self,
        factor: int = 2,
        weight: float = 1.0,
        student_layer: str = "",
        teacher_layer: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(factor=factor, gt=0)
        self.factor = factor
        self.seed = seed

    def adapter(self, student: Tensor, teacher: Tensor) -> Projector:
        """Builds the projector, also where the widths agree."""
        require_maps(student, teacher)
        return Projector(channels(student), channels(teacher), self.factor, self.seed).to(student.device)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        adapter: nn.Module | None = None,
    ) -> Tensor:
        """Computes the mean squared difference."""
        if adapter is None:
            raise ValueError("SimKD learns a projector: pass what the term's adapter() returned")
        student, teacher = same_size(*require_maps(student, teacher))
        return fitnets_loss(adapter(student), teacher)


class ReusedClassifier(nn.Module):
    """The student that SimKD deploys: its backbone, the projector, and the teacher's classifier, frozen.

    The projector comes from the checkpoint of the run, `Projector.from_state(torch.load(path)
    ["distillation_adapters"], "simkd.")`. A backbone that ends with the distilled layer can be cut out of a
    network by `torchvision.models.feature_extraction.create_feature_extractor(net, {"layer3": "maps"})`.

    Args:
        backbone: Network that gives maps `(B, C, H, W)`, or a dict with one such entry.
        projector: The trained projector.
        head: The teacher's classifier, which is copied: from pooled features `(B, C')` to logits, or, without
            `pool`, from maps `(B, C', H, W)`.
        pool: Whether to average over the positions before the head.
        size: Height and width of the teacher's maps, if they were smaller than the student's, which training
            then averaged to this size. Default: leave the maps as they are.

    Example:
        >>> backbone, head = nn.Conv2d(3, 8, 3), nn.Linear(16, 10)
        >>> ReusedClassifier(backbone, Projector(8, 16), head)(torch.zeros(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        backbone: nn.Module,
        projector: nn.Module,
        head: nn.Module,
        pool: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.head = copy.deepcopy(head).requires_grad_(False)
        self.pool = pool
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `(B, classes)` of images."""
        maps = self.backbone(x)
        if isinstance(maps, dict):
            (maps,) = maps.values()
        if self.size is not None:
            maps = F.adaptive_avg_pool2d(maps, self.size)
        maps = self.projector(maps)
        return self.head(maps.mean((2, 3)) if self.pool else maps)
