"""CachedTeacher: the same training as with a Teacher, what is asked again and what is not, and mistakes."""

import copy
import logging
import pickle

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lkd.callbacks import Distillation, LogitDistillation
from lkd.losses import KD, FitNets, MultiTeacher
from lkd.taps import Call
from lkd.teachers import CachedTeacher, Ensemble, Teacher

from ..callbacks.plain import Plain, digits, quick_trainer, seeded


class Counted(nn.Module):
    """Notes how many samples it is asked about."""

    def __init__(self, width=8):
        super().__init__()
        self.body, self.head, self.scale = nn.Linear(64, width), nn.Linear(width, 10), 1.0
        self.asked = []

    def forward(self, x):
        self.asked.append(len(x))
        return self.head(self.body(x.flatten(1)).relu()) * self.scale


@pytest.fixture
def net():
    return seeded(1, Counted)


def images(count=6, first=0):
    return torch.stack([torch.full((1, 8, 8), float(first + k)) for k in range(count)])


def trained(teacher, terms, epochs=2, data=None, **options):
    student = seeded(0, Plain)
    callback = Distillation(teacher, terms(), alpha=0.3)
    losses = []

    class Notes(Distillation.__mro__[1]):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            losses.append(float(outputs["loss"]))

    trainer = quick_trainer(callbacks=[callback, Notes()], max_epochs=epochs, **options)
    torch.manual_seed(0)
    trainer.fit(student, digits(shuffle=True) if data is None else data)
    return losses, student.state_dict()


LOGITS, FEATURES = (
    lambda: [KD(temperature=2.0)],
    lambda: [KD(), FitNets(student_layer="net.1", teacher_layer="body")],
)


@pytest.mark.parametrize("terms", [LOGITS, FEATURES])
def test_training_with_a_cold_and_a_warm_cache_is_training_without_bit_by_bit(net, tmp_path, terms):
    live = trained(Teacher(copy.deepcopy(net)), terms)
    for run in ("cold", "warm"):
        mine = copy.deepcopy(net)
        losses, weights = trained(CachedTeacher(mine, tmp_path), terms)
        assert losses == live[0], run
        assert all(torch.equal(weights[name], value) for name, value in live[1].items()), run
        assert sum(mine.asked) == (
            64 + 1 if run == "cold" else 16 + 1
        )  # of a warm one the first batch, and a sample


def test_an_epoch_that_is_resumed_goes_on_as_without_a_cache(net, tmp_path):
    def fit(teacher, path=None, **options):
        student = seeded(0, Plain)
        trainer = quick_trainer(callbacks=[LogitDistillation(teacher)], **options)
        trainer.fit(student, digits(), ckpt_path=path)
        return trainer, student

    _, whole = fit(Teacher(copy.deepcopy(net)), max_epochs=2)
    half, _ = fit(CachedTeacher(copy.deepcopy(net), tmp_path / "cache"), max_epochs=1)
    half.save_checkpoint(tmp_path / "half.ckpt")
    _, resumed = fit(
        CachedTeacher(copy.deepcopy(net), tmp_path / "cache"), tmp_path / "half.ckpt", max_epochs=2
    )
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_only_new_samples_are_asked_about(net, tmp_path):
    teacher = CachedTeacher(net, tmp_path)
    teacher(images(4))
    net.asked.clear()
    given = teacher(images(6, first=2))
    assert net.asked == [4]
    torch.testing.assert_close(given, Teacher(net)(images(6, first=2)))
    assert teacher(images(3)[:0]).shape == (0, 10)


def test_what_a_sample_is_seen_with_is_part_of_the_key(tmp_path):
    class Scaled(Counted):
        def forward(self, x, scale=1.0, mask=None):
            return super().forward(x) * scale if mask is None else super().forward(x) * mask

    net = Scaled()
    teacher, live = CachedTeacher(net, tmp_path), Teacher(net)
    calls = [
        Call((images(3),), {}),
        Call((images(3),), {"scale": 2.0}),
        Call((images(3),), {"mask": torch.tensor([[1.0], [2.0], [3.0]])}),
        Call((images(3),), {"mask": torch.tensor([[1.0], [2.0], [4.0]])}),
        Call((images(3).double(),), {}),
    ]
    for call in calls * 2:
        torch.testing.assert_close(teacher(call), live(call))


