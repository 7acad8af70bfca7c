"""Ensemble: the teachers' own outputs side by side, each as it would be alone."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from lkd.teachers import Ensemble, Teacher
from lkd.teachers import teacher as teacher_file

X = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))


def nets(count=3, classes=6):
    return [nn.Sequential(nn.Linear(4, 8 + i), nn.Dropout(), nn.Linear(8 + i, classes)) for i in range(count)]


def load(source, *_):
    """Stands for reading a file."""
    return nn.Linear(4, 6) if isinstance(source, str) else source


def test_stacks_what_each_gives_alone():
    networks = nets()
    ensemble = Ensemble([Teacher(net) for net in networks])
    output = ensemble(X.requires_grad_())
    assert output.shape == (5, 3, 6) and not output.requires_grad
    for k, net in enumerate(networks):
        torch.testing.assert_close(output[:, k], net.eval()(X))


def test_members_keep_their_batch_size_precision_and_frozen_eval_mode():
    sizes = []
    counted = Teacher(lambda x: sizes.append(len(x)) or x, batch_size=2)
    low = Teacher(nn.Linear(4, 4), precision="bf16")
    ensemble = Ensemble([counted, low])
    output = ensemble(X)
    assert sizes == [2, 2, 1]
    torch.testing.assert_close(output[:, 1], low(X).float())
    assert torch.equal(output[:, 0], X)  # not rounded by its neighbor
    ensemble.train()
    assert not any(m.training for m in ensemble.modules())
    assert not any(p.requires_grad for p in ensemble.parameters())


def test_a_batch_of_as_many_samples_as_teachers_is_not_mixed_up():
    networks = nets(5)
    output = Ensemble([Teacher(net, batch_size=5) for net in networks])(X)
    torch.testing.assert_close(output[2, 4], networks[4].eval()(X)[2])


def test_layers_of_single_teachers_have_addresses():
    networks, calls = nets(), []
    teachers = [Teacher(net, batch_size=2) for net in networks]
    networks[1].register_forward_hook(lambda *_: calls.append(1))
    tapped = Ensemble(teachers).tapped(X, ["", "1.0", "2"])
    assert tapped[""].shape == (5, 3, 6) and len(calls) == 3  # chunks of two samples, each run once
    torch.testing.assert_close(tapped["1.0"], networks[1][0](X))
    torch.testing.assert_close(tapped["2"], networks[2](X))
    networks[1].register_forward_hook(lambda *_: calls.append(1))
    calls.clear()
    Ensemble(teachers).tapped(X, ["0.0"])
    assert not calls  # the others are not asked
    with pytest.raises(ValueError, match=r"teacher_layer='7' is not a layer"):
        Ensemble(teachers).tapped(X, ["1.7"])
    for layer in ("3.0", "body"):
        with pytest.raises(ValueError, match=f"teacher_layer='{layer}' must be '' or begin with .* 0 to 2"):
            Ensemble(teachers).tapped(X, [layer])


def test_entries_of_dict_outputs_are_stacked():
    ensemble = Ensemble([Teacher(lambda x, k=k: {"logits": x + k, "rest": 0}) for k in range(2)])
    tapped = ensemble.tapped(X, [":logits", "1.:logits"])
    torch.testing.assert_close(tapped[":logits"], torch.stack([X, X + 1], 1))
    torch.testing.assert_close(tapped["1.:logits"], X + 1)


def test_recipes_run_when_the_ensemble_is_prepared_and_not_before(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(teacher_file, "follow", lambda recipe, path: made.append(path.name))
    monkeypatch.setattr(teacher_file, "load", load)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{}")
    ensemble = Ensemble([Teacher(f"{name}.ckpt", recipe=str(recipe)) for name in "ab"])
    assert made == [] and list(ensemble.parameters()) == []
    assert ensemble.prepare() is ensemble
    assert made == ["a.ckpt", "b.ckpt"]
    ensemble.prepare()
    assert made == ["a.ckpt", "b.ckpt"]
    assert ensemble(X).shape == (5, 2, 6)
    assert not any(p.requires_grad for p in ensemble.parameters())


def test_unprepared_members_are_prepared_by_the_first_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_file, "follow", lambda *_: None)
    monkeypatch.setattr(teacher_file, "load", load)
    (tmp_path / "recipe.yaml").write_text("{}")
    teacher = Teacher("a.ckpt", recipe=str(Path(tmp_path) / "recipe.yaml"))
    assert Ensemble([teacher])(X).shape == (5, 1, 6)


def test_copies():
    ensemble = Ensemble([Teacher(net) for net in nets()])
    torch.testing.assert_close(copy.deepcopy(ensemble)(X), ensemble(X))


def test_bad_input():
    with pytest.raises(ValueError, match=r"teachers=\[\] names no teacher"):
        Ensemble([])
    with pytest.raises(TypeError, match=r"teachers\[1\] is a Linear; wrap it: Teacher"):
        Ensemble([Teacher(nn.Linear(4, 3)), nn.Linear(4, 3)])
    with pytest.raises(ValueError, match=r"teacher 1 gives \(5, 4\) and teacher 0 \(5, 3\).*same classes"):
        Ensemble([Teacher(nn.Linear(4, 3)), Teacher(nn.Linear(4, 4))])(X)
    with pytest.raises(TypeError, match=r"teacher 0 gives a dict, not a tensor of logits; .*':logits'"):
        Ensemble([Teacher(lambda x: {"logits": x})])(X)
