"""PairwiseTerm: the mean over pairs of layers of one function, with what all such terms share."""

import pytest
import torch

from lkd.losses import PairwiseTerm
from lkd.losses.adapted import AdaptedTerm


class Labeled(PairwiseTerm):
    """What it was given."""

    def loss(self, student, teacher, labels):
        return (student - teacher).mean() + labels.sum()


def test_the_mean_over_the_layers_each_with_the_labels():
    student, teacher = (
        [torch.full((2, 3), 4.0), torch.full((2, 1), 2.0)],
        [torch.ones(2, 3), torch.zeros(2, 1)],
    )
    assert Labeled()(student, teacher, torch.tensor([1, 6])) == (3 + 7 + 2 + 7) / 2


def test_numbers_of_layers_must_agree():
    with pytest.raises(ValueError, match="the student has 2 layers to compare, the teacher 1"):
        Labeled()([torch.ones(1, 1)] * 2, torch.ones(1, 1), torch.ones(1))


def test_the_adapter_is_of_terms_that_build_one():
    """A term without an adapter ignores what it is given, one with an adapter sends the student through it."""
    double = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(double.weight, 2.0)

    class Adapted(AdaptedTerm):
        loss = Labeled.loss

    given = torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1), double
    assert Labeled()(*given) == 1 and Adapted()(*given) == 2


def test_maps_of_one_position_are_left_out_where_positions_are_compared():
    class Positions(Labeled):
        compares_positions = True

    student, teacher = [torch.ones(1, 1, 2, 2), torch.full((1, 1, 1, 1), 9.0)], [torch.zeros(1, 1, 2, 2)] * 2
    with pytest.warns(UserWarning, match="Positions leaves out 1 of 2 layers"):
        assert Positions()(student, teacher, torch.zeros(1)) == 1
    assert Labeled()(student, [teacher[0], torch.zeros(1, 1, 1, 1)], torch.zeros(1)) == 5


def test_a_subclass_without_a_loss_says_so():
    class Empty(PairwiseTerm):
        pass

    with pytest.raises(NotImplementedError, match="Empty must implement loss"):
        Empty()(torch.ones(1, 1), torch.ones(1, 1))
