"""Contrastive representation distillation with a queue of recent samples, for data without indices."""

import torch
from torch import Tensor, nn

from lkd.checks import expect
from lkd.losses.contrast import Embeddings, log_mean_score, nce_loss
from lkd.losses.term import Term
from lkd.losses.unit import gram


class QueueCRD(Term):
    """The objective of CRD, with the last samples seen as negatives instead of a memory of the data set.

    The sum of `nce_loss` in both directions: a sample's embedding by the student against its own by the
    teacher (positive), and against the teacher's of all samples of other classes in the batch and in a
    first-in-first-out queue (negatives), and the other way round. It needs the classes but no index of a
    sample, so it works on any data, also on each client's own.

    **This is not the authors' algorithm** (`CRD` is): the queue is that of MoCo (He et al., CVPR 2020). The
    positive is the sample's present embedding and not an epoch old one, so there is no momentum; the
    negatives are all there are, not K draws; and the first steps have few. Under DDP all ranks hold rank 0's
    queue.

    Tian, Krishnan and Isola: Contrastive Representation Distillation, ICLR 2020, arXiv:1910.10699, Equations
    18 and 19.

    Args:
        queue: Number of samples that the queue holds.
        dim: Numbers in an embedding.
        temperature: Temperature that products of embeddings are divided by, above 0.
        weight: Factor of the loss. CRD's authors have 0.8.
        student_layer: Layer whose output is the student's embedding `(B, ...)`, flattened from dimension 1.
        teacher_layer: Its counterpart in the teacher, of any width.
        seed: Seed of the initial weights.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> term = QueueCRD(queue=8, dim=4)
        >>> student, teacher = torch.eye(3), torch.eye(3)
        >>> term(student, teacher, torch.tensor([0, 1, 1]), term.adapter(student, teacher)).isfinite()
        tensor(True)
    """

    needs_labels = True
    relates_samples = True

    def __init__(
        self,
        queue: int = 16384,
        dim: int = 128,
        temperature: float = 0.07,
        weight: float = 1.0,
        student_layer: str = "",
        teacher_layer: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(weight, student_layer, teacher_layer)
        expect(queue=queue, dim=dim, temperature=temperature, gt=0)
        self.queue, self.dim, self.temperature = queue, dim, temperature
        self.seed = seed

    def adapter(self, student: Tensor, teacher: Tensor) -> "SampleQueue":
        """Builds the embeddings and the queue."""
        queue = SampleQueue(student[0].numel(), teacher[0].numel(), self.queue, self.dim, self.seed)
        return queue.to(student.device)

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor | None = None,
        adapter: nn.Module | None = None,
    ) -> Tensor:
        """Computes the loss of a batch and puts it into the queue."""
        if not isinstance(adapter, SampleQueue):
            raise ValueError("QueueCRD keeps a queue: pass what the term's adapter() returned")
        if labels is None or labels.shape != (len(student),) or labels.is_floating_point():
            found = None if labels is None else f"{labels.dtype} {tuple(labels.shape)}"
            raise ValueError(
                f"QueueCRD needs labels ({len(student)},), integers, to tell negatives from samples of the same "
                f"class, got {found}"
            )
        return adapter(student, teacher, labels, self.temperature)


class SampleQueue(nn.Module):
    """Embeddings, and a first-in-first-out queue of them with their classes.

    Args:
        student: Number of features of a sample of the student.
        teacher: Number of features of a sample of the teacher.
        size: Number of samples in the queue.
        dim: Numbers in an embedding.
        seed: Seed of the initial weights.
    """

    student: Tensor
    teacher: Tensor
    classes: Tensor
    seen: Tensor
    log_noise: Tensor
    calibrated: Tensor

    def __init__(self, student: int, teacher: int, size: int, dim: int, seed: int) -> None:
        super().__init__()
        self.embed = Embeddings(student, teacher, dim, torch.Generator().manual_seed(seed))
        self.register_buffer("student", torch.zeros(size, dim))
        self.register_buffer("teacher", torch.zeros(size, dim))
        self.register_buffer("classes", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("log_noise", torch.zeros(2))  # one for each direction
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """Computes the loss in both directions; where gradients are recorded, enqueues the batch too."""
        ours, theirs = self.embed(student, teacher)
        filled = torch.arange(len(self.classes), device=labels.device) < self.seen
        classes = torch.cat([self.classes, labels])
        there = torch.cat([filled, torch.ones_like(labels, dtype=torch.bool)])
        counts = (there & (classes != labels[:, None])).to(ours.dtype)
        total, noise = torch.zeros((), device=ours.device), self.log_noise.clone()
        pairs = ((ours, theirs.detach(), self.teacher), (theirs, ours.detach(), self.student))
        for direction, (anchors, keys, queue) in enumerate(pairs):
            # `cat` copies: the queue changes below, before the backward pass.
            scores = gram(anchors, torch.cat([queue.to(keys.dtype), keys])) / temperature
            positive = (anchors * keys).sum(1) / temperature
            if not self.calibrated:
                noise[direction] = log_mean_score(positive, scores, counts).detach()
            total = total + nce_loss(positive, scores, noise[direction], counts)
        if torch.is_grad_enabled():  # a rehearsal before training must leave no trace
            self._enqueue(ours.detach(), theirs.detach(), labels)
            self.log_noise.copy_(noise)
            self.calibrated.logical_or_(counts.any())  # without a negative there is no noise level yet
        return total

    @torch.no_grad()
    def _enqueue(self, ours: Tensor, theirs: Tensor, labels: Tensor) -> None:
        size = len(self.classes)
        ours, theirs, labels = ours[-size:], theirs[-size:], labels[-size:]
        places = (torch.arange(len(labels), device=labels.device) + self.seen) % size
        self.student[places] = ours.to(self.student.dtype)
        self.teacher[places] = theirs.to(self.teacher.dtype)
        self.classes[places] = labels
        self.seen += len(labels)
