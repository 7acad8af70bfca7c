"""ClientReport: figures against models evaluated here, counts, resume, samples of a large population."""

import copy
import csv
import json
from unittest.mock import MagicMock, PropertyMock

import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader

from lkd.callbacks import ClientReport
from lkd.callbacks.clients import summary
from lkd.federated import SCARLET, Local
from lkd.federated.client.verbs import OWN

from .federation import Flaky, data, federation, fit
from .plain import Plain, digits, quick_trainer


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def accuracy(module, client, part):
    """Of a client's model on its own data, computed without the federation."""
    own = copy.deepcopy(module.model).eval()
    state = own.state_dict()
    state.update(module.engine.host.store.get(client.id).get(OWN, {}))
    own.load_state_dict(state)
    with torch.no_grad():
        hits = [own(x).argmax(1) == y for x, y in client.ordered_batches(part)]
    return float(torch.cat(hits).float().mean())


@pytest.mark.parametrize("algorithm", [None, Local()], ids=["shared", "personal"])
def test_rows_and_spread_are_those_of_the_clients_own_models(tmp_path, algorithm):
    module, datamodule = federation(algorithm), data()
    report = ClientReport(folder=str(tmp_path / "out"))
    trainer = fit([report], 3, module, datamodule)
    truth = [accuracy(module, datamodule.clients[i], "val") for i in range(4)]
    assert len(set(truth)) > 1
    rows = read(tmp_path / "out/clients.csv")
    assert [float(row["val/acc"]) for row in rows] == pytest.approx(truth)
    assert [int(row["samples"]) for row in rows] == [
        client.num_samples for client in datamodule.clients[[0, 1, 2, 3]]
    ]
    assert [row["rounds"] for row in rows] == ["3"] * 4 and {row["failures"] for row in rows} == {"0"}
    assert sum(int(row["bytes_up"]) for row in rows) == module.bytes_up
    assert sum(int(row["bytes_down"]) for row in rows) == module.bytes_down
    logged = {
        name: float(trainer.callback_metrics[f"clients/val/acc/{name}"])
        for name in ("mean", "best", "worst", "std")
    }
    assert logged == pytest.approx(
        {"mean": np.mean(truth), "best": max(truth), "worst": min(truth), "std": np.std(truth)}
    )
    losses = [float(row["val/loss"]) for row in rows]
    assert float(trainer.callback_metrics["clients/val/loss/best"]) == pytest.approx(min(losses))
    assert len((tmp_path / "out/clients.md").read_text().splitlines()) == 6


def test_what_a_cache_was_good_for_is_told_by_client(tmp_path):
    """Also by a report that goes on from a checkpoint; without a cache there are no such columns."""
    module, report = federation(SCARLET(1, samples=None, epochs=1)), ClientReport(folder=str(tmp_path))
    saver = ModelCheckpoint(tmp_path / "half")
    fit([ClientReport(folder=str(tmp_path)), saver], 1, module, data(public=0.2), enable_checkpointing=True)
    module = federation(SCARLET(1, samples=None, epochs=1))
    fit([report], 2, module, data(public=0.2), saver.best_model_path)
    rows = read(tmp_path / "clients.csv")
    assert [float(row["cache/hit_rate"]) for row in rows] == [0.5] * 4
    assert [float(row["cache/age"]) for row in rows] == [1.0] * 4
    assert sum(float(row["cache/bytes_saved"]) for row in rows) == module.cache.bytes_saved > 0
    assert "cache/acc_hits" not in rows[0]
    fit([ClientReport(folder=str(tmp_path / "plain"))], 1)
    assert not any("cache" in name for name in read(tmp_path / "plain/clients.csv")[0])


def test_measuring_leaves_training_as_it_is(tmp_path):
    alone, watched = federation(), federation()
    fit([], 3, alone)
    fit([ClientReport(folder=str(tmp_path))], 3, watched)
    for name, tensor in alone.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name]), name


