"""What clients keep of an answer that does not count is undone, in memory and in files, also by another process."""

import os
import shutil

import pytest
import torch

from lkd.federated.client.state import ClientStore
from lkd.federated.client.state_files import StateFiles


def state(value):
    return {"c": {"w": torch.full((2,), float(value))}}


def answer(store, client, value, mark=0):
    store.mark = mark
    store.remember(client)
    store.put(client, state(value))


def value(store, client):
    return store.get(client)["c"]["w"][0].item() if store.get(client) else None


@pytest.fixture(params=["memory", "files", "files without links"])
def store(request, tmp_path, monkeypatch):
    """A store, and what stands for it after its process has died."""
    if request.param == "memory":
        store = ClientStore()
        return lambda: store
    if request.param == "files without links":

        def refuses(*paths):
            raise OSError("no links here")

        monkeypatch.setattr(os, "link", refuses)
    return lambda: StateFiles(tmp_path)


def test_the_last_answer_is_undone_once(store):
    answer(store(), 3, 1)
    answer(store(), 3, 2)
    answer(store(), 4, 7)
    store().undo(3)
    assert value(store(), 3) == 1 and value(store(), 4) == 7
    store().undo(3)
    assert value(store(), 3) == 1
    store().undo(4)
    assert value(store(), 4) is None and len(store()) == 1


def test_another_answer_than_the_one_meant_is_not_undone(store):
    """A message that never came to the client leaves the answer before it alone, which the server has taken."""
    answer(store(), 3, 1, mark=5)
    store().undo(3, mark=6)
    assert value(store(), 3) == 1
    answer(store(), 3, 2, mark=6)
    store().undo(3, mark=6)
    assert value(store(), 3) == 1


def test_what_was_accepted_stays(store):
    answer(store(), 3, 1)
    store().settle()
    store().undo(3)
    assert value(store(), 3) == 1 and list(store().state_dict()) == [3]


def test_an_answer_that_changed_nothing(store):
    answer(store(), 3, 1)
    store().settle()
    store().remember(3)
    store().undo(3)
    assert value(store(), 3) == 1


def test_a_checkpoint_replaces_what_could_be_undone(tmp_path):
    store = StateFiles(tmp_path)
    answer(store, 3, 1)
    store.load_state_dict({3: state(9)})
    store.undo(3)
    assert value(store, 3) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"3.safetensors"}
    shutil.rmtree(tmp_path)


def test_in_a_shared_folder_each_process_accepts_its_own_answers(tmp_path):
    """The first command of an exchange reaches one process after another has answered in it."""
    mine, others = StateFiles(tmp_path, shared=True), StateFiles(tmp_path, shared=True)
    answer(others, 4, 1)
    others.settle()
    answer(others, 4, 2)
    answer(mine, 3, 1)
    mine.settle()
    others.undo(4)
    mine.undo(3)
    assert value(others, 4) == 1 and value(mine, 3) == 1
