"""Labels that come first in a batch are known again, whatever form they have; inputs are not taken for labels."""

import pytest
import torch

from lkd.batches import begins_with_labels

images, rows, targets = torch.rand(4, 3, 8, 8), torch.rand(4, 6), torch.rand(4, 2)
classes = torch.tensor([0, 2, 1, 0])
one_hot = torch.eye(3)[classes]


@pytest.mark.parametrize(
    "batch",
    [
        (classes, images),
        (classes, rows),
        (one_hot, images),
        (one_hot, rows),
        (one_hot.long(), rows),
        (one_hot.bool(), images),
        (torch.ones(4, 3), images),  # several labels a sample
        (torch.tensor([0.0, 1, 1, 0]), rows),
    ],
)
def test_labels(batch):
    assert begins_with_labels(batch)


@pytest.mark.parametrize(
    "batch",
    [
        (images, classes),
        (images, one_hot),
        (rows, classes),
        (rows, one_hot),
        (rows, targets),
        (rows.softmax(1), targets),
        (one_hot, classes),  # samples of zeros and ones
        (one_hot, one_hot),
        (torch.ones(4, 5), targets),
        (torch.ones(4, 5).long(), classes),  # tokens
        ("names", images),
        (images,),
    ],
)
def test_inputs(batch):
    assert not begins_with_labels(batch)
