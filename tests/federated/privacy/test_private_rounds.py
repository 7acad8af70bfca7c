"""Private rounds that can be written down: clipping, noise, denominators, and what is left of FedAvg without them."""

import csv
import itertools
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

pytest.importorskip("dp_accounting")

from lkd.callbacks import ClientProgress, RoundReport
from lkd.datamodules import (
    IID,
    FederatedDataModule,
    FixedSampler,
    PoissonSampler,
    Sampling,
    UniformSampler,
)
from lkd.federated import (
    MOON,
    ClientDP,
    FedAdam,
    FedAvg,
    Federation,
    FedNTD,
    FedProx,
    Int8,
    LocalTraining,
    SystemHeterogeneity,
    TopK,
)
from lkd.federated.engines import Auto, Loop, Stacked
from lkd.federated.privacy.clipping import clipped, length
from lkd.federated.protocol.messages import RefusalError, Reply
from lkd.federated.server.privacy_ledger import PrivacyLedger
from lkd.federated.server.records import TooFewClientsError
from lkd.models import MLP
from lkd.modules import Classifier
from tests.federated.engines.clients import Wrong
from tests.federated.job import Blobs
from tests.federated.privacy.rounds import RATE, cohorts, dp, federation, fit, noise_of, points
from tests.federated.quadratic import Quadratic, trainer


def test_a_round_by_hand():
    """Steps of 0, .05, .1 and .15 from 0, clipped to .07."""
    assert fit(dp(clip=0.07)).model.x.item() == pytest.approx((0 + 0.05 + 0.07 + 0.07) / 4, abs=1e-15)


def test_a_step_of_the_servers_optimizer_on_it():
    found = fit(dp(clip=0.07), server_optimizer=lambda params: FedAdam(params, lr=0.1, tau=0.1)).model.x
    mean = (0.05 + 0.07 + 0.07) / 4
    moment, square = 0.1 * mean, 0.99 * 0.01 + 0.01 * mean**2
    assert found.item() == pytest.approx(0.1 * moment / (math.sqrt(square) + 0.1), abs=1e-15)


def test_noise_of_the_right_length_on_the_mean():
    found = fit(dp(clip=0.07, noise_multiplier=2.0)).model.x.detach()
    mean = (0.05 + 0.07 + 0.07) / 4
    assert torch.allclose(found - mean, noise_of(0, 2.0 * 0.07 / 4), atol=1e-15)


def test_the_noises_deviation():
    size = 40_000
    found = fit(dp(clip=1e-3, noise_multiplier=3.0), points(4, size), module=Quadratic(size, RATE)).model.x
    expected = 3.0 * 1e-3 / 4
    assert found.std().item() == pytest.approx(expected, rel=4 / math.sqrt(2 * size))
    assert abs(found.mean().item()) < 4 * expected / math.sqrt(size) + 1e-3 / math.sqrt(size)


def test_rounds_and_seeds_draw_noise_of_their_own():
    """Noise that is a thousand times as long as what clients can change."""
    privacy, deviation = dp(clip=1e-6, noise_multiplier=1e3), 1e3 * 1e-6 / 4
    runs = [fit(privacy, rounds=r, seed=s).model.x.item() for r, s in ((1, 0), (2, 0), (1, 1))]
    assert runs[0] == pytest.approx(noise_of(0, deviation).item(), abs=2e-6)
    assert runs[1] - runs[0] == pytest.approx(noise_of(1, deviation).item(), abs=2e-6)
    assert runs[2] == pytest.approx(noise_of(0, deviation, seed=1).item(), abs=2e-6)
    drawn = [noise_of(0, deviation), noise_of(1, deviation), noise_of(0, deviation, seed=1)]
    assert min(abs(a - b).item() for a, b in itertools.combinations(drawn, 2)) > 1e-5


@pytest.mark.parametrize("algorithm", [FedAvg, FedProx])
@pytest.mark.parametrize("sampler", [None, UniformSampler(2), FixedSampler([1, 3])])
def test_without_clipping_and_noise_it_is_fedavg(algorithm, sampler):
    runs = [
        fit(privacy, sampler=sampler, rounds=3, algorithm=algorithm(weighting="uniform")).model.x
        for privacy in (dp(clip=math.inf), None)
    ]
    assert torch.equal(*runs)


