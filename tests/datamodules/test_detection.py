"""The template, through YoloFolder on a tiny folder; then workers, resume and two ranks under Lightning."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lkd.datamodules import DetectionDataModule, YoloFolder


def data(root, **kwargs):
    arguments = {"image_size": 64, "batch_size": 2, "fractions": (0.5, 0.25, 0.25)} | kwargs
    module = YoloFolder(str(root), **arguments)
    module.prepare_data()
    module.setup()
    return module


def same(a, b):
    assert a.keys() == b.keys() and a["paths"] == b["paths"] and torch.equal(a["images"], b["images"])
    for x, y in zip(a.get("targets", []), b.get("targets", []), strict=True):
        assert torch.equal(x["boxes"], y["boxes"]) and torch.equal(x["labels"], y["labels"])


def epoch(loader, number):
    loader.sampler.set_epoch(number)
    return list(loader)


def test_batches_are_of_one_camera_and_splits_disjoint(yolo):
    module = data(yolo)
    assert module.cameras == ["cam_A", "cam_B"]
    paths = [{str(frame.path) for frame in part} for part in module.splits]
    assert len(paths[0] | paths[1] | paths[2]) == sum(map(len, paths)) == 13
    batches = list(module.train_dataloader())
    assert {path for batch in batches for path in batch["paths"]} == paths[0]
    assert all(len(set(batch["cameras"])) == 1 for batch in batches)
    for loader, part in ((module.val_dataloader(), 1), (module.test_dataloader(), 2)):
        assert {path for batch in loader for path in batch["paths"]} == paths[part]
        cameras = [camera for batch in loader for camera in batch["cameras"]]
        assert cameras == sorted(cameras)


def test_mixed_batches_on_request(yolo):
    module = data(yolo, one_camera_per_batch=False, batch_size=16)
    (batch,) = module.train_dataloader()
    assert set(batch["cameras"]) == {"cam_A", "cam_B"}


def test_unlabeled_training_never_reads_labels(yolo):
    module = data(yolo)
    for frame in module.splits.train:
        (yolo / "labels" / f"{frame.path.stem}.txt").write_text("damaged")
    with pytest.raises(ValueError, match="damaged"):
        data(yolo)
    module = data(yolo, unlabeled=True)
    assert all("targets" not in batch for batch in module.train_dataloader())
    assert all("targets" in batch for batch in module.val_dataloader())
    assert all("targets" not in batch for batch in module.predict_dataloader())


def test_unlabeled_frames_are_whole_in_order_and_no_label_is_read(yolo, monkeypatch):
    module = data(yolo, teacher_size=128)
    monkeypatch.setattr(module, "annotate", lambda frames: pytest.fail("labels were read"))
    module.setup("predict")
    batches = list(module.unlabeled_dataloader())
    assert [p for b in batches for p in b["paths"]] == [str(f.path) for f in module.splits.train]
    assert all("targets" not in b and "teacher_images" not in b for b in batches)
    assert all(torch.equal(view, torch.tensor([0.0, 0, 1, 1, 0])) for b in batches for view in b["views"])


def test_workers_do_not_change_the_batches(yolo):
    alone = data(yolo, teacher_size=96).train_dataloader()
    helped = data(yolo, teacher_size=96, num_workers=2).train_dataloader()
    for number in (0, 1):  # the second pass finds persistent workers
        for a, b in zip(epoch(alone, number), epoch(helped, number), strict=True):
            same(a, b)
            assert torch.equal(a["teacher_images"], b["teacher_images"])
    assert not torch.equal(epoch(alone, 0)[0]["images"], epoch(alone, 1)[0]["images"])


def test_evaluation_is_not_augmented(yolo):
    first, second = (list(data(yolo, seed=seed).test_dataloader()) for seed in (0, 1))
    for a, b in zip(first, second, strict=True):
        same(a, b)


def test_no_validation_and_empty_splits(yolo):
    assert data(yolo, fractions=(0.5, 0.0, 0.5)).val_dataloader() == []
    with pytest.raises(ValueError, match=r"train split is empty.*change that"):
        data(yolo, fractions=(0.0, 0.5, 0.5))
    module = YoloFolder(str(yolo), fractions=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="test split is empty"):
        module.setup("test")


def test_bad_arguments(yolo):
    with pytest.raises(ValueError, match="fractions="):
        YoloFolder(str(yolo), fractions=(0.5, 0.5, 0.5))
    with pytest.raises(ValueError, match="did you mean cam_A"):
        data(yolo, cameras=["camA"])
    with pytest.raises(ValueError, match="batch_size=0"):
        YoloFolder(str(yolo), batch_size=0)
    with pytest.raises(NotImplementedError, match="must implement frames"):
        DetectionDataModule().setup()


class Recorder(LightningModule):
    """Writes down what each training step saw."""

    def __init__(self, seen):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = seen

    def training_step(self, batch, index):
        self.seen.append((self.current_epoch, batch))
        return self.weight * 0

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0  # builds the loaders before the restore
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(root, folder, epochs, ckpt_path=None, **kwargs):
    seen = []
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, save_last=True)],
    )
    module = YoloFolder(str(root), image_size=64, batch_size=2, fractions=(0.5, 0.25, 0.25), **kwargs)
    trainer.fit(Recorder(seen), module, ckpt_path=ckpt_path)
    return seen


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 1])
def test_resume_sees_the_views_that_an_unbroken_run_sees(yolo, tmp_path, workers):
    whole = fit(yolo, tmp_path / "whole", 4, num_workers=workers)
    fit(yolo, tmp_path / "broken", 2, num_workers=workers)
    rest = fit(yolo, tmp_path / "broken", 4, ckpt_path=tmp_path / "broken" / "last.ckpt", num_workers=workers)
    assert [number for number, _ in whole] == sorted([0, 1, 2, 3] * (len(whole) // 4))
    for (number, a), (again, b) in zip(whole[len(whole) // 2 :], rest, strict=True):
        assert number == again
        same(a, b)


class TwoRanks(Recorder):
    """Checks on both ranks that the sampler is still ours and that the ranks share the frames."""

    def on_train_epoch_end(self):
        mine = sorted(batch["paths"][0] for number, batch in self.seen if number == self.current_epoch)
        shared = [None, None]
        torch.distributed.all_gather_object(shared, mine)
        assert len(shared[0]) == len(shared[1])
        expected = sorted(str(frame.path) for frame in self.trainer.datamodule.splits.train)
        assert sorted({*shared[0], *shared[1]}) == expected
        assert not set(shared[0]) & set(shared[1])


@pytest.mark.filterwarnings("ignore")
def test_two_ranks_share_the_frames(yolo, tmp_path):
    """Forked ranks: a failed assertion in either fails the fit. Six frames, one a batch: three each."""
    fractions = (0.6, 0.0, 0.4)
    module = YoloFolder(str(yolo), image_size=32, batch_size=1, fractions=fractions, cameras=["cam_A"])
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(TwoRanks([]), module)
