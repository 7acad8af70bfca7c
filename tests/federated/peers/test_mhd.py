"""Multi-headed distillation against training written by hand, and in its degenerate cases."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lkd.federated import MHD, Federation, Local, LocalTraining, SystemHeterogeneity
from lkd.federated.knowledge.common.forward import draw
from lkd.federated.peers.checkpoint_pool import pick, refresh
from lkd.federated.peers.peer_weights import combine
from lkd.federated.protocol.seeds import derive
from lkd.federated.topology import Chain, Complete, Ring, Topology
from lkd.modules import Classifier

from ..quadratic import trainer
from .small import data, module, run, sgd, weights

BATCH = 4


class Edges(Topology):
    """A graph as it is given."""

    def __init__(self, edges):
        self.given = edges

    def edges(self, nodes, round=0):
        return self.given


def outputs(net, x):
    """Embedding and heads of a MultiHeadClassifier, by its parts."""
    embedding = net.network.embedding(net.network.backbone(x))
    return embedding, [head(embedding) for head in net.network.heads]


def by_hand(rounds, edges, steps=2, nu_emb=1.0, nu_aux=1.0, heads=2, clients=3):
    """MHD with confident targets, present checkpoints and all neighbors as teachers; plain torch."""
    shards = data(clients)
    shards.setup("fit")
    public = torch.cat(list(shards.clients[0].public.batches(range(len(shards.clients[0].public)), 100)))
    nets = [module(heads) for _ in range(clients)]
    for round in range(rounds):
        before = [{n: t.clone() for n, t in net.state_dict().items()} for net in nets]
        rows = draw(0, round, len(public), steps * BATCH).reshape(steps, BATCH)
        frozen = [module(heads) for _ in range(clients)]
        for net, state in zip(frozen, before, strict=True):
            net.load_state_dict(state)
        for k, net in enumerate(nets):
            seed = derive(0, round, k)
            batches = list(shards.clients[k].train_batches(derive(seed, 0)))
            for step in range(steps):
                x, y = batches[step]
                loss = F.cross_entropy(outputs(net, x)[1][0], y)
                shared = public[rows[step]]
                ours, said = outputs(net, shared)
                with torch.no_grad():
                    theirs = [outputs(frozen[j], shared) for j in edges[k]]
                if theirs:
                    for embedding, _ in theirs:
                        distance = F.normalize(ours, dim=1) - F.normalize(embedding, dim=1)
                        loss = loss + nu_emb * distance.square().sum(1).mean()
                    for m in range(1, heads + 1):
                        candidates = [h[m - 1] for _, h in theirs] + [said[m - 1].detach()]
                        for b in range(BATCH):
                            target = max((c[b].softmax(0) for c in candidates), key=lambda p: float(p.max()))
                            loss = loss - nu_aux * (target * said[m][b].log_softmax(0)).sum() / BATCH
                net.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for p in net.parameters():
                        if p.grad is not None:
                            p -= 0.1 * p.grad
    return {k: torch.cat([p.detach().flatten() for p in net.parameters()]) for k, net in enumerate(nets)}


@pytest.mark.parametrize("edges", [[[1], [2], [0]], [[1, 2], [0, 2], [0, 1]], [[1], [0], [1]]])
def test_rounds_are_those_written_by_hand(edges):
    algorithm = MHD(Edges(edges), teachers=None, batch_size=BATCH)
    found = weights(*run(algorithm, rounds=3))
    for k, expected in by_hand(3, edges).items():
        assert torch.allclose(found[k], expected, atol=1e-6), k


def test_weights_of_the_two_losses():
    algorithm = MHD(Complete(), teachers=None, batch_size=BATCH, nu_emb=0.3, nu_aux=2.0)
    found = weights(*run(algorithm, rounds=2))
    expected = by_hand(2, [[1, 2], [0, 2], [0, 1]], nu_emb=0.3, nu_aux=2.0)
    assert torch.allclose(found[0], expected[0], atol=1e-6)
    other = by_hand(2, [[1, 2], [0, 2], [0, 1]])
    assert not torch.allclose(found[0], other[0], atol=1e-4)


def test_no_weight_is_local_training():
    found = weights(*run(MHD(Ring(), batch_size=BATCH, nu_emb=0.0, nu_aux=0.0), rounds=3))
    alone = weights(*run(Local(), rounds=3))
    for k in alone:
        assert torch.equal(found[k], alone[k])


def test_one_client_is_local_training():
    found = weights(*run(MHD(Complete(), batch_size=BATCH), rounds=2, clients=1))
    assert torch.equal(found[0], weights(*run(Local(), rounds=2, clients=1))[0])


def test_without_auxiliary_heads_only_embeddings_are_distilled():
    algorithm = MHD(Complete(), teachers=None, batch_size=BATCH)
    found = weights(*run(algorithm, rounds=2, made=module(heads=0)))
    expected = by_hand(2, [[1, 2], [0, 2], [0, 1]], heads=0)
    assert torch.allclose(found[1], expected[1], atol=1e-6)


def test_the_main_head_hears_nothing_of_the_others_without_embeddings():
    """With its own backbone frozen, the main head learns as if it were alone."""

    def frozen():
        net = module()
        for p in (*net.network.backbone.parameters(), *net.network.embedding.parameters()):
            p.requires_grad = False
        return net

    federation, shards = run(MHD(Complete(), batch_size=BATCH), rounds=2, made=frozen())
    alone, same = run(Local(), rounds=2, made=frozen())
    pairs = zip(federation.models([shards.clients[0]]), alone.models([same.clients[0]]), strict=True)
    for (_, ours), (_, theirs) in pairs:
        assert torch.equal(ours.network.heads[0].weight, theirs.network.heads[0].weight)
        assert not torch.equal(ours.network.heads[1].weight, theirs.network.heads[1].weight)


@pytest.mark.parametrize("rounds", [2, 3])
def test_knowledge_travels_one_hop_a_head(rounds):
    """On a chain 0 - 1 - 2, client 2's data reach client 0's second head in the third round, and no other of its heads.

    Its main head learns in the first, teaches 1's first head in the second, and that teaches 0's second in the third.
    """

    def frozen():
        net = module(embedding=3, backbone=nn.Identity())
        for p in net.network.embedding.parameters():
            p.requires_grad = False
        return net

    def heads_of_first(spoil):
        federation = Federation(
            frozen(),
            MHD(Chain(), teachers=None, batch_size=BATCH, nu_emb=0.0, choice="mean"),
            LocalTraining(steps=2),
        )
        shards = data()
        shards.setup("fit")
        if spoil:  # other labels at client 2
            shards.clients[2].parts["train"][0].dataset.tensors[1][shards.clients[2].parts["train"][1]] = 0
        shards.setup = lambda stage=None: None
        trainer(rounds, limit_val_batches=0).fit(federation, shards)
        (_, net), *_ = federation.models([shards.clients[0]])
        return [head.weight.detach().clone() for head in net.network.heads]

    (a0, a1, a2), (b0, b1, b2) = heads_of_first(False), heads_of_first(True)
    assert torch.equal(a0, b0)
    assert torch.equal(a1, b1)
    assert torch.equal(a2, b2) == (rounds < 3)


def test_stale_and_present_checkpoints_of_one_peer_answer_each_for_itself(monkeypatch):
    """A pool that holds both: they are different models, and say different things."""
    seen = []
    ask = MHD.predict

    def spy(self, context):
        before = torch.cat([p.detach().flatten() for p in context.module.parameters()])
        ask(self, context)
        after = torch.cat([p.detach().flatten() for p in context.module.parameters()])
        assert torch.equal(before, after)
        said = context.reply_tensors
        of_round = (
            [said["heads"][said["rounds"] == round] for round in said["rounds"].unique()] if said else []
        )
        seen.append(of_round)

    monkeypatch.setattr(MHD, "predict", spy)
    run(MHD(Edges([[1], [0]]), pool=2, teachers=None, batch_size=BATCH), rounds=6, clients=2)
    both = [told for told in seen if len(told) > 1]
    assert both
    assert not any(torch.equal(a, b) for a, b, *_ in both)


@pytest.mark.parametrize("kwargs", [{"pool": 2}, {"pool": 2, "choice": "random"}, {}])
def test_a_repeated_run_is_bit_identical(kwargs):
    first, second = (weights(*run(MHD(Ring(), batch_size=BATCH, **kwargs), rounds=3)) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_a_resumed_run_is_bit_identical(tmp_path):
    """Pools, and the checkpoints in them, are part of a checkpoint."""
    whole = weights(*run(MHD(Ring(), pool=2, batch_size=BATCH), rounds=4, clients=4))
    federation = Federation(module(), MHD(Ring(), pool=2, batch_size=BATCH), LocalTraining(steps=2))
    half = trainer(2, limit_val_batches=0, enable_checkpointing=True, default_root_dir=tmp_path)
    half.fit(federation, data(4))
    half.save_checkpoint(tmp_path / "half.ckpt")
    again = weights(
        *run(MHD(Ring(), pool=2, batch_size=BATCH), rounds=4, clients=4, ckpt=tmp_path / "half.ckpt")
    )
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_stale_checkpoints_answer_as_they_did(monkeypatch):
    """What a peer says of a round ago is what its weights of then say."""
    seen = []
    ask = MHD.predict

    def spy(self, context):
        ask(self, context)
        seen.append(
            (context.client.id, context.round, {k: v.clone() for k, v in context.reply_tensors.items()})
        )

    monkeypatch.setattr(MHD, "predict", spy)
    algorithm = MHD(Edges([[1], [0]]), pool=1, refresh=3, batch_size=BATCH)
    federation, shards = run(algorithm, rounds=3, clients=2)
    public = torch.cat(list(shards.clients[0].public.batches(range(len(shards.clients[0].public)), 100)))
    start = module()
    for _, round, told in seen:
        assert sorted(told) == ["embedding", "heads", "rounds", "steps"]
        assert told["rounds"].unique().tolist() == [0]  # the pool holds the start alone
        rows = draw(0, round, len(public), 2 * BATCH)
        with torch.no_grad():
            embedding, heads = outputs(start, public[rows])
        assert torch.allclose(told["embedding"].flatten(0, 1), embedding, atol=1e-6)
        found = told["heads"].transpose(1, 2).flatten(0, 1)
        assert torch.allclose(found, torch.stack(heads, 1), atol=1e-6)
    assert len(seen) == 6
    assert federation.algorithm.state["pool"]["entries"].tolist() == [[[1, 0]], [[0, 0]]]


def test_bytes_are_those_of_what_is_said():
    """Ring of 3, all neighbors teach 2 steps of 4 samples: embedding 4, heads 3 x 3."""
    federation, _ = run(MHD(Complete(), teachers=None, batch_size=BATCH), rounds=1)
    said = 2 * BATCH * (4 + 3 * 3) * 4  # two steps, float32
    steps = 2 * 2 * 4  # which rounds and steps: int32
    numbers = 3 * 8  # round, seed, public_steps
    asked = 2 * 2 * 8  # two rounds and steps as int64; nothing is kept
    valid = 2 * 2  # steps x teachers
    assert federation.bytes_up == 3 * (said + steps) + 3 * 8  # and `steps` made
    assert federation.bytes_down == 3 * (asked + numbers) + 3 * (
        2 * said + valid + numbers + 2 * 8
    )  # and whether it averages, and how many steps


def test_a_peer_that_left_is_missed_by_nobody():
    federation, shards = run(
        MHD(Ring(), pool=2, batch_size=BATCH),
        rounds=4,
        clients=4,
        heterogeneity=SystemHeterogeneity(dropout=0.4, seed=1),
    )
    took_part = {r.client for r in federation.records}
    assert 0 < len(took_part) < 4
    assert all(w.isfinite().all() for w in weights(federation, shards).values())


def test_different_backbones_learn_from_each_other():
    federation, shards = run(
        MHD(Complete(), batch_size=BATCH), rounds=2, made=module(), other_models=[module(width=9, seed=1)]
    )
    found = weights(federation, shards)
    assert found[0].shape == found[2].shape != found[1].shape
    alone, same = run(Local(), rounds=2, made=module(), other_models=[module(width=9, seed=1)])
    for k, theirs in weights(alone, same).items():
        assert not torch.equal(found[k], theirs)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: module(embedding=5), "gives different embedding sizes, 4 at model"),
        (lambda: module(heads=1), r"have \[3, 2\] heads"),
    ],
)
def test_sizes_that_differ_are_one_sentence(other, message):
    with pytest.raises(ValueError, match=message):
        run(MHD(Complete(), batch_size=BATCH), rounds=1, other_models=[other()])


def test_no_public_data_is_one_sentence():
    with pytest.raises(ValueError, match=r"there are none: FederatedDataModule\(public=0.1\)"):
        run(MHD(Ring(), batch_size=BATCH), rounds=1, public=0.0)


def test_a_module_without_heads_is_one_sentence():
    torch.manual_seed(0)
    with pytest.raises(ValueError, match="Classifier is no MultiHeadClassifier"):
        run(MHD(Ring()), rounds=1, made=Classifier(nn.Linear(3, 3), num_classes=3, optimizer=sgd))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"nu_emb": -1.0}, "nu_emb=-1.0 must be 0 or more"),
        ({"pool": 0}, "must be 1 or more"),
        ({"teachers": 0}, "must be 1 or more"),
        ({"batch_size": 0}, "batch_size=0 must be 1 or more"),
        ({"choice": "surest"}, "choice='surest' must be"),
    ],
)
def test_bad_numbers_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MHD(Ring(), **kwargs)


def test_a_collection_is_federated_averaging_within_and_a_node_without():
    """Clients 0 and 1 are one node: after each round both have the mean of their weights, by samples."""
    algorithm = MHD(Edges([[1], [0]]), batch_size=BATCH, collections=[[0, 1], [2]])
    federation, shards = run(algorithm, rounds=1)
    found = weights(federation, shards)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    apart = weights(
        *run(MHD(Edges([[2], [2], [0]]), batch_size=BATCH), rounds=1)
    )  # the same teachers at the start
    assert torch.equal(found[2], apart[2])  # which the collection's first member taught
    assert not torch.equal(found[2], weights(*run(Local(), rounds=1))[2])
    n = [shards.clients[i].num_samples for i in range(2)]
    expected = combine({0: {"w": apart[0]}, 1: {"w": apart[1]}}, {0: n[0] / sum(n), 1: n[1] / sum(n)})["w"]
    assert torch.allclose(found[0], expected, atol=1e-6)


def test_collections_name_every_client_once():
    with pytest.raises(ValueError, match="must name each client from 0 to 2 once"):
        run(MHD(Edges([[1], [0]]), batch_size=BATCH, collections=[[0, 1]]), rounds=1)


def test_a_collection_of_two_architectures_is_refused():
    """Clients 0 and 1 take turns at the two."""
    algorithm = MHD(Edges([[1], [0]]), batch_size=BATCH, collections=[[0, 1], [2]])
    with pytest.raises(
        ValueError, match=r"clients \[0, 1\] average their weights, but have the architectures \[0, 1\]; give"
    ):
        run(algorithm, rounds=1, made=module(), other_models=[module(width=9, seed=1)])


def test_pools_are_filled_then_one_entry_gives_way():
    edges = [[1, 2, 3], [0], [0], [0]]
    first = refresh(None, edges, range(4), 2, 0, 2, seed=0)
    assert set(first[0, :, 0].tolist()) <= {1, 2, 3}
    assert set(first[:, :, 1].flatten().tolist()) == {0}
    same = refresh(first, edges, range(4), 2, 1, 2, seed=0)
    assert torch.equal(first, same)
    second = refresh(same, edges, range(4), 2, 2, 2, seed=0)
    for k in range(4):
        changed = (second[k] != first[k]).any(1)
        assert int(changed.sum()) == 1
        assert second[k][changed][0, 1] == 2
    assert torch.equal(second, refresh(same, edges, range(4), 2, 2, 2, seed=0))


def test_entries_of_former_neighbors_leave():
    table = torch.tensor([[[1, 0], [2, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]])
    new = refresh(table, [[2], [0], [0]], range(3), 2, 5, 100, seed=0)
    assert new[0].tolist() == [[2, 5], [2, 0]]


def test_picks_are_different_entries_of_peers_that_can_answer():
    entries = torch.tensor([[1, 0], [2, 0], [3, 0]])
    chosen = pick(entries, [0, 1, 3], 100, 2, [0])
    assert chosen.shape == (100, 2)
    assert {tuple(sorted(row)) for row in chosen.tolist()} == {(0, 2)}
    assert pick(entries, [0], 3, 1, [0]).shape == (3, 0)
    one = pick(entries, [1, 2, 3], 300, 1, [0]).flatten().bincount()
    assert one.min() > 70