def test_stacked_it_is_the_loops():
    found, loops = (
        fit(dp(clip=0.03, noise_multiplier=0.5), points(9), rounds=3, engine=engine).model.x
        for engine in (Stacked(), None)
    )
    assert torch.allclose(found, loops, atol=1e-12)


def test_clipping_is_of_all_weights_together():
    change = {"w": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([4.0])}
    assert length(clipped(change, 1.0)) == pytest.approx(1.0, rel=1e-6)
    assert clipped(change, 5.0) is change
    assert length(clipped({"w": torch.full((1000,), 1e30)}, 1.0)) == pytest.approx(1.0, rel=1e-6)
    assert length(clipped({"w": torch.full((3,), 3 + 4j)}, 2.0)) == pytest.approx(2.0, rel=1e-6)
    assert length({}) == 0.0 and length({"w": torch.zeros(0)}) == 0.0


def test_length_does_not_depend_on_how_numbers_lie():
    tensor = torch.randn(50, 70, generator=torch.Generator().manual_seed(0))
    assert length({"w": tensor}) == length({"w": tensor.T.contiguous().T})


class Unclipped(ClientDP):
    """A client that does not clip."""

    def limit(self, reply):
        self.strip(reply)


@pytest.mark.parametrize("far", [3.0, 3e6])
def test_a_client_that_does_not_clip_is_clipped_at_the_server(far):
    clients = points(3)
    clients[2].e.fill_(far)
    found = fit(Unclipped(0.07, 0.0, 1e-3), clients).model.x.item()
    assert found == pytest.approx((0.05 + 0.07) / 3, abs=1e-15)


class Other(Quadratic):
    """Weights of another type."""

    def __init__(self, dtype, size=20_000):
        super().__init__(size, RATE)
        self.x = torch.nn.Parameter(torch.zeros(size, dtype=dtype))

    def training_step(self, batch, batch_idx):
        _, e = batch
        return (0.5 * (self.x - e.to(self.x.dtype)).abs().float().square().sum(1)).mean()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32, torch.bfloat16])
def test_weights_of_other_types(dtype):
    """Complex numbers are two real ones each: both halves get noise, and count in the length."""
    runs = [
        fit(dp(clip=0.5, noise_multiplier=z), points(4, 20_000), module=Other(dtype)).model.x.detach()
        for z in (0.0, 0.1)
    ]
    assert all(run.dtype == dtype for run in runs)
    clipped, noise = runs[0], runs[1] - runs[0]
    assert torch.linalg.vector_norm(clipped.to(torch.complex128)).item() == pytest.approx(
        3 * 0.5 / 4, rel=1e-2
    )
    halves = torch.view_as_real(noise) if dtype.is_complex else noise.float()[:, None]
    assert halves.std(0).tolist() == pytest.approx([0.1 * 0.5 / 4] * halves.shape[1], rel=0.03)


@pytest.mark.parametrize("codec", [Int8(), TopK(share=0.5)])
def test_what_a_codec_makes_of_a_change_is_no_longer(codec):
    runs = [fit(dp(clip=0.07), points(4, 6), rounds=4, module=Quadratic(6, RATE), codec=codec) for _ in range(2)]  # fmt: skip
    assert torch.equal(*(run.model.x for run in runs))
    assert run_length(runs[0]) <= 4 * 0.07


def run_length(federation):
    return federation.model.x.norm().item()


def test_a_client_that_fails_counts_as_zero():
    with pytest.warns(UserWarning, match="not finite"):
        found = fit(dp(clip=0.07), module=Wrong("nan", always=True, lr=RATE)).model.x.item()
    assert found == pytest.approx((0.05 + 0.07) / 4, abs=1e-15)


def test_lost_replies_count_as_zero():
    lost = SystemHeterogeneity(straggler_share=0.5, stragglers="drop", seed=3)
    there = sorted(k for k, fate in lost.plan(0, range(4)).items() if not fate.dropped)
    found = fit(dp(clip=0.07), heterogeneity=lost).model.x.item()
    assert len(there) == 2
    assert found == pytest.approx(sum(min(0.05 * k, 0.07) for k in there) / 4, abs=1e-15)


