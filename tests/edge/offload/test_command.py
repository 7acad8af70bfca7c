"""`python cli.py offload`, from a configuration to a table."""

from pathlib import Path

import pytest
import yaml

from lkd.cli import main
from lkd.leaderboard import read_study
from lkd.models import MLP
from lkd.modules import Classifier

from ..export.test_command import CONFIG
from ..students import save

OFFLOAD = {
    "student": "student.yaml",
    "ckpt_path": "x.ckpt",
    "teacher": {"model": "teacher.ckpt"},
    "payload": {"format": "png"},
    "link": {"mbps": 5, "rtt_ms": 50, "loss": 0.01, "deadline_ms": 500},
    "fps": 2,
    "draws": 2,
    "budget": {"rate": 0.3},
}
NETWORK = {"class_path": "lkd.models.MLP", "init_args": {"features": 64, "classes": 10, "hidden": []}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A teacher that the command line has trained for an epoch."""
    folder = tmp_path_factory.mktemp("teacher")
    config = {**CONFIG, "model": {"class_path": "Classifier", "init_args": {"network": NETWORK}}}
    config["trainer"] = {**CONFIG["trainer"], "max_epochs": 1, "logger": False, "enable_progress_bar": False,
                         "enable_checkpointing": False}  # fmt: skip
    config |= {"distillation": None, "test_after_fit": False}
    (folder / "t.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(folder / "t.yaml"), f"--save_as={folder / 'teacher.ckpt'}"])
    return folder / "teacher.ckpt"


@pytest.fixture
def here(digits, teacher, tmp_path, monkeypatch):
    """A folder with configurations and both checkpoints."""
    monkeypatch.chdir(tmp_path)
    config = {**CONFIG, "model": {"class_path": "Classifier", "init_args": {"network": NETWORK}}}
    Path("student.yaml").write_text(yaml.safe_dump(config))
    Path("c.yaml").write_text(yaml.safe_dump(OFFLOAD))
    Path("teacher.ckpt").symlink_to(teacher)
    made = Classifier(MLP(64, 10))
    weights = digits[0].network.state_dict().values()
    made.network.load_state_dict(dict(zip(made.network.state_dict(), weights, strict=True)))
    save(made, "x.ckpt")


def test_a_cascade_from_its_configuration(here, capsys):
    main(["offload", "--config", "c.yaml", "--gate.class_path=lkd.edge.offload.Entropy", "--budget.rate=0.4"])
    said = capsys.readouterr().out
    assert "Operating point, entropy:" in said and "runs/one/offload/points.md" in said
    table = Path("runs/one/offload/points.md").read_text()
    assert "| device-only |" in table and "| oracle | 50 % |" in table
    assert not Path("x").exists()  # no run was begun
    main(["offload", "--config", "c.yaml", "--folder=out", "--tiles=null", "--link.rtt_ms=10"])
    assert Path("out/curves.png").is_file()
    study = read_study(Path("out"))
    assert study.command == "python cli.py offload --config c.yaml --folder=out --tiles=null --link.rtt_ms=10"
    assert study.metric == "acc" and {"device-only", "oracle, 50 %", "random, 10 %"} <= set(study.baselines)
    names = [row["method"] for row in study.rows]
    assert (
        "entropy, 20 %" in names and "entropy, 20 %" not in study.baselines and len(names) == len(set(names))
    )
    assert all(0 <= row["acc"] <= 1 and row["p95 ms"] >= 0 for row in study.rows if row["acc"] is not None)


def test_exported_files_are_handed_on(here, monkeypatch):
    found = {}
    monkeypatch.setattr("lkd.edge.offload.command._record", lambda *_: None)  # nothing is measured
    monkeypatch.setattr(
        "lkd.edge.offload.command.offload",
        lambda *args, **options: found.update(ckpt_path=args[2], **options),
    )
    main(["offload", "--config", "c.yaml", "--ckpt_path=null", "--exported=student.onnx", "--threads=2"])
    assert found["ckpt_path"] is None and found["exported"] == "student.onnx" and found["seed"] == 3
    main(["offload", "--config", "c.yaml", "--ckpt_path=null", "--exported={C1: a.onnx, C2: b.onnx}"])
    assert found["exported"] == {"C1": "a.onnx", "C2": "b.onnx"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget.kb=3"], "budget says rate=0.3, kb=3, and takes exactly one of"),
        (["--link.mbps=0"], "mbps=0.0 must be above 0"),
        (["--payload.quality=3"], "quality=3: png keeps every pixel"),
        (["--ckpt_path=gone.ckpt"], "ckpt_path='gone.ckpt' does not exist"),
        (["--ckpt_path=null"], "ckpt_path=None does not exist"),
        (["--exported=x.onnx"], "both ckpt_path='x.ckpt' and exported='x.onnx'"),
        (["--student=gone.yaml"], "student='gone.yaml' does not exist"),
        (["--metric=map"], "metric='map' is not among what is measured: acc"),
    ],
)
def test_mistakes_get_one_sentence(here, options, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["offload", "--config", "c.yaml", *options])
    assert message in str(ended.value) + capsys.readouterr().err


def test_the_verb_alone_says_what_it_needs():
    with pytest.raises(SystemExit, match="offload needs to know what to run: offload --config"):
        main(["offload"])
