"""Features sent over the link: each sample's are quantized by themselves, and their bytes are counted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lkd.checks import expect
from lkd.edge.nms import Array
from lkd.edge.offload.answers import Answer, Answers
from lkd.edge.offload.arms.arm import LabeledImages, chunks, rows, through
from lkd.edge.offload.arms.work import Work, work
from lkd.edge.offload.classes import ClassTask
from lkd.edge.offload.quantized import BITS, quantized
from lkd.edge.offload.trial import Conditions, Trial


class Sent(NamedTuple):
    """Features as the server sees them, `seen (N, ...)`, and the `nbytes (N,)` that they took."""

    seen: Tensor
    nbytes: Array

    def trial(
        self,
        test: LabeledImages,
        local: Sequence[Answer],
        device: Work,
        rest: Callable[[Tensor], Tensor],
        conditions: Conditions,
        cameras: Sequence[str] = (),
    ) -> Trial:
        """Returns a trial with answers of the device, and of the rest of the network at the server.

        Args:
            test: The samples.
            local: Answers that stand where nothing is sent, or nothing comes back.
            device: Work of the device until the features and its own answer are there.
            rest: Rest of the network, from features to logits.
            conditions: Conditions of link and server.
            cameras: The camera of each sample. Default: one camera for all.
        """
        count, server = len(local), work(rest, self.seen[:1])
        answers = Answers(
            local,
            [[row] for row in rows(through(rest, self.seen))],
            np.tile(np.array(test.x.shape[2:]), (count, 1)),
            self.nbytes[:, None],
            np.full(count, device.ms),
            np.full((count, 1), server.ms),
            cameras=list(cameras) or [""] * count,
            truth=test.truth,
        )
        return Trial(ClassTask(), answers, replace(conditions, device_ms=device.ms), device.macs / 1e6)


class Features:
    """Output of a function, sent as features.

    Args:
        bits: Bits of each number.

    Raises:
        ValueError: For a number of bits that cannot be packed.
    """

    def __init__(self, bits: int) -> None:
        expect(bits=bits, among=BITS)
        self.bits = bits

    @torch.no_grad()
    def sent(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Sent:
        """Returns the sent features of samples `x (N, ...)`, computed sample by sample."""
        made = torch.cat([function(part) for part in chunks(x)])
        pairs = [quantized(row, self.bits) for row in made.float().numpy()]
        seen = torch.from_numpy(np.stack([restored for restored, _ in pairs]))
        return Sent(seen, np.array([size for _, size in pairs]))
