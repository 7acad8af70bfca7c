"""The losses of multi-headed distillation: normalized embeddings, and a chain of heads."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lkd.losses.inputs import full_precision
from lkd.losses.scores import require_classes

Choice = Literal["confident", "random", "mean", "skip"]


def embedding_distance(student: Tensor, teachers: Tensor) -> Tensor:
    """Computes the squared distance of unit-length embeddings, summed over the teachers, mean over the batch.

    `L_emb = sum_j E_x ||xi_i / |xi_i| - xi_j / |xi_j|||^2`; Zhmoginov et al., "Decentralized Learning with
    Multi-Headed Distillation", CVPR 2023, arXiv:2211.15774, Section 3.2, with the square as the monotone
    function.

    Args:
        student: Embeddings `(B, D)`.
        teachers: Embeddings `(T, B, D)`; no gradient flows into them.

    Returns:
        The loss, a scalar of at least float32, between 0 and 4 T.

    Raises:
        ValueError: If the embeddings have different sizes.

    Example:
        >>> embedding_distance(torch.tensor([[2.0, 0.0]]), torch.tensor([[[0.0, 5.0]]]))
        tensor(2.)
    """
    if student.shape != teachers.shape[1:]:
        raise ValueError(
            f"the student's embedding is {tuple(student.shape)}, a teacher's {tuple(teachers.shape[1:])}: embeddings that are "
            "compared must have one size; give each backbone a projection to it, MultiHeadClassifier(embedding=64)."
        )
    ours = F.normalize(full_precision(student), dim=-1)
    theirs = F.normalize(teachers.detach().to(ours), dim=-1)
    return (ours - theirs).square().sum(-1).mean(-1).sum()


def chain_target(
    teachers: Tensor,
    own: Tensor,
    student: Tensor,
    choice: Choice = "confident",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Chooses for each sample what a head of the chain learns.

    A model's confidence is its largest probability, `Lambda(h) = max_l h_l`; Section 3.3 of the paper.

    Args:
        teachers: Logits of the teachers' heads one step earlier in the chain, `(T, B, C)`.
        own: Logits of the student's own head at that step, `(B, C)`; it is a candidate, too.
        student: Logits of the head that learns, `(B, C)`.
        choice: `"confident"`: the most confident of the teachers and the student's own earlier head.
            `"random"`: any teacher. `"mean"`: the mean of the teachers' probabilities. `"skip"`: the most
            confident teacher, unless the head that learns is more confident already.
        generator: Random generator for `"random"`, on the CPU.

    Returns:
        Probabilities `(B, C)` without a gradient, and a weight `(B,)` for each sample, 0 or 1.

    Example:
        >>> sure, unsure = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> chain_target(unsure[None], sure, unsure)[0].argmax().item()
        0
    """
    said = full_precision(teachers.detach()).softmax(-1)
    count, size, _ = said.shape
    weight = said.new_ones(size)
    match choice:
        case "mean":
            return said.mean(0), weight
        case "random":
            place = torch.randint(count, (size,), generator=generator).to(said.device)
        case "confident":
            said = torch.cat([said, full_precision(own.detach()).to(said).softmax(-1)[None]])
            place = said.amax(-1).argmax(0)
        case "skip":
            surest, place = said.amax(-1).max(0)
            weight = (surest > full_precision(student.detach()).softmax(-1).amax(-1)).to(said)
        case _:
            raise ValueError(f"choice={choice!r} must be 'confident', 'random', 'mean' or 'skip'.")
    return said[place, torch.arange(size, device=said.device)], weight


def chain_loss(
    heads: Sequence[Tensor],
    teachers: Tensor,
    choice: Choice = "confident",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Computes the cross-entropy of each auxiliary head with the heads before it in the chain.

    `sum_{k=1..m} L_aux[h_i^(k); {h_j^(k-1)}]`, `L_aux[h; t] = -sum_l t_l log h_l`, mean over the batch. The
    main heads, 0, learn from labels alone, and head k carries what is known k hops away. Zhmoginov et al.
    2023, Sections 3.2 and 3.3.

    Args:
        heads: Logits of the student's heads, m + 1 of `(B, C)`, the main head first.
        teachers: Logits of its teachers' heads, `(T, m + 1, B, C)`.
        choice: As in `chain_target`.
        generator: Random generator for `"random"`.

    Returns:
        The loss, a scalar; 0 without auxiliary heads.

    Raises:
        ValueError: If there is one class only.

    Example:
        >>> heads = [torch.zeros(1, 2), torch.zeros(1, 2)]
        >>> chain_loss(heads, torch.tensor([[[[50.0, 0.0]], [[0.0, 0.0]]]]))
        tensor(0.6931)
    """
    require_classes(heads[0])
    total = heads[0].new_zeros(())
    for k in range(1, len(heads)):
        target, weight = chain_target(teachers[:, k - 1], heads[k - 1], heads[k], choice, generator)
        cross = -(target * F.log_softmax(full_precision(heads[k]), -1)).sum(-1)
        total = total + (weight * cross).mean()
    return total
