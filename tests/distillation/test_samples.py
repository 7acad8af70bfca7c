"""Losses between samples: batches that are all too small are refused, a last one is told."""

import warnings

import pytest

from lkd.callbacks import Distillation
from lkd.losses import KD, RKD, SimilarityPreserving
from lkd.teachers import Teacher
from tests.callbacks.plain import Plain, digits, quick_trainer


class Net(Plain):
    """Without batch statistics."""

    def __init__(self):
        super().__init__()
        del self.net[2]


def fit(term, count, batch_size):
    distillation = Distillation(Teacher(Net()), [term], alpha=1.0)
    trainer = quick_trainer(callbacks=[distillation])
    trainer.fit(Net(), digits(count, batch_size))
    return trainer.global_step


@pytest.mark.parametrize(("term", "size"), [(RKD(), 2), (SimilarityPreserving(), 1)])
def test_batches_that_are_all_too_small(term, size):
    with pytest.raises(ValueError, match=rf"batch_size={size}: {type(term).__name__} .*at least {size + 1}"):
        fit(term, 8, size)


def test_a_last_batch_is_told():
    with pytest.warns(UserWarning, match=r"RKD compares the samples .* of 1 it learns nothing.*drop_last"):
        assert fit(RKD(), 9, 4) == 3


@pytest.mark.parametrize(("term", "size"), [(KD(), 1), (RKD(), 3), (SimilarityPreserving(), 2)])
def test_others_are_not(term, size):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*compares the samples")
        fit(term, 2 * size, size)
