"""Contrastive representation distillation with a memory of every sample of the data set."""

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.contrast import Embeddings, log_mean_score, nce_loss
from lkd.losses.draws import Draws
from lkd.losses.term import Term
from lkd.losses.unit import gram, unit


class CRD(Term):
    """Contrastive representation distillation: embeddings of one sample agree, those of others do not.

    The sum of `nce_loss` in both directions. A memory holds an embedding of every sample from both networks,
    each a running average. A sample's embedding by the student is compared with the memory of the teacher, at
    its own place (positive) and at those of samples of other classes (negatives), and the other way round.

    **It needs to know which sample is which.** `labels` is `(B, 2)`: the class and the index of every sample,
    from 0 to num_data - 1. A data set gives it as a third entry of its item, next to image and label,
    `torch.tensor([label, index])`, with `label_key=2` in `Distillation` and a `training_step` that ignores
    the third entry. lkd's image sets with `numbered=True` and its classifiers do so. For data without indices
    use `QueueCRD`.

    As in the authors' code, the positive is the memory's and so an epoch old. Two things differ. Classes
    become known when their sample is first seen, so until then a negative may be of the same class. Scores
    come from one product with the whole memory, from which the negatives are then picked. Under DDP all ranks
    hold rank 0's memory.

    Tian, Krishnan and Isola: Contrastive Representation Distillation, ICLR 2020, arXiv:1910.10699, Section
    3.2 (Equations 18 and 19); defaults of the authors' CIFAR-100 recipe.

    Args:
        num_data: Number of samples in the data set, M.
        negatives: Number of negatives N drawn for a sample: without replacement if the memory has enough of
            them.
        dim: Numbers in an embedding.
        temperature: Temperature that products of embeddings are divided by, above 0.
        momentum: Share of the old embedding when the memory takes a new one, in [0, 1).
        weight: Factor of the loss. The authors have 0.8.
        student_layer: Layer whose output is the student's embedding `(B, ...)`, flattened from dimension 1.
        teacher_layer: Its counterpart in the teacher, of any width.
        seed: Seed of initial weights, initial memory and negatives.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> term = CRD(num_data=10, negatives=4, dim=8)
        >>> student, teacher = torch.ones(2, 3), torch.ones(2, 5)
        >>> labels = torch.tensor([[0, 7], [1, 2]])  # a sample of class 0 at place 7, one of class 1 at 2
        >>> term(student, teacher, labels, term.adapter(student, teacher)).isfinite()
        tensor(True)
    """

    needs_labels = True
    relates_samples = True

    def __init__(
        self,
        num_data: int,
        negatives: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
        weight: float = 1.0,
        student_layer: str = "",
        teacher_layer: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(num_data=num_data, ge=2, why="it is the size of the data set")
        expect(negatives=negatives, dim=dim, temperature=temperature, gt=0)
        expect(momentum=momentum, ge=0, lt=1)
        self.num_data, self.negatives, self.dim = num_data, negatives, dim
        self.temperature, self.momentum = temperature, momentum
        self.seed = seed

    def adapter(self, student: Tensor, teacher: Tensor) -> "SampleMemory":
        """Builds the embeddings and the memory."""
        memory = SampleMemory(
            student[0].numel(), teacher[0].numel(), self.num_data, self.dim, self.momentum, self.seed
        )
        return memory.to(student.device)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        adapter: nn.Module | None = None,
    ) -> Tensor:
        """Computes the loss of a batch and puts it into the memory."""
        if not isinstance(adapter, SampleMemory):
            raise ValueError("CRD keeps a memory: pass what the term's adapter() returned")
        classes, places = _classes_and_places(labels, len(student), self.num_data)
        return adapter(student, teacher, classes, places, self.negatives, self.temperature)


