"""Checks that labels fit the module that will see them, at setup and not after hours of training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.datamodules.samples.entries import LABEL
from lkd.datamodules.samples.known import as_column
from lkd.server_model import server_model


def check_class_numbers(labels: np.ndarray, trainer: Any, what: str, certain: bool = True) -> None:
    """Refuses negative labels, and those beyond the `num_classes` of the Trainer's module or its clients.

    lkd's modules accept no such label. In other modules `num_classes` and labels beyond it may mean something
    else, so there it is a warning. Negative labels, which their loss may ignore, are accepted there.

    Args:
        labels: class numbers (N,); other labels are not checked.
        trainer: the Trainer that has the module; without one, or in a prediction, nothing is checked.
        what: whose labels these are, for the message.
        certain: false if something may replace the labels before the module sees them; then it is also a
            warning.

    Raises:
        ValueError: if there is such a label.
    """
    module = getattr(trainer, "lightning_module", None)
    if (
        module is None
        or labels.dtype.kind not in "iu"
        or not len(labels)
        or getattr(trainer, "predicting", False)
    ):
        return
    modules = [server_model(module), *getattr(module, "other_models", ())]
    known = [count for one in modules if isinstance(count := _num_classes(one), int)]
    ours = all(type(one).__module__.startswith("lkd.") for one in modules)
    if len(known) < len(modules) or not (ours or max(known) > 1):  # one output can tell two classes apart
        return
    classes = max(known)
    low, high = labels.min(), labels.max()
    if high < classes and (low >= 0 or not ours):
        return
    count = int(((labels >= classes) | (labels < 0)).sum())
    how = (
        f"set num_classes={high + 1}, or leave those classes out"
        if high >= classes
        else "number the classes from 0"
    )
    sentence = (
        f"{what}: {count} of {len(labels)} labels are beyond num_classes={classes} of {type(modules[0]).__name__}: they are from "
        f"{low} to {high}, and must be from 0 to {classes - 1}; {how}."
    )
    if certain and ours:
        raise ValueError(sentence)
    rank_zero_warn(sentence)


def check_columns(
    columns: Mapping[str, Any], trainer: Any, what: str, rows: np.ndarray | None = None
) -> None:
    """Checks the column "label" of a data set, if it has one, in the same way.

    Args:
        columns: columns that are known without loading a sample.
        trainer: Trainer that has the module, as in `check_class_numbers`.
        what: name of the data, for the message.
        rows: rows that count; `None` for all.

    Raises:
        ValueError: if one of them has a label beyond the module's classes.
    """
    if LABEL not in columns:
        return
    try:
        labels = as_column(columns[LABEL], LABEL)
    except ValueError:  # no classes, such as the targets of a regression
        return
    check_class_numbers(labels if rows is None else labels[rows], trainer, what)


def _num_classes(module: Any) -> Any:
    found = getattr(module, "num_classes", None)
    return getattr(module, "hparams", {}).get("num_classes") if found is None else found
