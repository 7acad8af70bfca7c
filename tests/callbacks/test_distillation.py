import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation, FeatureDistillation, LogitDistillation, RelationDistillation
from lkd.distillation import Distiller
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import DKD, KD, FitNets, LogitMatching
from lkd.modules import Classifier
from lkd.preflight import Preflight
from lkd.teachers import Teacher

from .plain import Plain, digits, quick_trainer, seeded


def reference_step(student, teacher, batches, lr, alpha, temperature, accumulate=1):
    """The same training, written out by hand."""
    student.train()
    teacher.eval()
    for start in range(0, len(batches), accumulate):
        student.zero_grad()
        for x, y in batches[start : start + accumulate]:
            z = student.net(x)
            with torch.no_grad():
                t = teacher(x)
            p, q = F.log_softmax(z / temperature, 1), F.softmax(t / temperature, 1)
            kd = temperature**2 * (q * (q.log() - p)).sum(1).mean()
            loss = alpha * F.cross_entropy(z, y) + (1 - alpha) * kd
            (loss / accumulate).backward()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter -= lr * parameter.grad


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_equals_the_loss_written_by_hand(precision, accumulate):
    student, teacher = seeded(0, Plain), seeded(1, lambda: Plain(width=32))
    by_hand = copy.deepcopy(student)
    plugins = []
    if precision == "16-mixed":  # on a CPU Lightning makes bf16 of it unless a scaler is given
        plugins = [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))]
    options = {"plugins": plugins} if plugins else {"precision": precision}
    callback = LogitDistillation(Teacher(teacher), alpha=0.3, temperature=3.0)
    quick_trainer(callbacks=[callback], accumulate_grad_batches=accumulate, **options).fit(student, digits())
    reference_step(by_hand, copy.deepcopy(teacher), list(digits()), 0.1, 0.3, 3.0, accumulate)
    tolerance = 1e-6 if precision == "32-true" else 2e-2
    for ours, theirs in zip(student.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_gradient_of_the_term_reaches_the_student_without_labels():
    student = seeded(0, Plain)
    before = copy.deepcopy(student.net[1].weight)
    quick_trainer(callbacks=[LogitDistillation(Teacher(Plain(32)), alpha=0.0)]).fit(student, digits())
    assert (student.net[1].weight - before).abs().max() > 1e-4


def test_teacher_keeps_weights_buffers_and_eval_mode():
    teacher = Plain(32)
    before = copy.deepcopy(teacher.state_dict())
    wrapped = Teacher(teacher)
    quick_trainer(callbacks=[LogitDistillation(wrapped)]).fit(Plain(), digits())
    for key, value in teacher.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not wrapped.train().training and not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())


def test_module_is_as_it_was_after_fit():
    student = Plain()
    keys, attributes = list(student.state_dict()), set(vars(student))
    callback = FeatureDistillation(Teacher(Plain(32)), layers={"net.1": "net.1"})
    quick_trainer(callbacks=[callback]).fit(student, digits())
    assert list(student.state_dict()) == keys
    assert (set(vars(student)) - attributes).isdisjoint({"training_step", "configure_optimizers", ADAPTERS})
    assert ADAPTERS not in dict(student.named_children())
    assert not student._forward_hooks and not student.net[1]._forward_hooks


def test_a_deep_copy_of_an_attached_module_trains_itself():
    student, callback = Plain(), LogitDistillation(Teacher(Plain(32)))
    callback.distiller.attach(student, next(iter(digits())))
    clone = copy.deepcopy(student)
    clone.log = lambda *args, **kwargs: None
    clone.training_step(next(iter(digits())), 0).backward()
    assert clone.net[1].weight.grad is not None and student.net[1].weight.grad is None


