import sys
import types

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.federated import Federation, load_client
from lkd.modules import Classifier
from lkd.teachers import Teacher


class Dense(nn.Module):
    """Gives what detectors give: per-sample tensors, lists of them, and anchors without a batch dimension."""

    def forward(self, x):
        return {"scores": x.mean((2, 3)), "feats": [x, x[:, :1]], "anchors": torch.arange(6.0).view(3, 2)}


def test_callable_module_and_timm_name():
    assert Teacher(lambda x: x * 2)(torch.ones(2)).tolist() == [2, 2]
    assert Teacher(nn.Linear(3, 4))(torch.ones(5, 3)).shape == (5, 4)
    teacher = Teacher("resnet10t", pretrained=False, num_classes=5)
    assert teacher(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_batches_are_split_and_joined():
    x = torch.rand(7, 2, 4, 4)
    whole, split = Teacher(Dense())(x), Teacher(Dense(), batch_size=3)(x)
    torch.testing.assert_close(split, whole)
    sizes = []
    Teacher(lambda t: sizes.append(len(t)) or t, batch_size=3)(x)
    assert sizes == [3, 3, 1]


def test_split_batches_keep_tapped_layers_whole():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    x = torch.rand(5, 2)
    tapped = Teacher(net, batch_size=2).tapped(x, ["0", ""])
    torch.testing.assert_close(tapped["0"], net[0](x))
    torch.testing.assert_close(tapped[""], net(x))


def test_no_graph_and_no_inference_tensors():
    x = torch.ones(2, 3, requires_grad=True)
    output = Teacher(nn.Linear(3, 3))(x)
    assert not output.requires_grad and not output.is_inference()
    (x * output).sum().backward()  # an inference tensor could not be saved for this


def test_precision():
    x = torch.ones(2, 3)
    assert Teacher(nn.Linear(3, 3), precision="bf16")(x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert Teacher(nn.Linear(3, 3))(x).dtype == torch.bfloat16
        assert Teacher(nn.Linear(3, 3), precision="32")(x).dtype == torch.float32


def test_int8_needs_linear_layers_and_torchao(monkeypatch):
    with pytest.raises(ValueError, match=r"int8.*has none"):
        Teacher(nn.Conv2d(1, 1, 1), precision="int8")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ModuleNotFoundError, match="needs torchao"):
        Teacher(nn.Linear(3, 3), precision="int8")


def test_int8_is_close_to_full_precision():
    pytest.importorskip("torchao", reason="torchao is not installed")
    net = nn.Linear(64, 8)
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    exact = net(x).detach()
    assert (Teacher(net, precision="int8")(x) - exact).abs().max() < 0.05


def test_predict_runs_in_a_trainer():
    loader = DataLoader(TensorDataset(torch.ones(3, 3), torch.zeros(3)), batch_size=2)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu")
    assert [len(p) for p in trainer.predict(Teacher(nn.Linear(3, 2)), loader)] == [2, 1]


def test_detect_takes_any_detector():
    boxes = [{"boxes": torch.zeros(1, 4), "scores": torch.ones(1), "labels": torch.zeros(1).long()}]
    found = Teacher(lambda x: boxes).detect(torch.zeros(1, 3, 8, 8))
    assert torch.equal(found[0]["boxes"], boxes[0]["boxes"])
    with_method = types.SimpleNamespace(detect=lambda x: boxes)
    with pytest.raises(TypeError, match=r"model is a dict; if it holds weights .* load_state_dict"):
        Teacher(nn.Linear(2, 2).state_dict())
    with pytest.raises(TypeError, match="must be a module"):
        Teacher(with_method)
    with pytest.raises(TypeError, match="gives no detections"):
        Teacher(nn.Identity()).detect(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"model": "resnet10tt"}, ValueError, "did you mean resnet10t"),
        ({"model": "nowhere/net.ckpt"}, FileNotFoundError, r"nowhere/net\.ckpt.*does not exist"),
        ({"model": "nowhere/net.pt"}, FileNotFoundError, r"nowhere/net\.pt.*does not exist"),
        ({"model": "net.pth"}, ValueError, r"weights without their network: .* load_state_dict and give"),
        ({"model": nn.Identity(), "batch_size": 0}, ValueError, "batch_size=0 must be 1 or more"),
        ({"model": "x.ckpt", "recipe": "nowhere.yaml"}, FileNotFoundError, r"recipe='nowhere\.yaml'"),
        ({"model": 3}, TypeError, "model=3 must be"),
    ],
)
def test_bad_input(kwargs, error, words):
    with pytest.raises(error, match=words):
        Teacher(**kwargs)


def test_a_teacher_that_fails_says_on_what():
    with pytest.raises(
        RuntimeError, match=r"teacher Linear failed on an input of shape \(2, 5\): .*mat1"
    ) as caught:
        Teacher(nn.Linear(4, 3))(torch.ones(2, 5))
    assert isinstance(caught.value.__cause__, RuntimeError)

    def picky(x):
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError, match=r"^full$"):  # Trainers look for this one
        Teacher(picky)(torch.ones(2, 5))


def test_a_checkpoint_that_does_not_name_its_class(tmp_path):
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6.0"}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"does not say which LightningModule.*load_from_checkpoint\(path\)"):
        Teacher(str(tmp_path / "x.ckpt"))


def test_a_federations_checkpoint_names_the_recipe_that_works(tmp_path):
    federation = Federation(Classifier(nn.Linear(3, 2), 2))
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(federation)
    path = str(tmp_path / "x.ckpt")
    torch.save({**trainer._checkpoint_connector.dump_checkpoint(weights_only=True), "federation": {}}, path)
    with pytest.raises(
        ValueError, match=r"load_client\('.*', module=YourModule\(\.\.\.\)\), and that to .* Teacher"
    ):
        Teacher(path)  # of a version that did not say how its modules are made
    x = torch.ones(2, 3)
    for client in (
        Federation.load_from_checkpoint(path, model=Classifier(nn.Linear(3, 2), 2)).model,
        load_client(path, module=Classifier(nn.Linear(3, 2), 2)),
    ):
        assert torch.equal(Teacher(client)(x), federation.model(x).detach())
