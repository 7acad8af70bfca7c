import subprocess
import sys
from pathlib import Path

import pytest
import torch
import wandb
import yaml

import lkd.losses
from lkd.cli import main
from lkd.wandb_account import has_account

ROOT = Path(__file__).parents[1]
DIGITS = str(ROOT / "configs/classification/digits.yaml")
FEDAVG = str(ROOT / "configs/federated/digits_fedavg.yaml")
QUICK = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1",
         "--trainer.limit_test_batches=1", "--trainer.enable_progress_bar=false"]  # fmt: skip
ALONE = "--distillation=null"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("command", [["cli.py"], ["cli.py", "--help"], ["-m", "lkd", "-h"]])
def test_help_is_instant_because_nothing_heavy_is_imported(command):
    code = "import sys; sys.argv = ['cli.py', '--help']; from lkd.cli import main; main()\n"
    code += "assert not {'torch', 'lightning'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    shown = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "fit" in shown.stdout and "--config" in shown.stdout


@pytest.mark.parametrize("verb", ["compare", "partition"])
def test_so_is_that_of_verbs_of_our_own(verb):
    code = f"import sys\nfrom lkd.cli import main\ntry:\n    main(['{verb}', '--help'])\nexcept SystemExit:\n    pass\n"
    code += "assert not {'torch', 'lightning'} & set(sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"cli.py {verb}" in shown.stdout and "--folder" in shown.stdout


def test_what_a_run_may_not_need_is_not_imported_at_its_start():
    code = "import sys, lkd.federated, lkd.lightning_cli\n"
    code += "late = {'timm', 'wandb', 'sklearn', 'ultralytics', 'pandas'} & set(sys.modules)\nassert not late, late"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_override_before_the_config_is_refused():
    with pytest.raises(SystemExit, match=r"--distillation\.alpha=0\.3 stands before --config"):
        main(["fit", "--distillation.alpha=0.3", "--config", DIGITS])


def test_a_mistyped_key_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--config", DIGITS, ALONE, "--model.num_clases=3"])
    assert "num_clases" in capsys.readouterr().err


def test_overrides_after_the_config_win(folder, capsys):
    with pytest.raises(SystemExit) as done:
        main(["fit", "--config", DIGITS, "--distillation.alpha=0.7", "--distillation.teacher.model=x.ckpt",
              "--print_config"])  # fmt: skip
    shown = yaml.safe_load(capsys.readouterr().out)
    assert done.value.code == 0
    assert shown["distillation"]["init_args"]["alpha"] == 0.7
    assert shown["distillation"]["init_args"]["temperature"] == 4.0
    assert shown["distillation"]["init_args"]["teacher"]["init_args"]["model"] == "x.ckpt"


def test_fit_validate_test_and_predict(folder, capsys):
    main(["fit", "--config", DIGITS, ALONE, *QUICK])
    assert "test/acc" in capsys.readouterr().out  # measured after fit
    checkpoint = next(folder.glob("runs/digits/*/checkpoints/*.ckpt"))
    quick = [option for option in QUICK if "max_epochs" not in option]
    for verb, shows in (("validate", "val/acc"), ("test", "test/acc")):
        main([verb, "--config", DIGITS, ALONE, f"--ckpt_path={checkpoint}", *quick])
        assert shows in capsys.readouterr().out
    main(
        [
            "predict",
            "--config",
            DIGITS,
            ALONE,
            f"--ckpt_path={checkpoint}",
            "--trainer.limit_predict_batches=1",
        ]
    )


OWN = """
import torch
from lightning.pytorch import LightningModule

class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(64, 10)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.body(batch[0].flatten(1)), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

class Tested(Net):
    def test_step(self, batch, batch_idx):
        self.log("test/seen", 1.0)
"""


