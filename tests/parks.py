"""Car parks in small, in the layout of CNRPark-EXT, with pictures of further sensors."""

import numpy as np
from PIL import Image

from lkd.datamodules import CNRParkEXT

DAYS = ("2015-11-12", "2015-11-13", "2015-11-16", "2015-11-17", "2015-11-18")


def write_park(root, cameras=(1, 2), days=DAYS, sensors=("THERMAL",), lost=(), slots=(3, 4)):
    """Patches of random colors, in which the files of `sensors` (but those `lost`) are as bright as the slot's number is large."""
    labels, generator = [], np.random.default_rng(0)
    for camera in cameras:
        for place, day in enumerate(days):
            weather = ("SUNNY", "OVERCAST", "RAINY")[place % 3]
            for hour in (8, 14):
                for slot in slots:
                    stem = (
                        f"{weather}/{day}/camera{camera}/{weather[0]}_{day}_{hour:02d}.30_C0{camera}_{slot}"
                    )
                    pixels = generator.integers(20, 256, (150, 150, 3), dtype=np.uint8)
                    save(Image.fromarray(pixels), root / "PATCHES" / f"{stem}.jpg")
                    for sensor in sensors:
                        if (camera, day, hour, slot) not in lost:
                            picture = Image.new("L", (150, 150), 10 * slot)
                            save(picture, root / f"PATCHES_{sensor}" / f"{stem}.png")
                    labels.append(f"{stem}.jpg {(slot + hour) % 2}")
    (root / "LABELS").mkdir(parents=True, exist_ok=True)
    (root / "LABELS" / "all.txt").write_text("\n".join(labels) + "\n")
    return root


def save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95)


def park(root, modalities=("rgb", "gray", "thermal", "context"), **kwargs):
    given = {
        "task": "patches",
        "split": "by_day",
        "fractions": (0.6, 0.2, 0.2),
        "patch_size": 24,
        "gray_size": 8,
    }
    modalities = modalities and list(modalities)
    data = CNRParkEXT(str(root), modalities=modalities, **{**given, "batch_size": 4, **kwargs})
    data.prepare_data()
    data.setup("fit")
    return data
