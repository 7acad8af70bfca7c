"""Generated pairs of visible and thermal pictures with labels, in the layouts of LLVIP, KAIST and others.

The visible picture has a white rectangle for each person, which `tests.roads.oracle` finds; in the thermal one, a gray file, it is
of middle gray, which the oracle does not see.
"""

import numpy as np
from PIL import Image

SIZE = (96, 128)  # h, w
KAIST = {
    "visible": "images/{set}/{video}/visible/{frame}.jpg",
    "thermal": "images/{set}/{video}/lwir/{frame}.jpg",
    "camera": "{set}_{video}",
}


def pictures(box, seed=0, size=SIZE):
    """A visible (h, w, 3) and a thermal (h, w) picture with one rectangle each, at the same place."""
    x1, y1, x2, y2 = box
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 40, (*size, 3), dtype=np.uint8)
    thermal = rng.integers(0, 30, size, dtype=np.uint8)
    visible[y1:y2, x1:x2], thermal[y1:y2, x1:x2] = 255, 120
    return visible, thermal


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **({"quality": 98} if path.suffix == ".jpg" else {}))


def voc(objects, size=SIZE, corners=True):
    """A VOC file; objects are (name, xyxy, difficult). Without `corners` boxes are x, y, w, h as in KAIST."""
    lines = [f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height><depth>1</depth></size>"]
    for name, (x1, y1, x2, y2), difficult in objects:
        box = {"xmin": x1, "ymin": y1, "xmax": x2, "ymax": y2}
        box = box if corners else {"x": x1, "y": y1, "w": x2 - x1, "h": y2 - y1}
        numbers = "".join(f"<{key}>{value}</{key}>" for key, value in box.items())
        difficulty = f"<difficult>{difficult}</difficult>"
        lines.append(f"<object><name>{name}</name><bndbox>{numbers}</bndbox>{difficulty}</object>")
    return "\n".join([*lines, "</annotation>"])


def places(count, seed):
    """Boxes xyxy in pixels, one a frame."""
    rng = np.random.default_rng(seed)
    corners = [(int(rng.integers(4, 90)), int(rng.integers(4, 60))) for _ in range(count)]
    return [(x, y, x + 24, y + 28) for x, y in corners]


def write_llvip(root, train=("01", "02"), test=("19",), count=6):
    """Returns the boxes by name of the frame."""
    known = {}
    for part, cameras in (("train", train), ("test", test)):
        for camera in cameras:
            for number, box in enumerate(places(count, int(camera)), 1):
                name = f"{camera}{number:04d}"
                visible, thermal = pictures(box, int(name))
                save(visible, root / "visible" / part / f"{name}.jpg")
                save(thermal, root / "infrared" / part / f"{name}.jpg")
                (root / "Annotations").mkdir(exist_ok=True)
                (root / "Annotations" / f"{name}.xml").write_text(voc([("person", box, 0)]))
                known[name] = box
    return known


def write_kaist(root, kind="xml", videos=("set00/V000", "set00/V001", "set06/V000"), count=4):
    """The same for KAIST; every second frame has an ignore region beside. Returns the boxes by path."""
    known = {}
    for seed, video in enumerate(videos):
        for number, box in enumerate(places(count, seed)):
            name = f"{video}/I{20 * number:05d}"
            folder, frame = root / "images" / video, f"I{20 * number:05d}.jpg"
            visible, thermal = pictures(box, seed)
            save(visible, folder / "visible" / frame)
            save(thermal, folder / "lwir" / frame)
            objects = [("person", box, 0)] + [("people", (0, 0, 20, 20), 0)] * (number % 2)
            path = root / "annotations" / f"{name}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{n} {x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0 0" for n, (x1, y1, x2, y2), _ in objects]
            text = "\n".join(["% bbGt version=3", *lines]) if kind == "txt" else voc(objects, corners=False)
            path.write_text(text)
            known[name] = box
    return known
