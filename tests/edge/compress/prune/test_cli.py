"""A pruned checkpoint with the dense configuration, on the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from torch import nn

from lkd.cli import main
from lkd.datamodules import Digits
from lkd.edge import Exported
from lkd.edge.compress import Prune
from lkd.edge.compress.student import write
from lkd.models import MLP
from lkd.modules import Classifier

from ...export.test_command import CONFIG
from ...students import save


class Own(LightningModule):
    """Knows nothing of pruning."""

    def __init__(self):
        super().__init__()
        self.network = MLP(64, 10, hidden=[6])

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test/acc", (self(x).argmax(1) == y).float().mean(), batch_size=len(y))


@pytest.fixture(params=[lambda: Classifier(MLP(64, 10, hidden=[6])), Own], ids=["lkd", "own"])
def here(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = request.param()
    save(module, "x.ckpt")
    data = Digits()
    data.setup()
    x, y = (tensor[:40] for tensor in data.datasets["test"].tensors)
    Prune(ratio=0.5).prune(module, [(x, y)])
    write(module, Path("pruned.ckpt"), like=Path("x.ckpt"))
    config = {key: value for key, value in CONFIG.items() if key != "distillation"}
    if isinstance(module, Own):
        config["model"] = {"class_path": f"{__name__}.Own"}
    Path("c.yaml").write_text(yaml.safe_dump(config))
    return module.eval(), x


def test_it_is_tested_and_exported(here, capsys, request):
    module, x = here
    main(["test", "--config", "c.yaml", "--ckpt_path", "pruned.ckpt"])
    assert "test/acc" in capsys.readouterr().out
    request.getfixturevalue("quick")
    main(["export", "--config", "c.yaml", "--ckpt_path", "pruned.ckpt"])
    with torch.no_grad():
        found = torch.from_numpy(Exported("runs/one/export/student.onnx")(x.numpy()))
        torch.testing.assert_close(found, module(x), rtol=1e-3, atol=1e-4)


def test_a_history_of_another_network_is_one_sentence(here):
    checkpoint = torch.load("pruned.ckpt", weights_only=True)
    checkpoint["pruning"]["tensors"]["network.strange"] = [1]
    torch.save(checkpoint, "pruned.ckpt")
    with pytest.raises(
        SystemExit, match=r"tensor 'network.strange', which .* does not have: give the configuration"
    ):
        main(["test", "--config", "c.yaml", "--ckpt_path", "pruned.ckpt"])


@pytest.mark.usefixtures("quick")
def test_steps_of_a_configuration(here):
    config = yaml.safe_load(Path("c.yaml").read_text())
    distillation = {
        "class_path": "LogitDistillation",
        "init_args": {"teacher": {"class_path": "lkd.edge.compress.Parent"}, "alpha": 0.5},
    }
    config["limits"] = {"max_drop": 1.0, "allow_slower": True}
    config["steps"] = [
        {"class_path": "lkd.edge.compress.Prune", "init_args": {"ratio": 0.3, "batches": 1}},
        {
            "class_path": "lkd.edge.compress.Recover",
            "init_args": {"epochs": 1, "distillation": [distillation]},
        },
    ]
    if config["model"]["class_path"] != "Classifier":
        pytest.skip("it has no optimizer")
    Path("e.yaml").write_text(yaml.safe_dump(config))
    main(["compress", "--config", "e.yaml", "--ckpt_path", "x.ckpt"])
    assert Exported("runs/one/compress/student.onnx")(torch.zeros(2, 1, 8, 8).numpy()).shape == (2, 10)
    narrow = torch.load(next(Path("runs").glob("*/compress/2*/last.ckpt")), weights_only=True)
    assert narrow["pruning"]["numbers"]["network.layers.1"] == {"out_features": 5}
