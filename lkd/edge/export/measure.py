"""The module's own test, run on the module as it is, and once more with a file in its place."""

import contextlib
import functools
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torchmetrics import Metric

from lkd.checkpoint_io import fill
from lkd.edge.export.kind import StudentKind
from lkd.metrics import DetectionTable
from lkd.metrics.direction import rises
from lkd.models import PerCamera
from lkd.modules import Detector
from lkd.packages import overrides

Metrics = dict[str, float]
ROW = ("map50", "map", "precision", "recall")
"""Columns of a detection table that go into a card."""


class TestData:
    """The data that a student is measured on.

    Args:
        data: The data module.
        batches: Labeled batches, if these are not all of its test data.
        what: Description in words, for the card.
        limit: Most batches; None for all.
    """

    __test__ = False  # pytest would collect it by its name

    def __init__(
        self,
        data: LightningDataModule,
        batches: Iterable[Any] | None = None,
        what: str = "test data",
        limit: float | int | None = None,
    ) -> None:
        self.data, self.batches, self.what, self.limit = data, batches, what, limit

    def given(self) -> dict[str, Any]:
        """Returns the arguments of `Trainer.test`."""
        return {"datamodule": self.data} if self.batches is None else {"dataloaders": self.batches}


def check_measurable(module: LightningModule, data: LightningDataModule) -> None:
    """Refuses what cannot be measured, before anything that takes long.

    Raises:
        ValueError: Without a test of the module, or without test data.
    """
    if not overrides(module, "test_step"):
        raise ValueError(
            f"{type(module).__name__} has no test_step, so nothing can be measured of its file: write one that logs its metrics."
        )
    if not overrides(data, "test_dataloader"):
        raise ValueError(
            f"{type(data).__name__} has no test data (no test_dataloader), and a file is measured before it is kept: give some."
        )


def measured(
    kind: StudentKind,
    test: TestData,
    method: Callable[..., Any],
    as_it_is: bool,
    ckpt_path: str | None = None,
) -> dict[str, Metrics]:
    """Measures the student, or each camera's copy of it.

    Args:
        kind: The student.
        test: The test data.
        method: Method in place of the kind's method.
        as_it_is: Whether all of the module's test runs, and not only what depends on that method's answer.
        ckpt_path: A checkpoint that Lightning loads first; it has been read with torch's own list of safe
            classes before.

    Raises:
        ValueError: If nothing is logged, or if the test runs layers outside of the method that a file will
            replace.
    """
    module, tables = kind.module, _Tables(kind.module)
    step = None if as_it_is else kind.step()
    replaced = {**kind.settings(), kind.method: method, **({"test_step": step} if step else {})}
    if ckpt_path is not None:  # Lightning loads it
        replaced["load_state_dict"] = functools.partial(fill, module, path=ckpt_path)
    whole = as_it_is and kind.step() is None and not tables.used(module)  # the file will replace all of it
    guard = _no_layer_runs(module, kind) if whole else contextlib.nullcontext()
    with quiet(), _replaced(module, replaced), guard:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_test_batches=test.limit,
            callbacks=[tables] if isinstance(module, Detector) else [],
        )
        logged = trainer.test(module, ckpt_path=ckpt_path, verbose=False, weights_only=True, **test.given())
    found = tables.rows() if tables.used(module) else {"": {k: v for one in logged for k, v in one.items()}}
    if not any(found.values()):
        raise ValueError(
            f"the test of {type(module).__name__} on the {test.what} logs nothing, so nothing is known of the file: give test data "
            "that are not empty, and log metrics in test_step."
        )
    return found


def check_drop(checkpoint: Metrics, file: Metrics, max_drop: float) -> None:
    """Compares the metrics that both have.

    Args:
        checkpoint: Metrics of the checkpoint.
        file: Metrics of the file.
        max_drop: How much worse a metric of the file may be.

    Raises:
        ValueError: If a metric of the file is worse by more than `max_drop`, or nothing was measured.
    """
    both = [name for name in checkpoint if name in file]
    if not any(math.isfinite(checkpoint[name]) for name in both):
        raise ValueError(
            "no metric of the test data is a number, as where none of them has an object: give test data with labels."
        )
    for name in both:
        before, after = checkpoint[name], file[name]
        drop = before - after if rises(name) else after - before
        if math.isfinite(before) and not drop <= max_drop:
            raise ValueError(
                f"{name} of the file is {after:.4f}, of the checkpoint {before:.4f}: worse by {drop:.4f}, and max_drop={max_drop:g}."
            )


class _Tables(Callback):
    """Detections of a test, counted as `DetectionReport` counts them."""

    def __init__(self, module: LightningModule) -> None:
        most = module.thresholds[2] if isinstance(module, Detector) else 300
        self.table = DetectionTable(max_detections=most)

    @staticmethod
    def used(module: LightningModule) -> bool:
        return isinstance(module, Detector)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        cameras, network = batch.get("cameras"), pl_module.network
        if cameras is None and isinstance(network, PerCamera):  # the only camera need not be named by frames
            cameras = [*network.copies] * len(outputs)
        self.table.update(outputs, batch["targets"], cameras)

    def rows(self) -> dict[str, Metrics]:
        """Returns metrics by camera; the empty name is all cameras."""
        rows = self.table.compute()
        return {row["camera"] if row is not rows[-1] else "": {k: row[k] for k in ROW} for row in rows}


@contextlib.contextmanager
def _replaced(module: LightningModule, methods: dict[str, Any]) -> Iterator[None]:
    """Replaces methods and attributes of this object inside the block."""
    before = {name: vars(module)[name] for name in methods if name in vars(module)}
    vars(module).update(methods)
    try:
        yield
    finally:
        for name in methods:
            del vars(module)[name]
        vars(module).update(before)


@contextlib.contextmanager
def _no_layer_runs(module: LightningModule, kind: StudentKind) -> Iterator[None]:
    """Refuses a test that calls layers of the module itself, outside of the method that the file replaces."""
    asked = 0
    method = vars(module)[kind.method] if kind.method in vars(module) else getattr(module, kind.method)

    def ask(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        try:
            return method(*args, **kwargs)
        finally:
            asked -= 1

    def refuse(name: str) -> Any:
        def look(*_: Any) -> None:
            if not asked:
                raise ValueError(
                    f"the test of {type(module).__name__} runs its layer {name!r} itself, so that metrics would not be the file's: let "
                    f"test_step call self(x), whose answer the file gives."
                )

        return look

    handles = [
        layer.register_forward_pre_hook(refuse(name))
        for name, layer in module.named_modules()
        if name and not isinstance(layer, Metric) and any(True for _ in layer.parameters())
    ]
    with _replaced(module, {kind.method: ask}):
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what a Trainer says of itself."""
    loggers = [logging.getLogger(f"lightning.pytorch{name}") for name in ("", ".utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for words in (
                ".*does not have many workers",
                ".*Be aware that when using `ckpt_path`",
                ".*LeafSpec",
            ):
                warnings.filterwarnings("ignore", message=words)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
