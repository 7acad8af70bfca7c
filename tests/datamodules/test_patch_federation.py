"""Patches of several modalities among clients: nine cameras under a plan, whole days, nothing loaded that is not needed."""

import logging

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn

from lkd.datamodules import FederatedDataModule, ModalityPlan, Natural
from lkd.federated import Federation
from lkd.modules import MultimodalClient

from ..parks import DAYS, park, write_park

TYPES = [["rgb", "gray", "thermal", "context"], ["rgb", "context"], ["rgb"], ["gray"], ["thermal"]]
SHAPES = {"rgb": [3, 6, 6], "gray": [1, 4, 4], "thermal": [1, 6, 6], "context": [16]}
LOST = {(5, DAYS[0], 8, 3), (1, DAYS[1], 14, 3)}  # thermal files of cameras 5 and 1


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_park(tmp_path_factory.mktemp("nine"), cameras=range(1, 10), slots=(3,), lost=LOST)


def clients_of(root, stage="fit", public=0.0, client_fractions=(1.0, 0.0, 0.0), plan=None, **kwargs):
    data = park(root, **{"patch_size": 6, "gray_size": 4, **kwargs})
    data = FederatedDataModule(
        data, Natural("camera"), plan=plan, public=public, client_fractions=client_fractions
    )
    data.setup(stage)
    return data


def days_of(data, rows):
    return {data.data.patches.datasets["train"].patches[row].time[:10] for row in rows}


def same(one, other):
    (x, y), (u, v) = one, other
    assert torch.equal(y, v) and set(x) == set(u)
    return all(torch.equal(x[m], u[m]) for m in x if m != "present")


def test_nine_cameras_with_types_in_turns(root):
    data = clients_of(root, plan=ModalityPlan(TYPES))
    assert data.names == [f"C{number}" for number in range(1, 10)]
    for number, client in enumerate(data.clients):
        own = set(TYPES[number % 5])
        for x, _ in client.train_batches(0):
            assert set(x) == own | {"present"}
            assert torch.stack(list(x["present"].values())).any(0).all()
    assert [client.num_samples for client in data.clients] == [6] * 4 + [5] + [
        6
    ] * 4  # camera 5 has heat alone
    assert [client.present["thermal"] for client in data.clients] == [5, 0, 0, 0, 5, 6, 0, 0, 0]
    table = data.summary()
    assert table[0]["missing"]["thermal"] == pytest.approx(1 / 6) and table[1]["missing"]["thermal"] is None


def test_own_validation_and_test_are_the_cameras_own_days(root):
    data = clients_of(root, plan=ModalityPlan(TYPES))
    data.setup("test")
    for client in data.clients:
        ((x, y),) = client.ordered_batches("test")
        assert len(y) == 2 and set(x) == {*TYPES[client.id % 5], "present"}
        rows, patches = client.parts["test"][1], data.data.patches.datasets["test"].patches
        assert {(patches[row].camera, patches[row].time[:10]) for row in rows} == {(client.name, DAYS[4])}


def test_who_lacks_what_is_known_without_opening_pictures(root, monkeypatch):
    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *words, **kw: opened.append(words) or real(*words, **kw))
    data = clients_of(root, plan=ModalityPlan(TYPES, missing=0.3))
    data.masks(), data.summary(), data.label_counts()
    files = {words[0] for words in opened}
    assert len(files) == 4  # two of the first sample, which says what modalities there are, of two parts


def test_workers_bring_the_clients_the_same(root):
    plan = ModalityPlan(TYPES, missing=0.3)
    alone, many = clients_of(root, plan=plan), clients_of(root, plan=plan, num_workers=1)
    for number in (0, 4):
        pairs = zip(
            alone.clients[number].train_batches(3), many.clients[number].train_batches(3), strict=True
        )
        assert all(same(one, other) for one, other in pairs)


def test_pooled_cameras_have_the_modalities_of_all(root):
    one, *others = clients_of(root, plan=ModalityPlan(TYPES)).clients[[0, 3, 4]]
    for x, y in one.pooled(others).train_batches(0):
        assert set(x) == {*SHAPES, "present"} and len(y) <= 4
        absent = ~x["present"]["rgb"]
        assert not x["rgb"][absent].any()


