"""MultimodalClient: its loss and figures by hand, modality dropout, checkpoints, distillation."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from sklearn.metrics import f1_score

from lkd.callbacks import Distillation, LogitDistillation
from lkd.losses import KD, FitNets, QueueCRD
from lkd.modules import Classifier, MultimodalClient
from lkd.teachers import Ensemble, Teacher

from .modalities import CLASSES, EXAMPLE, Windows, client, encoder, samples

FUSIONS = ["late", "mean", "concat", "gated", "attention"]
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}


def trainer(**options):
    return Trainer(**{**QUIET, "enable_checkpointing": False, **options})


def silent(module):
    module.log = lambda *args, **kwargs: None
    return module


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("unimodal", "agreement"), [(0.0, 0.0), (1.0, 0.0), (0.7, 0.3)])
@torch.no_grad()
def test_loss_by_hand(fusion, unimodal, agreement):
    module = silent(client(fusion=fusion, unimodal=unimodal, agreement=agreement))
    x, y = samples(10)
    net = module.network
    logits = net(x)
    fused = -logits.log_softmax(1)[torch.arange(10), y].mean()
    own, apart = [], []
    for m in ("acc", "gyro"):
        nll, kl = [], []
        for i in range(10):
            if x["present"][m][i]:
                features = net.encoders[m](x[m][i : i + 1]).mean(2)
                z = features @ net.projections[m].weight.T + net.projections[m].bias
                log_q = (z @ net.heads[m].weight.T + net.heads[m].bias).log_softmax(1)[0]
                log_p = logits[i].log_softmax(0)
                nll.append(-log_q[y[i]])
                kl.append((log_p.exp() * (log_p - log_q)).sum())
        own.append(sum(nll) / len(nll))
        apart.append(sum(kl) / len(kl))
    expected = fused + unimodal * sum(own) / 2 + agreement * sum(apart) / 2
    torch.testing.assert_close(module.training_step((x, y)), expected)


@pytest.mark.parametrize("completion", ["zero", "prototype"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_overfits_a_batch(fusion, completion):
    module = silent(client(fusion=fusion, completion=completion, agreement=0.1)).train()
    x, y = samples(12, noise=0.3)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    first = module.training_step((x, y)).item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = module.training_step((x, y))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    assert (module.eval()(x).argmax(1) == y).all()


def test_figures_are_those_counted_by_hand():
    module = client(("acc", "gyro", "context"))
    data = Windows(31, ("acc", "gyro"), missing=0.5)  # nobody has a context
    made = trainer()
    (found,) = made.validate(module, data.loader(7), verbose=False)
    with torch.no_grad():
        logits = module.eval()(data.x)
    guess = logits.argmax(1)
    assert found["val/acc"] == pytest.approx((guess == data.y).float().mean().item())
    assert found["val/loss"] == pytest.approx(F.cross_entropy(logits, data.y).item(), rel=1e-5)
    assert found["val/f1"] == pytest.approx(f1_score(data.y, guess, average="macro"), rel=1e-5)
    net = module.network
    for m in ("acc", "gyro"):
        rows = data.x["present"][m]
        assert 0 < rows.sum() < 31
        with torch.no_grad():
            z = net.encoders[m](data.x[m][rows]).mean(2)
            own = F.linear(
                F.linear(z, net.projections[m].weight, net.projections[m].bias),
                net.heads[m].weight,
                net.heads[m].bias,
            )
        assert found[f"val/acc_{m}"] == pytest.approx((own.argmax(1) == data.y[rows]).float().mean().item())
    assert "val/acc_context" not in found
    (tested,) = made.test(module, data.loader(7), verbose=False)
    assert {name.replace("val", "test"): value for name, value in found.items()} == pytest.approx(tested)
    assert torch.allclose(torch.cat(made.predict(module, data.loader(7))), logits, atol=1e-6)
    assert torch.equal(module.predict_step(data.x), logits)


def test_learns_with_a_trainer():
    module = client(fusion="gated", modality_dropout=0.3, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    made = trainer(max_epochs=12)
    made.fit(module, Windows(60).loader(10, shuffle=True), Windows(60, seed=1).loader(20))
    assert made.callback_metrics["val/acc"] > 0.9
    assert "train/loss" in made.callback_metrics


def test_dropout_is_of_training_alone_follows_the_seed_and_never_takes_all():
    module = silent(client(("acc", "gyro", "context"), modality_dropout=0.6))
    x, y = samples(300, ("acc", "gyro", "context"), missing=0.2)
    x["radar"] = torch.ones(300, 2)  # there is no encoder for it, so it must not count as what is left
    seen = []
    module.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]["present"]))
    torch.manual_seed(7)
    one = module.training_step((x, y))
    torch.manual_seed(7)
    again, other = module.training_step((x, y)), module.training_step((x, y))
    assert one == again != other
    left = torch.stack([seen[0][m] for m in EXAMPLE], 1)
    had = torch.stack([x["present"][m] for m in EXAMPLE], 1)
    assert left.any(1).all() and not (left & ~had).any()
    lost = ((had & ~left).sum() / had.sum()).item()
    each = had.sum(1)
    expected = sum(0.6 * n - 0.6**n for n in each.tolist()) / each.sum().item()
    assert lost == pytest.approx(expected, abs=0.06)
    module.eval()(x)
    assert all(torch.equal(seen[-1].get(m), x["present"][m]) for m in EXAMPLE)


def test_prototypes_learn_in_training_and_not_otherwise():
    module = silent(client(completion="prototype"))
    x, y = samples(12)
    module.eval()(x)
    assert not module.network.prototypes["acc"].known.any()
    module.train().training_step(
        (x, y)
    ).backward()  # the buffers changed after the forward pass: no error here
    rows = x["present"]["acc"] & (y == 1)
    z = module.network.projections["acc"](module.network.encoders["acc"](x["acc"][rows]).mean(2), rows[rows])
    torch.testing.assert_close(module.network.prototypes["acc"].means[1], z.mean(0))
    assert all(not b.requires_grad for b in module.buffers())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_own_encoders_are_no_hyper_parameter_and_a_checkpoint_loads_with_them(fusion, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Lightning warns of modules among hyper-parameters
        module = client(fusion=fusion, completion="prototype", modality_dropout=0.2)
    assert "encoders" not in module.hparams and module.hparams["fusion"] == fusion
    made = trainer(max_epochs=1)
    made.fit(module, Windows(12).loader())
    made.save_checkpoint(tmp_path / "c.ckpt")
    again = MultimodalClient.load_from_checkpoint(
        tmp_path / "c.ckpt", weights_only=True, encoders={m: encoder(m) for m in ("acc", "gyro")}
    )
    assert again.modality_dropout == 0.2 and len(again.network.prototypes) == 2
    x, _ = samples(6, seed=3)
    assert torch.equal(again.eval()(x), module.eval()(x))


def test_named_encoders_are_rebuilt_from_a_checkpoint(tmp_path):
    module = MultimodalClient({"rgb": "test_resnet"}, 4, {"rgb": [1, 32, 32]}, embedding=8, fusion="concat")
    made = trainer()
    made.strategy.connect(module)
    made.save_checkpoint(tmp_path / "c.ckpt")
    again = MultimodalClient.load_from_checkpoint(tmp_path / "c.ckpt", weights_only=True)
    x = {"rgb": torch.rand(2, 1, 32, 32)}
    assert torch.equal(again.eval()(x), module.eval()(x))


class Data(LightningDataModule):
    """Windows of two sensors."""

    def train_dataloader(self):
        return Windows(16).loader()

    val_dataloader = test_dataloader = train_dataloader


@pytest.mark.filterwarnings("ignore:LightningCLI's args parameter")
def test_command_line_and_its_checkpoint(tmp_path):
    (tmp_path / "config.yaml").write_text("""
