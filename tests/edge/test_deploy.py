"""The script of docs/deploy.md, as it stands there, in a process that has neither torch nor lkd."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lkd.edge import to_openvino
from lkd.edge.export.card import write_card

from .export.test_preprocessing import described
from .files import detector_file, finish, first_pixels, picture
from .students import Samples, by_hand, classifier

PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "lkd", "lightning", "onnx", "ultralytics"):
            raise ImportError(f"{name} is not on the device")
sys.meta_path.insert(0, Blocked())
sys.path = [p for p in sys.path if "__editable__" not in p]
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script alone, with a line before it that blocks what a device does not have."""
    (found,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len([line for line in found.splitlines() if line.strip()]) <= 32
    path = tmp_path_factory.mktemp("device") / "detect.py"
    path.write_text(BLOCK + found)
    return path


def run(script, *arguments):
    command = [sys.executable, "-I", str(script), *map(str, arguments)]
    return subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=False)


def test_what_is_blocked_cannot_be_imported(script):
    probe = script.with_name("probe.py")
    for name in ("torch", "lkd"):
        probe.write_text(BLOCK + f"import {name}")
        assert f"{name} is not on the device" in run(probe).stderr


def test_a_classifier(script, tmp_path):
    import torch

    module, pixels = classifier(), np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8)
    entries = described(Samples(), x=(3, 2, 2))
    finish(by_hand(module, {"x": torch.zeros(2, 3, 2, 2)}, ["logits"]),
           tmp_path / "student.onnx", kind="logits", inputs=entries, classes=Samples.classes)  # fmt: skip
    Image.fromarray(pixels).save(tmp_path / "x.png")
    x = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - torch.tensor(Samples.mean)[:, None, None]) / 0.2
    with torch.no_grad():
        wanted = Samples.classes[int(module(x[None]).argmax())]
    done = run(script, tmp_path / "student.onnx", tmp_path / "x.png")
    assert done.stdout.split() == [wanted], done.stderr


def test_a_file_that_does_not_say_how_pictures_are_normalized_is_refused(script, tmp_path):
    detector_file(tmp_path / "student.onnx", normalization=None)
    picture(tmp_path / "x.png")
    done = run(script, tmp_path / "student.onnx", tmp_path / "x.png")
    assert done.returncode == 1 and done.stderr == "normalization is null: export it with --mean and --std\n"


def test_a_file_for_other_numbers_than_those_of_pictures_is_refused(script, tmp_path):
    detector_file(tmp_path / "student.onnx", normalization={"scale": 16.0, "mean": [0.0], "std": [1.0]})
    picture(tmp_path / "x.png")
    done = run(script, tmp_path / "student.onnx", tmp_path / "x.png")
    assert done.returncode == 1 and done.stderr == "it takes pixels from 0 to 16; pictures have 0 to 255\n"


def test_with_openvino(script, tmp_path):
    """The page's lines in the place of the script's."""
    pytest.importorskip("openvino")
    (lines,) = re.findall(r"```python\n(model = openvino.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    *opened, ran = lines.splitlines(keepends=True)
    text = script.read_text().replace("import onnxruntime\n", "import openvino\n")
    for begin, new in (("spec =", ""), ("session =", "".join(opened)), (r"\(found,\) =", ran)):
        text, count = re.subn(rf"^{begin}.*\n", lambda _, new=new: new, text, flags=re.M)
        assert count == 1
    other = script.with_name("openvino_detect.py")
    other.write_text(text.replace('("torch",', '("onnxruntime", "torch",'))
    finish(first_pixels(64, 64), tmp_path / "student.onnx", **spec(tmp_path, 64, 64))
    picture(tmp_path / "x.png")
    done = run(other, to_openvino(tmp_path / "student.onnx"), tmp_path / "x.png")
    assert done.stdout.split() == ["car", "0.80", "3", "5", "40", "50"], done.stderr


def spec(folder, height, width):
    from lkd.datamodules import YoloFolder

    data = YoloFolder(str(folder), image_size=max(height, width))
    entries = described(data, kind="boxes", images=(3, height, width))
    return {"kind": "boxes", "nms": "inside", "inputs": entries, "classes": ["car"]}


def test_a_detector(script, tmp_path):
    finish(first_pixels(64, 64), tmp_path / "student.onnx", **spec(tmp_path, 64, 64))
    picture(tmp_path / "x.png")  # half as high as the input: the rest is padded
    done = run(script, tmp_path / "student.onnx", tmp_path / "x.png")
    assert done.stdout.split() == ["car", "0.80", "3", "5", "40", "50"], done.stderr


def test_with_lkd_and_without_torch(tmp_path):
    path = tmp_path / "runs/traffic_oracle/export/student.onnx"
    path.parent.mkdir(parents=True)
    finish(first_pixels(192, 320), path, **spec(tmp_path, 192, 320))
    write_card(path, {"metrics": {"file": {"map50": 0.5}}}, parameters=0)
    (block,) = re.findall(
        r"```python\n(import numpy as np\nfrom lkd.*?)```", PAGE.read_text(encoding="utf-8"), re.S
    )
    without = "import sys\nsys.modules['torch'] = None\n"
    code = without + block.replace("student.spec", "print(student.spec").rstrip() + ")"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout.strip() == "['car'] {'map50': 0.5}", done.stderr
