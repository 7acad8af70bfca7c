"""Decoded frames in memory: the same pictures, up to the limit, in no copy and no worker."""

import copy
import pickle

import pytest
import torch
from PIL import Image

from lkd.datamodules import YoloFolder
from lkd.datamodules.detection import frame_cache
from lkd.datamodules.detection.frame_cache import FrameCache
from lkd.datamodules.samples.crew import look


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(6):
        Image.new("RGB", (40, 30), (40 * number, 9, 200)).save(tmp_path / "images" / f"C1_{number}.png")
        (tmp_path / "labels" / f"C1_{number}.txt").write_text("0 .5 .5 .4 .4")
    return tmp_path


@pytest.fixture
def decoded(monkeypatch):
    """The paths that have been decoded."""
    found, read = [], frame_cache.read_image
    monkeypatch.setattr(frame_cache, "read_image", lambda path: found.append(path) or read(path))
    return found


def batches(folder, epochs=2, **options):
    data = YoloFolder(str(folder), fractions=(1.0, 0.0, 0.0), batch_size=3, image_size=40, **options)
    data.setup("fit")
    loader, found = data.train_dataloader(), []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += [batch["images"] for batch in loader]
    return found


def test_the_same_batches_from_fewer_decodings(folder, decoded):
    plain = batches(folder)
    assert len(decoded) == 12
    cached = batches(folder, cache_mb=1)
    assert len(decoded) == 18  # six more, for the first epoch
    assert all(torch.equal(a, b) for a, b in zip(plain, cached, strict=True))


def test_what_fits_stays(folder, decoded):
    cache = FrameCache(2.5 * 40 * 30 * 3 / 1e6)
    for _ in range(2):
        for path in sorted((folder / "images").iterdir()):
            cache.read(path)
    assert len(decoded) == 6 + 4 and cache.held == 2 * 40 * 30 * 3


def test_a_copy_begins_empty_and_is_no_change_for_a_crew(folder):
    cache = FrameCache(1.0)
    before = look(cache)
    cache.read(folder / "images" / "C1_0.png")
    assert cache.held == 3600 and look(cache) == before
    for twin in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert twin.held == 0 and twin.limit == 1_000_000


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf")])
def test_a_limit_out_of_range(limit):
    with pytest.raises(ValueError, match="cache_mb="):
        FrameCache(limit)