def test_adapters_are_sized_trained_and_left_out_of_the_student(tmp_path):
    student, wide = Plain(16), Plain(48)
    seen = {}

    class Look(Distillation):
        def on_train_start(self, trainer, pl_module):
            seen["before"] = copy.deepcopy(getattr(pl_module, ADAPTERS).state_dict())

        def on_train_end(self, trainer, pl_module):
            seen["after"] = copy.deepcopy(getattr(pl_module, ADAPTERS).state_dict())

    terms = [FitNets(weight=10.0, student_layer="net.1", teacher_layer="net.1")]
    trainer = quick_trainer(
        callbacks=[Look(Teacher(wide), terms)], enable_checkpointing=True, default_root_dir=tmp_path
    )
    trainer.fit(student, digits())
    assert any(v.shape == (48, 16) for v in seen["before"].values())
    assert all(not torch.equal(seen["before"][k], seen["after"][k]) for k in seen["before"])
    file = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)
    Plain(16).load_state_dict(file["state_dict"])  # strict: no adapter among the student's weights
    assert set(file[ADAPTERS]) == set(seen["after"])


def test_adapters_join_an_optimizer_that_does_not_take_all_parameters():
    class Own(Plain):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.net.parameters(), lr=self.lr)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    student = Own(16)
    callback = FeatureDistillation(Teacher(Plain(48)), layers={"net.1": "net.1"}, weight=1.0)
    trainer = quick_trainer(callbacks=[callback], max_epochs=2)
    held = []
    student.on_train_start = lambda: held.extend(
        p for g in trainer.optimizers[0].param_groups for p in g["params"]
    )
    trainer.fit(student, digits())
    assert len(held) == len(list(student.parameters())) + 2


class Around(torch.optim.Optimizer):
    """An optimizer around another one, with groups of its own, as packages write them."""

    def __init__(self, inner, shares=False, zeroes=False):
        self.inner, self.zeroes = inner, zeroes
        super().__init__([{"params": [p for g in inner.param_groups for p in g["params"]]}], {"lr": 0.1})
        if shares:
            self.param_groups = inner.param_groups

    def step(self, closure=None):
        loss = None if closure is None else closure()
        self.inner.step()
        return loss

    def zero_grad(self, set_to_none=True):
        super().zero_grad(set_to_none) if self.zeroes else self.inner.zero_grad(set_to_none)


def wrapped(rate=lambda step: 1.0, names=False, **options):
    class Wrapped(Plain):
        def configure_optimizers(self):
            extra = self.distillation_adapters.parameters() if names else ()
            optimizer = Around(torch.optim.SGD([*self.parameters(), *extra], lr=0.1), **options)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    return seeded(0, lambda: Wrapped(16))


def fit_with_adapter(student, **options):
    """Returns how far the adapters have moved."""
    callback = FeatureDistillation(Teacher(seeded(1, lambda: Plain(48))), {"net.1": "net.1"}, weight=1.0)
    values = []

    def note():
        values.append(torch.cat([p.detach().flatten() for p in student.distillation_adapters.parameters()]))

    student.on_train_start = student.on_train_end = note
    quick_trainer(callbacks=[callback], max_epochs=2, **options).fit(student, digits())
    return float((values[0] - values[1]).abs().max())


UNMOVED = "3 steps of Around have moved the student and not them"


@pytest.mark.parametrize("zeroes", [True, False])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_an_optimizer_that_leaves_the_adapters_where_they_are_is_said(zeroes, options):
    with pytest.warns(UserWarning, match=UNMOVED) as said:
        assert fit_with_adapter(wrapped(zeroes=zeroes), **options) == 0
    assert sum("have moved the student" in str(warning.message) for warning in said) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: wrapped(shares=True),
        lambda: wrapped(names=True),
        lambda: wrapped(rate=lambda step: 0.1 * (step > 4), shares=True),  # nothing moves at first
        lambda: seeded(0, Plain),
    ],
)
def test_adapters_that_train_are_not_warned_of(make):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{UNMOVED}")
        assert fit_with_adapter(make()) > 0


