"""What the machine lacks is one sentence, and a run goes on where it can."""

import csv
import errno
import os
import socket
import threading
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from lkd.cli import main, others_sentence
from lkd.one_table import carry_over
from lkd.wandb_account import go_offline_if_unreachable, has_account

DIGITS = str(Path(__file__).parents[1] / "configs/classification/digits.yaml")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "WANDB_API_KEY",
        "NETRC",
        "https_proxy",
        "HTTPS_PROXY",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fitt", "--config", DIGITS], r"no verb 'fitt'; did you mean 'fit'\?"),
        (["xyz"], "no verb 'xyz'; there are fit, validate, test"),
        (["fit"], r"fit needs to know what to run: fit --config CONFIG\.yaml"),
        (["compare"], r"compare needs to know what to run: compare COMPARISON\.yaml"),
    ],
)
def test_verbs(arguments, words):
    with pytest.raises(SystemExit, match=words) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is of machines without a GPU")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--trainer.accelerator=tpu", "needs a package that is not installed: .*torch_xla"),
        ("--trainer.accelerator=gpu", r"--trainer\.accelerator=auto takes what this machine has"),
        (
            "--trainer.logger=CometLogger",
            "needs a package that is not installed: .*comet",
        ),
    ],
)
def test_a_missing_device_and_a_missing_logger_are_sentences(option, words):
    with pytest.raises(SystemExit, match=words) as caught:
        main(["fit", "--config", DIGITS, "--distillation=null", option])
    assert "\n" not in str(caught.value)


def test_a_full_disk_and_a_closed_folder_are_sentences_and_a_bug_is_none():
    assert others_sentence(OSError(errno.ENOSPC, "No space left on device", "runs/metrics.csv")) == (
        "runs/metrics.csv cannot be written or read: No space left on device."
    )
    assert others_sentence(OSError(errno.EROFS, "Read-only file system", "x")).startswith("x cannot")
    assert others_sentence(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert others_sentence(ImportError("x")) is None and others_sentence(KeyError("x")) is None


def test_a_container_without_a_home_has_no_account(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    assert not has_account()


@pytest.mark.parametrize("content", ["password x\n", "what is this", b"\xff\xfe"])
def test_a_netrc_that_cannot_be_read_is_said_to_be_so(folder, monkeypatch, caplog, content):
    (folder / "netrc").write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    assert not has_account() and "The netrc file cannot be read" in caplog.text


@pytest.mark.parametrize("answers", [True, False])
def test_wandb_runs_offline_where_its_server_does_not_answer(monkeypatch, caplog, answers):
    monkeypatch.setenv("WANDB_MODE", "x")
    monkeypatch.delenv("WANDB_MODE")  # both, so that it is put back
    with socket.create_server(("127.0.0.1", 0)) as server:
        if answers:
            threading.Thread(target=server.accept, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        if not answers:
            server.close()
        go_offline_if_unreachable()
    assert (os.environ.get("WANDB_MODE") == "offline") is not answers
    assert ("cannot be reached" in caplog.text) is not answers
    monkeypatch.delenv("WANDB_MODE", raising=False)


def test_behind_a_proxy_nothing_is_concluded(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    go_offline_if_unreachable()
    assert "WANDB_MODE" not in os.environ


def rows(file):
    with open(file, newline="") as opened:
        return [(int(row["step"]), row["loss"]) for row in csv.DictReader(opened)]


@pytest.mark.parametrize("version", [None, 0])
def test_a_run_that_goes_on_has_one_table(folder, caplog, version):
    """With a fixed version, CSVLogger deletes the table that is there."""
    first = CSVLogger("runs", name="x")
    for step in range(4):
        first.log_metrics({"loss": step / 2, "epoch": 0}, step)
    first.save()
    checkpoint = Path(first.log_dir) / "checkpoints" / "a.ckpt"
    second = CSVLogger("runs", name="x", version=version)
    carry_over(Trainer(logger=second, accelerator="cpu"), checkpoint, 2)
    second.log_metrics({"loss": 9.0, "lr": 1.0}, 3)
    second.save()
    assert rows(Path(second.log_dir) / "metrics.csv") == [(0, "0.0"), (1, "0.5"), (2, "1.0"), (3, "9.0")]
    assert (version == 0) is (Path(first.log_dir) == Path(second.log_dir))


def test_without_a_table_it_is_said_where_this_one_begins(folder, caplog):
    with caplog.at_level("INFO", "lkd"):
        carry_over(Trainer(logger=CSVLogger("runs"), accelerator="cpu"), folder / "a.ckpt", 7)
    assert "begins at step 7" in caplog.text
