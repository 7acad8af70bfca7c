"""YAML with a key twice is refused wherever lkd reads one, and where a key comes twice in two places it is not."""

import pytest
import yaml

from lkd.cli import main
from lkd.compare.reading import read
from lkd.datamodules.detection.formats.data_yaml import read_data_yaml
from lkd.datamodules.io.left_out import LeftOut
from lkd.federated.engines.local_file import LocalFile
from lkd.unique_keys import RepeatedKeyError, load_yaml

ALIAS = "a: &one {x: 1, y: 2}\nb: *one\nc: {<<: *one, x: 3}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: 'a' stands in line 1 already"),
        ("top:\n  - {lr: 1}\n  - lr: 1\n    lr: 1\n", "line 4: 'lr' stands in line 3"),
        ("{1: a, 1: b}", "line 1: '1' stands in line 1"),
        ("a: 1\n'a': 2\n", "line 2: 'a'"),
        ("[[{x: {y: 0, y: 0}}]]", "'y'"),
    ],
)
def test_a_key_twice(text, message):
    with pytest.raises(RepeatedKeyError, match=message):
        load_yaml(text)


@pytest.mark.parametrize("text", ["", "3", "a: {x: 1}\nb: {x: 1}", "{1: a, '1': b}", ALIAS, "- a\n- a"])
def test_what_is_no_key_twice(text):
    assert load_yaml(text) == yaml.safe_load(text)


def test_a_collection_that_holds_itself_ends():
    found = load_yaml("&a [*a, 1]")
    assert found[0] is found


def test_every_reader_of_yaml_says_it(tmp_path, capsys):
    path = tmp_path / "x.yaml"
    path.write_text("trainer: {max_epochs: 1}\ndata: {class_path: Digits}\ntrainer: {max_epochs: 2}\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(path)])
    assert "line 3: 'trainer' stands in line 1 already" in capsys.readouterr().err
    path.write_text("base: a.yaml\nmethods:\n  A: {baseline: true}\n  A: {}\n")
    with pytest.raises(ValueError, match=r"x.yaml, line 4: 'A' stands in line 3"):
        read(path)
    path.write_text("names: [car]\nnames: [bus]\n")
    with pytest.raises(ValueError, match=r"x.yaml is damaged: line 2: 'names' stands in line 1"):
        read_data_yaml(path, LeftOut())
    path.write_text("data: {class_path: Digits}\ndata: {class_path: Wine}\n")
    with pytest.raises(ValueError, match=r"line 2: 'data' stands in line 1"):
        LocalFile.read(path)
