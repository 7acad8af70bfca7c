"""Networks of several modalities: every subset, every fusion, against plain loops; and nothing of what is masked."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from lkd.models import (
    MLP,
    AttentionFusion,
    ConcatFusion,
    GatedFusion,
    MeanFusion,
    Multimodal,
    SensorEncoder,
)
from lkd.models.prototypes import ClassPrototypes, complete
from lkd.taps import Taps

D, K, B = 8, 3, 6
NAMES = ("acc", "context", "gray")
EXAMPLE = {"acc": [3, 16], "context": [5], "gray": [1, 8, 8]}
FUSIONS = ["late", "mean", "concat", "gated", "attention"]


class OwnFusion(nn.Module):
    """A user's: the largest of what is present, and a weight."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(D))

    def forward(self, embeddings, present):
        return self.scale * embeddings.masked_fill(~present.unsqueeze(2), -100.0).amax(1)


def encoders():
    """With batch statistics; maps, and vectors."""
    return {
        "acc": nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU()),
        "context": nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU()),
        "gray": nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    }


def make(fusion="mean", seed=0, **kwargs):
    torch.manual_seed(seed)
    made = {"encoders": encoders(), "classes": K, "example": EXAMPLE, "embedding": D, **kwargs}
    return Multimodal(fusion=OwnFusion() if fusion == "own" else fusion, **made)


MASKS = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.bool)


def batch(masks=MASKS, fill=0.0, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = {m: torch.randn(len(masks), *EXAMPLE[m], generator=g) for m in NAMES}
    for i, m in enumerate(NAMES):
        x[m][~masks[:, i]] = fill
    return {**x, "present": dict(zip(NAMES, masks.unbind(1), strict=True))}


def seen(net, train):
    """Prototypes that exist, so that completion has something to do."""
    for k, prototypes in enumerate(net.prototypes.values()):
        g = torch.Generator().manual_seed(k)
        prototypes.sums.copy_(torch.randn(K, D, generator=g))
        prototypes.weights.fill_(0.5)
    return net.train(train)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("completion", ["zero", "prototype"])
@pytest.mark.parametrize("fusion", [*FUSIONS, "own"])
def test_what_is_masked_changes_nothing(fusion, completion, train):
    """Outputs, gradients and batch statistics, bit for bit, for garbage, NaN and infinity in place of zeros."""
    found = []
    for fill in (0.0, 1e30, math.nan, math.inf, -math.inf):
        net = seen(make(fusion, completion=completion), train)
        layers = ["", "embedding", *(f"{kind}.{m}" for kind in ("heads", "projections") for m in NAMES)]
        with Taps(net, layers) as taps:
            net(batch(fill=fill)).square().sum().backward()
        found.append(
            {
                **{layer: taps.output(layer).detach() for layer in layers},
                **{f"grad {n}": p.grad for n, p in net.named_parameters() if p.grad is not None},
                **dict(net.named_buffers()),
            }
        )
    for other in found:
        assert other.keys() == found[0].keys()
        for name, value in found[0].items():
            assert value.isfinite().all(), name
            assert torch.equal(other[name], value), name


@pytest.mark.parametrize("fusion", [*FUSIONS, "own"])
def test_an_encoder_runs_only_for_samples_that_have_its_modality(fusion):
    net = make(fusion)
    sizes = {}
    for m, encoder in net.encoders.items():
        encoder.register_forward_hook(lambda _, args, __, m=m: sizes.update({m: len(args[0])}))
    net(batch(MASKS[:4]))
    assert sizes == {"acc": 3, "context": 2, "gray": 3}
    sizes.clear()
    alone = torch.tensor([[1, 0, 0]] * 4, dtype=torch.bool)
    net(batch(alone)).square().sum().backward()
    assert sizes == {"acc": 4}
    for name, p in net.named_parameters():
        if "context" in name or "gray" in name:
            # a token or a gate belongs to a layer that runs; it gets zeros at most
            assert p.grad is None or (name.startswith("embedding.") and not p.grad.any()), name
        elif name.startswith(("encoders.acc", "projections.acc")):
            assert p.grad.isfinite().all() and (p.grad.any() or ".0.bias" in name), name


def test_batch_statistics_are_those_of_the_present_samples():
    net = make().train()
    x = batch()
    net(x)
    alone = encoders_like(net)
    alone(x["context"][MASKS[:, 1]])
    assert torch.equal(net.encoders["context"][1].running_mean, alone[1].running_mean)
    assert torch.equal(net.encoders["context"][1].running_var, alone[1].running_var)


def encoders_like(net):
    fresh = make().encoders["context"].train()
    assert torch.equal(fresh[0].weight, net.encoders["context"][0].weight)
    return fresh


@pytest.mark.parametrize("fusion", [*FUSIONS, "own"])
def test_every_subset_equals_the_modalities_that_are_given_alone(fusion):
    """A modality that is masked, one that is left out of x, and one sample by itself say the same."""
    net = make(fusion).eval()
    full = batch(torch.ones(B, 3, dtype=torch.bool))
    for count in (1, 2, 3):
        for owned in itertools.combinations(NAMES, count):
            masks = torch.tensor([[m in owned for m in NAMES]] * B)
            masked = net(batch(masks))
            left_out = net({m: full[m] for m in owned})
            torch.testing.assert_close(masked, left_out, rtol=1e-5, atol=1e-6)
            single = torch.cat([net({m: full[m][i : i + 1] for m in owned}) for i in range(B)])
            torch.testing.assert_close(single, left_out, rtol=1e-5, atol=1e-6)


def reference_fusion(fuse, kind, z, there, names=NAMES):
    """One sample's fused embedding, in plain loops from the docstrings' equations; z is a dict."""
    owned = [m for m in names if there[m]]
    if kind in ("mean", "late"):
        return sum(z[m] for m in owned) / len(owned)
    if kind == "concat":
        hidden = fuse.bias.clone()
        for m in names:
            weight = fuse.blocks[m].weight  # (D, D + 1)
            if there[m]:
                hidden = hidden + weight[:, :D] @ z[m] + weight[:, D]
        hidden = torch.where(hidden > 0, hidden, 0.0)
        return fuse.out.weight @ hidden + fuse.out.bias
    if kind == "gated":
        scores = {m: float(fuse.gates[m].weight[0] @ z[m] + fuse.gates[m].bias) for m in owned}
        total = sum(math.exp(s) for s in scores.values())
        return sum(math.exp(scores[m]) / total * z[m] for m in owned)
    heads = fuse.attention.num_heads
    size = D // heads
    wq, wk, wv = fuse.attention.in_proj_weight.split(D)
    bq, bk, bv = fuse.attention.in_proj_bias.split(D)
    query = wq @ fuse.query + bq
    parts = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        keys = {m: (wk @ (z[m] + fuse.tokens[m]) + bk)[part] for m in owned}
        values = {m: (wv @ (z[m] + fuse.tokens[m]) + bv)[part] for m in owned}
        scores = {m: float(query[part] @ keys[m]) / math.sqrt(size) for m in owned}
        total = sum(math.exp(s) for s in scores.values())
        parts.append(sum(math.exp(scores[m]) / total * values[m] for m in owned))
    return fuse.attention.out_proj.weight @ torch.cat(parts) + fuse.attention.out_proj.bias


def spread(module):
    """Weights that are not near zero, so that a mistake shows."""
    g = torch.Generator().manual_seed(5)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=g) * 0.7
    return module


