"""What a teacher gives that is no number makes a loss that is none: at 0 it would pass for agreement."""

import pytest
import torch

from lkd.losses import KD
from lkd.losses.divergence import kl_divergence, soft_cross_entropy


@pytest.mark.parametrize("loss", [kl_divergence, soft_cross_entropy, KD()])
def test_nan_of_the_teacher_is_seen(loss):
    assert loss(torch.zeros(2, 3), torch.full((2, 3), torch.nan)).isnan().all()
