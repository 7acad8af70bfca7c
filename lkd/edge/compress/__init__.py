"""`compress`: makes a trained student smaller and faster step by step, and measures each stage as a file."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from lkd import __version__
from lkd.edge.compress.aware import QuantizationAware
from lkd.edge.compress.cards import finish
from lkd.edge.compress.limits import Limits, check_reachable
from lkd.edge.compress.order import check_steps
from lkd.edge.compress.parent import Parent
from lkd.edge.compress.prune import Prune
from lkd.edge.compress.quantize import Quantize, quantize_file
from lkd.edge.compress.recover import Recover
from lkd.edge.compress.reference import Reference
from lkd.edge.compress.resume import Book
from lkd.edge.compress.running import Course
from lkd.edge.compress.stages import Outcome, report, say
from lkd.edge.compress.step import Job, Stage, Step
from lkd.edge.compress.student import student
from lkd.edge.described import described
from lkd.edge.export import export, kind_of
from lkd.edge.export.boxes import NMS
from lkd.edge.export.licenses import licenses as licenses_of
from lkd.edge.export.measure import check_measurable
from lkd.edge.export.students import students
from lkd.edge.exported import sha256
from lkd.edge.extra import optional
from lkd.modules import Classifier, Detector
from lkd.server_model import is_federation

__all__ = [
    "Job",
    "Limits",
    "Parent",
    "Prune",
    "QuantizationAware",
    "Quantize",
    "Recover",
    "Stage",
    "Step",
    "compress",
    "quantize_file",
    "student",
]

OF_TRAINING = (
    "precision",
    "max_time",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "limit_train_batches",
    "limit_val_batches",
    "overfit_batches",
    "callbacks",
)
"""Options of a Trainer that change what a step trains; loggers, devices and bars do not."""


def compress(
    module: LightningModule,
    data: LightningDataModule,
    ckpt_path: str,
    steps: Sequence[Step],
    limits: Limits | None = None,
    folder: str = "compress",
    anew: bool = False,
    seed: int = 0,
    nms: NMS = "inside",
    input_size: tuple[int, int] | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    licenses: Mapping[str, str] | None = None,
    tolerance: float = 0.001,
    limit_test_batches: float | int | None = None,
    trainer: Callable[..., Trainer] = Trainer,
    loggers: Sequence[Logger] = (),
    config: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Takes a trained student through steps, and writes `student.onnx`, its card and a table of all stages.

    Every stage is an exported file. ONNX Runtime measures it in the student's own test, and it is kept only
    if it obeys the limits; the next step goes on from the last kept stage. Finished stages are not run again.
    See docs/compress.md.

    Args:
        module: A classifier, `MultimodalClient` or `Detector`, as for `export`, dense. It is not changed.
        data: Data whose test part measures, and whose training part, without labels, calibrates.
        ckpt_path: Checkpoint of the dense student.
        steps: `Prune`, `Recover`, `Quantize` and so on, in their order.
        limits: Limits of the file; default a drop of .01.
        folder: Folder to write into.
        anew: Whether to delete stages that another configuration left in the folder, and stages of this one.
        seed: Seed of all random draws.
        nms: As in `export`.
        input_size: As in `export`.
        score_threshold: As in `export`.
        iou_threshold: As in `export`.
        classes: As in `export`.
        mean: As in `export`.
        std: As in `export`.
        licenses: As in `export`.
        tolerance: As in `export`.
        limit_test_batches: As in `export`.
        trainer: Function that makes the Trainer of steps that train, from options of a Trainer.
        loggers: Loggers; those of W&B get the table and the picture.
        config: Configuration of the run, for the cards.

    Returns:
        The `.onnx` files of the last stage that obeys all limits.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ImportError: Without the extra `edge`.
        ValueError: For impossible steps or limits, or if no stage obeys the limits; the table is written all
            the same.

    Example:
        >>> compress(Classifier("resnet18"), Digits(), "last.ckpt", [Quantize()])  # doctest: +SKIP
        [PosixPath('compress/student.onnx')]
    """
    limits = limits or Limits()
    check_steps(steps)
    if is_federation(module):
        raise ValueError(
            f"{type(module).__name__} is a federation: compress takes one student, so save a client's model, and give its configuration."
        )
    if not Path(ckpt_path).is_file():
        raise FileNotFoundError(f"ckpt_path={ckpt_path!r} does not exist; give the path of a checkpoint.")
    for package in ("onnx", "onnxscript", "onnxruntime"):
        optional(package)
    check_measurable(module, data)
    for step in steps:
        step.check(module, data)
    terms = licenses_of(module, config, licenses)  # used by the card only: no stage depends on them
    measured = next(students(copy.deepcopy(module), data, ckpt_path, None, limit_test_batches))
    check_reachable(limits, steps, _parameters(measured.module))  # the module may be pruned already
    options: dict[str, Any] = {
        "nms": nms,
        "input_size": input_size,
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
    }
    dense = Reference(measured, lambda who: kind_of(who, only=None, **options), limits.metric, limits.threads)
    stated = {**options, "classes": classes, "mean": mean, "std": std}
    stated |= {"tolerance": tolerance, "limit_test_batches": limit_test_batches}
    what = _what(module, data, ckpt_path, steps, limits, seed, stated, trainer, config)
    if anew:  # deletes what may have taken long to make
        dense.check()
    book = Book(Path(folder), what, anew, Path(ckpt_path))

    def to_files(checkpoint: Path, place: Path) -> list[Path]:
        return export(
            copy.deepcopy(module),
            data,
            str(checkpoint),
            str(place),
            threads=limits.threads,
            config=config,
            licenses=terms,
            **stated,
        )

    place = book.place("0 parent")
    parent = Stage("0 parent", place, Path(ckpt_path))
    job = Job(module, data, trainer, seed, limits, parent, parent.name, place, dense, to_files, config)
    course = Course(job, steps, book, to_files, say)
    try:
        outcomes = course.run()
    finally:  # also after an interrupt: the table shows what is finished
        rows = report(Path(folder), course.outcomes, loggers)
    best = _best(outcomes, limits, folder)
    how = {
        "stage": best.stage.name,
        "limits": asdict(limits),
        "stages": rows,
        "steps": described(list(steps)),
    }
    return finish(best.stage.files, Path(folder), {"licenses": terms, "compression": how})


