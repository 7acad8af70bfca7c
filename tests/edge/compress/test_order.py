"""Lists of steps."""

import pytest

from lkd.edge.compress import Quantize, Step
from lkd.edge.compress.order import check_steps


class Breaking(Step):
    name, breaks, removes = "prune", True, True

    def run(self, stage, job):
        raise NotImplementedError


class Mending(Breaking):
    name, breaks, removes, mends = "recover", False, False, True


class Training(Breaking):
    name, breaks, removes, ends, trains, bits = "aware", False, False, True, True, 8


def test_lists_that_can_be():
    for steps in (
        [Quantize()],
        [Breaking(), Mending(), Breaking(), Mending(), Quantize(), Training()],
        [Training()],
    ):
        check_steps(steps)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "compress needs a step"),
        ([Mending(), Breaking()], r"steps\[0\] is Mending, which mends what a step before it has broken"),
        ([Quantize(), Quantize()], r"steps\[1\] is Quantize behind Quantize: a student is quantized once"),
        ([Training(), Quantize()], "quantized once"),
        ([Training(), Training()], r"steps\[1\] is Training, but Training before it leaves a file"),
        ([Quantize(), Breaking()], r"steps\[1\] is Breaking, but Quantize before it leaves a file"),
        ([Breaking(), Quantize(), Mending()], r"steps\[2\] is Mending"),
    ],
)
def test_lists_that_cannot_be(steps, message):
    with pytest.raises(ValueError, match=message):
        check_steps(steps)