class SampleMemory(nn.Module):
    """Embeddings, and a running average of them for every sample of the data set, from both networks.

    Args:
        student: Number of features of a sample of the student.
        teacher: Number of features of a sample of the teacher.
        num_data: Number of samples.
        dim: Numbers in an embedding.
        momentum: Share of the old embedding in an update.
        seed: Seed of initial weights, initial memory and negatives.
    """

    student: Tensor
    teacher: Tensor
    classes: Tensor
    log_noise: Tensor
    calibrated: Tensor

    def __init__(
        self, student: int, teacher: int, num_data: int, dim: int, momentum: float, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = Embeddings(student, teacher, dim, generator)
        self.draws = Draws(seed)
        self.momentum = momentum
        for name in ("student", "teacher"):
            start = torch.rand(num_data, dim, generator=generator) * 2 - 1
            self.register_buffer(name, start * (3 / dim) ** 0.5)  # length about 1
        self.register_buffer("classes", torch.full((num_data,), -1))
        self.register_buffer("log_noise", torch.zeros(2))  # one for each direction
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        classes: Tensor,
        places: Tensor,
        negatives: int,
        temperature: float,
    ) -> Tensor:
        """Computes the loss in both directions; where gradients are recorded, remembers the batch too."""
        ours, theirs = self.embed(student, teacher)
        known = self.classes.clone()
        known[places] = classes
        drawn = _draw(known, classes, negatives, self.draws.generator(classes.device))
        total, noise = torch.zeros((), device=ours.device), self.log_noise.clone()
        for direction, (anchors, memory) in enumerate(((ours, self.teacher), (theirs, self.student))):
            # A copy of the rows is compared: the memory changes below, before the backward pass.
            scores = gram(anchors, memory.to(anchors.dtype).clone()) / temperature
            positive = scores.gather(1, places[:, None])[:, 0]
            negative = scores.gather(1, drawn)
            if not self.calibrated:
                noise[direction] = log_mean_score(positive, negative, torch.ones_like(negative)).detach()
            total = total + nce_loss(positive, negative, noise[direction])
        if torch.is_grad_enabled():  # a rehearsal before training must leave no trace
            self._remember(ours.detach(), theirs.detach(), classes, places)
            self.log_noise.copy_(noise)
            self.calibrated.fill_(True)
        return total

    @torch.no_grad()
    def _remember(self, ours: Tensor, theirs: Tensor, classes: Tensor, places: Tensor) -> None:
        for memory, new in ((self.student, ours), (self.teacher, theirs)):
            mixed = self.momentum * memory[places] + (1 - self.momentum) * new.to(memory.dtype)
            memory[places] = unit(mixed)
        self.classes[places] = classes


@torch.no_grad()
def _draw(known: Tensor, classes: Tensor, negatives: int, generator: torch.Generator) -> Tensor:
    """Draws places `(B, negatives)` of other classes, uniformly, by the classes `known (M,)` of places."""
    others = (known != classes[:, None]).float()
    available = others.sum(1).min()
    if not available:
        raise ValueError(
            "a sample has no negatives, as the memory holds its class alone: contrastive distillation needs two "
            "classes or more"
        )
    return torch.multinomial(others, negatives, bool(available < negatives), generator=generator)


def _classes_and_places(labels: Tensor | None, batch: int, num_data: int) -> tuple[Tensor, Tensor]:
    if labels is None or labels.shape != (batch, 2) or labels.is_floating_point():
        found = None if labels is None else f"{labels.dtype} {tuple(labels.shape)}"
        raise ValueError(
            f"CRD needs labels ({batch}, 2), the class and the index of every sample, as integers, got {found}: let "
            "label_key name an entry of the batch that has them, or take QueueCRD, which needs no indices"
        )
    classes, places = labels.long().unbind(1)
    if int(places.min()) < 0 or int(places.max()) >= num_data:
        raise ValueError(
            f"sample indices from {int(places.min())} to {int(places.max())} do not fit num_data={num_data}"
        )
    return classes, places