def _parameters(module: LightningModule) -> int:
    """Counts parameters of the largest file; 0 if only the file will show which of the module's are in it."""
    if isinstance(module, Detector):
        return max(sum(p.numel() for p in network.parameters()) for network in module.networks())
    return sum(p.numel() for p in module.parameters()) if type(module) is Classifier else 0


def _best(outcomes: Sequence[Outcome], limits: Limits, folder: str) -> Outcome:
    """Returns the last stage that is kept and obeys all limits."""
    for outcome in reversed(outcomes):
        m = outcome.measures
        if outcome.kept and m is not None and not limits.broken(m.drop, m.p50_ms, m.mb):
            return outcome
    earlier = "; what is there is of an earlier run" if [*Path(folder).glob("student*.onnx")] else ""
    raise ValueError(
        f"no stage obeys the limits (max_drop={limits.max_drop:g}, max_ms={limits.max_ms}, max_mb={limits.max_mb}), so no student.onnx "
        f"was written{earlier}; {folder}/stages.md says what each does: prune more, recover longer, or allow more."
    )


def _what(
    module: LightningModule,
    data: LightningDataModule,
    ckpt_path: str,
    steps: Sequence[Step],
    limits: Limits,
    seed: int,
    stated: Mapping[str, Any],
    trainer: Callable[..., Trainer],
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns all that stages depend on.

    Limits of quality, size and time are left out: which stages are kept is decided anew each time.
    """
    known = config or {}
    options = known.get("trainer")
    return {
        "lkd": __version__,
        "checkpoint": sha256(Path(ckpt_path)),
        "model": known.get("model") or type(module).__qualname__,
        "data": known.get("data") or described(data, depth=1),
        "steps": known.get("steps") or described(list(steps)),
        "trainer": described({k: options.get(k) for k in OF_TRAINING} if options else trainer),
        "seed": seed,
        "threads": limits.threads,
        "metric": limits.metric,
        "export": described(stated),
    }