def test_a_batch_of_one_sample_first(net, tmp_path):
    teacher = CachedTeacher(net, tmp_path)
    for batch in (images(1), images(4), images(1, first=3)):
        torch.testing.assert_close(teacher(batch), Teacher(net)(batch))
    net.asked.clear()
    teacher(images(2, first=2))
    assert net.asked == []


def test_calls_of_uneven_tensors_are_asked_live_and_that_is_said_once(net, tmp_path):
    teacher = CachedTeacher(lambda x, y: net(x) + net(y).mean(1).sum() * 0, tmp_path)
    teacher(Call((images(3), images(3)), {}))
    with pytest.warns(UserWarning, match="nothing tells how many samples that are") as said:
        for _ in range(2):
            assert teacher(Call((images(3), images(2)), {})).shape == (3, 10)
    assert len(said) == 1


def test_a_call_of_another_kind_has_other_rows(tmp_path):
    class Two(Counted):
        def forward(self, x, weights=None, more=None):
            z = super().forward(x)
            return z * weights if weights is not None else z + super().forward(more)

    net = Two()
    teacher, live = CachedTeacher(net, tmp_path), Teacher(net)
    calls = [
        Call((images(3),), {"weights": torch.rand(10)}),
        Call((images(3),), {"more": images(3, first=9)}),
        Call((images(3),), {"more": images(3, first=8)}),
    ]
    for call in calls * 2:
        torch.testing.assert_close(teacher(call), live(call))


def test_one_sample_beside_a_longer_argument_is_asked_live(net, tmp_path):
    class Prompted(Counted):
        def forward(self, x, prompt):
            return super().forward(x)

    teacher, prompt = CachedTeacher(Prompted(), tmp_path), torch.rand(7)
    with pytest.warns(UserWarning, match="nothing tells how many samples that are"):
        for first in (0, 1):
            call = Call((images(1, first),), {"prompt": prompt})
            torch.testing.assert_close(teacher(call), Teacher(teacher.loaded)(call))
    call = Call((images(3),), {"prompt": prompt})
    teacher(call), teacher(call)
    assert teacher.answers.found == 3