@pytest.mark.parametrize("preset", ["logit", "feature", "relation", "dkd"])
def test_resumed_training_is_bit_identical(tmp_path, preset):
    def callback():
        teacher = Teacher(seeded(1, lambda: Plain(32)))
        match preset:
            case "logit":
                return LogitDistillation(teacher)
            case "dkd":
                return LogitDistillation(teacher, loss="dkd")
            case "feature":
                return FeatureDistillation(teacher, layers={"net.1": "net.1"}, weight=1.0)
            case _:
                return RelationDistillation(teacher, student_layer="net.1", teacher_layer="net.1")

    def train(epochs, ckpt=None):
        student = seeded(0, Plain)
        trainer = quick_trainer(
            callbacks=[callback()], max_epochs=epochs, enable_checkpointing=True, default_root_dir=tmp_path
        )
        with torch.random.fork_rng():
            torch.manual_seed(5)
            trainer.fit(student, digits(), ckpt_path=ckpt)
        return student, trainer.checkpoint_callback.best_model_path

    whole, _ = train(4)
    _, half = train(2)
    resumed, _ = train(4, half)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


class Resumes:
    """A run that a later one goes on from."""

    @staticmethod
    def fit(folder, callback, epochs, checkpoint=None):
        trainer = quick_trainer(
            callbacks=[callback] if callback else [],
            max_epochs=epochs,
            enable_checkpointing=True,
            default_root_dir=folder,
        )
        trainer.fit(seeded(0, lambda: Plain(16)), digits(), ckpt_path=checkpoint)
        return trainer.checkpoint_callback.best_model_path

    @staticmethod
    def fitnets(width=48, layer="net.1"):
        return FeatureDistillation(Teacher(Plain(width)), layers={layer: "net.1"}, weight=1.0)

    @staticmethod
    def logit():
        return LogitDistillation(Teacher(Plain(48)))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (Resumes.fitnets, Resumes.logit, r"has distillation adapters fitnets.* and this run no distillation"),
        (
            Resumes.logit,
            Resumes.fitnets,
            r"has no distillation adapters and this run distillation adapters fit",
        ),
        (
            lambda: None,
            Resumes.fitnets,
            r"has no distillation adapters and this run distillation adapters fit",
        ),
        (Resumes.fitnets, lambda: Resumes.fitnets(32), r"\(48, 16\) and this run .*\(32, 16\)"),
        (
            Resumes.fitnets,
            lambda: Resumes.fitnets(layer="net.2"),
            r"adapter fitnets .* student_layer=\['net\.1'\] .*this run's between \['net\.2'\]",
        ),
    ],
)
def test_resuming_with_other_adapters_is_refused(tmp_path, first, second, words):
    half = Resumes.fit(tmp_path, first(), 1)
    with pytest.raises(ValueError, match=words):
        Resumes.fit(tmp_path, second(), 2, half)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_resuming_without_it_is_told(tmp_path):
    half = Resumes.fit(tmp_path, Resumes.logit(), 1)
    with pytest.warns(UserWarning, match=r"add the following callbacks: \['LogitDistillation'\]"):
        Resumes.fit(tmp_path, None, 2, half)
    half = Resumes.fit(tmp_path, Resumes.fitnets(), 1)
    trainer = quick_trainer(callbacks=[Preflight()], max_epochs=2)
    with pytest.raises(
        ValueError, match=r"ckpt_path='.*' is of a run with distillation, and this one has none"
    ):
        trainer.fit(Plain(16), digits(), ckpt_path=half)


def test_what_has_no_adapters_may_be_resumed_with_other_distillation(tmp_path):
    half = Resumes.fit(tmp_path, None, 1)
    assert Resumes.fit(tmp_path, Resumes.logit(), 2, half)


def test_a_checkpoint_with_adapters_can_be_tested(tmp_path):
    class Tested(Plain):
        def test_step(self, batch, batch_idx):
            self.log("test/seen", 1.0)

    half = Resumes.fit(tmp_path, Resumes.fitnets(), 1)
    trainer = quick_trainer(callbacks=[Resumes.fitnets()])
    assert trainer.test(Tested(16), digits(), ckpt_path=half, verbose=False) == [{"test/seen": 1.0}]