@pytest.mark.parametrize("kind", FUSIONS)
@torch.no_grad()
def test_every_fusion_is_what_plain_loops_say(kind):
    made = {
        "concat": lambda: ConcatFusion(NAMES, D),
        "gated": lambda: GatedFusion(NAMES, D),
        "attention": lambda: AttentionFusion(NAMES, D, heads=2),
    }
    fuse = spread(made.get(kind, MeanFusion)())
    z = torch.randn(B, 3, D, generator=torch.Generator().manual_seed(2))
    expected = torch.stack(
        [
            reference_fusion(
                fuse, kind, dict(zip(NAMES, row, strict=True)), dict(zip(NAMES, mask, strict=True))
            )
            for row, mask in zip(z, MASKS, strict=True)
        ]
    )
    torch.testing.assert_close(fuse(z, MASKS), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fuse(z.masked_fill(~MASKS.unsqueeze(2), math.nan), MASKS), fuse(z, MASKS))


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_the_network_is_what_plain_loops_say(fusion):
    net = make(fusion).eval()
    spread(net.embedding)
    x = batch()
    for row in range(B):
        z, logits, there = {}, {}, {}
        for i, m in enumerate(NAMES):
            there[m] = bool(MASKS[row, i])
            features = net.encoders[m](x[m][row : row + 1])[0]
            features = features.flatten(1).mean(1) if features.dim() > 1 else features
            z[m] = net.projections[m].weight @ features + net.projections[m].bias
            logits[m] = net.heads[m].weight @ z[m] + net.heads[m].bias
        if fusion == "late":
            expected = reference_fusion(None, "late", logits, there)
        else:
            expected = net.head.weight @ reference_fusion(net.embedding, fusion, z, there) + net.head.bias
        torch.testing.assert_close(net(x)[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_order_of_modalities_does_not_matter(fusion):
    net = make(fusion).eval()
    spread(net)
    turned = make(fusion, encoders=dict(reversed(encoders().items()))).eval()
    turned.load_state_dict(net.state_dict())
    assert turned.modalities == NAMES[::-1]
    torch.testing.assert_close(turned(batch()), net(batch()), rtol=1e-4, atol=1e-4)


def test_degenerate_fusions():
    late, mean, gated = make("late").eval(), make("mean").eval(), make("gated").eval()
    x = batch()
    with Taps(late, ["heads.acc", "heads.gray"]) as taps:
        logits = late(x)
    torch.testing.assert_close(logits[3], taps.output("heads.acc")[3])  # the rows that have one modality
    torch.testing.assert_close(logits[5], taps.output("heads.gray")[5])
    with Taps(mean, ["embedding", "projections.acc"]) as taps:
        mean(x)
    torch.testing.assert_close(taps.output("embedding")[3], taps.output("projections.acc")[3])
    weights = spread(gated.embedding).weights(torch.randn(B, 3, D), MASKS)
    torch.testing.assert_close(weights.sum(1), torch.ones(B))
    assert (weights[~MASKS] == 0).all() and (weights[MASKS] > 0).all()
    equal = GatedFusion(NAMES, D)
    for p in equal.parameters():
        nn.init.zeros_(p)
    z = torch.randn(B, 3, D)
    torch.testing.assert_close(equal(z, MASKS), MeanFusion()(z, MASKS))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_layers_are_where_they_are_said_to_be(fusion):
    net = make(fusion, auxiliary=2)
    x = batch()
    layers = [f"{kind}.{m}" for kind in ("encoders", "projections", "heads") for m in NAMES]
    with Taps(net, [*layers, "embedding", "head", "auxiliary.0", "auxiliary.1"]) as taps:
        logits = net(x)
    assert torch.equal(taps.output("head"), logits)
    assert taps.output("embedding").shape == (B, D)
    for i, m in enumerate(NAMES):
        there = MASKS[:, i]
        assert len(taps.output(f"encoders.{m}")) == there.sum()
        assert taps.output(f"projections.{m}").shape == (B, D)
        assert taps.output(f"heads.{m}").shape == (B, K)
        for kind in ("projections", "heads"):
            assert not taps.output(f"{kind}.{m}")[~there].any()
    for i in range(2):
        expected = net.auxiliary[i](taps.output("embedding"))
        torch.testing.assert_close(taps.output(f"auxiliary.{i}"), expected)


def test_a_head_learns_nothing_from_samples_without_its_modality():
    net = make()
    with Taps(net, ["heads.acc"]) as taps:
        net(batch())
    taps.output("heads.acc")[~MASKS[:, 0]].sum().backward()
    assert net.heads["acc"].bias.grad is None or not net.heads["acc"].bias.grad.any()


def test_modalities_without_an_encoder_are_ignored():
    net = make(encoders={"acc": encoders()["acc"]}).eval()
    x = batch(torch.ones(B, 3, dtype=torch.bool))
    assert torch.equal(net(x), net({"acc": x["acc"]}))
    x["gray"] = torch.full_like(x["gray"], math.nan)
    assert torch.equal(net(x), net({"acc": x["acc"]}))


def test_prototypes_are_running_means_of_each_class():
    prototypes = ClassPrototypes(K, 2, momentum=0.8)
    sums, weights = [[0.0, 0.0] for _ in range(K)], [0.0] * K
    g = torch.Generator().manual_seed(3)
    for labels in ([0, 0, 1], [1, 1, 1], [0, 1, 0]):  # nobody has class 2
        z = torch.randn(3, 2, generator=g)
        prototypes.learn(z, torch.tensor(labels))
        for k in set(labels):
            rows = [z[i].tolist() for i in range(3) if labels[i] == k]
            for d in range(2):
                sums[k][d] = 0.8 * sums[k][d] + 0.2 * sum(row[d] for row in rows) / len(rows)
            weights[k] = 0.8 * weights[k] + 0.2
    assert prototypes.known.tolist() == [True, True, False]
    for k in (0, 1):
        assert prototypes.means[k].tolist() == pytest.approx([s / weights[k] for s in sums[k]], rel=1e-5)
    assert prototypes.means[2].tolist() == [0.0, 0.0]
    first = ClassPrototypes(K, 2, momentum=0.8)
    first.learn(z, torch.tensor([0, 1, 0]))
    torch.testing.assert_close(first.means[0], (z[0] + z[2]) / 2)  # the first mean counts in full


def test_averaged_prototypes_are_means_over_the_clients_that_have_seen_the_class():
    """What a federation does to buffers: the weighted mean of each."""
    one, two = ClassPrototypes(K, 2), ClassPrototypes(K, 2)
    one.learn(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0, 1]))
    two.learn(torch.tensor([[5.0, 6.0]]), torch.tensor([1]))
    both = ClassPrototypes(K, 2)
    for name, buffer in both.named_buffers():
        buffer.copy_(0.25 * one.get_buffer(name) + 0.75 * two.get_buffer(name))
    torch.testing.assert_close(both.means[:2], torch.tensor([[1.0, 2.0], [4.5, 5.5]]))
    assert both.known.tolist() == [True, True, False]


