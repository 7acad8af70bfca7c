"""Files of the project around the code: they parse, agree with each other and name what exists."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

import lkd

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_citation_is_valid_and_of_this_version():
    citation = read(ROOT / "CITATION.cff")
    assert {"cff-version", "message", "title", "authors"} <= citation.keys(), "what the format requires"
    assert citation["cff-version"] == "1.2.0" and citation["type"] in ("software", "dataset")
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (lkd.__version__, PROJECT["license"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_what_there_is(path):
    workflow = read(path)
    assert workflow["name"] and workflow[True], "YAML reads the key `on` as true"
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        made = re.match(r"make ([\w-]+)", command)
        assert made[1] in TARGETS if made else command.startswith(".venv/bin/python cli.py "), command


def test_every_python_that_is_promised_is_tried():
    (workflow,) = WORKFLOWS
    tried = read(workflow)["jobs"]["newest"]["strategy"]["matrix"]["python"]
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    assert tried == promised and PROJECT["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_for_issues_has_what_it_needs(path):
    form = read(path)
    assert form["name"] and form["description"]
    named = [field for field in form["body"] if field["type"] != "markdown"]
    assert named and all(field["attributes"]["label"] for field in named)
    assert len({field["id"] for field in named}) == len(named)


def test_pre_commit_runs_what_make_does():
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["ruff", "ruff-format", "mypy", "codespell"]
    ours = [hook["entry"].split()[0] for hook in hooks if "entry" in hook]
    assert {Path(entry).name for entry in ours} == {"ruff", "mypy"}


def test_the_minimum_job_names_tests_that_there_are():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    paths = re.search(r"^MINIMUM_TESTS := (.*)$", makefile, flags=re.M)[1].split()
    assert paths and all((ROOT / path).exists() for path in paths)


def test_every_requirement_has_its_license():
    table = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([\w-]+) \| \S", table, flags=re.M)
    extras = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"}
    lines = PROJECT["dependencies"] + [line for each in extras.values() for line in each]
    assert sorted(set(listed) - {"package"}) == sorted(re.split(r"[^\w.-]", line)[0] for line in lines)


def test_the_list_of_papers_is_that_of_the_docstrings():
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    third_party = runpy.run_path(str(ROOT / "docs/third_party.py"))
    assert third_party["page"](text) == text, "run python docs/third_party.py"
    assert "arXiv:1812.06127" in text and "`lkd/callbacks" not in text