def test_every_term_is_logged():
    terms = [KD(weight=0.5), LogitMatching(weight=0.1), DKD(weight=0.1)]
    trainer = quick_trainer(callbacks=[Distillation(Teacher(Plain(32)), terms, alpha=0.5)])
    trainer.fit(Plain(), digits())
    logged = {k: float(v) for k, v in trainer.callback_metrics.items()}
    by_hand = (
        0.5 * logged["train/loss"]
        + 0.5 * logged["distillation/kd"]
        + 0.1 * logged["distillation/logitmatching"]
        + 0.1 * logged["distillation/dkd"]
    )
    assert logged["distillation/total"] == pytest.approx(by_hand, rel=1e-5)


def test_two_callbacks_add_up_and_both_detach():
    student, batch = seeded(0, Plain), next(iter(digits()))
    student.log = lambda *args, **kwargs: None
    student.eval()  # batch norm with fixed statistics, so that every step computes the same
    own = student.training_step(batch, 0)
    first = Distillation(Teacher(Plain(32)), [KD(weight=1.0)], alpha=1.0).distiller
    second = Distillation(Teacher(Plain(24)), [KD(weight=1.0)], alpha=1.0).distiller
    first.attach(student, batch)
    with_first = student.training_step(batch, 0)
    second.attach(student, batch)
    with_both = student.training_step(batch, 0)
    assert with_both > with_first > own
    second.detach()
    assert torch.equal(student.training_step(batch, 0), with_first)
    first.detach()
    assert torch.equal(student.training_step(batch, 0), own)


def test_looking_at_a_batch_does_not_change_what_training_draws():
    def order(callbacks):
        seen = []

        class Watch(Plain):
            def training_step(self, batch, batch_idx):
                seen.append(batch[1].tolist())
                return super().training_step(batch, batch_idx)

        torch.manual_seed(3)
        quick_trainer(callbacks=callbacks).fit(Watch(), digits(shuffle=True))
        return seen[-4:]

    with torch.random.fork_rng():
        assert order([]) == order([LogitDistillation(Teacher(Plain(32)))])


def test_classifier_learns_from_data_without_any_labels():
    student, x = Classifier(Plain().net), torch.rand(32, 1, 8, 8)
    before = copy.deepcopy(student.network[1].weight)
    loader = DataLoader(TensorDataset(x), batch_size=8)
    quick_trainer(callbacks=[LogitDistillation(Teacher(Plain(32)), alpha=0.0)]).fit(student, loader)
    assert (student.network[1].weight - before).abs().max() > 1e-5


def test_batches_that_only_fit_after_the_transfer_hooks():
    class Bytes(Plain):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0].float() / 16, batch[1]

    x = torch.randint(17, (32, 1, 8, 8), dtype=torch.uint8)
    loader = DataLoader(TensorDataset(x, torch.randint(10, (32,))), batch_size=8)
    quick_trainer(callbacks=[LogitDistillation(Teacher(Plain(32)))]).fit(Bytes(), loader)


def test_layers_made_in_configure_model():
    class Late(Plain):
        def __init__(self):
            super().__init__()
            del self.net
            self.net = None

        def configure_model(self):
            if self.net is None:
                self.net = Plain().net

    quick_trainer(callbacks=[LogitDistillation(Teacher(Plain(32)))]).fit(Late(), digits())


