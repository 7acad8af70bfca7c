"""The ranking of losses on generated pictures: every loss runs, a second call repeats nothing, the table adds up."""

import csv
import importlib.util
import tarfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

PATH = Path(__file__).parents[1] / "benchmarks/rank_losses.py"


@pytest.fixture
def ranking(monkeypatch):
    spec = importlib.util.spec_from_file_location("rank_losses", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # multiples of 8: with channels last and fewer, torch 2.14 writes past its memory on processors with AVX2 alone
    monkeypatch.setattr(module, "TEACHER", {"depth": 8, "channels": (8, 8, 16, 16)})
    monkeypatch.setattr(module, "STUDENT", {"depth": 8, "channels": (8, 8, 8, 8)})
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # the suite's own
    return module


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "pictures.tar", "w") as tar:
        for part, label, number in product(("train", "test"), range(3), range(24)):
            pixels = rng.integers(0, 80, (32, 32, 3), dtype=np.uint8) + 80 * np.eye(3, dtype=np.uint8)[label]
            Image.fromarray(pixels).save(tmp_path / "one.png")
            tar.add(tmp_path / "one.png", f"{part}/class{label}/{number}.png")
    return tmp_path / "pictures.tar"


def rows(folder):
    with (folder / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_loss_once(ranking, pictures, tmp_path, capsys):
    call = [
        f"--root={pictures}",
        f"--folder={tmp_path / 'out'}",
        "--epochs=1",
        "--teacher_epochs=1",
        "--seeds",
        "0",
    ]
    ranking.main(call)
    found = rows(tmp_path / "out")
    assert [row["loss"] for row in found] == [ranking.NONE, *ranking.LOSSES] and len(found) > 12
    assert all(0 <= float(row["accuracy"]) <= 1 for row in found)
    table = (tmp_path / "out/table.md").read_text()
    assert all(f"| {name} |" in table for name in ranking.LOSSES) and table in capsys.readouterr().out
    ranking.main([*call, "1", "--losses", "KD"])
    again = rows(tmp_path / "out")
    assert again[:-1] == found and (again[-1]["loss"], again[-1]["seed"]) == ("KD", "1")


def test_a_run_depends_on_its_seed_alone(ranking, pictures):
    data = ranking.load(str(pictures))
    source = ranking.teacher(data, pictures.parent / "teacher.pt", 1, 0.1)
    before = {name: value.clone() for name, value in source.state_dict().items()}
    first = ranking.run("KD", 3, source, data, 2, 0.1)
    ranking.run("FitNets", 4, source, data, 1, 0.1)
    assert ranking.run("KD", 3, source, data, 2, 0.1) == first
    assert all(torch.equal(value, before[name]) for name, value in source.state_dict().items())


def test_summary_by_hand(ranking):
    given = [("none", 0, 0.5), ("none", 1, 0.54), ("KD", 0, 0.56), ("KD", 1, 0.58), ("AT", 1, 0.53)]
    given = [(ranking.NONE if name == "none" else name, seed, value) for name, seed, value in given]
    made = [{"loss": name, "seed": str(seed), "accuracy": str(value)} for name, seed, value in given]
    table = ranking.summary(made, 0.7)
    assert [row["Loss"] for row in table] == ["(the teacher)", "KD", "AT", ranking.NONE]
    assert [row["accuracy"] for row in table] == ["70.0", "57.0 ± 1.4", "53.0", "52.0 ± 2.8"]
    assert [row["gain"] for row in table] == ["", "+5.0 ± 1.4", "-1.0", ""]  # seed by seed
    lost = [*made, {"loss": "SP", "seed": "0", "accuracy": "nan"}]
    assert ranking.summary(lost, 0.7)[-1] == {"Loss": "SP", "seeds": 0, "accuracy": "diverged", "gain": ""}
