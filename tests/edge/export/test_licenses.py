import pytest
from torch import nn

from lkd.edge.export.licenses import licenses
from lkd.modules import Classifier

from ..students import Plain, classifier

RUN = {"model": {"class_path": "Classifier"}, "distillation": None}


def test_what_is_known_and_what_is_not():
    with pytest.warns(
        UserWarning, match=r"does not state the license of data: give licenses, such as --licenses\.data"
    ):
        found = licenses(classifier(), RUN, None)
    assert found["weights"] == "none: they started at random" and found["teacher"] == "none"
    assert "lkd: Apache-2.0" in found["code"] and found["data"] == "not stated"
    run = {
        "model": {"init_args": {"network": "data/weights/yolov8n.pt"}},
        "distillation": {"class_path": "KD"},
    }
    with pytest.warns(UserWarning, match=r"weights, teacher, data \(weights of data/weights/yolov8n.pt\)"):
        assert licenses(classifier(), run, None)["weights"] == "not stated"


def test_code_is_of_the_packages_of_the_layers():
    given = dict.fromkeys(("weights", "teacher", "data"), "none")
    network = Classifier("test_resnet", num_classes=2)
    code = licenses(network, RUN, given)["code"]
    assert "timm: Apache" in code and "torch: " in code and "torchmetrics" not in code
    assert "tests: not stated" in licenses(Plain(nn.Linear(2, 2)), RUN, given)["code"]
    assert licenses(Plain(), RUN, {**given, "code": "MIT"})["code"] == "MIT"
    with pytest.raises(ValueError, match="licenses: music is no part; there are code, weights"):
        licenses(Plain(), RUN, {"music": "CC0"})


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (Plain(nn.Linear(2, 2)), {}),
        (classifier(), {"weights": "DEFAULT"}),
        (classifier(), {"pretrained": True}),
    ],
)
def test_weights_that_code_may_load_itself_are_not_said_to_start_at_random(module, arguments):
    run = {"model": {"init_args": {"network": {"init_args": arguments}}}, "distillation": None}
    with pytest.warns(UserWarning, match="does not state the license of .*weights"):
        assert licenses(module, run, None)["weights"] == "not stated"
    known = {"model": {"init_args": {"network": {"init_args": {"pretrained": False, "weights": None}}}}}
    with pytest.warns(UserWarning, match="license of data"):
        assert licenses(classifier(), known, None)["weights"] == "none: they started at random"
