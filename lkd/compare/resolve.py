"""The full configuration of a run, as the parser of `fit` reads it, and what a comparison adds to it."""

import contextlib
import copy
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lkd.compare.grid import Run, RunGrid

Config = dict[str, Any]
SEEDED = ("seed_everything", "data.seed", "model.seed")
DROPPED = ("ClientProgress",)  # callbacks that only show something on the terminal


def parse(arguments: list[str], who: str) -> Config:
    """Returns the configuration that `fit` would run, with all defaults; no object is created from it.

    Args:
        arguments: Arguments of `fit`.
        who: Name of the method, for messages.

    Raises:
        ValueError: If the parser refuses the arguments; the message is the parser's.
    """
    from lkd import lightning_cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            lightning_cli.run(["fit", *arguments, "--print_config"])
        except SystemExit as ended:
            failed = ended.code not in (0, None)
    if failed:
        said = [line for line in err.getvalue().splitlines() if line.strip()]
        raise ValueError(f"{who}: {said[-1].removeprefix('error: ') if said else 'the parser refuses it.'}")
    config: Config = yaml.safe_load(out.getvalue())
    return config


def for_run(config: Config, grid: RunGrid, run: Run) -> Config:
    """Returns a method's configuration with the run's seed and the measuring callback, and without folders.

    Raises:
        ValueError: If an option of `seeded` is not there.
    """
    config = copy.deepcopy(config)
    for name in (
        "supervised_twin",
        "save_as",
    ):  # of a run that is looked at by itself; a twin is a method here
        config.pop(name, None)
    for key in grid.seeded or SEEDED:
        place = _place(config, key)
        if place is not None:
            place[key.rpartition(".")[2]] = run.seed
        elif grid.seeded:
            raise ValueError(f"{run}: seeded: there is no option {key} to be set to the seed.")
    trainer = config["trainer"]
    callbacks = [c for c in _list(trainer.get("callbacks")) if not c["class_path"].endswith(DROPPED)]
    log: Config = {"every": grid.every, "part": grid.part}
    if grid.limit != RunGrid.limit:  # said only where it matters, so that what was run before stays done
        log["limit"] = grid.limit
    trainer["callbacks"] = [*callbacks, {"class_path": "lkd.callbacks.TradeoffLog", "init_args": log}]
    trainer["enable_progress_bar"] = trainer["enable_model_summary"] = False
    if not any(c["class_path"].endswith("ModelCheckpoint") for c in callbacks):
        trainer["enable_checkpointing"] = False
    trainer["logger"] = trainer["default_root_dir"] = None
    config.pop("more_loggers", None)  # the comparison's own run has the tables
    return config


def digest(config: Config) -> str:
    """Returns a hash that tells one configuration from another."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def save(config: Config, folder: Path) -> Path:
    """Writes a run's configuration, such that `fit --config` runs it and leaves its logs in `folder/fit`."""
    logger = {"save_dir": str(folder / "fit"), "name": "", "version": ""}
    places = {
        "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": logger},
        "default_root_dir": str(folder / "fit"),
    }
    trainer = copy.deepcopy(config["trainer"]) | places
    for callback in _list(trainer.get("callbacks")):
        if callback["class_path"].endswith("ModelCheckpoint"):  # never over another run's, or a teacher
            callback["init_args"] = {
                **(callback.get("init_args") or {}),
                "dirpath": str(folder / "fit" / "checkpoints"),
            }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**config, "trainer": trainer}, sort_keys=False), encoding="utf-8")
    return path


def wandb_options(config: Config) -> Config | None:
    """Returns what the configuration gives to its WandbLogger; None if it has none."""
    given = [*_list(config["trainer"].get("logger")), *_list(config.get("more_loggers"))]
    loggers = [entry for entry in given if isinstance(entry, dict)]
    found = (e for e in loggers if e["class_path"].endswith(("WandbLogger", "WandbRunLogger")))
    return next((dict(entry.get("init_args") or {}) for entry in found), None)


def _list(given: Any) -> list[Any]:
    if given is None or isinstance(given, bool):
        return []
    return list(given) if isinstance(given, list) else [given]


def _place(config: Config, key: str) -> Config | None:
    """Finds the mapping that holds an option, by the option's dotted name as on the command line."""
    *sections, name = key.split(".")
    node: Any = config
    for section in sections:
        node = next((inner[section] for inner in _insides(node) if section in inner), None)
    return next((inner for inner in _insides(node) if name in inner), None)


def _insides(node: Any) -> Iterator[Config]:
    if isinstance(node, dict):
        yield from (inner for inner in (node.get("init_args"), node) if isinstance(inner, dict))
