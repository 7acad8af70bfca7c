"""A harmless proof for every loader: a file that would write a marker file is refused in a sentence, and no marker appears."""

import copy
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from torch import nn

from lkd.checkpoint_io import Checkpoints, look
from lkd.cli import main
from lkd.federated import load_client
from lkd.models.architectures import ACTIVATIONS, HEADS, check
from lkd.modules import Classifier, Detector
from lkd.teachers import Teacher

DIGITS = str(Path(__file__).parents[1] / "configs/classification/digits.yaml")
NET = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
yolo = pytest.mark.skipif(
    find_spec("ultralytics") is None, reason='needs the extra: pip install "lightning-kd[yolo]"'
)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """What must not appear, and a module `evil_module` that would make it when it is imported or its class is made."""
    path = tmp_path / "ran"
    text = f"open({str(path)!r}, 'w').close()\nfrom torch import nn\nclass Net(nn.Linear):\n    pass\n"
    (tmp_path / "evil_module.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)
    yield path
    assert not path.exists() or path.read_text() == "allowed"
    monkeypatch.delitem(sys.modules, "evil_module", raising=False)


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def evil_nets(marker):
    """Architectures that would run code when Ultralytics builds them."""
    call = f"open({str(marker)!r}, 'w')"
    yield {**NET, "activation": call}
    yield {**NET, "activation": f"nn.SiLU({call})"}
    yield {**NET, "activation": f"[{call}, nn.SiLU()][1]"}
    yield {**NET, "activation": f"nn.SiLU() if {call} else nn.ReLU()"}
    yield {**NET, "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "open", [str(marker), "'w'"]]]}
    yield {**NET, "backbone": [[-1, 1, "torch.hub.load", ["x"]]]}
    yield {**NET, "backbone": [[-1, 1, "TorchVision", [16, "resnet18", "DEFAULT"]]]}
    yield {**NET, "backbone": [[-1, 1, "torchvision.ops.misc.os.system", ["x"]]]}
    yield {**NET, "backbone": [[-1, 1, "Conv", [16, 3, 2, {"x": "d"}]]]}
    yield {**NET, "backbone": [[-1, 1, "Conv", [16, "d"]]]}


class Pickled(nn.Module):
    """Ends in a file as Ultralytics' own networks do: modules with a `yaml`."""

    def __init__(self, described):
        super().__init__()
        self.yaml = described
        self.model = nn.Sequential(nn.Linear(2, 2))


def lightning_checkpoint(path, hyperparameters, state=None):
    torch.save(
        {"state_dict": state or {}, "hyper_parameters": hyperparameters, "pytorch-lightning_version": "2.6.0", "hparams_name": "kwargs",
         "epoch": 0, "global_step": 0, "loops": None}, path)  # fmt: skip
    return str(path)


def of_the_command_line(class_path, **arguments):
    return {
        "_class_path": class_path,
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        **arguments,
    }


@yolo
def test_architectures_run_nothing_whatever_they_come_in(marker, tmp_path):
    for number, net in enumerate(evil_nets(marker)):
        weights, described = tmp_path / f"{number}.pt", tmp_path / f"{number}.yaml"
        torch.save({"model": Pickled(net)}, weights)
        described.write_text(yaml.safe_dump(net))
        held = lightning_checkpoint(tmp_path / f"{number}.ckpt", {"network": net, "num_classes": 2})
        said = lightning_checkpoint(
            tmp_path / f"said{number}.ckpt", of_the_command_line("lkd.modules.Detector", network=net)
        )
        for load in (
            lambda: Detector(copy.deepcopy(net), 2),  # noqa: B023
            lambda: Detector(str(described), 2),  # noqa: B023
            lambda: Detector(str(weights), 2),  # noqa: B023
            lambda: Teacher(str(weights)),  # noqa: B023
            lambda: Detector.load_from_checkpoint(held, weights_only=True),  # noqa: B023
            lambda: Teacher(said),  # noqa: B023
        ):
            with pytest.raises(
                ValueError,
                match=r"names the layer|the arguments|has activation=|could not be made|names torch",
            ):
                load()
            assert not marker.exists()


@yolo
def test_all_published_architectures_of_boxes_pass_and_weights_are_read_as_they_are(tmp_path):
    from lkd.models import YOLO
    from lkd.models.yolo_import import ultralytics_tasks

    tasks = ultralytics_tasks()
    passed = 0
    for file in (Path(tasks.__file__).parents[1] / "cfg" / "models").rglob("*.yaml"):
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
        if described["head"][-1][2] in HEADS:
            check(described, file.name)
            passed += 1
    assert passed >= 28
    for name in ACTIVATIONS:
        check({**NET, "activation": f"torch.nn.{name}()"}, "x.yaml")
    check({**NET, "activation": "nn.LeakyReLU(0.1, inplace=True)"}, "x.yaml")
    own = tasks.DetectionModel("yolov8n.yaml", nc=2, verbose=False).half()
    torch.save({"ema": own}, tmp_path / "x.pt")
    wanted = own.float().state_dict()
    state = YOLO(str(tmp_path / "x.pt")).net.state_dict()
    assert state.keys() == wanted.keys() and all(torch.equal(state[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_run_nothing(marker, tmp_path, zipped):
    for name in ("x.ckpt", "x.pt"):
        content = {
            "state_dict": {"a": Evil(marker)},
            "model": Evil(marker),
            "federation": {},
            "hyper_parameters": {},
        }
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
    (tmp_path / "y.ckpt").write_bytes(pickle.dumps(Evil(marker)))
    for path in (str(tmp_path / "x.ckpt"), str(tmp_path / "y.ckpt")):
        for load in (Teacher, load_client, Checkpoints().load_checkpoint):
            with pytest.raises(ValueError, match=r"x\.ckpt|y\.ckpt"):
                load(path)
        with pytest.raises(ValueError, match=r"holds Python objects|damaged"):
            look({"ckpt_path": path})
    if find_spec("ultralytics"):
        with pytest.raises(ValueError, match="not a readable"):
            Teacher(str(tmp_path / "x.pt"))
        detector = Detector("yolov8n.yaml", start=str(tmp_path / "x.ckpt"))
        with pytest.raises(ValueError, match="is no checkpoint of a Detector"):
            detector.setup("fit")
    assert not marker.exists()


def evil_arguments(tmp_path):
    (tmp_path / "net.yaml").write_text("class_path: evil_module.Net\n")
    nested = {"class_path": "evil_module.Net", "init_args": {"in_features": 1, "out_features": 1}}
    yield nested
    yield {"class_path": "lkd.models.MLP", "init_args": {"x": [nested]}}
    yield "evil_module.Net"
    yield "net.yaml"
    yield {"class_path": "os.system", "init_args": {"command": "true"}}
    yield {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "x"}}
    yield {"class_path": "torch.fx.GraphModule"}
    yield {"class_path": "torchvision.models.resnet.partial"}
    yield {"class_path": "lkd.teachers.Teacher", "init_args": {"model": "x.ckpt", "recipe": "net.yaml"}}
    yield {"class_path": "lkd.teachers.Teacher", "init_args": {"model": "x.ckpt", "trust": ["evil_module"]}}


def test_classes_that_a_checkpoint_names_are_not_imported(marker, tmp_path):
    for argument in evil_arguments(tmp_path):
        path = lightning_checkpoint(
            tmp_path / "x.ckpt", of_the_command_line("lkd.modules.Classifier", network=argument)
        )
        with pytest.raises(ValueError, match=r"x\.ckpt' names .* allow it by trust=\['"):
            Teacher(path)
        described = {
            "class_path": "lkd.modules.Classifier",
            "init_args": {"network": argument},
            "config": True,
        }
        saved = {"modules": [described], "optimizer": [{}], "clients": {}}
        torch.save({"state_dict": {}, "federation": saved}, tmp_path / "federation.ckpt")
        with pytest.raises(ValueError, match=r"federation\.ckpt' names .* allow it by trust=\['"):
            load_client(str(tmp_path / "federation.ckpt"))
        with pytest.raises(ValueError, match=r"x\.ckpt' names .* allow it by --trust\+="):
            look({"ckpt_path": path, "trust": []})
        assert not marker.exists(), argument


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_the_command_line_looks_before_it_takes_a_checkpoints_arguments(marker, tmp_path, verb):
    path = lightning_checkpoint(tmp_path / "x.ckpt", of_the_command_line("evil_module.Net"))
    with pytest.raises(
        SystemExit, match=r"x\.ckpt' names evil_module\.Net, .* allow it by --trust\+=evil_module"
    ) as caught:
        main([verb, "--config", DIGITS, "--distillation=null", f"--ckpt_path={path}"])
    assert "\n" not in str(caught.value)


def test_what_the_user_trusts_is_run(marker, tmp_path):
    (tmp_path / "evil_module.py").write_text(
        f"open({str(marker)!r}, 'w').write('allowed')\nfrom torch.nn import Linear as Net\n"
    )
    nested = {"class_path": "evil_module.Net", "init_args": {"in_features": 64, "out_features": 10}}
    made = Classifier(nn.Linear(64, 10), 10)
    path = lightning_checkpoint(
        tmp_path / "x.ckpt",
        of_the_command_line("lkd.modules.Classifier", network=nested, num_classes=10),
        made.state_dict(),
    )
    teacher = Teacher(path, trust=["evil_module"])
    assert torch.equal(teacher(torch.ones(1, 64)), made(torch.ones(1, 64))) and marker.exists()


@pytest.mark.parametrize(
    "argument",
    [
        {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
        {"class_path": "lightning.pytorch.cli.ReduceLROnPlateau", "init_args": {"monitor": "val/loss"}},
        {"class_path": "torchvision.models.resnet18", "init_args": {"num_classes": 3}},
        {"class_path": "lkd.federated.load_client", "init_args": {"path": "x.ckpt"}},
        {"class_path": "lkd.models.MLP"},
        {"class_path": f"{Pickled.__module__}.Pickled"},  # imported, and not installed: the user's own
        "torch.nn.functional.gelu",
        "torch.float32",
        "resnet18.a1_in1k",
        "data.yaml",
        "val/acc",
        "3.5",
    ],
)
def test_what_is_no_harm_passes(argument, tmp_path, monkeypatch):
    from lkd.trust import check as check_classes

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "data").mkdir()  # which Python takes for a package
    check_classes(of_the_command_line("lkd.modules.Classifier", network=argument), "x.ckpt")


def test_names_of_the_config_in_hand_are_the_users_own(marker):
    from lkd.trust import check as check_classes

    named = {"model": {"class_path": "evil_module.Net"}}
    check_classes({"net": {"class_path": "evil_module.Net"}}, "x.ckpt", config=named)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https://example.org/x.ckpt", "is an address: download it first"),
        ("http://example.org/x.ckpt", "is an address: download it first"),
        (".", "is a folder, as sharded checkpoints are"),
    ],
)
def test_addresses_and_folders_are_not_read(marker, path, words):
    with pytest.raises(ValueError, match=words):
        look({"ckpt_path": path})


def test_a_class_that_another_library_allowed_is_still_refused_on_resuming(tmp_path):
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", plugins=[Checkpoints()])
    torch.save({"state_dict": {}, "extra": nn.Linear(1, 1)}, tmp_path / "x.ckpt")
    with (
        torch.serialization.safe_globals([nn.Linear, nn.Module, set]),
        pytest.raises(ValueError, match="holds Python objects"),
    ):
        trainer.strategy.load_checkpoint(tmp_path / "x.ckpt", weights_only=True)
