"""Tiny data sets in the layouts of the real ones, and the place of the real ones."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def sample():
    """Path of a folder of the real sample data; skips where it is missing."""

    def get(name):
        path = Path(os.environ.get("LKD_DATA", "data")) / name
        if not path.is_dir():
            pytest.skip(f"no sample data at {path}: set LKD_DATA to where it is")
        return path

    return get


@pytest.fixture
def yolo(tmp_path):
    """10 frames of cam_A, 3 of cam_B, 80x60; frame i of a camera has i % 3 cars (0) and one bike (3)."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for camera, count in (("cam_A", 10), ("cam_B", 3)):
        for i in range(count):
            pixels = torch.randint(0, 255, (60, 80, 3), generator=torch.Generator().manual_seed(i)).byte()
            Image.fromarray(pixels.numpy()).save(tmp_path / "images" / f"{camera}_{i}.png")
            lines = [f"0 0.5 0.5 0.{k + 2} 0.4" for k in range(i % 3)] + ["3 0.1 0.1 0.1 0.1"]
            (tmp_path / "labels" / f"{camera}_{i}.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.fixture
def park(tmp_path):
    """CNRPark-EXT in small: a sunny and a rainy day, four times each; slots 1, 2 in C1 and 2, 3 in C2."""
    labels = []
    for camera, slots in ((1, (1, 2)), (2, (2, 3))):
        rows = [f"{slot},{259.2 * (k + 1):.0f},{194.4:.0f},259,194" for k, slot in enumerate(slots)]
        (tmp_path / f"camera{camera}.csv").write_text("SlotId,X,Y,W,H\n" + "\n".join(rows) + "\n")
        for weather, day in (("SUNNY", "2015-11-12"), ("RAINY", "2015-12-22")):
            for hour in range(4):
                frames = tmp_path / "FULL_IMAGE_100x75" / weather / day / f"camera{camera}"
                frames.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (100, 75), (hour, 9, 9)).save(frames / f"{day}_{hour:02d}07.jpg")
                for slot in slots:
                    name = f"{weather[0]}_{day}_{hour:02d}.07_C0{camera}_{slot}.jpg"
                    name = f"{weather}/{day}/camera{camera}/{name}"
                    path = tmp_path / "PATCHES" / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("RGB", (150, 150), (50 + 40 * slot, 90, 90)).save(path)
                    labels.append(f"{name} {int(slot == 2 or hour == 3)}")
    (tmp_path / "LABELS").mkdir()
    (tmp_path / "LABELS" / "all.txt").write_text("\n".join(labels) + "\n")
    return tmp_path
