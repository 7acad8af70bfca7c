"""`Bottleneck`: an encoder on the device, a small tensor over the link, the rest at the server."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import LightningDataModule

from lkd.edge.offload.answers import Answer
from lkd.edge.offload.arms.arm import Arm, samples
from lkd.edge.offload.arms.features import Features
from lkd.edge.offload.arms.work import work
from lkd.edge.offload.point import Point
from lkd.edge.offload.trial import Conditions
from lkd.modules.split import SplitClassifier


class Bottleneck(Arm):
    """Split computing, with a row for each number of bits.

    Everything is sent: the device has no answer of its own, so a sample that gets lost counts as wrong.

    Args:
        model: Checkpoint of a `SplitClassifier`.
        recipe: A config that trains it.
        bits: Bits of each number that is sent, 32, 16, 8, 4 or 2, whatever it was trained with. Default: 8, 4
            and 2.

    Raises:
        ValueError: For a number of bits that cannot be packed.
    """

    kind = SplitClassifier

    def __init__(self, model: str, recipe: str | None = None, bits: Sequence[int] = (8, 4, 2)) -> None:
        super().__init__(model, recipe)
        self.features = [Features(each) for each in bits]

    def points(
        self, data: LightningDataModule, conditions: Conditions, cameras: Sequence[str] = ()
    ) -> list[Point]:
        """Measures a row for each number of bits."""
        module, test = self.module(), samples(data, "test")
        nothing = [_nothing(module.num_classes)] * len(test.x)
        device, found = work(module.encoder, test.x[:1]), []
        for features in self.features:
            sent = features.sent(module.encoder, test.x)
            trial = sent.trial(test, nothing, device, module.rest, conditions, cameras)
            found.append(trial.point(f"split, {features.bits} bits", np.ones((len(test.x), 1), bool)))
        return found


def _nothing(classes: int) -> Answer:
    """Returns an answer that is never right: one more class."""
    return {"probabilities": np.eye(classes + 1)[classes]}