def test_all_that_are_asked_fail():
    with pytest.raises(TooFewClientsError, match="0 of 4 clients succeeded"), pytest.warns(UserWarning):
        fit(dp(noise_multiplier=1.0), module=Wrong("nan", always=True), clients=[_wrong(k) for k in range(4)])


def _wrong(number):
    client = points(4)[number]
    client.e.fill_(2.0)
    return client


def test_poisson_cohorts_and_the_fixed_denominator():
    sampler, rounds = PoissonSampler(rate=0.2), 12
    drawn = [[client.id for client in cohort] for cohort in cohorts(points(), sampler, rounds)]
    assert len(set(map(len, drawn))) > 2 and [] in drawn
    x = 0.0
    for cohort in drawn:
        x += sum(max(-0.02, min(RATE * (k - x), 0.02)) for k in cohort) / (0.2 * 4)
    found = fit(dp(clip=0.02), sampler=sampler, rounds=rounds)
    assert found.model.x.item() == pytest.approx(x, abs=1e-12)


@pytest.mark.parametrize("engine", [Loop, Stacked, Auto])
def test_a_round_for_which_nobody_was_drawn_is_noise_and_costs_the_same(engine):
    sampler, callbacks = PoissonSampler(rate=1e-9), {"callbacks": [ClientProgress(), RoundReport()]}
    found = fit(dp(clip=0.02, noise_multiplier=1.0), sampler=sampler, rounds=2, engine=engine(), trainer_args=callbacks)  # fmt: skip
    expected = sum(noise_of(k, 0.02 / (1e-9 * 4)) for k in range(2))
    assert torch.allclose(found.model.x.detach(), expected, rtol=1e-12)
    assert found.budget.ledger.rounds == 2


def test_without_privacy_such_a_round_ends_the_run():
    with pytest.raises(ValueError, match="the cohort has 0 clients"):
        fit(None, sampler=PoissonSampler(rate=1e-9))


def test_what_clients_log_stays_there_unless_it_is_asked_for():
    silent, loud = fit(dp()), fit(dp(log_clients=True))
    assert all(not record.metrics for record in silent.records)
    assert all("loss" in record.metrics for record in loud.records)
    assert "loss" not in silent.trainer.callback_metrics and "loss" in loud.trainer.callback_metrics


class Loud(ClientDP):
    """A client that sends all that it has."""

    def limit(self, reply):
        pass


def test_the_server_takes_no_more_from_a_client_that_sends_it():
    records = fit(Loud(0.07, 0.0, 1e-3)).records
    assert all(not record.metrics and record.steps == 1 for record in records)


def test_an_example_where_nobody_is_drawn():
    private = fit(dp(clip=0.02, noise_multiplier=1.0), sampler=PoissonSampler(1e-9))
    private._trainer = private.trainer
    assert [tensor.tolist() for tensor in private.example()] == [[1.0], [[0.0]]]


def test_epsilon_is_logged_in_every_round(tmp_path):
    logger = CSVLogger(tmp_path)
    found = fit(
        dp(noise_multiplier=2.0), sampler=PoissonSampler(0.5), rounds=3, trainer_args={"logger": logger}
    )
    rows = csv.DictReader(Path(logger.log_dir, "metrics.csv").open())
    logged = [float(row["privacy/epsilon"]) for row in rows if row["privacy/epsilon"]]
    ledger, expected = PrivacyLedger(1e-3), []
    for _ in range(3):
        ledger.count(found.budget.sampling, 2.0)
        expected.append(ledger.epsilon())
    assert logged == pytest.approx(expected, abs=1e-12) and sorted(logged) == logged
    assert found.budget.sampling.size == 2.0


def test_a_budget_ends_the_run_before_the_round_that_would_exceed_it():
    ledger = PrivacyLedger(1e-3)
    ledger.count(Sampling("always", 4, 4), 5.0, 3)
    most = ledger.epsilon() + 1e-6
    found = fit(dp(noise_multiplier=5.0, max_epsilon=most), rounds=10)
    assert found.trainer.global_step == 3 and found.budget.ledger.epsilon() == ledger.epsilon()
    unbounded = fit(dp(noise_multiplier=5.0), rounds=3)
    assert torch.equal(found.model.x, unbounded.model.x)


