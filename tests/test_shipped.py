"""lkd's own configs are found in any folder, by `lkd:` or their full path; what is not there is named."""

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from lkd import shipped
from lkd.cli import main
from lkd.compare.reading import read
from lkd.edge.of_student import with_student
from lkd.teachers.recipe import is_made, require_recipe

ORACLE, DIGITS = "lkd:parking/oracle.yaml", "lkd:classification/digits.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder that is not the repository's."""
    monkeypatch.chdir(tmp_path)


def printed(capsys, *args):
    with pytest.raises(SystemExit) as ended:
        main(["fit", *args, "--print_config"])
    assert not ended.value.code
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("name", [ORACLE, str(shipped.find(ORACLE))], ids=["name", "full path"])
def test_a_config_of_lkds_own_names_others_of_its_own(capsys, name):
    config = printed(capsys, "--config", name)
    assert config["model"]["init_args"]["network"] == "lkd:networks/small.yaml"
    assert config["model"]["init_args"]["start_recipe"] == "lkd:parking/street.yaml"
    assert config["model"]["init_args"]["start"].startswith("runs/"), "outputs stay in the working directory"


def test_every_name_in_them_is_there():
    for name in shipped.names():
        text = shipped.read(name)
        assert not re.search(r"configs/\S+\.yaml", text), name
        for found in re.findall(r"lkd:[\w./-]+", text):
            assert shipped.find(found.rstrip(".")).is_file(), f"{name} names {found}"
        assert yaml.safe_load(text), name


def test_a_copy_of_lkds_files_alone_says_where_the_configs_would_be(tmp_path):
    path = tmp_path / "lkd/shipped.py"
    path.parent.mkdir()
    path.write_bytes(shipped.Path(shipped.__file__).read_bytes())
    spec = importlib.util.spec_from_file_location("shipped_alone", path)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    assert alone.find("mine.yaml").name == "mine.yaml" and not alone.names() and not alone.is_own("mine.yaml")
    with pytest.raises(
        FileNotFoundError, match=f"no config '{ORACLE}': neither .*lkd/configs nor .* is a folder"
    ):
        alone.find(ORACLE)


def test_a_copy_in_the_working_directory_is_the_users_own(capsys, tmp_path):
    copy = tmp_path / "configs/parking/oracle.yaml"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(shipped.find(ORACLE).read_bytes())
    config = printed(capsys, "--config", "configs/parking/oracle.yaml")
    assert config["model"]["init_args"]["network"] == "configs/networks/small.yaml"


def test_a_network_a_recipe_a_comparison_and_a_student_of_lkds_own():
    yolo_import = pytest.importorskip("ultralytics") and pytest.importorskip("lkd.models.yolo_import")
    assert yolo_import.bundled("lkd:networks/small.yaml")["nc"] == 1
    require_recipe("recipe", "lkd:classification/digits_teacher.yaml")
    assert not is_made("lkd:classification/digits_teacher.yaml", shipped.Path("teacher.ckpt"))
    grid = read("lkd:tradeoff/har.yaml")
    assert (grid.base, grid.folder) == ("lkd:multimodal/har_fedavg.yaml", "runs/tradeoff/har")
    recipe = "--model.algorithm.teacher.recipe=lkd:multimodal/har_oracle.yaml"
    assert any(recipe in method.overrides for method in grid.methods.values())
    assert with_student(["--config", "lkd:edge/digits.yaml"])[:2] == ["--config", DIGITS]


@pytest.mark.parametrize(
    "args, message",
    [
        (["fit", "--config", "lkd:parking/orcle.yaml"], f"did you mean '{ORACLE}'"),
        (["fit", "--config=configs/parking/oracle.yaml"], f"no such file in .*own is '{ORACLE}'"),
        (["compare", "configs/tradeoff/digits.yaml"], "lkd's own is 'lkd:tradeoff/digits.yaml'"),
        (["compress", "--student=configs/traffic/oracle.yaml"], "lkd's own is 'lkd:traffic/oracle.yaml'"),
        (
            ["fit", f"--config={DIGITS}", "--distillation.teacher.recipe=configs/parking/teacher.yaml"],
            "recipe='configs/parking/teacher.yaml' does not exist; lkd's own is 'lkd:parking/teacher.yaml'",
        ),
    ],
)
def test_what_is_not_there_is_named_with_lkds_own(args, message):
    with pytest.raises(SystemExit, match=message):
        main(args)


@pytest.mark.slow
def test_a_fit_and_its_recipe_run_outside_of_the_repository(tmp_path):
    short = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    subprocess.run([sys.executable, "-m", "lkd", "fit", "--config", DIGITS, *short], check=True)
    assert (tmp_path / "runs/digits_teacher/teacher.ckpt").is_file()
    assert (tmp_path / "runs/digits/version_0/metrics.csv").is_file()
