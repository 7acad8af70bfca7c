"""A folder belongs to one configuration."""

import pytest

from lkd.edge.offload.kept import claim


def test_another_configuration_is_refused_and_named(tmp_path):
    place = claim(tmp_path, {"payload": {"quality": 70}})
    (place / "test-000000.safetensors").touch()
    assert claim(tmp_path, {"payload": {"quality": 70}}) == place
    with pytest.raises(
        ValueError, match=r"answers of another configuration \(payload\.quality: 70 there, 80 here\): .*anew"
    ):
        claim(tmp_path, {"payload": {"quality": 80}})
    assert [*place.iterdir()]


def test_anew_deletes_answers_alone(tmp_path):
    place = claim(tmp_path, {"a": 1})
    for path in (place / "test-000000.safetensors", place / "notes.txt", tmp_path / "points.md"):
        path.touch()
    claim(tmp_path, {"a": 2}, anew=True)
    assert [p.name for p in place.iterdir()] == ["notes.txt"] and (tmp_path / "points.md").is_file()
    claim(tmp_path, {"a": 2})


def test_answers_of_nobody_are_not_taken(tmp_path):
    (claim(tmp_path, {"a": 1}) / "test-000000.safetensors").touch()
    (tmp_path / "offload.json").unlink()
    with pytest.raises(ValueError, match=r"holds answers without offload\.json"):
        claim(tmp_path, {"a": 1})
    assert not list(claim(tmp_path, {"a": 1}, anew=True).iterdir())
