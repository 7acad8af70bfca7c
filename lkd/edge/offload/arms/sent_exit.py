"""`SentExit`: the device has the layers up to one exit, and sends features to the server if it doubts."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningDataModule

from lkd.checks import expect
from lkd.edge.nms import Array
from lkd.edge.offload.arms.arm import rows, samples
from lkd.edge.offload.arms.exits import ExitArm, answers_of, stages
from lkd.edge.offload.arms.features import Features
from lkd.edge.offload.arms.work import work
from lkd.edge.offload.gates import Gate
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Conditions


class SentExit(ExitArm):
    """Arm that saves the server's work, and accuracy if the link fails, since the exit has an answer.

    The threshold of each share is chosen on validation data, whose labels are not read; the rows say what was
    really sent of the test data. What is sent is the map that the exit saw, quantized. The server has the
    rest of the network.

    Args:
        model: Checkpoint of a `MultiExitClassifier`.
        recipe: A config that trains it.
        gate: How the exit's doubt is measured. Default: the entropy.
        exit: Which exit the device has, 0 for the shallowest.
        bits: Bits of each number that is sent: 32, 16, 8, 4 or 2.
        rates: Shares of the samples that are sent. Default: .1, .2, .3, .5 and 1.

    Raises:
        ValueError: For a share that is not above 0 and at most 1, or a number of bits that cannot be packed.
    """

    def __init__(
        self,
        model: str,
        recipe: str | None = None,
        gate: Gate | None = None,
        exit: int = 0,
        bits: int = 4,
        rates: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 1.0),
    ) -> None:
        super().__init__(model, recipe, gate)
        self.features = Features(bits)
        for rate in rates:
            expect(rates=rate, gt=0, le=1, why="it is a share")
        self.exit, self.bits, self.rates = exit, bits, list(rates)

    def prepare(self) -> None:
        """Trains by the recipe if the checkpoint is missing, and checks the exit.

        Raises:
            ValueError: If the checkpoint is of another kind, or the network does not have the exit.
        """
        super().prepare()
        exits = len(self.module().network.heads)
        if not 0 <= self.exit < exits:
            raise ValueError(
                f"exit={self.exit} must be from 0 to {exits - 1}: {self.model!r} has {exits} exits beside its own end."
            )

    def points(
        self, data: LightningDataModule, conditions: Conditions, cameras: Sequence[str] = ()
    ) -> list[Point]:
        """Measures a row for each share that is sent."""
        module = self.module()
        network, cut = module.network, stages(module.network)[self.exit]
        doubts = self._doubts(answers_of(network, samples(data, "val").x)[self.exit])
        test = samples(data, "test")
        sent, one = self.features.sent(cut.head, test.x), test.x[:1]
        device = work(cut.head, one) + work(network.heads[self.exit], sent.seen[:1])
        local = answers_of(network, test.x)[self.exit]
        trial = sent.trial(test, rows(local), device, cut.tail, conditions, cameras)
        ours = self._doubts(local)
        found = []
        for rate in self.rates:
            threshold = -np.inf if rate == 1 else np.quantile(doubts, 1 - rate)
            found.append(trial.point(f"exit {self.exit}, {self.bits} bits", (ours > threshold)[:, None]))
        return found

    def _doubts(self, answers: Array) -> Array:
        return self.doubts([answers])[0]
