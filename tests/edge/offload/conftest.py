"""Real digits, a student that learned from few of them and a teacher that learned from all."""

from functools import cache

import pytest
import torch
from torch import nn

from lkd.datamodules import Digits
from lkd.modules import Classifier

from ..students import save


@cache
def learned(count):
    """Weights and biases of a logistic regression on so many training digits."""
    # not above: scikit-learn asks typing for Union[float, int], which then answers for Lightning's Union[int, float], too
    from sklearn.linear_model import LogisticRegression

    data = Digits()
    data.setup()
    x, y = data.datasets["train"].tensors
    made = LogisticRegression(max_iter=300).fit(x[:count].flatten(1).numpy(), y[:count].numpy())
    return made.coef_, made.intercept_


def classifier(count):
    linear = nn.Linear(64, 10)
    with torch.no_grad():
        for parameter, values in zip(linear.parameters(), learned(count), strict=True):
            parameter.copy_(torch.from_numpy(values))
    return Classifier(nn.Sequential(nn.Flatten(), linear), num_classes=10)


@pytest.fixture
def digits(tmp_path):
    """The student, its checkpoint and the teacher's network."""
    student = classifier(60)
    return student, save(student, tmp_path / "student.ckpt"), classifier(1000).network
