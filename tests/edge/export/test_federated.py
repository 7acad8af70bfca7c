"""Models of a federation's checkpoint as files: the server's, or each client's."""

from importlib.util import find_spec

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from lkd.datamodules import Digits, FederatedDataModule, Sampling, Shards
from lkd.edge import Exported
from lkd.edge.export import export
from lkd.edge.export.privacy import privacy_of
from lkd.edge.export.students import file_names
from lkd.federated import ClientDP, FedAvg, Federation, Local, load_client
from lkd.federated.server.privacy_ledger import PrivacyLedger
from lkd.modules import Classifier

pytestmark = pytest.mark.usefixtures("quick")
LICENSES = dict.fromkeys(("data", "teacher", "weights"), "none")


def net(width):
    torch.manual_seed(width)
    layers = nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10)
    return Classifier(nn.Sequential(*layers), optimizer=lambda params: torch.optim.SGD(params, lr=0.1))


def clients(fractions=(0.8, 0.0, 0.2)):
    return FederatedDataModule(
        Digits(), Shards(per_client=3), clients=3, client_fractions=fractions, cohort=3
    )


def trained(tmp_path, **options):
    """The path of a checkpoint after a round."""
    federation = Federation(net(8), **options)
    run = {"accelerator": "cpu", "max_epochs": 1, "limit_val_batches": 0, "logger": False}
    run |= {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**run)
    trainer.fit(federation, datamodule=clients())
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    return str(tmp_path / "x.ckpt")


def digits(count=4):
    data = Digits()
    data.setup()
    return data.datasets["test"].tensors[0][:count]


def same(file, module):
    with torch.no_grad():
        wanted = module.eval()(digits())
    return torch.allclose(torch.from_numpy(Exported(file)(digits().numpy())), wanted, atol=1e-5)


def test_clients_that_share_all_are_one_file(tmp_path):
    path = trained(tmp_path, algorithm=FedAvg())
    (file,) = export(Federation(net(8)), clients(), path, str(tmp_path / "out"), licenses=LICENSES)
    assert file.name == "student.onnx" and same(file, load_client(path, module=net(8)))
    card = Exported(file).card
    assert card["metrics"]["data"] == "test data" and card["metrics"]["samples"] == 360


@pytest.mark.parametrize(("options", "widths"), [
    ({"personal_layers": ["network.3"]}, [8, 8, 8]),
    ({"other_models": [net(6)], "client_models": [0, 1, 0]}, [8, 6, 8]),
    ({"algorithm": Local()}, [8, 8, 8]),
])  # fmt: skip
def test_clients_that_differ_get_a_file_each_measured_on_their_own_data(tmp_path, options, widths):
    path = trained(tmp_path, **options)
    federation = Federation(net(8), **options)
    files = export(federation, clients(), path, str(tmp_path / "out"), licenses=LICENSES)
    assert [file.name for file in files] == [f"student_{k}.onnx" for k in range(3)]
    for client, (file, width) in enumerate(zip(files, widths, strict=True)):
        assert same(file, load_client(path, client, net(width)))
        card = Exported(file).card
        assert card["metrics"]["data"] == f"test data of client {client}" and card["metrics"]["samples"] < 300
        assert card["provenance"]["client"] == str(client)
    (only,) = export(
        federation, clients((1.0, 0.0, 0.0)), path, str(tmp_path / "one"), only=["1"], licenses=LICENSES
    )
    assert only.name == "student_1.onnx" and same(only, load_client(path, 1, net(widths[1])))
    assert Exported(only).card["metrics"]["samples"] == 360  # it has none of its own here
    with pytest.raises(
        ValueError, match=r"only=\['9'\]: the checkpoint has no model of 9; it has server, 0, 1, 2"
    ):
        export(federation, clients(), path, only=["9"])


@pytest.mark.skipif(not find_spec("dp_accounting"), reason="dp-accounting is not installed")
def test_a_card_says_what_the_weights_tell_of_clients(tmp_path):
    privacy = ClientDP(clip=0.1, noise_multiplier=2.0, delta=1e-2)
    ledger = PrivacyLedger(1e-2)
    ledger.count(Sampling("fixed", 3, 3), 2.0)
    path = trained(tmp_path, privacy=privacy)
    (file,) = export(Federation(net(8)), clients(), path, str(tmp_path / "out"), licenses=LICENSES)
    said = Exported(file).card["privacy"]
    assert said.pop("epsilon") == ledger.epsilon()
    assert "nobody knows the seeds of run and data" in said.pop("only if")
    assert said == {"unit": "client", "delta": 1e-2, "rounds": 1, "mechanism": privacy.mechanism}
    own = privacy_of(path, "C1")["privacy"]
    assert own["not of"] == "client C1, whose own layers this file has"
    assert privacy_of(trained(tmp_path)) == {}
    secret = trained(tmp_path, privacy=ClientDP(clip=0.1, noise_multiplier=2.0, delta=1e-2, secret=True))
    assert "only if" not in privacy_of(secret)["privacy"]


def test_a_checkpoint_of_no_federation_is_refused(tmp_path):
    torch.save({"state_dict": net(8).state_dict()}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="is of no federation, and the model is Federation"):
        export(Federation(net(8)), clients(), str(tmp_path / "x.ckpt"))


def test_names_that_are_no_file_names():
    """Of clients, and of cameras, whose folder would not be there."""
    assert file_names(["north", "../cam/1"]) == ["north", ".._cam_1"]
    assert file_names(["a b", "a/b"]) == ["0", "1"] and file_names(["a b", "a/b"], ["4", "7"]) == ["4", "7"]
    assert file_names([""]) == [""]
