"""The verb `cache`: fills the store of a `CachedTeacher`, inspects it, tests it and shrinks it."""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lkd.callbacks import Distillation, EpochLines
from lkd.distillation.wrapping import wrap
from lkd.edge.cache import schema
from lkd.edge.cache.store import Store
from lkd.metrics.tables import print_table
from lkd.parser import Parser
from lkd.server_model import is_federation
from lkd.teachers.cached import CachedTeacher, cached_in
from lkd.verb import Verb

KINDS = ("build", "stat", "verify", "prune")


class _Cache(Verb):
    """Options of all four subcommands; only the configuration is read."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the verb's own options."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--epochs", type=int, default=1, help="build: epochs of training data to go through."
        )
        parser.add_argument(
            "--share", type=float, default=0.1, help="verify: share of the answers that are asked again."
        )
        parser.add_argument("--draw", type=int, default=0, help="verify: seed of which these are.")
        _add_prune(parser)

    def instantiate_classes(self) -> None:
        """Makes no objects, as only the configuration is read."""


class _Filled(_Cache):
    """Objects of a `fit`, with a Trainer that measures and writes nothing."""

    def before_instantiate_classes(self) -> None:
        """Removes the parts of a run that write files."""
        trainer = self.config["trainer"]
        for name, value in _QUIET.items():
            trainer[name] = value
        given = trainer["callbacks"] or []
        trainer["callbacks"] = [callback for callback in given if "teacher" in callback.get("init_args", {})]
        trainer["max_epochs"] = self.config["epochs"]
        self.config["more_loggers"] = []

    def instantiate_classes(self) -> None:
        """Makes trainer, data, model and distillation."""
        super(Verb, self).instantiate_classes()


_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "max_steps": -1,
    "max_time": None,
    "limit_val_batches": 0,
    "num_sanity_val_steps": 0,
    "fast_dev_run": False,
}


class _AsksOnly(Callback):
    """Callback for the forward half of steps: the teacher is asked as in training, no weight changes."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wraps the distilled module, so that it has no optimizer, nor a schedule that waits for a metric."""

        def step(module: LightningModule, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
            with torch.no_grad():
                inner(module, *args, **kwargs)

        def optimizers(module: LightningModule, inner: Callable[..., Any]) -> None:
            inner(module)  # tells the distillation that the module is complete

        self._undo = [
            wrap(pl_module, name, method)[1]
            for name, method in (("training_step", step), ("configure_optimizers", optimizers))
        ]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes the wrapper, before the distillation removes its own."""
        while self._undo:
            self._undo.pop()()


def run(args: Sequence[str]) -> None:
    """Runs `cache build`, `stat`, `verify` or `prune`.

    Args:
        args: The subcommand, options of a `fit`, and those of the verb; for `stat` and `prune` `--cache FOLDER`
            is enough in place of the options of a `fit`.

    Raises:
        ValueError: For wrong options, for a configuration without a `CachedTeacher`, or, in `verify`, for a
            store that holds none of its answers.
        FileNotFoundError: If there is no store yet.
        RuntimeError: In `verify`, if an answer is not the teacher's.
    """
    if not args or args[0] not in KINDS:
        raise ValueError(
            f"cache {args[0] if args else ''}: give one of {', '.join(KINDS)}, and then --config CONFIG.yaml, or for stat and prune --cache FOLDER."
        )
    kind, options = args[0], list(args[1:])
    if kind in ("build", "verify"):
        _go_through(kind, options)
        return
    if any(word.partition("=")[0] == "--cache" for word in options):
        config = _alone(kind).parse_args(options)
        folders = [config["cache"]]
    else:
        cli = _Cache.parsed(f"cache {kind}", __doc__, options)
        config, folders = cli.config, _folders(cli)
    stores = [_store(folder) for folder in folders]
    if kind == "prune":
        teacher, limit = config["teacher"], config["limit_mb"]
        if teacher is None and limit is None:
            raise ValueError(
                "cache prune: say what is dropped, by --teacher (the begin of a fingerprint, see cache stat) or --limit_mb."
            )
        for store in stores:
            print(f"{store.prune(teacher, limit):,} answers dropped from {store.folder}.")
    _show(stores)


def _alone(kind: str) -> Parser:
    """Makes the parser of what a folder is enough for, without a configuration."""
    parser = Parser(prog=f"python cli.py cache {kind}", description=__doc__)
    parser.add_argument("--cache", type=str, required=True, help="The folder of the store.")
    if kind == "prune":
        _add_prune(parser)
    return parser


def _add_prune(parser: LightningArgumentParser) -> None:
    parser.add_argument(
        "--teacher",
        type=str | None,
        default=None,
        help="prune: begin of a fingerprint, all of which is dropped.",
    )
    parser.add_argument(
        "--limit_mb", type=float | None, default=None, help="prune: most megabytes that stay."
    )


def _go_through(kind: str, options: list[str]) -> None:
    cli = _Filled.parsed(f"cache {kind}", __doc__, options, seeded=True)
    if not 0 < cli.config["share"] <= 1 or cli.config["epochs"] < 1:
        raise ValueError(
            f"cache {kind}: --share={cli.config['share']} must be in (0, 1], --epochs={cli.config['epochs']} at least 1."
        )
    trainer: Any = cli.trainer
    if is_federation(cli.model):
        raise ValueError(
            f"cache {kind}: clients of a Federation fill the store themselves, in the first round of each; there is nothing to go through before."
        )
    teachers = [t for c in trainer.callbacks if isinstance(c, Distillation) for t in cached_in(c.teacher)]
    if not teachers:
        raise ValueError(f"cache {kind}: the distillation of this configuration has no CachedTeacher; {_HOW}")
    if kind == "verify":
        draw = random.Random(cli.config["draw"])
        for teacher in teachers:
            _store(teacher.store.folder)
            teacher.answers.check = lambda there: [
                place for place in there if draw.random() < cli.config["share"]
            ]
    trainer.callbacks.append(_AsksOnly())
    if trainer.progress_bar_callback is None:
        trainer.callbacks.append(EpochLines())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`training_step` returned `None`")
        warnings.filterwarnings("ignore", message=r"`LightningModule.configure_optimizers` returned `None`")
        trainer.fit(cli.model, datamodule=cli.datamodule)
    for teacher in teachers:
        _report(kind, teacher)
    _show([teacher.store for teacher in teachers])


def _report(kind: str, teacher: CachedTeacher) -> None:
    answers = teacher.answers
    where = teacher.store.folder
    if kind == "build":
        found, asked = answers.found, answers.asked
        print(
            f"{asked:,} samples; {found:,} of them were in {where} already, and {asked - found:,} were asked about."
        )
    elif not answers.checked:
        raise ValueError(
            f"cache verify: {where} holds nothing that this configuration asks; fill it by cache build."
        )
    elif answers.wrong:
        raise RuntimeError(
            f"{len(answers.wrong):,} of {answers.checked:,} answers of {where} that were asked again are not what the teacher gives, up to "
            f"{max(answers.wrong):.2g} of their norm apart: prune them (cache prune --teacher), and build anew."
        )
    else:
        print(f"{answers.checked:,} answers of {where} were asked again, and are what the teacher says.")


_HOW = "write teacher: {class_path: CachedTeacher, init_args: {model: ..., cache: FOLDER}}."


def _folders(cli: _Cache) -> list[str]:
    folders = list(dict.fromkeys(_caches(cli.config.clone().as_dict())))
    if not folders:
        raise ValueError(f"this configuration has no CachedTeacher; {_HOW}")
    return folders


def _caches(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if str(value.get("class_path", "")).endswith("CachedTeacher"):
            yield str(value["init_args"]["cache"])
        for each in value.values():
            yield from _caches(each)
    elif isinstance(value, list):
        for each in value:
            yield from _caches(each)


def _store(folder: str) -> Store:
    if not Path(folder, schema.FILE).is_file():
        raise FileNotFoundError(f"cache={folder!r} holds no answers yet; cache build --config ... fills it.")
    return Store(folder)


def _show(stores: Sequence[Store]) -> None:
    for store in stores:
        rows = [
            {
                "fingerprint": row["fingerprint"][:8],
                "teacher": row["name"],
                "answers": row["answers"],
                "MB": row["bytes"] / 1e6,
                "found": f"{row['hits']:,} of {row['hits'] + row['misses']:,}",
                "hit rate": row["hit rate"],
                "of bytes": row["byte hit rate"],
            }
            for row in store.stat()
        ]
        size = sum(path.stat().st_size for path in store.file.parent.glob(f"{schema.FILE}*")) / 1e6
        if rows:
            print_table(rows, f"{store.folder}: {size:.3g} MB on the disk")
        else:
            print(f"{store.folder} is empty.")