def test_a_budget_in_which_not_one_round_fits_is_refused():
    with pytest.raises(
        RuntimeError, match=r"max_epsilon=0.1: the first round alone costs .* or draw fewer clients"
    ):
        fit(dp(noise_multiplier=1.0, max_epsilon=0.1))
    with pytest.raises(RuntimeError, match="the first round alone costs inf"):
        fit(dp(noise_multiplier=0.0, max_epsilon=100.0))


def test_a_trainer_that_does_not_stop_is_stopped():
    private = federation(dp(noise_multiplier=5.0, max_epsilon=1.0))
    with pytest.raises(RuntimeError, match="min_epochs or min_steps"):
        trainer(5, min_epochs=5).fit(private, cohorts(points(), rounds=1))
    assert private.budget.ledger.epsilon() <= 1.0


def test_a_second_fit_goes_on_counting_and_draws_new_noise():
    private = federation(dp(clip=1e-6, noise_multiplier=1e3))
    for _ in range(2):
        trainer(1).fit(private, cohorts(points()))
    assert private.budget.ledger.rounds == 2
    expected = noise_of(0, 1e3 * 1e-6 / 4) + noise_of(1, 1e3 * 1e-6 / 4)
    assert private.model.x.item() == pytest.approx(expected.item(), abs=4e-6)


class WithKnowledge(FedAvg):
    """Sends a table beside the change."""

    sends_one_change = True

    def begin(self, context):
        context.reply_tensors["counts"] = torch.ones(2)


class WithMore(FedAvg):
    """Sends two changes."""

    sends_one_change = True

    def finish(self, context):
        return {"c": [torch.zeros_like(p) for p in context.params]}


@pytest.mark.parametrize(("algorithm", "name"), [(WithKnowledge, "counts"), (WithMore, "c")])
def test_a_client_refuses_to_send_more(algorithm, name):
    with pytest.raises(RefusalError, match=f"would also send '{name}'"):
        fit(dp(), algorithm=algorithm(weighting="uniform"))


@pytest.mark.parametrize("what", ["groups", "metrics", "weight", "twice", "sum", "gather"])
def test_the_server_lets_out_nothing_else(what):
    class Curious(FedAvg):
        sends_one_change = True

        def round(self, server):
            match what:
                case "groups":
                    return server.mean(server.train(), "delta", "c")["delta"]
                case "metrics":
                    return server.mean(server.train(), metrics=["steps"])["delta"]
                case "weight":
                    return server.mean(server.train(), weight=lambda reply: 1.0)["delta"]
                case "twice":
                    server.mean(server.train())
                    return server.mean(server.train())["delta"]
                case "sum":
                    return server.sum(server.train(), weight=lambda reply: 1.0)["delta"]
                case _:
                    return server.gather(server.train())

    with pytest.raises(ValueError, match="privacy=ClientDP lets out"):
        fit(dp(), algorithm=Curious(weighting="uniform"))


def test_limits_of_a_reply():
    reply = Reply(
        {"delta": {"w": torch.tensor([3.0, 4.0])}, "buffers": {}},
        metrics={"steps": 2.0, "without_loss": 1.0},
        logs={"loss": 1.0},
    )
    ClientDP(1.0, 1.0, 1e-3).limit(reply)
    assert reply.metrics == {"steps": 2.0} and reply.logs == {}
    assert torch.allclose(reply.tensors["delta"]["w"], torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize(
    "algorithm", [FedNTD(weighting="uniform"), MOON("network.layers.1", weighting="uniform")]
)
def test_others_that_send_one_change(algorithm):
    classifier = Classifier(MLP(3, 3, hidden=[4]), 3, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    found = Federation(classifier, algorithm, LocalTraining(epochs=1), engine=Loop(), privacy=dp(clip=0.01))
    trainer(1).fit(found, FederatedDataModule(Blobs(), IID(), clients=4))
    change = {name: tensor - before[name] for name, tensor in found.model.state_dict().items()}
    assert (
        0
        < length({name: tensor for name, tensor in change.items() if tensor.is_floating_point()})
        < 0.01 + 1e-6
    )
