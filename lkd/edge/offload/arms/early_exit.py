"""`EarlyExit`: the whole network is on the device, which stops where it is sure enough; nothing is sent."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningDataModule

from lkd.checks import expect
from lkd.edge.nms import Array
from lkd.edge.offload.arms.arm import samples
from lkd.edge.offload.arms.exits import ExitArm, answers_of, costs
from lkd.edge.offload.arms.policy import Policy, best, cheapest, leaves, policies
from lkd.edge.offload.arms.work import Work
from lkd.edge.offload.gates import Gate
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Conditions


class EarlyExit(ExitArm):
    """Arm that saves work of the device, with a row for each budget of mean MACs, and one for a metric.

    Thresholds, one for each exit, are chosen on validation data with their labels. The rows show the test
    data, with the MACs that they really took.

    Args:
        model: Checkpoint of a `MultiExitClassifier`.
        recipe: A config that trains it.
        gate: How an exit's doubt is measured. Default: the entropy.
        macs: Budgets, as shares of the MACs of the whole network with all exits. Default: .5, .75 and 1.
        reach: Share of right answers on validation data to reach with as few MACs as possible.

    Raises:
        ValueError: For a share that is not above 0 and at most 1. A budget that no policy meets is refused
            when measured.
    """

    reads_labels = True

    def __init__(
        self,
        model: str,
        recipe: str | None = None,
        gate: Gate | None = None,
        macs: Sequence[float] = (0.5, 0.75, 1.0),
        reach: float | None = None,
    ) -> None:
        super().__init__(model, recipe, gate)
        for share in macs:
            expect(macs=share, gt=0, le=1, why="it is a share")
        expect(reach=reach, gt=0, le=1, none="no accuracy to reach", why="it is a share")
        self.macs, self.reach = list(macs), reach

    def points(
        self, data: LightningDataModule, conditions: Conditions, cameras: Sequence[str] = ()
    ) -> list[Point]:
        """Measures a row for each budget. Times are the device's alone."""
        network = self.module().network
        validation, test = samples(data, "val"), samples(data, "test")
        work = costs(network, test.x[:1])
        needed = np.array([one.macs for one in work])
        answers = answers_of(network, validation.x)
        right = np.stack([one.argmax(1) == validation.y.numpy() for one in answers])
        found = policies(self.doubts(answers), right, needed)
        chosen = [
            (f"early exit, {share:.0%} of MACs", best(found, share * needed[-1])) for share in self.macs
        ]
        if self.reach is not None:
            chosen.append((f"early exit, {self.reach:g} right", cheapest(found, self.reach)))
        answers = answers_of(network, test.x)
        return [self._point(arm, policy, answers, test.y.numpy(), work) for arm, policy in chosen]

    def _point(self, arm: str, policy: Policy, answers: list[Array], y: Array, work: Sequence[Work]) -> Point:
        exits = leaves(self.doubts(answers), policy.thresholds)
        classes = np.stack([one.argmax(1) for one in answers])[exits, np.arange(len(y))]
        p50, p95 = np.percentile(np.array([one.ms for one in work])[exits], [50, 95]).tolist()
        return Point(
            arm=arm,
            rate=0.0,
            units=0.0,
            kb=0.0,
            metrics={"acc": float((classes == y).mean())},
            p50_ms=p50,
            p95_ms=p95,
            mmacs=float(np.array([one.macs for one in work])[exits].mean() / 1e6),
        )
