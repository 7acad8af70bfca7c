"""TradeoffLog: figures against models evaluated here and counts by hand; it changes no training."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lkd.callbacks import ClientReport, TradeoffLog
from lkd.callbacks.everywhere import measured
from lkd.callbacks.exchanged import Exchanged
from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import SCARLET, Centralized, FedAvg, Federation, FedMD, FedProto, Local, LocalTraining
from lkd.federated.protocol.messages import Message, Reply
from lkd.models import MLP
from lkd.modules import Classifier

from .federation import data, federation, fit
from .plain import quick_trainer, seeded

WEIGHTS = 64 * 8 + 8 + 8 * 10 + 10
FORWARD = 2 * (64 * 8 + 8 * 10)


def run(tmp_path, algorithm=None, rounds=2, datamodule=None, callbacks=(), test=True, module=None, **kwargs):
    log = TradeoffLog(folder=str(tmp_path), **kwargs)
    module, datamodule = module or federation(algorithm), datamodule or data(public=0.2)
    trainer = fit([log, *callbacks], rounds, module, datamodule, limit_val_batches=0)
    if test:
        trainer.test(module, datamodule=datamodule, verbose=False)
    return json.loads((tmp_path / "tradeoff.json").read_text()), module, datamodule


def accuracy(model, batches):
    hits = [(model(x).argmax(1) == y).float() for x, y in batches]
    return float(torch.cat(hits).mean())


def test_fedavg_has_one_model_for_everybody(tmp_path):
    result, module, datamodule = run(tmp_path)
    last = result["curve"][-1]
    by_hand = accuracy(module.model.eval(), datamodule.test_dataloader())
    assert [point["round"] for point in result["curve"]] == [1, 2]
    assert last["metrics"]["test/acc"] == pytest.approx(by_hand) == result["final"]["test/acc"]
    for which in ("mean", "worst", "best"):
        assert last["metrics"][f"shared/test/acc/{which}"] == pytest.approx(by_hand)
    assert last["metrics"]["shared/test/acc/std"] == 0
    assert last["bytes_up"] == module.bytes_up and last["bytes_down"] == module.bytes_down
    assert result["weights"] == WEIGHTS and result["exchanged"]["weights_up"] == 2 * 4 * WEIGHTS
    assert result["exchanged"]["turns"] == 8 and result["exchanged"]["told"] == 0
    assert result["curve"][0]["seconds"] < last["seconds"] == result["seconds"]
    assert result["peak_memory_mb"] > 10 and result["federation"] and result["algorithm"] == "FedAvg"


def test_a_cache_is_told_of_with_what_traveled(tmp_path):
    """With `duration=1` the second round is answered from the cache: nothing is told, and what is sent are flags."""
    result, module, datamodule = run(tmp_path, SCARLET(1, samples=None, epochs=1, server_epochs=0))
    public = len(datamodule.clients.public)
    assert result["cache"] == module.cache.rates() and result["cache"]["hit_rate"] == 0.5
    counts = result["exchanged"]
    assert counts["told"] == 4 * 10 * public and counts["told_samples"] == 4 * public
    assert counts["sent"] == 4 * (10 + 1) * public and counts["sent_samples"] == 2 * 4 * public
    assert run(tmp_path)[0]["cache"] == {}


def test_a_question_of_some_samples_is_no_answer(tmp_path):
    """Two samples are asked for by a flag for each of all: more flags than samples, and still nothing is sent of them."""
    made = SCARLET(9, samples=None, epochs=1, server_epochs=0)
    targets = made.targets

    def forgetful(server, numbers):
        made._cache(server).ages[:2] = -1
        return targets(server, numbers)

    made.targets = forgetful
    result, _, datamodule = run(tmp_path, made)
    public, counts = len(datamodule.clients.public), result["exchanged"]
    assert counts["told_samples"] == 4 * (public + 2) and counts["sent_times"] == 2 * 4
    assert counts["sent"] == 4 * (10 * public + 2 * 10 + public)


def test_flops_are_those_of_training(tmp_path):
    result, _, datamodule = run(tmp_path)
    samples = sum(datamodule.clients[i].num_samples for i in range(4))
    assert result["flops"] == 2 * samples * 3 * FORWARD == 2 * result["curve"][0]["flops"]
    assert run(tmp_path, flops=False)[0]["flops"] is None


def test_clients_without_a_server_have_models_of_their_own(tmp_path):
    result, module, datamodule = run(tmp_path, Local(), rounds=3, every=2)
    assert [point["round"] for point in result["curve"]] == [2, 3]
    metrics = result["curve"][-1]["metrics"]
    assert not any(name.startswith("test/") for name in (*metrics, *result["final"]))
    clients = [datamodule.clients[i] for i in range(4)]
    shared, own = {}, {}
    for client, model in module.models(clients):
        shared[client.id] = accuracy(model, datamodule.test_dataloader())
        own[client.id] = accuracy(model, client.ordered_batches("test"))
    assert len(set(shared.values())) > 1
    for kind, found in (("shared", shared), ("clients", own)):
        assert {row["client"]: row[kind]["test/acc"] for row in result["clients"]} == pytest.approx(found)
        assert metrics[f"{kind}/test/acc/mean"] == pytest.approx(sum(found.values()) / 4)
        assert metrics[f"{kind}/test/acc/worst"] == pytest.approx(min(found.values()))


def test_own_data_as_client_report_measures_it(tmp_path):
    report = ClientReport(part="test", folder=str(tmp_path / "other"))
    result, _, _ = run(tmp_path, callbacks=[report])
    mine = {row["client"]: row["clients"]["test/acc"] for row in result["clients"]}
    assert mine == pytest.approx({row["client"]: row["test/acc"] for row in report.rows})


def test_values_of_a_public_sample_are_counted(tmp_path):
    algorithm = FedMD(samples=50, epochs=3, batch_size=16, warmup=1)
    result, module, datamodule = run(tmp_path, algorithm, rounds=3)
    counts = result["exchanged"]
    assert counts["told_samples"] == counts["sent_samples"] == 2 * 4 * 50  # two rounds of exchange
    assert counts["told"] == counts["sent"] == 10 * counts["told_samples"]
    assert counts["told_times"] == 8 and counts["turns"] == 12
    assert counts["weights_up"] == counts["weights_down"] == 0
    assert "exchange" not in vars(module.engine) and "batches" not in vars(datamodule.clients.public)


def test_samples_that_nobody_looks_at_do_not_count():
    class Public:
        def batches(self, rows, batch_size):
            return (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))

        labeled = batches

    class Engine:
        def require_shared_memory(self, who):
            pass

        def exchange(self, verb, messages, timeout=None):
            for client in messages:
                if verb == "look":
                    batches = public.batches(range(10), 4)
                    found = [next(batches) for _ in range(client)]
                    assert sum(map(len, found)) == min(10, 4 * client)
                yield Reply(client=client, knowledge={"a": torch.zeros(5)} if verb == "look" else {})

    public, watched = Public(), SimpleNamespace(engine=Engine())
    exchanged, clients = Exchanged(), range(4)
    exchanged.watch(watched, public)
    for verb in ("look", "train"):
        message = Message(knowledge={"b": torch.zeros(3)})
        assert len(list(watched.engine.exchange(verb, dict.fromkeys(clients, message)))) == 4
    assert exchanged.counts["told"] == 15 and exchanged.counts["told_samples"] == 4 + 8 + 10
    assert exchanged.counts["told_times"] == 3
    assert exchanged.counts["sent"] == 0  # three values ask for four samples or more
    assert exchanged.counts["knowledge_up"] == 20 and exchanged.counts["knowledge_down"] == 24


def test_samples_that_are_looked_at_again_count_once_where_all_travels_in_one_message():
    """As CreamFL's do: two epochs on what the server says of 6 samples, then a pass to tell one's own."""

    class Public:
        def batches(self, rows, batch_size):
            return (rows[i : i + batch_size] for i in range(0, len(rows), batch_size))

        labeled = batches

    class Engine:
        def require_shared_memory(self, who):
            pass

        def exchange(self, verb, messages, timeout=None):
            for client in messages:
                for _ in range(3):
                    list(public.batches(np.array([3, 1, 4, 5, 9, 2]), 4))
                yield Reply(client=client, knowledge={"z": torch.zeros(6, 64)})

    public, watched = Public(), SimpleNamespace(engine=Engine())
    exchanged = Exchanged()
    exchanged.watch(watched, public)
    message = Message(knowledge={"z": torch.zeros(6, 128)})
    list(watched.engine.exchange("train", {0: message}))
    counts = exchanged.counts
    assert counts["told"] / counts["told_samples"] == 64 and counts["sent"] / counts["sent_samples"] == 128


def test_prototypes_are_of_no_public_sample(tmp_path):
    counts = run(tmp_path, FedProto("network.layers.2", classes=10))[0]["exchanged"]
    assert counts["told_samples"] == counts["sent_samples"] == 0
    assert counts["knowledge_up"] == 2 * 4 * (10 * 8 + 10)


def test_personal_layers_are_measured_with_their_client(tmp_path):
    module = federation(personal_layers=["network.layers.3"])
    result, module, datamodule = run(tmp_path, module=module)
    found = {
        client.id: accuracy(model, datamodule.test_dataloader())
        for client, model in module.models([datamodule.clients[i] for i in range(4)])
    }
    assert {row["client"]: row["shared"]["test/acc"] for row in result["clients"]} == pytest.approx(found)
    assert len(set(found.values())) > 1


def two(hidden):
    network = seeded(1, lambda: MLP(64, 10, hidden=[hidden]))
    return Classifier(network, 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))


def test_weights_are_the_mean_over_the_clients_of_their_own(tmp_path):
    result, module, datamodule = run(
        tmp_path, module=federation(FedAvg(), other_models=[two(4)], client_models=[0, 0, 0, 1])
    )
    small = 64 * 4 + 4 + 4 * 10 + 10
    assert result["weights"] == (3 * WEIGHTS + small) / 4
    shared = {row["client"]: row["shared"]["test/acc"] for row in result["clients"]}
    assert shared[0] == shared[1] == shared[2] != shared[3]
    assert shared[3] == pytest.approx(accuracy(module.other_models[0].eval(), datamodule.test_dataloader()))


def test_training_is_what_it_is_without(tmp_path):
    states = []
    for callbacks in ([], [TradeoffLog(folder=str(tmp_path))]):
        module = federation(FedMD(samples=50, batch_size=16))
        fit(callbacks, 2, module, data(public=0.2))
        states.append({i: module.engine.host.store.get(i) for i in range(4)})
    flat = [[t for i in range(4) for g in state[i].values() for t in g.values()] for state in states]
    assert flat[0] and all(torch.equal(a, b) for a, b in zip(*flat, strict=True))


def test_a_resumed_run_has_the_whole_curve(tmp_path):
    def go(rounds, folder, ckpt_path=None):
        log = TradeoffLog(folder=str(tmp_path / folder))
        keep = ModelCheckpoint(tmp_path / folder, save_last=True)
        fit([log, keep], rounds, federation(), ckpt_path=ckpt_path, enable_checkpointing=True)
        return log.result

    whole, _ = go(3, "whole"), go(2, "part")
    resumed = go(3, "resumed", tmp_path / "part/last.ckpt")
    assert [p["round"] for p in resumed["curve"]] == [1, 2, 3]
    for name in ("flops", "bytes_up", "exchanged"):
        assert resumed[name] == whole[name]
    assert resumed["curve"][-1]["metrics"] == pytest.approx(whole["curve"][-1]["metrics"])


def test_validation_data_without_any_of_the_clients_own(tmp_path):
    datamodule = FederatedDataModule(Digits(batch_size=32, fractions=(0.2, 0.1, 0.7)), IID(), 4)
    result, module, _ = run(tmp_path, Centralized(), datamodule=datamodule, part="val", test=False)
    metrics = result["curve"][-1]["metrics"]
    assert metrics["val/acc"] == pytest.approx(accuracy(module.model.eval(), datamodule.val_dataloader()))
    assert not any(name.startswith("clients/") for name in metrics)
    assert result["final"] == {} and result["clients"][0]["clients"] == {}


def test_no_more_clients_than_the_limit_and_always_the_same(tmp_path):
    who = [[row["client"] for row in run(tmp_path, limit=2, test=False)[0]["clients"]] for _ in range(2)]
    assert who[0] == who[1] and len(who[0]) == 2


def test_a_module_without_clients(tmp_path):
    log, digits = TradeoffLog(folder=str(tmp_path), part="val"), Digits(batch_size=64)
    module = Classifier(MLP(64, 10, hidden=[8]), 10)
    trainer = quick_trainer(max_epochs=2, callbacks=[log], logger=CSVLogger(tmp_path, "run"))
    trainer.fit(module, digits)
    trained = len(digits.train_dataloader().dataset)
    trainer.test(module, digits, verbose=False)
    result = json.loads((tmp_path / "tradeoff.json").read_text())
    assert [point["round"] for point in result["curve"]] == [1, 2]
    assert result["curve"][-1]["metrics"]["val/acc"] > 0 and result["final"]["test/acc"] > 0
    assert not result["federation"] and result["weights"] == WEIGHTS and result["bytes_up"] == 0
    assert result["flops"] == 2 * trained * 3 * FORWARD


def test_an_interrupted_fit_counts_no_more(tmp_path):
    class Breaks(LocalTraining):
        def draw(self, *args):
            raise KeyError("broken")

    log, module = TradeoffLog(folder=str(tmp_path)), federation(local=Breaks())
    with pytest.raises(KeyError):
        fit([log], 1, module, data(public=0.2))
    assert "exchange" not in vars(module.engine) and not (tmp_path / "tradeoff.json").exists()
    before = log.costs.flops.total
    torch.nn.Linear(3, 2)(torch.zeros(1, 3))
    assert log.costs.flops.total == before


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"every": 0}, "every=0"), ({"limit": 0}, "limit=0"), ({"part": "train"}, "'train'")],
)
def test_wrong_options(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        TradeoffLog(**given)


def test_what_nobody_has_a_finite_value_of_was_measured_all_the_same(tmp_path, monkeypatch):
    """Else a method whose clients have all diverged would look as if it had no such metric."""
    evaluate = Federation.evaluate

    def broken(self, clients, part="val"):
        records = evaluate(self, clients, part)
        for record in records:
            record.metrics["test/loss"] = math.nan
        return records

    monkeypatch.setattr(Federation, "evaluate", broken)
    result = run(tmp_path, Local(), rounds=1)[0]
    metrics = result["curve"][-1]["metrics"]
    assert metrics["clients/test/loss/mean"] is metrics["shared/test/loss/worst"] is None
    assert 0 <= metrics["clients/test/acc/mean"] <= 1
    assert {client["clients"]["test/loss"] for client in result["clients"]} == {None}


class Hooked(Classifier):
    """Notes which hooks of a test are called, and on what."""

    def __init__(self):
        super().__init__(MLP(64, 10, hidden=[8]))
        self.seen = []


def _noting(name):
    def hook(self, *args):
        self.seen.append((name, *(a for a in args if isinstance(a, int))))

    return hook


for _name in ("start", "epoch_start", "batch_start", "batch_end", "epoch_end", "end"):
    setattr(Hooked, f"on_test_{_name}", _noting(_name))


def test_a_model_is_measured_as_the_trainer_tests_it_hooks_included(tmp_path):
    digits = Digits(batch_size=200)
    digits.setup("test")
    module, trainer = Hooked().train(), quick_trainer(default_root_dir=tmp_path)
    (tested,) = trainer.test(module, digits.test_dataloader(), verbose=False)
    by_trainer, module.seen = module.seen, []
    found = measured(module.train(), digits.test_dataloader(), "test", trainer)
    assert found == pytest.approx(tested)
    assert module.training and "log" not in vars(module)
    assert [event[:2] for event in by_trainer] == module.seen and len(module.seen) > 6
