"""Structured pruning: removes whole channels, hidden units and heads, the least important first."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from lkd.checks import expect
from lkd.copies import copied
from lkd.edge.compress.prune.batches import reestimate, seeded, training_batches
from lkd.edge.compress.prune.cut import Left, check_same, cut, left
from lkd.edge.compress.prune.graph import Group, Traced
from lkd.edge.compress.prune.ranking import Ranking, Removed, Scope, WidthCosts
from lkd.edge.compress.prune.saliency import Importance, saliency
from lkd.edge.compress.prune.subject import Subject, subject_of
from lkd.edge.compress.step import Job, Stage, Step
from lkd.edge.compress.student import student, write
from lkd.edge.extra import optional
from lkd.models.split_c2f import split
from lkd.pruned import describe, remember
from lkd.server_model import is_federation

__all__ = ["Prune"]
log = logging.getLogger(__name__)
NEAR = 0.03
"""Largest relative deviation of the multiply-accumulates from the target."""


class Prune(Step):
    """Step that removes channels, hidden units and heads of attention, and computes batch statistics anew.

    What is left is an ordinary, narrower network that needs no masks and no library. It is less accurate at
    first, until a `Recover` trains it. Channels that reach the outputs stay, as do those that a LayerNorm
    normalizes together. Of a `MultimodalClient`, only encoders are pruned. A detector's copies for each
    camera lose the same channels.

    Args:
        macs: Share of the multiply-accumulates to keep, in (0, 1); it is an error if it is not reached within
            3 %. Give this or `ratio`.
        ratio: Share of the channels to remove, in (0, 1).
        importance: `"taylor"` removes what matters least to the loss on the training data or, without labels,
            to the student's own answers. `"l2"` removes the smallest weights.
        scope: `"global"` removes the least important units of the whole network, relative to the mean of
            their group. `"local"` removes the same share of each layer.
        iterations: Number of rounds of removal, with importance and batch statistics computed anew after
            each.
        batches: Training batches for gradients and batch statistics (of each camera, if there is a copy for
            each).
        round_to: The number of channels that stay is a multiple of this.
        ignore: Names of layers in the network, such as `"net.model.0"`, whose channels stay.

    Raises:
        ValueError: For numbers that do not fit.

    Example:
        >>> Prune(macs=0.7).importance
        'taylor'
        >>> Prune(macs=0.7, ratio=0.3)
        Traceback (most recent call last):
        ...
        ValueError: macs=0.7 and ratio=0.3: give one of them.
    """

    name, breaks, removes = "prune", True, True
    package: ClassVar[str] = "torch_pruning"

    def __init__(
        self,
        macs: float | None = None,
        ratio: float | None = None,
        importance: Importance = "taylor",
        scope: Scope = "global",
        iterations: int = 1,
        batches: int = 8,
        round_to: int = 1,
        ignore: Sequence[str] = (),
    ) -> None:
        if (macs is None) == (ratio is None):
            raise ValueError(f"macs={macs} and ratio={ratio}: give one of them.")
        expect(macs=macs, ratio=ratio, gt=0, lt=1, none="the other one", why="it is a share, such as 0.7")
        expect(iterations=iterations, batches=batches, round_to=round_to, ge=1)
        expect(importance=importance, among=("taylor", "l2"))
        expect(scope=scope, among=("global", "local"))
        self.macs, self.ratio, self.importance, self.scope = macs, ratio, importance, scope
        self.iterations, self.batches, self.round_to, self.ignore = (
            iterations,
            batches,
            round_to,
            tuple(ignore),
        )

    def check(self, module: LightningModule, data: LightningDataModule) -> None:
        """Refuses a federation, and a missing torch-pruning."""
        optional(self.package)
        if is_federation(module):
            raise ValueError(
                f"{type(module).__name__} is a federation, and one student is pruned: take a client's model out by "
                "lkd.federated.load_client, and give its own configuration."
            )

    def run(self, stage: Stage, job: Job) -> Stage:
        """Prunes the student of a stage; the checkpoint is `pruned.ckpt`."""
        if stage.checkpoint is None:
            raise ValueError(
                f"the stage {stage.name!r} is a file alone, and pruning needs its weights: prune before that."
            )
        module = student(job.config_module, stage.checkpoint)
        batches = training_batches(module, job.data, self.batches, job.seed)
        with seeded(job.seed):
            self.prune(module, batches)
        job.folder.mkdir(parents=True, exist_ok=True)
        path = job.folder / "pruned.ckpt"
        write(module, path, like=stage.checkpoint)
        return Stage(job.name, job.folder, path)

    def prune(self, module: LightningModule, batches: Sequence[Any]) -> None:
        """Prunes a module in place.

        Args:
            module: The module, on the CPU. Its checkpoints then record what was done.
            batches: Batches of the training data.

        Raises:
            ValueError: If a layer cannot be pruned, or the target is not reached; in the first iteration
                nothing is changed then.
        """
        split(module)
        dense = copied(module, "module")
        whole = subject_of(module, batches[0]).macs(subject_of(module, batches[0]).first)
        weights = _count(module)
        for done in range(1, self.iterations + 1):
            subject = subject_of(module, batches[0])
            now = subject.macs(subject.first) / whole
            self._once(module, subject, batches, now, done / self.iterations)
            reestimate(module, batches)
        remember(module, describe(module, dense))
        subject = subject_of(module, batches[0])
        log.info(
            "pruned to %.1f %% of the multiply-accumulates and %.1f %% of the weights",
            100 * subject.macs(subject.first) / whole,
            100 * _count(module) / weights,
        )

    def _once(
        self, module: LightningModule, subject: Subject, batches: Sequence[Any], now: float, part: float
    ) -> None:
        scored = _scored(subject, saliency(module, self.importance, batches))
        costs = WidthCosts(subject, subject.first)
        target = None if self.macs is None else self.macs**part
        ratio = 0.0 if self.ratio is None else 1 - (1 - self.ratio) ** (1 / self.iterations)
        asked = 0.0 if target is None else target / now
        traced = Traced(subject, scored, self.ignore)
        groups = traced.groups()
        if not groups:
            raise ValueError(
                f"{type(subject.first).__name__} has no channels that can go: all of them reach its outputs, are normalized together, "
                "or are ignored."
            )
        ranking = Ranking(groups, self.scope, self.round_to)
        for _ in range(4):
            removed = ranking.removed(ratio) if target is None else costs.reaching(ranking, asked)
            rest = left(traced, groups, removed)
            narrow = copied(subject.first, "network")
            cut(narrow, rest)
            self._check(subject, traced, groups, removed, narrow, rest)
            reached = now * subject.macs(narrow) / costs.whole
            if target is None or abs(reached / target - 1) <= NEAR / 3:
                break
            asked *= target / reached  # parts that no arithmetic covers, such as attention, shrank too
        if target is not None and part == 1 and abs(reached / target - 1) > NEAR:
            raise ValueError(
                f"macs={target:.3g} is not reached within {NEAR:.0%}: {reached:.3f} of them are what whole channels come to"
                f"{f' in multiples of {self.round_to}' if self.round_to > 1 else ''}; ask for about that."
            )
        if not rest.places:
            raise ValueError(
                f"ratio={self.ratio} of {sum(len(g.units) for g in groups)} channels is none of them: ask for more."
            )
        for network in subject.networks.values():
            cut(network, rest)

    def _check(
        self,
        subject: Subject,
        traced: Traced,
        groups: list[Group],
        removed: Removed,
        narrow: nn.Module,
        rest: Left,
    ) -> None:
        """Finds which single layers make the pruned network another function, if the whole network is one."""
        try:
            check_same(subject, copied(subject.first, "network"), narrow, rest.places)
            return
        except ValueError as error:
            first = error
        guilty = []
        for k, gone in enumerate(removed):
            alone = left(traced, groups, [gone if k == number else set() for number in range(len(groups))])
            one = copied(subject.first, "network")
            cut(one, alone)
            try:
                check_same(subject, copied(subject.first, "network"), one, alone.places)
            except ValueError:
                guilty.append(groups[k].layer)
        raise ValueError(
            f"the channels of {', '.join(map(repr, guilty)) or type(narrow).__name__} cannot be taken out, since what they go through is "
            f"more than layers that can be made narrower: leave them as they are by ignore={guilty}. ({first})"
        ) from first


def _scored(subject: Subject, scores: dict[str, Tensor]) -> nn.Module:
    """Copies a network with importances in place of its weights; several copies give their mean."""
    scored = copied(subject.first, "network")
    prefixes = [f"{name}." if name else "" for name in subject.networks]
    with torch.no_grad():
        for name, parameter in scored.named_parameters():
            parameter.copy_(torch.stack([scores[prefix + name] for prefix in prefixes]).mean(0))
    return scored


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
