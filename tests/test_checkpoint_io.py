"""Checkpoints are written whole or not at all; a damaged one is said to be, with the one before it."""

import os
import tempfile

import pytest
import torch
from lightning.pytorch import Trainer

from lkd import checkpoint_io
from lkd.checkpoint_io import Checkpoints, look
from lkd.federated import Federation
from lkd.modules import Classifier


@pytest.fixture
def written(tmp_path):
    for number, name in enumerate(("a.ckpt", "b.ckpt", "last.ckpt")):
        Checkpoints().save_checkpoint(
            {"state_dict": {"x": torch.full((5000,), float(number))}}, tmp_path / name
        )
        os.utime(tmp_path / name, (number, number))
    return tmp_path


def test_nothing_goes_through_the_folder_of_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkstemp", lambda *_, **__: pytest.fail("another file system, perhaps"))
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    Checkpoints().save_checkpoint({"x": 1}, tmp_path / "new" / "a.ckpt")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.ckpt"] and len(synced) == 2


def test_a_full_disk_leaves_what_was_there_and_is_one_sentence(written, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_io.torch, "save", full)
    with pytest.raises(OSError, match=r"last\.ckpt' could not be written \(No space left on device\)"):
        Checkpoints().save_checkpoint({"x": 1}, written / "last.ckpt")
    assert sorted(p.name for p in written.iterdir()) == ["a.ckpt", "b.ckpt", "last.ckpt"]
    assert Checkpoints().load_checkpoint(written / "last.ckpt")["state_dict"]["x"][0] == 2


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


@pytest.mark.parametrize("change", [cut, flip, lambda content: b""])
def test_a_damaged_one_names_the_one_before_it(written, change):
    (written / "b.ckpt").write_bytes(cut((written / "b.ckpt").read_bytes()))  # nor is this one whole
    path = written / "last.ckpt"
    path.write_bytes(change(path.read_bytes()))
    for read in (Checkpoints().load_checkpoint, lambda path: look({"ckpt_path": str(path)})):
        with pytest.raises(ValueError, match=r"last\.ckpt' is damaged.*the one before it is '.*a\.ckpt'"):
            read(path)


def test_files_without_sums_are_read(written):
    torch.serialization.set_crc32_options(False)
    try:
        Checkpoints().save_checkpoint({"a": torch.ones(9), "b": torch.zeros(3)}, written / "c.ckpt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert Checkpoints().load_checkpoint(written / "c.ckpt")["a"].sum() == 9


def test_objects_are_read_of_a_file_that_is_ones_own(tmp_path):
    torch.save({"state_dict": {}, "x": torch.nn.Linear(1, 1)}, tmp_path / "x.ckpt")
    assert Checkpoints().load_checkpoint(tmp_path / "x.ckpt", weights_only=False)["x"].in_features == 1
    assert not look({"ckpt_path": str(tmp_path / "x.ckpt"), "weights_only": False})


@pytest.mark.parametrize(
    "make", [lambda: Classifier("test_resnet", 3), lambda: Federation(Classifier("test_resnet", 3))]
)
def test_what_lkd_writes_it_reads_back(tmp_path, make):
    trainer = Trainer(logger=False, accelerator="cpu", plugins=[Checkpoints()], enable_progress_bar=False)
    trainer.strategy.connect(make())
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    assert look({"ckpt_path": str(tmp_path / "x.ckpt")})