@pytest.mark.parametrize("modalities", [None, ["gray", "context"]])
def test_split_by_day_neither_a_public_share_nor_a_clients_own_split_parts_a_day(root, modalities):
    data = clients_of(root, modalities=modalities, public=0.3)
    held = days_of(data, data.clients.public._rows)
    theirs = [days_of(data, client.parts["train"][1]) for client in data.clients]
    assert len(held) == 1 and all(days == set(DAYS[:3]) - held for days in theirs)
    data = clients_of(root, modalities=modalities, client_fractions=(0.7, 0.0, 0.3))
    for client in data.clients:
        parts = [days_of(data, client.parts[name][1]) for name in ("train", "test")]
        assert parts == [set(DAYS[:2]), {DAYS[2]}]


def test_other_splits_have_no_groups(root):
    assert "group" not in park(root, split="by_time").patches.datasets["train"].columns
    assert "group" not in park(root, None, split="by_time").patches.datasets["train"].columns


def test_a_patch_with_nothing_of_what_is_asked_for_is_left_out(root, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = park(root, ["thermal"]).patches.datasets["train"]
    assert len(dataset) == 9 * 6 - 2 == len(dataset.columns["label"]) and dataset.present is None
    assert (
        "2 of 54 patches have no thermal" in caplog.text and "left out 2 patches that have no" in caplog.text
    )


def test_context_alone_needs_the_list_of_labels_only(root, tmp_path):
    (tmp_path / "LABELS").mkdir()
    (tmp_path / "LABELS" / "all.txt").write_text((root / "LABELS" / "all.txt").read_text())
    data = park(tmp_path, ["context"])
    assert len(data.patches.datasets["train"]) == 54
    with pytest.raises(FileNotFoundError, match="holds no PATCHES"):
        park(tmp_path, ["gray", "context"])


def test_nothing_of_the_label_is_in_the_context(root, tmp_path):
    lines = (root / "LABELS" / "all.txt").read_text().splitlines()
    (tmp_path / "LABELS").mkdir()
    (tmp_path / "LABELS" / "all.txt").write_text(
        "\n".join(f"{line[:-1]}{1 - int(line[-1])}" for line in lines)
    )
    here, there = (park(folder, ["context"]).patches.datasets["train"] for folder in (root, tmp_path))
    assert torch.equal(here.context, there.context) and torch.equal(here.labels, 1 - there.labels)


def federation():
    def client(*names):
        return MultimodalClient(
            {name: nn.Flatten() for name in names}, 2, {name: SHAPES[name] for name in names}, embedding=4
        )

    return Federation(
        client(*TYPES[0]), other_models=[client(*names) for names in TYPES[1:]], shared_layers="*"
    )


def test_a_federation_goes_on_as_if_it_had_not_stopped(root, tmp_path):
    def fit(rounds, name, **kwargs):
        torch.manual_seed(0)
        module, data = federation(), clients_of(root, plan=ModalityPlan(TYPES, missing=0.2))
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(max_epochs=rounds, accelerator="cpu", default_root_dir=tmp_path, **options)
        trainer.fit(module, datamodule=data, **kwargs)
        trainer.save_checkpoint(tmp_path / name)
        return module.state_dict()

    whole = fit(3, "whole.ckpt")
    fit(2, "half.ckpt")
    resumed = fit(3, "rest.ckpt", ckpt_path=str(tmp_path / "half.ckpt"))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_real_labels_by_day(sample):
    """23 days, of which the first 14 train, 4 validate and 5 test; a slot of a day is in one part, whoever sees it."""
    data = park(sample("cnrpark_ext"), ["context"])
    days = [sorted({patch.time[:10] for patch in part}) for part in data.splits]
    assert [len(part) for part in days] == [14, 4, 5] and days == [sorted(part) for part in days]
    assert days[0][-1] < days[1][0] and days[1][-1] < days[2][0]
    where = {}
    for name, part in data.splits._asdict().items():
        for patch in part:
            where.setdefault((patch.slot, patch.time[:10]), set()).add(name)
    assert all(len(parts) == 1 for parts in where.values()) and sum(map(len, data.splits)) == 144_965