model:
  class_path: lkd.modules.MultimodalClient
  init_args:
    encoders:
      acc: {class_path: lkd.models.SensorEncoder, init_args: {in_channels: 3, channels: [8]}}
      gyro: test_resnet
    num_classes: 3
    example: {acc: [3, 8], gyro: [2, 32, 32]}
    fusion: {class_path: lkd.models.GatedFusion, init_args: {modalities: [acc, gyro], dim: 16}}
    embedding: 16
    modality_dropout: 0.1
""")
    made = LightningCLI(
        LightningModule,
        Data,
        subclass_mode_model=True,
        auto_configure_optimizers=False,
        run=False,
        save_config_callback=None,
        trainer_defaults={**QUIET, "enable_checkpointing": False},
        args=["--config", str(tmp_path / "config.yaml")],
    )
    made.trainer.strategy.connect(made.model)
    made.trainer.save_checkpoint(tmp_path / "c.ckpt")
    x = {"acc": torch.rand(2, 3, 8), "gyro": torch.rand(2, 2, 32, 32)}
    again = LightningModule.load_from_checkpoint(tmp_path / "c.ckpt", weights_only=True)
    assert torch.equal(again.eval()(x), made.model.eval()(x))
    teacher = Teacher(str(tmp_path / "c.ckpt"))
    assert torch.equal(teacher(x), again(x))


# distillation


def complete(count=24):
    """All modalities in every sample."""
    return samples(count, ("acc", "gyro", "context"), missing=0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_a_teacher_with_all_modalities_is_given_all_that_the_batch_holds(alpha):
    """The total by hand: the student drops what it has no encoder for, and its own dropout is not the teacher's."""
    teacher, student = client(("acc", "gyro", "context"), seed=1), client(("acc",), seed=2)
    student.modality_dropout = 0.5  # with one modality, nothing can be dropped
    callback = Distillation(
        Teacher(copy.deepcopy(teacher)),
        [
            KD(temperature=2.0, weight=0.5),
            FitNets(weight=0.25, student_layer="network.embedding", teacher_layer="network.embedding"),
            KD(
                temperature=1.0,
                weight=0.125,
                student_layer="network.heads.acc",
                teacher_layer="network.heads.gyro",
            ),
        ],
        alpha=alpha,
    )
    x, y = complete()
    callback.distiller.attach(silent(student), (x, y))
    loss = student.training_step((x, y))
    callback.distiller.detach()
    teacher.eval()
    with torch.no_grad():
        z = teacher.network.encoders["gyro"](x["gyro"]).mean(2) @ teacher.network.projections["gyro"].weight.T
        gyro = (z + teacher.network.projections["gyro"].bias) @ teacher.network.heads["gyro"].weight.T
        gyro = gyro + teacher.network.heads["gyro"].bias
        fused = sum(
            m_encoder(x[m]).reshape(24, 6, -1).mean(2) @ teacher.network.projections[m].weight.T
            + teacher.network.projections[m].bias
            for m, m_encoder in teacher.network.encoders.items()
        )
        theirs = teacher(x)
        net = student.network
        embedding = (
            net.encoders["acc"](x["acc"]).mean(2) @ net.projections["acc"].weight.T
            + net.projections["acc"].bias
        )
        ours, own = net.head(embedding), embedding @ net.heads["acc"].weight.T + net.heads["acc"].bias

        def kl(t, s, temperature):
            p = (t / temperature).softmax(1)
            return temperature**2 * (p * (p.log() - (s / temperature).log_softmax(1))).sum(1).mean()

        expected = alpha * (F.cross_entropy(ours, y) + F.cross_entropy(own, y))
        expected += 0.5 * kl(theirs, ours, 2.0) + 0.25 * (embedding - fused / 3).square().mean()
        expected += 0.125 * kl(gyro, own, 1.0)
    torch.testing.assert_close(loss, expected)


