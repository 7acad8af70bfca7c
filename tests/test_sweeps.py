"""The command lines that W&B's agent makes of the sweep files are built by W&B's own code, and run."""

from itertools import product
from pathlib import Path

import pytest
import torch
import wandb
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from lkd.cli import main

ROOT = Path(__file__).parents[1]
SWEEPS = sorted((ROOT / "configs/sweeps").glob("*.yaml"))


def command_lines(path):
    """What the agent would run for every point of a grid sweep."""
    sweep = load_sweep_config(str(path))
    grid = {name: spec["values"] for name, spec in sweep["parameters"].items()}
    for values in product(*grid.values()):
        chosen = {name: {"value": value} for name, value in zip(grid, values, strict=True)}
        args = create_sweep_command_args({"args": chosen})["args"]
        command = create_sweep_command(sweep["command"])
        known = {"${env}": ["/usr/bin/env"], "${program}": [sweep["program"]], "${args}": args}
        yield [word for part in command for word in known.get(part, [part])], chosen


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_point_is_a_valid_command_line(path):
    lines = list(command_lines(path))
    assert len(lines) > 1
    for words, _ in lines:
        assert words[:4] == ["/usr/bin/env", "python", "cli.py", "fit"]
        assert not [w for w in words if w.startswith("${")]
        assert words.index("--config") < min(i for i, w in enumerate(words) if "=" in w)


def test_a_command_line_of_the_agent_runs_with_its_values(tmp_path, monkeypatch):
    words, chosen = list(command_lines(ROOT / "configs/sweeps/digits.yaml"))[-1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    quick = [
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
    ]
    teacher = [
        "--config",
        "configs/classification/digits_teacher.yaml",
        "--model.network=test_resnet",
        *quick,
    ]
    main(["fit", *teacher])  # so that the sweep's own run does not train the large one
    main([*words[3:], *quick])
    config = dict(wandb.run.config)
    wandb.finish()
    init_args = config["cli"]["distillation"]["init_args"]
    assert init_args["alpha"] == chosen["distillation.alpha"]["value"]
    assert init_args["temperature"] == chosen["distillation.temperature"]["value"]
    lr = config["cli"]["model"]["init_args"]["optimizer"]["init_args"]["lr"]
    assert lr == chosen["model.optimizer.init_args.lr"]["value"]
    saved = next(tmp_path.glob("runs/digits/*/checkpoints/*.ckpt"))
    groups = torch.load(saved, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert groups[0]["lr"] == pytest.approx(lr)


def test_a_sweep_over_algorithms_runs_with_its_values(tmp_path, monkeypatch):
    words, chosen = list(command_lines(ROOT / "configs/sweeps/algorithms.yaml"))[-1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    main([*words[3:], "--trainer.max_epochs=1", "--test_after_fit=false", "--trainer.callbacks=null"])
    config = dict(wandb.run.config)["cli"]
    wandb.finish()
    assert config["model"]["init_args"]["algorithm"]["class_path"].endswith(
        chosen["model.algorithm"]["value"]
    )
    alpha = config["data"]["init_args"]["partition"]["init_args"]["alpha"]
    assert alpha == chosen["data.partition.init_args.alpha"]["value"]
    assert config["seed_everything"] == chosen["seed_everything"]["value"]