class Marked(Counted):
    """Says beside its scores whether a batch is bright."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        return {"scores": super().forward(x), "bright": self.kind(x.max() > 50)}


@pytest.mark.parametrize("kind", [torch.Tensor.float, bool])
def test_what_seemed_the_same_for_all_samples_and_is_not_is_refused(tmp_path, kind):
    teacher = CachedTeacher(Marked(kind), tmp_path)
    assert not teacher(images(3))["bright"]
    with pytest.raises(
        ValueError,
        match="says cannot be kept by sample: what is the same for all samples of a batch is another",
    ):
        teacher(images(3, first=60))


def test_answers_of_another_form_are_refused_by_name(net, tmp_path):
    teacher = CachedTeacher(lambda x: {"dark" if x.max() < 50 else "bright": net(x)}, tmp_path)
    teacher(images(3))
    with pytest.raises(
        ValueError, match=r"what the teacher .* cannot be kept by sample: answers are not always"
    ):
        teacher(images(3, first=60))


class BatchStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 10)

    def forward(self, x):
        z = self.net(x.flatten(1))
        return z - z.mean(0)


class MaskedStatistics(BatchStatistics):
    """The infinity of a class that is masked hides no difference of the others."""

    def forward(self, x):
        return super().forward(x).index_fill(1, torch.tensor([3]), -torch.inf)


class BatchNormalized(BatchStatistics):
    def forward(self, x):
        return torch.nn.functional.batch_norm(self.net(x.flatten(1)), None, None, training=True)


@pytest.mark.parametrize("count", [1, 5])
def test_a_teacher_whose_answer_depends_on_the_batch_is_refused(tmp_path, count):
    with pytest.raises(ValueError, match=r"for a sample alone .*it fails: Expected more than 1 value"):
        CachedTeacher(BatchNormalized(), tmp_path)(torch.randn(count, 1, 8, 8))
    for net in (BatchStatistics(), MaskedStatistics()):
        with pytest.raises(
            ValueError,
            match=r"cache: the output teacher_layer='' of the teacher \w+Statistics .*Use a Teacher",
        ):
            CachedTeacher(net, tmp_path)(torch.randn(count, 1, 8, 8))


def test_an_answer_that_is_no_sample_s_is_refused(net, tmp_path):
    mean = CachedTeacher(lambda x: net(x).mean(), tmp_path)
    with pytest.raises(ValueError, match="for a sample alone is another one than in its batch"):
        mean(images(3))


def test_what_is_the_same_for_all_samples_is_given_with_each(tmp_path):
    class Anchored(Counted):
        def forward(self, x):
            return {
                "scores": super().forward(x),
                "anchors": torch.arange(6.0).view(2, 3),
                "levels": 3,
                "none": None,
            }

    net = Anchored()
    teacher = CachedTeacher(net, tmp_path)
    for batch in (images(2), images(2), images(3), images(1)):
        given, live = teacher(batch), Teacher(net)(batch)
        assert given.keys() == live.keys() and given["levels"] == 3 and given["none"] is None
        torch.testing.assert_close(given["scores"], live["scores"])
        assert torch.equal(given["anchors"], live["anchors"])


@pytest.mark.parametrize("change", ["optimizer", "data", "threshold", "code"])
def test_a_teacher_that_changed_is_asked_anew_and_that_is_said(net, tmp_path, change):
    CachedTeacher(net, tmp_path)(images(4))
    teacher = CachedTeacher(net, tmp_path)
    if change == "optimizer":
        net.head.bias.data = net.head.bias + 1
    elif change == "data":
        net.head.bias.data.add_(1)
    elif change == "threshold":
        net.scale = 2.0
    else:
        net.__class__ = type("Counted", (Counted,), {"forward": lambda self, x: 1 + Counted.forward(self, x)})
    with pytest.warns(
        UserWarning, match=r"4 answers of another state of the teacher Counted and none of this one"
    ):
        given = teacher(images(4))
    torch.testing.assert_close(given, Teacher(net)(images(4)))


def test_weights_that_change_while_a_teacher_runs(net, tmp_path):
    teacher = CachedTeacher(net, tmp_path)
    teacher(images(4))
    with torch.no_grad():
        net.head.bias.add_(1)
    with pytest.warns(UserWarning, match="has changed since it was asked last"):
        torch.testing.assert_close(teacher(images(4)), Teacher(net)(images(4)))


def test_a_number_that_changes_while_a_teacher_runs_is_seen_at_once(net, tmp_path):
    teacher = CachedTeacher(net, tmp_path)
    teacher(images(4))
    teacher._watched._next = float("inf")  # it is not time to look at everything again
    net.scale = 2.0
    with pytest.warns(UserWarning, match="has changed since it was asked last"):
        torch.testing.assert_close(teacher(images(4)), Teacher(net)(images(4)))


def test_a_setting_in_an_object_that_the_teacher_holds_is_of_its_state(tmp_path):
    class Config:
        def __init__(self, scale):
            self.scale, self.calls = scale, 0

    class Configured(Counted):
        def forward(self, x):
            self.config.calls += 1
            return super().forward(x) * self.config.scale

    def configured(scale):
        net = seeded(0, Configured)
        net.config = Config(scale)
        return net

    CachedTeacher(configured(1.0), tmp_path)(images(4))
    again = CachedTeacher(configured(1.0), tmp_path)
    again(images(4)), again(images(4))
    assert again.loaded.asked == [4, 1], "a count in the object is no change"
    net = configured(3.0)
    teacher = CachedTeacher(net, tmp_path)
    with pytest.warns(UserWarning, match="answers of another state of the teacher Configured"):
        torch.testing.assert_close(teacher(images(4)), Teacher(net)(images(4)))
    teacher._watched._next = float("inf")
    net.config.scale = 4.0
    with pytest.warns(UserWarning, match="has changed since it was asked last"):
        torch.testing.assert_close(teacher(images(4)), Teacher(net)(images(4)))


def test_what_a_teacher_said_between_a_change_that_nothing_tells_of_and_the_end_of_an_epoch_is_dropped(
    net, tmp_path
):
    before = copy.deepcopy(net)
    teacher = CachedTeacher(net, tmp_path)
    teacher(images(4))
    teacher.epoch_ended()
    teacher._watched._next = float("inf")
    net.head.bias.data.add_(1)
    teacher(images(2, first=50))  # is not the answer of the teacher whose fingerprint it gets
    with pytest.warns(
        UserWarning, match=r"has changed .*; 2 answers since it was last looked at as a whole are dropped"
    ):
        teacher.epoch_ended()
    other = CachedTeacher(before, tmp_path)
    other(images(4))
    torch.testing.assert_close(other(images(2, first=50)), Teacher(before)(images(2, first=50)))
    assert other.answers.found == 4


SCALE = {"of": 1.0}


def test_a_store_that_says_otherwise_than_the_teacher_is_refused(net, tmp_path):
    def scaled(x):
        return net(x) * float(SCALE["of"])  # a dict is an object in which no fingerprint can see a change

    CachedTeacher(scaled, tmp_path)(images(4))
    try:
        SCALE["of"] = 2.0
        with pytest.raises(
            ValueError, match=r"holds other answers of the teacher .*scaled than it gives now"
        ):
            CachedTeacher(scaled, tmp_path)(images(4))
    finally:
        SCALE["of"] = 1.0


def test_one_wrong_answer_among_many_is_enough(net, tmp_path):
    x = torch.randn(300, 1, 8, 8)
    teacher = CachedTeacher(net, tmp_path)
    teacher(x)
    (row,) = teacher.store.stat()
    query = "SELECT key, value FROM answers ORDER BY rowid LIMIT 1 OFFSET 200"
    ((key, value),) = teacher.store._connection.execute(query)
    wrong = 1.1 * torch.frombuffer(bytearray(value[-40:]), dtype=torch.float32)
    teacher.store.put({key: value[:-40] + wrong.numpy().tobytes()}, row["fingerprint"], "net")
    teacher.renew()
    with pytest.raises(
        ValueError, match=r"holds other answers .*\(1 of 300, up to 0\.1 of their norm apart\)"
    ):
        teacher(x)


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a store was unpickled",)


def test_what_a_stranger_has_put_into_a_store_does_not_run(net, tmp_path):
    teacher = CachedTeacher(net, tmp_path)
    live = teacher(images(4))
    (mark,), keys = [row["fingerprint"] for row in teacher.store.stat()], "SELECT key FROM answers"
    bombs = {key: pickle.dumps(Bomb()) for (key,) in teacher.store._connection.execute(keys)}
    teacher.store.put(bombs, mark, "net")
    assert torch.equal(teacher(images(4)), live)  # asked live
    teacher.renew()
    with pytest.raises(ValueError, match="holds other answers"):
        teacher(images(4))


def test_a_counter_in_the_teacher_is_no_change(tmp_path):
    class Counting(Counted):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x)

    net = seeded(0, Counting)
    CachedTeacher(net, tmp_path)(images(4))
    other = seeded(0, Counting)
    teacher = CachedTeacher(other, tmp_path)
    teacher(images(4)), teacher(images(4))
    assert other.asked == [4, 1] and len(teacher.store.stat()) == 1


def test_two_teachers_share_a_folder(net, tmp_path):
    other = seeded(2, Counted)
    for each in (net, other) * 2:
        torch.testing.assert_close(CachedTeacher(each, tmp_path)(images(3)), Teacher(each)(images(3)))


def test_normalization_and_autocast_are_part_of_the_key(net, tmp_path):
    for options in ({}, {"mean": 0.5, "std": 0.5}, {"precision": "bf16"}):
        for _ in range(2):
            given = CachedTeacher(net, tmp_path, **options)(images(3))
            torch.testing.assert_close(given, Teacher(net, **options)(images(3)))


@pytest.mark.parametrize(
    ("dtype", "top_k", "off"), [("float16", None, 1e-3), ("bfloat16", None, 1e-2), ("uint8", None, 1e-2)]
)
def test_fewer_bytes_cost_what_is_said(net, tmp_path, caplog, dtype, top_k, off):
    teacher = CachedTeacher(net, tmp_path, dtype=dtype, top_k=top_k)
    x = torch.randn(8, 1, 8, 8)
    with caplog.at_level(logging.INFO):
        cold, warm, live = teacher(x), teacher(x), Teacher(net)(x)
    assert torch.equal(cold, warm) and 0 < float((warm - live).norm() / live.norm()) < off
    assert "off by" in caplog.text and "KL divergence" in caplog.text
    assert warm.dtype == torch.float32


def test_the_largest_classes_alone(net, tmp_path):
    x = torch.randn(8, 1, 8, 8)
    given = CachedTeacher(net, tmp_path, top_k=3).tapped(x, ["", "body"])
    live = Teacher(net).tapped(x, ["", "body"])
    p, q = given[""].softmax(1), live[""].softmax(1)
    top = q.topk(3).indices
    torch.testing.assert_close(p.gather(1, top), q.gather(1, top))  # the largest keep their probability
    rest = p.scatter(1, top, 0.0)
    torch.testing.assert_close(rest.amax(1), rest.sum(1) / 7)  # and the others share what is left
    assert torch.equal(given["body"], live["body"])  # features are no classes
    with pytest.raises(ValueError, match=r"top_k=3 is for the class scores .*\['body'\] are none"):
        CachedTeacher(net, tmp_path, top_k=3).tapped(x, ["body"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "int4"}, "dtype='int4' must be one of float16, bfloat16, uint8"),
        ({"top_k": 0}, "top_k=0 must be 1 or more"),
        ({"limit_mb": -1}, "limit_mb=-1 must be above 0"),
    ],
)
def test_wrong_options_are_refused_at_once(net, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        CachedTeacher(net, tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "scale", "sentence"),
    [
        ({"top_k": 10}, 1.0, "top_k=10 of 10 classes leaves none out"),
        ({"dtype": "float16"}, 1e9, "dtype='float16' cannot hold .* take 'bfloat16'"),
    ],
)
def test_what_an_answer_cannot_be_kept_in_is_refused(net, tmp_path, options, scale, sentence):
    net.scale = scale
    with pytest.raises(ValueError, match=sentence):
        CachedTeacher(net, tmp_path, **options)(images(3))


def test_an_ensemble_of_cached_teachers(net, tmp_path):
    other = seeded(2, Counted)
    live = trained(Ensemble([Teacher(net), Teacher(other)]), lambda: [MultiTeacher(KD())])
    cached = Ensemble([CachedTeacher(copy.deepcopy(each), tmp_path) for each in (net, other)])
    assert trained(cached, lambda: [MultiTeacher(KD())])[0] == live[0]


class Noisy(TensorDataset):
    def __getitem__(self, place):
        x, y = super().__getitem__(place)
        return x + torch.rand(()), y


def test_data_that_are_augmented_anew_find_nothing_and_that_is_said_once(net, tmp_path):
    data = DataLoader(Noisy(*digits().dataset.tensors), batch_size=16)
    with pytest.warns(
        UserWarning, match=r"has found 0% of 64 samples in an epoch that is not the first"
    ) as said:
        trained(CachedTeacher(net, tmp_path), LOGITS, epochs=4, data=data)
    assert sum("in an epoch" in str(w.message) for w in said) == 1


def test_data_that_stay_find_everything_and_that_is_logged(net, tmp_path, recwarn):
    callback = LogitDistillation(CachedTeacher(net, tmp_path))
    trainer = quick_trainer(callbacks=[callback], max_epochs=2)
    trainer.fit(seeded(0, Plain), digits())
    assert trainer.callback_metrics["distillation/cache_hits"] == 1.0
    assert not any("in an epoch" in str(w.message) for w in recwarn)


def test_views_that_come_again_are_no_reason_for_the_warning(net, tmp_path, recwarn):
    class Views(LightningDataModule):
        views_per_image = 3

        def train_dataloader(self):
            return DataLoader(Noisy(*digits().dataset.tensors), batch_size=16)

    teacher = CachedTeacher(net, tmp_path)
    for epochs, said in ((3, 0), (4, 1)):
        trainer = quick_trainer(callbacks=[LogitDistillation(teacher)], max_epochs=epochs)
        trainer.fit(seeded(0, Plain), datamodule=Views())
        assert sum("in an epoch" in str(w.message) for w in recwarn) == said


def test_a_shared_model_in_training_mode_is_asked_in_eval_mode_and_left_alone_by_a_hit(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.9))
    teacher, x = CachedTeacher(model, tmp_path), torch.ones(3, 4)
    first = teacher(x)
    model.train()
    assert torch.equal(teacher(x), first) and model.training
    other = teacher(2 * x)
    assert not model.training and torch.equal(other, model(2 * x))
