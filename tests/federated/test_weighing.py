"""Means of encoders by the samples that have their modality: by hand, in the degenerate case, from a modality plan."""

import copy
import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lkd.datamodules import ModalityPlan
from lkd.federated import (
    SCAFFOLD,
    CoordinateMedian,
    FedAvg,
    Federation,
    FedLin,
    FedNova,
    FedNTD,
    FedProx,
    FedShuffle,
    MimeLite,
)
from lkd.federated.server.weighting import Weighing
from lkd.models import Multimodal

from ..datamodules.test_modality_plan import NAMES, TYPES, Module, Motion, federated
from ..modules.modalities import Wearer, client
from .quadratic import loader, trainer
from .test_multimodal import BOTH, ONE, descend, run


class Telling(Wearer):
    """A client that tells how many of its samples have each modality of the data."""

    @property
    def present(self):
        there = self.x["present"]
        return {m: int(there[m].sum()) if m in there else 0 for m in BOTH}


def clients(missing=(0.7, 0.1, 0.3)):
    owned = zip((8, 12, 20), (BOTH, ONE, BOTH), missing, strict=True)
    return [Telling(i, n, m, missing=q) for i, (n, m, q) in enumerate(owned)]


def by_hand(rounds, everyone):
    server = {n: p.detach().clone() for n, p in client(BOTH, seed=1).network.named_parameters()}
    for r in range(rounds):
        told = []
        for one in everyone:
            net = copy.deepcopy(client(BOTH if one.id != 1 else ONE).network)
            with torch.no_grad():
                for name, p in net.named_parameters():
                    p.copy_(server[name])
            for x, y in one.batches_of_round(r):
                descend(net, x, y)
            told.append((one, {n: p.detach() for n, p in net.named_parameters()}))
        for name in server:
            total, weight = 0.0, 0
            for one, weights in told:
                if name in weights:
                    modality = next((m for m in BOTH if f".{m}." in name), None)
                    n = int(one.x["present"][modality].sum()) if modality else one.num_samples
                    total, weight = total + n * weights[name], weight + n
            server[name] = total / weight
    return server


@pytest.mark.parametrize("rounds", [1, 3])
def test_an_encoder_is_averaged_by_the_samples_that_have_its_modality(rounds):
    federation = run(clients(), FedAvg("present"), rounds=rounds, shared_layers="*")
    for name, value in by_hand(rounds, clients()).items():
        found = dict(federation.model.network.named_parameters())[name].detach()
        torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-6, msg=name)


def test_it_is_another_mean_for_encoders_and_the_same_for_what_all_samples_go_through():
    one, two = (run(clients(), FedAvg(w), shared_layers="*").model.network for w in ("present", "samples"))
    same = {n: torch.equal(p, dict(two.named_parameters())[n]) for n, p in one.named_parameters()}
    assert same["head.weight"] and not same["encoders.gyro.0.weight"] and not same["projections.acc.weight"]


def test_where_nothing_is_missing_it_is_the_mean_by_samples_bit_for_bit():
    complete = (0.0, 0.0, 0.0)
    one, two = (
        run(clients(complete), FedProx(0.1, w), rounds=2, shared_layers="*") for w in ("present", "samples")
    )
    for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_encoder_of_which_nobody_has_a_sample_stays_as_it_is():
    everyone = clients((0.0, 0.0, 0.0))
    for one in everyone:
        if "gyro" in one.x:
            one.x["gyro"], one.x["present"]["gyro"] = one.x["gyro"] * 0, one.x["present"]["gyro"] & False
    federation = run(everyone, FedAvg("present"), shared_layers="*")
    before = dict(client(BOTH, seed=1).network.named_parameters())
    for name, p in federation.model.network.named_parameters():
        assert torch.equal(p, before[name]) == (".gyro." in name or name.endswith("gyro.bias")), name


def test_a_modality_plan_tells_what_is_in_the_batches():
    data = federated(ModalityPlan(TYPES, missing=0.4), data=Module(Motion(60)))
    for i in range(6):
        one = data.clients[i]
        seen = dict.fromkeys(NAMES, 0)
        for x, _ in one.ordered_batches("train"):
            for name, there in x["present"].items():
                seen[name] += int(there.sum())
        assert one.present == seen and set(TYPES[i % 3]) >= {m for m, n in seen.items() if n}
    pooled = data.clients[0].pooled([data.clients[1], data.clients[2]])
    assert pooled.present == {m: sum(data.clients[i].present[m] for i in range(3)) for m in NAMES}


def test_clients_that_do_not_tell_are_refused_before_anybody_trains():
    everyone = [Wearer(i, 8, BOTH) for i in range(3)]
    federation = Federation(client(BOTH), FedAvg("present"))
    with pytest.raises(
        ValueError, match=r"weighting='present' needs clients that tell .* client client0 does not"
    ):
        trainer(1).fit(federation, loader(everyone))
    assert not federation.records


def test_without_a_plan_a_client_tells_nothing():
    data = federated(None)
    assert data.clients[0].present == {}


@pytest.mark.parametrize("algorithm", [SCAFFOLD, FedLin, FedNova, MimeLite, FedNTD, FedShuffle])
def test_it_is_refused_where_more_than_a_plain_mean_is_made_of_weights(algorithm):
    parameters = inspect.signature(algorithm).parameters
    if "weights" in parameters:
        with pytest.raises(
            ValueError, match=f"weighting='present' is for FedAvg and FedProx: .* {algorithm.__name__}"
        ):
            algorithm(weighting="present")


def test_a_robust_rule_knows_no_weights():
    with pytest.raises(
        ValueError,
        match="aggregator=CoordinateMedian knows no weights, so weighting='present' would do nothing",
    ):
        Federation(client(BOTH), FedAvg("present"), aggregator=CoordinateMedian())


def test_layers_belong_to_a_modality_by_where_the_model_holds_them():
    weighing = Weighing("present", clients(), [client(BOTH), client(ONE)])
    assert weighing.modality_of("network.encoders.gyro.0.weight") == "gyro"
    assert weighing.modality_of("network.gyroscope.weight") == "" == weighing.modality_of("network.head.bias")


def test_a_modality_may_be_called_as_a_layer_is():
    """A sensor on the head has no part in the layer "head", nor one called "weight" in all weights."""
    for name in ("head", "network", "weight"):
        encoders, shapes = {name: nn.Linear(3, 4), "chest": nn.Linear(3, 4)}, {name: [3], "chest": [3]}
        model = nn.Module()
        model.network = Multimodal(encoders, 2, shapes, embedding=5)
        weighing = Weighing("present", [SimpleNamespace(present={name: 0, "chest": 100})], [model])
        owned = {n for n, _ in model.named_parameters() if weighing.modality_of(n) == name}
        parts = ("encoders", "projections", "heads")
        assert owned == {f"network.{part}.{name}.{of}" for part in parts for of in ("weight", "bias")}


def test_a_model_without_layers_by_modality_is_refused():
    with pytest.raises(ValueError, match=r"ModuleDict by modality \(acc, gyro\).*; Linear has none"):
        Weighing("present", clients(), [nn.Linear(2, 2)])


def test_an_unknown_weight_is_refused():
    with pytest.raises(ValueError, match="weighting='median' must be 'samples', 'uniform' or 'present'"):
        FedAvg("median")