def test_the_teacher_does_not_see_the_students_dropout():
    seen = []
    teacher = client(("acc", "gyro"), seed=1)
    teacher.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    student = silent(client(("acc", "gyro"), seed=2, modality_dropout=0.9))
    callback = Distillation(Teacher(teacher), [KD()])
    x, y = samples(20, missing=0.0)
    callback.distiller.attach(student, (x, y))
    student.training_step((x, y))
    callback.distiller.detach()
    assert all(x["present"][m].all() and given["present"][m].all() for given in seen for m in ("acc", "gyro"))


def test_distillation_trains_a_student_of_one_modality_with_every_kind_of_term():
    data = Windows(60, ("acc", "gyro", "context"), missing=0.0)
    teacher = client(("acc", "gyro", "context"), seed=1, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    trainer(max_epochs=8).fit(teacher, data.loader(10, shuffle=True))
    teacher.zero_grad()
    before = copy.deepcopy(teacher.state_dict())
    student = client(("gyro",), seed=2, embedding=5, optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    layers = {"student_layer": "network.embedding", "teacher_layer": "network.embedding"}
    terms = [
        KD(2.0, weight=0.9),
        FitNets(weight=0.5, **layers),
        QueueCRD(queue=32, dim=8, weight=0.2, **layers),
    ]
    made = trainer(max_epochs=10, callbacks=[Distillation(Teacher(teacher, batch_size=4), terms, alpha=0.1)])
    made.fit(student, data.loader(10, shuffle=True), data.loader(20))
    assert {
        "distillation/kd",
        "distillation/fitnets",
        "distillation/queuecrd",
    } <= made.callback_metrics.keys()
    assert made.callback_metrics["val/acc"] > 0.9
    assert all(torch.equal(v, before[n]) for n, v in teacher.state_dict().items())
    assert all(p.grad is None for p in teacher.parameters())


def test_logits_of_unlabeled_windows_and_ensembles():
    x, y = complete()
    ensemble = Ensemble([Teacher(client(("acc",), seed=1)), Teacher(client(("gyro", "context"), seed=3))])
    assert ensemble(x).shape == (24, 2, CLASSES)
    callback = LogitDistillation(ensemble, alpha=0.0)
    student = silent(client(("gyro",), seed=2))
    callback.distiller.attach(student, (x, y))
    loss = student.training_step((x, torch.full_like(y, -5)))  # labels are not read
    callback.distiller.detach()
    loss.backward()
    assert student.network.head.weight.grad.any()


def test_a_teacher_splits_batches_of_several_modalities():
    module = client(("acc", "gyro")).eval()
    x, _ = samples(11)
    whole, parts = Teacher(module), Teacher(module, batch_size=3)
    torch.testing.assert_close(parts(x), whole(x))
    tapped = parts.tapped(x, ["network.heads.gyro", "network.embedding"])
    torch.testing.assert_close(
        tapped["network.heads.gyro"], whole.tapped(x, ["network.heads.gyro"])["network.heads.gyro"]
    )
    assert tapped["network.embedding"].shape == (11, 8)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"unimodal": -1.0}, "unimodal=-1.0 must be 0 or more"),
        ({"agreement": float("nan")}, "agreement=nan must be 0 or more"),
        ({"modality_dropout": 1.0}, r"modality_dropout=1.0 must be in \[0, 1\)"),
        ({"fusion": "sum"}, "fusion='sum' must be one of"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        client(**kwargs)


def test_bad_batches():
    module = client()
    x, y = samples(4)
    with pytest.raises(ValueError, match="num_classes is 3, so they must be from 0 to 2"):
        module.training_step((x, y + 3))
    with pytest.raises(ValueError, match="unlabeled data needs distillation"):
        module.training_step(x)
    with pytest.raises(ValueError, match="not a Tensor"):
        module.training_step((x["acc"], y))
    with pytest.raises(ValueError, match="x holds depth, and this network has encoders for acc, gyro only"):
        module.training_step(({"depth": x["acc"]}, y))
    with pytest.raises(FloatingPointError, match=r"not finite \(cross entropy=nan"):
        module.training_step(({**x, "acc": torch.full_like(x["acc"], torch.nan)}, y))
    with pytest.raises((TypeError, AttributeError)):
        Classifier(torch.nn.Flatten(), 3).training_step((x, y))


def test_the_example_of_the_docs_runs():
    page = (Path(__file__).parents[2] / "docs" / "multimodal.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    code = "\n".join(blocks).replace("max_epochs=20", "max_epochs=1, limit_train_batches=2, **quiet")
    scope = {"quiet": {**QUIET, "enable_checkpointing": False}}
    exec(code, scope)
    records = scope["federation"].records
    assert len(blocks) == 3 and not any(r.error for r in records)