@pytest.mark.parametrize(("model", "tested"), [("Net", False), ("Tested", True)])
def test_a_module_that_cannot_be_tested_is_only_trained(folder, monkeypatch, capsys, model, tested):
    (folder / "own_module.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    main(["fit", "--config", DIGITS, ALONE, *QUICK, f"--model=own_module.{model}"])
    assert ("test/seen" in capsys.readouterr().out) is tested


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_missing_checkpoint_is_found_out_first(monkeypatch, verb):
    monkeypatch.setattr("lkd.lightning_cli.CLI.instantiate_classes", lambda *_: pytest.fail("too late"))
    with pytest.raises(SystemExit, match=r"^FileNotFoundError: ckpt_path='nope\.ckpt' does not exist"):
        main([verb, "--config", DIGITS, ALONE, "--ckpt_path=nope.ckpt"])


@pytest.mark.parametrize("name", ["best", "last", "hpc", "registry", "registry:net", "s3://bucket/net.ckpt"])
def test_lightnings_names_for_checkpoints_are_left_to_it(monkeypatch, name):
    def reached(*_):
        raise LookupError

    monkeypatch.setattr("lkd.lightning_cli.CLI.instantiate_classes", reached)
    with pytest.raises(LookupError):
        main(["fit", "--config", DIGITS, ALONE, f"--ckpt_path={name}"])


def test_a_test_of_the_start_says_so(folder, caplog):
    quick = ["--trainer.limit_test_batches=1", "--trainer.enable_progress_bar=false"]
    with caplog.at_level("WARNING", "lkd"):
        main(["test", "--config", DIGITS, ALONE, *quick])
    assert "No --ckpt_path: test uses the weights that the config starts from." in caplog.text


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("frozen", [True, False])
def test_layers_in_eval_mode_are_no_news_where_they_are_asked_for(
    folder, monkeypatch, recwarn, frozen, federated
):
    (folder / "own_frozen.py").write_text(
        OWN
        + f"""
class Frozen(Net):
    freeze_batchnorm = {frozen}

    def __init__(self):
        super().__init__()
        self.body.eval()
"""
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "own_frozen", raising=False)
    if federated:
        main(["fit", "--config", FEDAVG, ALONE, *QUICK, "--model.model=own_frozen.Frozen"])
    else:
        main(["fit", "--config", DIGITS, ALONE, *QUICK, "--model=own_frozen.Frozen"])
    assert any("in eval mode at the start" in str(w.message) for w in recwarn) is not frozen


def test_no_test_after_fit_if_asked(folder, capsys):
    main(["fit", "--config", DIGITS, ALONE, *QUICK, "--test_after_fit=false"])
    assert "test/acc" not in capsys.readouterr().out


def test_config_and_hyper_parameters_reach_wandb(folder, capsys):
    overlay = str(ROOT / "configs/logging/wandb.yaml")
    main(
        [
            "fit",
            "--config",
            DIGITS,
            "--config",
            overlay,
            ALONE,
            "--model.optimizer.init_args.lr=0.005",
            *QUICK,
        ]
    )
    config = dict(wandb.run.config)
    wandb.finish()
    assert config["cli"]["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.005
    assert config["cli"]["data"]["class_path"].endswith("Digits")
    where = next(line for line in capsys.readouterr().out.splitlines() if "ran offline" in line)
    assert Path(where.split("offline: ")[1].split(" (")[0]).is_dir()


@pytest.mark.parametrize(("key", "netrc_text", "expected"), [
    ("abc", "", True), (None, "", False), (None, "machine api.wandb.ai login user password abc\n", True),
])  # fmt: skip
def test_wandb_account(folder, monkeypatch, key, netrc_text, expected):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    (folder / "netrc").write_text(netrc_text)
    (folder / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    assert has_account() is expected


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("--distillation.alpha=3", r"^ValueError: alpha=3\.0 must be in \[0, 1\]"),
        (
            "--model.network=resnet10tt",
            r"^ValueError: network='resnet10tt' is no timm model; near ones: resnet10t",
        ),
        ("--distillation.teacher.model=gone.ckpt", r"^FileNotFoundError: model='gone\.ckpt' does not exist"),
    ],
)
def test_a_wrong_value_gets_one_sentence_and_no_traceback(folder, override, sentence):
    config = yaml.safe_load(Path(DIGITS).read_text())
    config["distillation"]["init_args"]["teacher"] = {"model": "test_resnet", "pretrained": False}
    (folder / "digits.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit, match=sentence):
        main(["fit", "--config", "digits.yaml", override])


def test_a_bug_keeps_its_traceback(monkeypatch):
    def bug(args):
        raise KeyError("views")

    monkeypatch.setattr("lkd.lightning_cli.run", bug)
    with pytest.raises(KeyError):
        main(["fit", "--config", DIGITS])


def run_of(name, source):
    """A function of a module of this name."""
    scope = {"__name__": name}
    exec(source, scope)
    return scope["run"]


REFUSES = "def run(args):\n    raise ValueError('alpha=3 must be in [0, 1].')"
SHAPES = "import torch\ndef run(args):\n    torch.ones(2, 3) @ torch.ones(2, 3)"
NUMBER = "def run(args):\n    int('three')"
FILE = "def run(args):\n    open('gone.yaml')"
WRAPPED = "import torch\ndef run(args):\n    try:\n        torch.ones(2) @ torch.ones(3)\n    except RuntimeError as error:\n        raise ValueError('the sizes differ.') from error"


@pytest.mark.parametrize(
    ("module", "source", "says"),
    [
        ("lkd.federated.server.checks", REFUSES, r"ValueError: alpha=3 must be in \[0, 1\]."),
        ("lkd.losses.logit", WRAPPED, "ValueError: the sizes differ."),
        ("lkd.compare.reading", FILE, "FileNotFoundError: .*gone.yaml"),
    ],
)
def test_what_lkd_refuses_on_purpose_is_a_sentence(monkeypatch, module, source, says):
    monkeypatch.setattr("lkd.lightning_cli.run", run_of(module, source))
    with pytest.raises(SystemExit, match=says):
        main(["fit", "--config", DIGITS])


@pytest.mark.parametrize(
    ("module", "source", "kind"),
    [
        ("lkd.losses.logit", SHAPES, RuntimeError),  # a mistake of lkd's own
        ("lkd.compare.reading", NUMBER, ValueError),
        ("users_module", REFUSES, ValueError),  # of the user's own code
        ("lkdata", REFUSES, ValueError),
    ],
)
def test_a_mistake_in_code_keeps_its_traceback(monkeypatch, module, source, kind):
    monkeypatch.setattr("lkd.lightning_cli.run", run_of(module, source))
    with pytest.raises(kind):
        main(["fit", "--config", DIGITS])


def test_a_check_is_a_refusal(monkeypatch):
    """Of a range of an argument, wherever lkd looks at it."""
    monkeypatch.setattr(
        "lkd.lightning_cli.run", lambda args: lkd.losses.kd_loss(*torch.ones(2, 2, 3), temperature=0)
    )
    with pytest.raises(SystemExit, match="ValueError: temperature=0 must be above 0"):
        main(["fit", "--config", DIGITS])
