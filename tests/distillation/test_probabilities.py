"""Probabilities under a loss that takes a softmax are refused; logits and log-probabilities are not."""

import pytest
import torch
from torch import nn

from lkd.callbacks import Distillation
from lkd.distillation.pairing import TermPair
from lkd.distillation.probabilities import refuse_probabilities
from lkd.losses import DIST, DKD, KD, NKD, LogitMatching, MultiTeacher
from lkd.teachers import Teacher
from tests.callbacks.plain import quick_trainer
from tests.pictures import Pictures, pictures

LOGITS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
CHANCES = LOGITS.softmax(1)


@pytest.mark.parametrize("term", [KD(), DKD(), NKD(), DIST(), MultiTeacher(KD())])
def test_probabilities_are_refused_on_either_side(term):
    for side, given in (("student_layer", (CHANCES, LOGITS)), ("teacher_layer", (LOGITS, CHANCES))):
        with pytest.raises(
            ValueError, match=rf"^{side}='' of .* gives probabilities .* name the layer before"
        ):
            refuse_probabilities([TermPair("kd", term, *given)])


@pytest.mark.parametrize("given", [LOGITS, LOGITS.log_softmax(1), torch.zeros(4, 3), LOGITS.sigmoid()])
def test_others_are_not(given):
    refuse_probabilities(
        [TermPair("kd", KD(), given, LOGITS), TermPair("mse", LogitMatching(), CHANCES, CHANCES)]
    )


def test_one_layer_of_several():
    with pytest.raises(ValueError, match="gives probabilities"):
        refuse_probabilities([TermPair("kd", KD(), [LOGITS, CHANCES], [LOGITS, LOGITS])])


def test_a_teacher_that_ends_in_a_softmax_speaks_in_the_first_step():
    teacher = Teacher(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 3), nn.Softmax(1)))
    student = Pictures()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(ValueError, match="teacher_layer='' of KD gives probabilities"):
        quick_trainer(callbacks=[Distillation(teacher, [KD()])]).fit(student, pictures())
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
