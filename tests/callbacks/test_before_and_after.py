"""What a look at the data leaves before a fit, and what a fit leaves for a checkpoint after it."""

import numpy as np
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from lkd.callbacks import FeatureDistillation
from lkd.teachers import Teacher
from lkd.unchanged import unopened
from tests.callbacks.plain import Plain, digits, quick_trainer, seeded


def features():
    return FeatureDistillation(Teacher(seeded(1, lambda: Plain(32))), layers={"net.1": "net.1"}, weight=1.0)


class Opens(Dataset):
    """Opens its file with the first sample, as readers of HDF5 do, so that every worker has one of its own."""

    def __init__(self):
        self.rows, self.file, self.noise = digits().dataset, None, np.random.default_rng(0)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        if self.file is None:
            self.file = object()
        x, y = self.rows[k]
        return x + 0.1 * torch.from_numpy(self.noise.normal(size=x.shape)).float(), y


def test_a_data_set_is_not_opened_before_its_workers_open_it():
    data = Opens()
    for whole in (data, Subset(data, range(8)), ConcatDataset([Subset(data, range(8)), data])):
        with unopened(whole):
            whole[0]
            assert data.file is not None
        assert data.file is None


def test_what_a_data_set_draws_is_the_same_with_a_look_and_without():
    def seen(*callbacks):
        sums = []

        class Looks(Plain):
            def on_train_start(self):
                assert data.file is None

            def on_train_batch_start(self, batch, batch_idx):
                sums.append(batch[0].sum().item())

        data = Opens()
        quick_trainer(callbacks=list(callbacks)).fit(Looks(), DataLoader(data, batch_size=16))
        return sums

    assert seen(features()) == seen()


def test_a_checkpoint_by_hand_after_the_fit_has_the_adapters(tmp_path):
    def train(epochs, checkpoint=None):
        student, trainer = (
            seeded(0, Plain),
            quick_trainer(callbacks=[features()], max_epochs=epochs),
        )
        trainer.fit(student, digits(), ckpt_path=checkpoint)
        return student, trainer

    whole, _ = train(4)
    _, half = train(2)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = train(4, tmp_path / "half.ckpt")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
