"""Detectors as files: suppression inside and beside, sizes, and a file for each camera."""

import copy
import re
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import torch

if find_spec("ultralytics") is None:
    pytest.skip('needs the extra: pip install "lightning-kd[yolo]"', allow_module_level=True)

from lkd.datamodules import YoloFolder
from lkd.edge import Exported
from lkd.edge.export import export
from lkd.edge.export.boxes import DetectorKind, padded
from lkd.edge.export.graph import to_graph

from ...roads import write_roads
from ..students import detector, save


def data(root, size=64, **kwargs):
    return YoloFolder(str(root), image_size=size, fractions=(0.25, 0.0, 0.75), batch_size=4, **kwargs)


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    return write_roads(tmp_path_factory.mktemp("roads"))


class Graphs:
    """Exports once, as that takes long; networks of later calls may differ in the last bias of their classes alone."""

    def __init__(self):
        self.known = None

    def __call__(self, network, inputs, outputs):
        self.known = self.known or to_graph(network, inputs, outputs)
        graph, state = copy.deepcopy(self.known), network.state_dict()
        biases = [t for t in graph.graph.initializer if re.fullmatch(r".*cv3\.\d\.2\.bias", t.name)]
        assert biases  # equal ones are one
        for tensor in biases:
            tensor.CopyFrom(onnx.numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
        return graph


@pytest.fixture(scope="module", autouse=True)
def graphs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lkd.edge.export.files.to_graph", Graphs())
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory, roads, graphs):
    """A detector, and a file of either kind."""
    folder, files = tmp_path_factory.mktemp("detector"), {}
    module = detector()
    path = save(module, folder / "x.ckpt")
    options = {"score_threshold": 0.3, "licenses": dict.fromkeys(("data", "teacher", "weights"), "none")}
    for nms in ("inside", "beside"):
        (files[nms],) = export(detector(seed=1), data(roads), path, str(folder / nms), nms=nms, **options)
    return module.eval(), files


@pytest.mark.parametrize("nms", ["inside", "beside"])
def test_it_finds_what_the_module_finds(made, nms):
    module, files = made
    student = Exported(files[nms])
    assert student.spec["nms"] == nms and student.spec["score_threshold"] == 0.3
    for count in (1, 3):
        images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            wanted = module.networks()[0].decode(module(images), 0.3, 0.6, 300)
        got = student(images.numpy())
        assert len(got) == count and any(len(one["scores"]) > 1 for one in got)
        for one, other in zip(wanted, got, strict=True):
            assert one["labels"].tolist() == other["labels"].tolist()
            np.testing.assert_allclose(other["boxes"], one["boxes"], atol=1e-3)
            np.testing.assert_allclose(other["scores"], one["scores"], atol=1e-5)


def test_outputs_are_as_the_metadata_say(made):
    x = {"images": np.zeros((2, 3, 64, 64), np.float32)}
    inside, beside = (Exported(made[1][nms]).run(x) for nms in ("inside", "beside"))
    assert inside.keys() == {"detections"} and inside["detections"].shape[1] == 7
    assert beside["boxes"].shape == (2, 84, 4) and beside["scores"].shape == (2, 84, 2)


def test_the_card_has_the_table_of_the_test(made, roads):
    module, files = made
    for nms, file in files.items():
        card = Exported(file).card
        assert set(card["metrics"]["file"]) == {"map50", "map", "precision", "recall"}
        assert card["metrics"]["file"] == pytest.approx(card["metrics"]["checkpoint"], abs=1e-4)
        assert card["metrics"]["samples"] == 6 and card["parity"]["difference"] < 1e-3
        assert ("without NMS" in card["latency"]["what"]) is (nms == "beside")
        assert "ultralytics: GNU Affero" in card["licenses"]["code"]
    assert module.thresholds[0] == 0.001  # the module's own stay


def test_each_camera_gets_a_file_with_its_own_figures(tmp_path, roads):
    module = detector(cameras=["camA", "camB"])
    with torch.no_grad():
        one, other = module.networks()
        other.load_state_dict(one.state_dict())
        for branch in other.head.cv3:
            branch[-1].bias.fill_(3.0)
    path = save(module, tmp_path / "x.ckpt")
    options = {"nms": "beside", "score_threshold": 0.3}
    fresh = detector(seed=2, cameras=["camA", "camB"])
    files = export(fresh, data(roads), path, str(tmp_path / "out"), **options)
    assert [file.name for file in files] == ["student_camA.onnx", "student_camB.onnx"]
    cards = [Exported(file).card for file in files]
    assert [card["metrics"]["samples"] for card in cards] == [3, 3]
    x = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    sure = [Exported(file).run({"images": x})["scores"].mean() for file in files]
    assert sure[1] > sure[0] + 0.01
    (only,) = export(fresh, data(roads), path, str(tmp_path / "one"), only=["camB"], **options)
    assert Exported(only).card["metrics"] == cards[1]["metrics"]
    for wrong, sentence in [({"only": ["camC"]}, r"only=\['camC'\]: there is no camC, but camA, camB")]:
        with pytest.raises(ValueError, match=sentence):
            export(fresh, data(roads), path, str(tmp_path / "out"), **wrong)
    with pytest.raises(ValueError, match="there are no test pictures of camB"):
        export(fresh, data(roads, cameras=["camA"]), path, str(tmp_path / "out"))


def test_sizes():
    kind = DetectorKind(detector(), "beside", input_size=(64, 96))
    watch = kind.watch(lambda images, cameras: None)
    watch(torch.zeros(2, 3, 32, 64))
    watch(torch.zeros(1, 3, 64, 32))
    (part,) = kind.parts()
    assert part.inputs["images"].shape == (2, 3, 64, 96)
    kind.input_size = None
    assert kind.parts()[0].inputs["images"].shape == (2, 3, 64, 64)  # the largest of either side
    kind.input_size = (32, 96)
    with pytest.raises(
        ValueError, match=r"do not fit into the file's input of 32x96: give input_size=\[64, 96\]"
    ):
        kind.parts()
    kind.input_size = (65, 96)
    with pytest.raises(
        ValueError, match=r"input_size=\[65, 96\] is none for YOLO: images: H and W must be multiples of 32"
    ):
        kind.parts()
    assert padded(torch.zeros(1, 3, 2, 2), (2, 3))[0, 0, 0].tolist() == pytest.approx([0, 0, 114 / 255])


def test_bad_input(tmp_path, roads):
    path = save(detector(), tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"score_threshold=2\.0 must be in \[0, 1\]"):
        export(detector(), data(roads), path, score_threshold=2.0)
    with pytest.raises(ValueError, match="one network for all cameras, and one file"):
        export(detector(), data(roads), path, only=["camA"])
    with pytest.raises(ValueError, match="the test split is empty"):
        empty = YoloFolder(str(roads), image_size=64, fractions=(1.0, 0.0, 0.0))
        export(detector(), empty, path)