def test_an_fp16_overflow_is_left_to_the_scaler():
    class Overflows(Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss * float("inf") if batch_idx == 1 and self._trainer.training else loss

    scaler = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    student = Overflows()
    quick_trainer(callbacks=[LogitDistillation(Teacher(Plain(32)))], plugins=[scaler]).fit(student, digits())
    assert all(p.isfinite().all() for p in student.parameters())


class Test:
    """Bad input gets one clear sentence before any weight changes."""

    def fit(self, callback, student=None, loader=None):
        student = student or Plain()
        before, trainer = copy.deepcopy(student.state_dict()), quick_trainer(callbacks=[callback])
        if isinstance(loader, list):
            loader = DataLoader(loader, batch_size=None)
        try:
            trainer.fit(student, loader or digits())
        finally:
            assert trainer.global_step == 0
            assert all(
                torch.equal(value, student.state_dict()[key])
                for key, value in before.items()
                if "weight" in key
            )

    def test_class_counts_differ(self):
        with pytest.raises(ValueError, match=r"10 classes.*7|7.*10 classes"):
            self.fit(LogitDistillation(Teacher(Plain(classes=7))))

    def test_student_layer_does_not_exist(self):
        with pytest.raises(ValueError, match=r"student_layer='net\.11'.*'net\.1'"):
            self.fit(FeatureDistillation(Teacher(Plain()), layers={"net.11": "net.1"}))

    def test_teacher_layer_does_not_exist(self):
        with pytest.raises(ValueError, match=r"teacher_layer='nett\.1'.*'net\.1'"):
            self.fit(FeatureDistillation(Teacher(Plain()), layers={"net.1": "nett.1"}))

    def test_layer_that_does_not_run(self):
        student = Plain()
        student.unused = nn.Linear(1, 1)
        with pytest.raises(ValueError, match="'unused' did not run"):
            self.fit(FeatureDistillation(Teacher(Plain()), layers={"unused": "net.1"}), student)

    def test_several_layers_run_and_the_forward_does_not(self):
        class Direct(Plain):
            def training_step(self, batch, batch_idx):
                return F.cross_entropy(self.net[3:](self.net[:3](batch[0])), batch[1])

        words = r"student_input='': the forward of Direct itself did not run .* \['net.1', .*as student_input .*as student_layer"
        with pytest.raises(ValueError, match=words):
            self.fit(LogitDistillation(Teacher(Plain())), Direct())

    def test_nan(self):
        x = torch.full((4, 1, 8, 8), float("nan"))
        with pytest.raises(FloatingPointError, match="not finite"):
            self.fit(LogitDistillation(Teacher(Plain())), loader=[(x, torch.zeros(4, dtype=torch.long))])

    def test_labels_are_missing(self):
        class NoLabels(Plain):
            def training_step(self, batch, batch_idx):
                return self(batch["x"]).mean()

        loader = [{"x": torch.zeros(4, 1, 8, 8)}]
        with pytest.raises(ValueError, match=r"label_key=1.*a dict of 'x', and DKD needs labels"):
            self.fit(LogitDistillation(Teacher(Plain()), loss="dkd"), NoLabels(), loader)

    def test_a_dict_batch_without_a_name_for_its_images(self):
        loader = [{"image": torch.zeros(4, 1, 8, 8)}]
        with pytest.raises(ValueError, match=r"input_key=None: .* one of \['image'\]"):
            self.fit(LogitDistillation(Teacher(Plain()), alpha=0.0), loader=loader)

    def test_precision_that_is_not_supported(self):
        trainer = quick_trainer(callbacks=[LogitDistillation(Teacher(Plain()))], precision="bf16-true")
        with pytest.raises(ValueError, match="precision='bf16-true' does not go with distillation"):
            trainer.fit(Plain(), digits())

    def test_manual_optimization(self):
        student = Plain()
        student.automatic_optimization = False
        with pytest.raises(ValueError, match="automatic_optimization"):
            self.fit(LogitDistillation(Teacher(Plain())), student)

    @pytest.mark.parametrize("alpha", [-0.1, 1.1])
    def test_alpha(self, alpha):
        with pytest.raises(ValueError, match=rf"alpha={alpha} must be in \[0, 1\]"):
            LogitDistillation(Teacher(Plain()), alpha=alpha)

    def test_the_student_is_its_own_teacher(self):
        for part in ("", "net"):
            student = Plain()
            teacher = student.get_submodule(part)
            with pytest.raises(
                ValueError, match=r"student's own weights.*Teacher\(copy\.deepcopy\(module\)\)"
            ):
                self.fit(LogitDistillation(Teacher(teacher)), student)
        quick_trainer(callbacks=[LogitDistillation(Teacher(copy.deepcopy(student)))]).fit(Plain(), digits())

    def test_a_teacher_that_takes_other_inputs(self):
        teacher = nn.Sequential(nn.Conv2d(3, 10, 8), nn.Flatten())
        words = r"teacher Sequential failed on an input of shape .*\(16, 1, 8, 8\).*: Given .* 3 channels.*student_input"
        with pytest.raises(RuntimeError, match=words):
            self.fit(LogitDistillation(Teacher(teacher)))

    @pytest.mark.parametrize("alpha", [0.5, 0.0])
    def test_data_without_labels(self, alpha):
        loader = DataLoader(torch.rand(8, 1, 8, 8), batch_size=4)
        if alpha == 0:
            quick_trainer(callbacks=[LogitDistillation(Teacher(Plain()), alpha=alpha)]).fit(Plain(), loader)
            return
        with pytest.raises(ValueError, match="values to unpack") as caught:
            self.fit(LogitDistillation(Teacher(Plain()), alpha=alpha), loader=loader)
        assert "unlabeled data needs alpha=0" in caught.value.__notes__[0]

    @pytest.mark.parametrize(
        ("make", "words"),
        [
            (
                lambda: LogitDistillation(Plain()),
                r"teacher=Plain must be a Teacher; wrap it: Teacher\(Plain\)",
            ),
            (lambda: RelationDistillation("t.ckpt"), r"wrap it: Teacher\('t\.ckpt'\)"),
            (lambda: Distillation(Plain(), [KD()]), "must be a Teacher"),
            (lambda: Distillation(Teacher(Plain()), KD()), r"terms must be a list .* such as \[KD\(\)\]"),
            (
                lambda: Distillation(Teacher(Plain()), [nn.MSELoss()]),
                "terms must be a list of lkd.losses.Term",
            ),
            (
                lambda: FeatureDistillation(Teacher(Plain()), ["net.1"]),
                r"layers=\['net\.1'\] must map layers.* take Distillation",
            ),
        ],
    )
    def test_types(self, make, words):
        with pytest.raises(TypeError, match=words):
            make()

    @pytest.mark.parametrize("weight", [-1.0, float("nan")])
    def test_weights(self, weight):
        with pytest.raises(ValueError, match=f"weight={weight} of KD must be 0 or more"):
            KD(weight=weight)
        with pytest.raises(ValueError, match=f"relabeled_weight={weight} must be 0 or more"):
            Distiller(Teacher(Plain()), [KD()], relabeled_weight=weight)

    def test_no_terms(self):
        with pytest.raises(ValueError, match="nothing to distill"):
            Distillation(Teacher(Plain()), [])


def test_without_labels_each_sees_its_own_picture():
    """Thermal for the student, visible for the teacher: the one batch is zeros, the other ones."""
    seen = {"student": [], "teacher": []}

    class Watching(Plain):
        def __init__(self, who):
            super().__init__()
            self.who = who

        def forward(self, x):
            seen[self.who].append(float(x.mean()))
            return super().forward(x)

    loader = [{"thermal": torch.zeros(4, 1, 8, 8), "visible": torch.ones(4, 1, 8, 8)}]
    both = Distillation(
        Teacher(Watching("teacher")), [KD()], alpha=0.0, input_key="visible", student_key="thermal"
    )
    quick_trainer(callbacks=[both]).fit(Watching("student"), DataLoader(loader, batch_size=None))
    assert set(seen["student"]) == {0.0} and set(seen["teacher"]) == {1.0}


@pytest.mark.parametrize("key", ["b", 1, ["a", "b"]])
def test_a_students_key_that_would_do_nothing(key):
    with pytest.raises(ValueError, match=r"student_key=.* is for alpha=0"):
        Distillation(Teacher(Plain()), [KD()], alpha=1.0, student_key=key)


def test_a_key_that_the_batch_does_not_have():
    loader = DataLoader([{"thermal": torch.zeros(4, 1, 8, 8)}], batch_size=None)
    for keys in ({"input_key": "visible"}, {"input_key": "thermal", "student_key": "thermall"}):
        both = Distillation(Teacher(Plain()), [KD()], alpha=0.0, **keys)
        with pytest.raises(
            ValueError,
            match=r"key='(visible|thermall)': the batch has no such entry, it is a dict of 'thermal'",
        ):
            quick_trainer(callbacks=[both]).fit(Plain(), loader)