def test_failures_are_counted_by_client(tmp_path):
    report = ClientReport(folder=str(tmp_path))
    with pytest.warns(UserWarning, match="client 1 failed"):
        fit([report], 2, federation(module=Flaky), data(spoil=True))
    assert [(row["rounds"], row["failures"]) for row in report.rows] == [(2, 0), (0, 2), (2, 0), (2, 0)]
    assert report.rows[1]["bytes_up"] == 0 < report.rows[1]["bytes_down"]


def test_counts_survive_a_resume(tmp_path):
    def run(folder, rounds, ckpt_path=None):
        report = ClientReport(every=2, folder=str(tmp_path / "report"))
        saver = ModelCheckpoint(tmp_path / folder, save_top_k=-1)
        trainer = fit([report, saver], rounds, None, data(cohort=2), ckpt_path, enable_checkpointing=True)
        for row in report.rows:
            del row["seconds"]
        return report.rows, trainer.checkpoint_callback.best_model_path

    whole, _ = run("whole", 5)
    _, path = run("half", 3)
    resumed, _ = run("half", 5, path)
    assert resumed == whole and sum(row["rounds"] for row in whole) == 10


class Counting:
    """Counts what `evaluate` is asked."""

    def __init__(self, module):
        self.calls, self.inner = [], module.evaluate
        module.evaluate = self

    def __call__(self, clients, part):
        self.calls.append((self.inner.__self__.global_step, [client.id for client in clients], part))
        return self.inner(clients, part)


