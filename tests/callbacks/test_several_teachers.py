"""Response distillation by a Trainer: several teachers, the newer losses, and both from YAML."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from lkd.callbacks import Distillation, LogitDistillation
from lkd.cli import main
from lkd.federated import Federation
from lkd.losses import DIST, DKD, KD, NKD, Dissimilarity, FitNets, LogitMatching, MultiTeacher, Standardized
from lkd.teachers import Ensemble, Teacher

from ..test_configs import in_this_process
from .federation import data, federation
from .federation import fit as fit_federation
from .plain import Plain, digits, quick_trainer, seeded

ROOT = Path(__file__).parents[2]


def networks(count=3):
    return [seeded(10 + i, lambda: Plain(width=24)) for i in range(count)]


def ensemble(count=3):
    return Ensemble([Teacher(net) for net in networks(count)])


def fit(callback, **options):
    student = seeded(0, Plain)
    trainer = quick_trainer(callbacks=[callback], **options)
    trainer.fit(student, digits())
    return student, trainer


def by_hand(student, nets, weigh, alpha, temperature):
    """One epoch of SGD on alpha CE + (1 - alpha) T² KL(sum_k w_k p_k ‖ p)."""
    student.train()
    for x, y in digits():
        student.zero_grad()
        z = student.net(x)
        with torch.no_grad():
            theirs = torch.stack([net.eval()(x) for net in nets])
            q = (weigh(theirs, y)[..., None] * F.softmax(theirs / temperature, -1)).sum(0)
        kl = (q * (q.log() - F.log_softmax(z / temperature, 1))).sum(1).mean()
        (alpha * F.cross_entropy(z, y) + (1 - alpha) * temperature**2 * kl).backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= student.lr * parameter.grad
    return student


def uniform(theirs, labels):
    return torch.full(theirs.shape[:2], 1 / len(theirs))


def confidence(theirs, labels):
    cross = torch.stack([F.cross_entropy(z, labels, reduction="none") for z in theirs])
    return (1 - cross.exp() / cross.exp().sum(0)) / (len(theirs) - 1)


@pytest.mark.parametrize(("weighting", "weigh"), [("uniform", uniform), ("confidence", confidence)])
def test_training_equals_the_loss_written_by_hand(weighting, weigh):
    term = MultiTeacher(KD(temperature=3.0, weight=0.7), weighting=weighting)
    student, trainer = fit(Distillation(ensemble(), [term], alpha=0.3))
    expected = by_hand(seeded(0, Plain), networks(), weigh, 0.3, 3.0)
    for ours, theirs in zip(student.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert "distillation/multiteacher" in trainer.callback_metrics


def test_the_preset_averages_the_predictions_of_an_ensemble():
    student, _ = fit(LogitDistillation(ensemble(), alpha=0.3, temperature=3.0))
    expected = by_hand(seeded(0, Plain), networks(), uniform, 0.3, 3.0)
    for ours, theirs in zip(student.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "term",
    [
        MultiTeacher(KD(), "losses", "entropy"),
        MultiTeacher(NKD(), "losses", "confidence"),
        MultiTeacher(DIST()),
        Standardized(MultiTeacher(KD(2.0))),
        Dissimilarity("msed"),
    ],
    ids=["kd", "nkd", "dist", "standardized", "msed"],
)
def test_every_way_trains(term, precision):
    student, _ = fit(Distillation(ensemble(), [term], alpha=0.0), precision=precision)
    start = seeded(0, Plain)
    moved = (student.net[1].weight - start.net[1].weight).abs().max()
    assert moved > 1e-5 and moved.isfinite()


def test_a_feature_term_may_listen_to_one_teacher_of_an_ensemble():
    term = FitNets(student_layer="net.1", teacher_layer="1.net.1")
    _, trainer = fit(Distillation(ensemble(), [MultiTeacher(KD()), term]))
    assert {"distillation/multiteacher", "distillation/fitnets"} <= set(trainer.callback_metrics)


def test_teachers_stay_as_they_were():
    teacher = ensemble()
    before = copy.deepcopy(teacher.state_dict())
    fit(LogitDistillation(teacher))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_clients_of_a_federation_learn_from_several_teachers():
    nets = [
        seeded(i, lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))) for i in (1, 2)
    ]
    callback = LogitDistillation(Ensemble([Teacher(net) for net in nets]), alpha=0.5)
    module = federation()
    assert isinstance(module, Federation)
    before = copy.deepcopy(module.model.state_dict())
    fit_federation([callback], module=module, datamodule=data())
    alone = federation()
    fit_federation([], module=alone, datamodule=data())
    after, without = module.model.state_dict(), alone.model.state_dict()
    assert any(not torch.equal(after[k], before[k]) for k in after)
    assert any(not torch.equal(after[k], without[k]) for k in after)


def test_mistakes_speak_before_training_starts():
    with pytest.raises(ValueError, match="wrap the term in MultiTeacher"):
        fit(Distillation(ensemble(), [KD()]))
    with pytest.raises(ValueError, match=r"lkd\.teachers\.Ensemble"):
        fit(Distillation(Teacher(networks(1)[0]), [MultiTeacher(KD())]))
    with pytest.raises(ValueError, match="there are 3 teachers"):
        fit(Distillation(ensemble(), [MultiTeacher(KD(), weighting=[0.5, 0.5])]))
    other = Ensemble([Teacher(seeded(1, Plain)), Teacher(seeded(1, lambda: Plain(classes=7)))])
    with pytest.raises(ValueError, match="same classes in the same order"):
        fit(LogitDistillation(other))


@pytest.mark.parametrize(
    ("loss", "kind", "temperature"),
    [
        ("kd", KD, 4.0), ("dkd", DKD, 4.0), ("dist", DIST, 1.0), ("nkd", NKD, 1.0),
        *[(measure, Dissimilarity, 4.0) for measure in ("ce", "js", "triangular", "sed", "msed")],
    ],
)  # fmt: skip
def test_preset_losses(loss, kind, temperature):
    def term(**options):
        callback = LogitDistillation(Teacher(networks(1)[0]), alpha=0.2, loss=loss, **options)
        (made,) = callback.distiller.terms.values()
        assert made.weight == 0.8
        return made

    assert isinstance(term(), kind) and term().temperature == temperature
    assert term(temperature=2.5).temperature == 2.5
    assert getattr(term(), "measure", loss) == loss
    outer = term(standardize=True, student_layer="net", teacher_layer="net")
    assert isinstance(outer, Standardized) and isinstance(outer.term, kind)
    assert (outer.student_layer, outer.teacher_layer) == ("net", "net")
    fit(LogitDistillation(Teacher(networks(1)[0]), loss=loss, standardize=True))
    fit(LogitDistillation(ensemble(), loss=loss, standardize=True))


def test_preset_of_raw_logits_averages_logits():
    callback = LogitDistillation(ensemble(), loss="logit_matching")
    (term,) = callback.distiller.terms.values()
    assert isinstance(term.term, LogitMatching) and term.combine == "logits"


def test_preset_refuses_an_unknown_loss():
    with pytest.raises(ValueError, match=r"loss='jsd' must be one of 'kd', .*'msed'"):
        LogitDistillation(Teacher(networks(1)[0]), loss="jsd")


TERMS = [
    {
        "class_path": "Standardized",
        "init_args": {
            "term": {
                "class_path": "MultiTeacher",
                "init_args": {
                    "term": {"class_path": "KD", "init_args": {"temperature": 2.0, "weight": 0.9}},
                    "combine": "losses",
                    "weighting": [0.75, 0.25],
                },
            }
        },
    },
    {"class_path": "Dissimilarity", "init_args": {"measure": "msed"}},
]


def test_all_of_it_from_yaml(tmp_path, monkeypatch):
    """Two teachers, one made by its recipe, and a schedule of the temperature."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lkd.teachers.recipe.fit", in_this_process)
    monkeypatch.setenv("WANDB_MODE", "offline")
    recipe = yaml.safe_load((ROOT / "configs/classification/digits_teacher.yaml").read_text())
    recipe["model"]["init_args"]["network"] = "test_resnet"
    small = {"max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
    recipe["trainer"] |= {**small, "accelerator": "cpu", "enable_progress_bar": False}
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
    config = yaml.safe_load((ROOT / "configs/classification/digits.yaml").read_text())
    config["trainer"] |= {**small, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    config["trainer"]["callbacks"] = [
        {
            "class_path": "TemperatureSchedule",
            "init_args": {"start": 8.0, "end": 2.0, "steps": 2, "terms": ["standardized"]},
        }
    ]
    checkpoint = "runs/digits_teacher/teacher.ckpt"
    config["distillation"] = {
        "class_path": "Distillation",
        "init_args": {
            "teacher": {
                "class_path": "Ensemble",
                "init_args": {
                    "teachers": [
                        {
                            "class_path": "Teacher",
                            "init_args": {"model": checkpoint, "recipe": "recipe.yaml"},
                        },
                        {
                            "class_path": "Teacher",
                            "init_args": {"model": checkpoint, "recipe": "recipe.yaml"},
                        },
                    ]
                },
            },
            "terms": TERMS,
            "alpha": 0.1,
        },
    }
    Path("config.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", "config.yaml"])
    log = next(Path("runs/digits").rglob("metrics.csv")).read_text().splitlines()
    head = log[0].split(",")
    assert {"distillation/standardized_step", "distillation/dissimilarity_step"} <= set(head) or {
        "distillation/standardized",
        "distillation/dissimilarity",
    } <= set(head)
    column = next(i for i, name in enumerate(head) if name.startswith("distillation/temperature"))
    seen = [float(row.split(",")[column]) for row in log[1:] if row.split(",")[column]]
    assert seen[:2] == [8.0, 5.0]