def reference_completion(z, there, prototypes, known, temperature):
    """In plain loops."""

    def cosine(a, b):
        return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))

    filled, now = z.clone(), there.clone()
    samples, modalities, _ = z.shape
    for i in range(samples):
        scores = {}
        for k in range(prototypes.shape[1]):
            ours = [p for p in range(modalities) if there[i, p] and known[p, k]]
            if ours:
                scores[k] = sum(cosine(z[i, p], prototypes[p, k]) for p in ours) / len(ours)
        for m in range(modalities):
            usable = [k for k in scores if known[m, k]]
            if not there[i, m] and usable:
                total = sum(math.exp(scores[k] / temperature) for k in usable)
                filled[i, m] = sum(
                    math.exp(scores[k] / temperature) / total * prototypes[m, k] for k in usable
                )
                now[i, m] = True
    return filled, now


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_completion_is_what_plain_loops_say(temperature):
    g = torch.Generator().manual_seed(4)
    z = torch.randn(B, 3, D, generator=g).masked_fill(~MASKS.unsqueeze(2), 0.0).requires_grad_()
    prototypes = torch.randn(3, K, D, generator=g)
    # class 2 is known in gray alone; acc knows none: row 3 (acc alone) can compare nothing, and no acc is filled in
    known = torch.tensor([[0, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    found, there = complete(z, MASKS, prototypes, known, temperature)
    expected, now = reference_completion(z.detach(), MASKS, prototypes, known, temperature)
    assert torch.equal(there, now)
    assert there.tolist()[3] == [True, False, False] and not (there[:, 0] & ~MASKS[:, 0]).any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    assert z.grad.isfinite().all()


def test_completion_without_prototypes_is_masking():
    torch.testing.assert_close(make(completion="prototype").eval()(batch()), make().eval()(batch()))


def test_a_completed_modality_takes_part_in_the_fusion_and_its_encoder_does_not_run():
    net = seen(make("late", completion="prototype"), train=False)
    alone = torch.tensor([[0, 1, 0]] * B, dtype=torch.bool)
    with Taps(net, ["heads.acc", "heads.context", "heads.gray", "projections.acc", "head"]) as taps:
        net(batch(alone)).sum().backward()
    three = torch.stack([taps.output(f"heads.{m}") for m in NAMES]).mean(0)
    torch.testing.assert_close(taps.output("head"), three)
    assert not taps.output("projections.acc").any()  # what is completed is no output of the encoder's
    assert all(p.grad is None for p in net.encoders["acc"].parameters())
    assert all(p.grad.isfinite().all() for p in net.encoders["context"].parameters())


def test_learn_takes_the_present_samples_alone():
    net = make(completion="prototype")
    z = {m: torch.randn(B, D) for m in NAMES}
    y = torch.arange(B) % K
    net.learn(
        {m: v.masked_fill(~MASKS[:, i, None], math.nan) for i, (m, v) in enumerate(z.items())},
        dict(zip(NAMES, MASKS.unbind(1), strict=True)),
        y,
    )
    rows = MASKS[:, 0] & (y == 0)
    torch.testing.assert_close(net.prototypes["acc"].means[0], z["acc"][rows].mean(0))


def test_autocast_with_missing_modalities():
    for fusion in FUSIONS:
        net = make(fusion, completion="prototype")
        for masks in (MASKS, torch.tensor([[0, 1, 0]] * B, dtype=torch.bool)):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(batch(masks))
            logits.float().square().sum().backward()
            assert logits.isfinite().all()


def test_encoders_by_timm_name_and_small_ones():
    net = Multimodal(
        {"rgb": "test_resnet", "acc": SensorEncoder(3, [8]), "context": MLP(5, 16, hidden=[8])},
        classes=K,
        example={"rgb": [3, 32, 32], "acc": [3, 40], "context": [5]},
    )
    x = {"rgb": torch.rand(2, 3, 32, 32), "acc": torch.rand(2, 3, 40), "context": torch.rand(2, 5)}
    assert net(x).shape == (2, K)
    assert net.widths["acc"] == 8 and net.widths["context"] == 16


def test_widths_are_found_without_moving_statistics():
    net = make()
    assert all(int(e[1].num_batches_tracked) == 0 and e.training for e in net.encoders.values())


def test_networks_can_be_copied_and_saved(tmp_path):
    net = make("attention", completion="prototype")
    again = copy.deepcopy(net)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    again.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert torch.equal(again.eval()(batch()), net.eval()(batch()))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"fusion": "sum"},
            "fusion='sum' must be one of 'late', 'mean', 'concat', 'gated', 'attention', or a module",
        ),
        ({"completion": "mean"}, "completion='mean' must be 'zero' or 'prototype'"),
        ({"completion": "prototype", "momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"classes": 0}, "classes=0 must be 1 or more"),
        ({"auxiliary": -1}, "auxiliary=-1 must be 0 or more"),
        ({"encoders": {}}, "encoders={} names no modality"),
        ({"encoders": {"present": nn.Flatten()}}, "'present' cannot name a modality"),
        ({"encoders": {"half": nn.Flatten()}}, "'half' is a method of modules"),
        ({"encoders": {"depth": nn.Flatten()}}, "example has no shape of depth"),
        ({"encoders": {"gray": "resnet_18"}}, "gray='resnet_18' is no timm model; near ones: .*resnet18"),
        ({"encoders": {"acc": nn.Linear(7, 2)}}, "the encoder of 'acc' does not take an input of shape"),
        ({"encoders": {"context": nn.Flatten(0)}}, r"must give features \(B, F\) or .* not \(5,\)"),
    ],
)
def test_bad_networks_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make(**{"fusion": "mean", **kwargs})


class Wrong(nn.Module):
    """A fusion that forgets to fuse."""

    def forward(self, embeddings, present):
        return embeddings


def test_a_fusion_that_gives_no_embedding_is_refused():
    with pytest.raises(ValueError, match=r"fusion=Wrong must map .* here \(2, 8\), not \(2, 3, 8\)"):
        make(Wrong())


def test_one_module_for_two_modalities_is_refused():
    one = nn.Flatten()
    with pytest.raises(ValueError, match="'a' and 'b' are the same module"):
        make(encoders={"a": one, "b": one}, example={"a": [2], "b": [2]})


def test_heads_of_the_attention_must_divide():
    with pytest.raises(ValueError, match="heads=3 must divide the size of the embedding, 8"):
        AttentionFusion(NAMES, 8, heads=3)


def test_bad_batches_are_refused():
    net = make()
    with pytest.raises(
        ValueError, match="x holds depth, and this network has encoders for acc, context, gray only"
    ):
        net({"depth": torch.zeros(2, 1)})
    x = batch()
    x["present"] = {m: torch.zeros(B, dtype=torch.bool) for m in NAMES}
    x["present"]["acc"][:2] = True
    with pytest.raises(
        ValueError, match="4 of 6 samples, the first being number 2, have none of the modalities acc"
    ):
        net(x)
    with pytest.raises(ValueError, match=r"encoder of 'acc' does not take x\['acc'\] of shape \(2, 4, 16\)"):
        net({"acc": torch.zeros(2, 4, 16)})
    with pytest.raises(ValueError, match="not a Tensor"):
        net(torch.zeros(2, 3))


def test_sensor_encoder():
    net = SensorEncoder(6, channels=[8, 16], kernel=3, groups=4)
    x = torch.randn(4, 6, 50)
    assert net(x).shape == (4, 16)
    assert not list(net.buffers())
    torch.testing.assert_close(net(x)[:1], net(x[:1]))  # no sample depends on another
    for kwargs, message in (
        ({"kernel": 4}, "kernel=4 must be odd"),
        ({"groups": 5}, "groups=5 must divide each"),
    ):
        with pytest.raises(ValueError, match=message):
            SensorEncoder(3, **kwargs)