@pytest.mark.parametrize(("every", "rounds"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_every_so_many_rounds_and_after_the_last(tmp_path, every, rounds):
    module = federation()
    calls = Counting(module).calls
    fit([ClientReport(every=every, folder=str(tmp_path))], 5, module)
    assert [call[0] for call in calls] == rounds
    calls.clear()
    fit(
        [ClientReport(every, folder=str(tmp_path))], 5, module, limit_val_batches=0
    )  # without a validation, too
    assert [call[0] for call in calls] == rounds


def test_of_many_clients_the_same_few_are_measured(tmp_path):
    module, report = federation(), ClientReport(limit=5, folder=str(tmp_path))
    calls = Counting(module).calls
    fit([report], 3, module, data(clients=60, cohort=2, fractions=(0.5, 0.25, 0.25)))
    chosen = calls[0][1]
    assert len(set(chosen)) == 5 and chosen == sorted(chosen) != [0, 1, 2, 3, 4]
    assert [call[1] for call in calls] == [chosen] * 3
    listed = {row["client"]: row for row in report.rows}
    assert set(chosen) <= set(listed) and len(listed) <= 5 + 3 * 2
    for client, row in listed.items():
        assert np.isfinite(row["val/acc"]) == (client in chosen)
        assert client in chosen or row["rounds"]


def test_a_test_run_measures_test_data_also_in_a_new_process(tmp_path):
    module, datamodule = federation(Local()), data()
    first = ClientReport(folder=str(tmp_path / "first"))
    trainer = fit([first, ModelCheckpoint(tmp_path)], 2, module, datamodule, enable_checkpointing=True)
    path = trainer.checkpoint_callback.best_model_path
    trainer.test(module, datamodule=datamodule, verbose=False)
    truth = [accuracy(module, datamodule.clients[i], "test") for i in range(4)]
    assert [row["test/acc"] for row in first.rows] == pytest.approx(truth)
    assert float(trainer.callback_metrics["clients/test/acc/worst"]) == pytest.approx(min(truth))
    assert {"val/acc", "test/acc"} <= set(read(tmp_path / "first/clients.csv")[0])

    second = ClientReport(folder=str(tmp_path / "second"))
    quick_trainer(callbacks=[second]).test(
        federation(Local()), datamodule=data(), ckpt_path=path, verbose=False
    )
    assert [row["test/acc"] for row in second.rows] == pytest.approx(truth)


def test_a_checkpoint_may_depend_on_the_worst_client(tmp_path):
    saver = ModelCheckpoint(tmp_path, monitor="clients/val/acc/worst", mode="max", filename="{step}")
    fit([ClientReport(folder=str(tmp_path)), saver], 3, enable_checkpointing=True)
    assert float(saver.best_model_score) > 0


def test_clients_without_data_of_their_own_are_said_so(tmp_path):
    report = ClientReport(folder=str(tmp_path))
    with pytest.warns(UserWarning, match="no client has val data of its own"):
        fit([report], 1, datamodule=data(fractions=(1.0, 0.0, 0.0)))
    assert [row["rounds"] for row in report.rows] == [1] * 4 and "val/acc" not in report.rows[0]


def test_metrics_that_do_not_compare_are_left_out(tmp_path):
    report = ClientReport(folder=str(tmp_path), metrics=["*/acc"])
    run = fit([report], 1, federation())
    assert "val/acc" in report.rows[0] and "val/loss" not in report.rows[0]
    assert (
        "clients/val/acc/worst" in run.callback_metrics
        and "clients/val/loss/worst" not in run.callback_metrics
    )
    with pytest.raises(
        ValueError, match=r"metrics=\['val/f1'\]: clients log none of these in val, only val/loss"
    ):
        fit([ClientReport(folder=str(tmp_path), metrics=["val/f1"])], 1, federation())


def test_the_table_reaches_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(project="test", save_dir=tmp_path)
    report = ClientReport(folder=str(tmp_path / "report"))
    fit([report], 1, logger=logger)
    stored, folder = dict(logger.experiment.summary), logger.experiment.dir
    wandb.finish()
    table = json.loads((tmp_path / folder / stored["report/clients"]["path"]).read_text())
    assert table["columns"] == list(report.rows[0]) and len(table["data"]) == 4
    assert "clients/val/acc/worst" in stored


def test_every_rank_asks_for_the_log_folder(tmp_path):
    """Lightning broadcasts it, so a rank that does not ask leaves the first one waiting for ever."""
    report, second = ClientReport(), MagicMock(is_global_zero=False, loggers=[])
    asked = PropertyMock(return_value=str(tmp_path / "second"))
    type(second).log_dir = asked
    report._measured = 1
    report.on_train_end(second, MagicMock(global_step=1))
    asked.assert_called()
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(("values", "best", "worst"), [
    ({"val/acc": [0.2, 0.8]}, 0.8, 0.2), ({"val/loss": [0.2, 0.8]}, 0.2, 0.8), ({"val_mse": [1.0, 2.0]}, 1.0, 2.0),
    ({"val/map50": [0.5, float("nan")]}, 0.5, 0.5),
])  # fmt: skip
def test_what_is_best(values, best, worst):
    ((name, pair),) = values.items()
    (row,) = summary({"a": {name: pair[0]}, "b": {name: pair[1]}, "c": {}})
    assert (row["best"], row["worst"]) == (best, worst)


def test_bad_input(tmp_path):
    for wrong in ({"every": 0}, {"limit": 0}):
        with pytest.raises(ValueError, match="must be 1 or more"):
            ClientReport(**wrong)
    with pytest.raises(ValueError, match="part='train'"):
        ClientReport(part="train")
    with pytest.raises(ValueError, match="not Plain"):
        quick_trainer(callbacks=[ClientReport()]).fit(Plain(), digits())
    with pytest.raises(ValueError, match="needs a datamodule with `clients`"):
        quick_trainer(callbacks=[ClientReport()]).fit(federation(), DataLoader([0]))


def test_a_prediction_measures_nothing_and_needs_no_clients():
    trainer = quick_trainer(callbacks=[ClientReport()])
    datamodule = data()
    datamodule.predict_dataloader = lambda: DataLoader(torch.zeros(4, 1, 8, 8), batch_size=2)
    assert len(trainer.predict(federation(), datamodule=datamodule)) == 2
