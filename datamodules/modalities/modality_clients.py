"""Clients' shards after a modality plan has removed what they lack."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset

from lkd.datamodules.federated.client_data import Part, Ragged
from lkd.datamodules.modalities.missing_modalities import ClientSamples, wrong_labels
from lkd.datamodules.modalities.modality_mask import Planned
from lkd.datamodules.modalities.modality_plan import ModalityPlan
from lkd.datamodules.samples.batching import seeded
from lkd.datamodules.samples.metadata import LABEL, Columns, codes
from lkd.modalities import PRESENT

log = logging.getLogger(__name__)
PARTS = ("train", "val", "test")


def apply(
    plan: ModalityPlan, part: Part, columns: Columns, seed: int, name: str = "train", source: int = 0
) -> Part:
    """Applies a plan to the clients' training, validation or test data.

    Args:
        plan: who has which modality.
        part: the data as they are, and the rows of every client.
        columns: columns of these data.
        seed: seed of the draws, not negative.
        name: "train", "val" or "test"; only training labels are changed.
        source: number of the data set, 0 for the one that was dealt out.

    Raises:
        ValueError: for data that are no modalities, lack those of the plan, or have no classes to change
            labels to; for another number of clients; and for a client without training data left.
    """
    dataset, kinds = part.batching.dataset, plan.kinds(len(part.rows))
    names = modalities_of(dataset)
    owned = plan.owned(names)
    client = np.repeat(np.arange(len(kinds)), part.rows.sizes)
    rows = ClientSamples(client, part.rows.flat, source, PARTS.index(name))
    given = given_of(dataset, names, rows.row)
    rows, given = _only(rows, given, (owned[kinds[client]] & given).any(1))
    theirs = owned[kinds[rows.client]]
    there = theirs & given
    if name == "train" or plan.evaluation:
        time = codes(columns["time"])[1][rows.row] if "time" in columns.cheap else rows.row
        there = plan.draw(seed, rows, names, theirs, given, time)
    rows, there = _only(rows, there, there.any(1))
    sizes = np.bincount(rows.client, minlength=len(kinds))
    if lost := len(client) - len(rows.row):
        log.info("left out %d %s samples that have nothing of what their clients have", lost, name)
    held = [tuple(np.array(names)[own].tolist()) for own in owned]
    if name == "train" and not sizes.all():
        poor = int(np.argmin(sizes))
        raise ValueError(
            f"plan: client {poor} is left without training samples, as the data lack for all of them what it has of "
            f"{', '.join(held[kinds[poor]])}: give it another type, or a lower missing={plan.missing}."
        )
    table = np.ones((len(dataset), len(names)), dtype=bool)
    table[rows.row] = there
    labels = None
    if name == "train" and plan.label_noise:
        labels = np.full(len(dataset), -1)
        labels[rows.row] = _wrong(plan.label_noise, dataset, columns, seed, rows)
    views = [part.batching.over(Planned(dataset, names, table, labels, shown)) for shown in held]
    return Part(part.batching, Ragged(np.split(rows.row, np.cumsum(sizes)[:-1])), views, kinds)


def _only(rows: ClientSamples, table: np.ndarray, which: np.ndarray) -> tuple[ClientSamples, np.ndarray]:
    """Returns some of the samples, and their rows of the table."""
    return rows._replace(client=rows.client[which], row=rows.row[which]), table[which]


def _wrong(
    rate: float, dataset: Dataset[Any], columns: Columns, seed: int, rows: ClientSamples
) -> np.ndarray:
    """Returns wrong labels of training samples, -1 for those that keep theirs.

    Raises:
        ValueError: for fewer than two classes, or labels that are no class numbers.
    """
    name = type(dataset).__name__
    if LABEL not in columns:
        raise ValueError(f"label_noise={rate}: samples of {name} have no class numbers as labels.")
    right = columns[LABEL]
    with seeded(0):
        y = np.asarray(dataset[0][1])
    if right.dtype.kind not in "iub" or right.min() < 0 or y.ndim or y != right[0]:
        raise ValueError(
            f"label_noise={rate}: the column {LABEL!r} of {name} must have the class numbers 0, 1, ... that its "
            f"samples have as y; of the first it says {right[0]!r}, and y is {y}."
        )
    classes = np.unique(right)
    if len(classes) < 2:
        raise ValueError(
            f"label_noise={rate} needs two classes at least; {name} has {classes.tolist()} alone."
        )
    drawn = wrong_labels(seed, rows, right[rows.row], classes, rate)
    return np.where(drawn == right[rows.row], -1, drawn)


def modalities_of(dataset: Dataset[Any]) -> list[str]:
    """Returns the names of a data set's modalities, those of its first sample.

    Raises:
        ValueError: if the sample is no pair of a dict and a label.
    """
    with seeded(0):
        sample = dataset[0]
    x = sample[0] if isinstance(sample, list | tuple) and len(sample) > 1 else sample
    if not isinstance(x, dict) or x is sample or not (names := [name for name in x if name != PRESENT]):
        kind = "no pair" if x is sample else f"x of type {type(x).__name__}"
        raise ValueError(
            f"plan: samples of {type(dataset).__name__} must be pairs (x, y) with x a dict of modalities, such as "
            f"{{'phone': a tensor, 'watch': a tensor}}, but the first is {kind}."
        )
    return names


def given_of(dataset: Any, names: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Returns which modalities (n, M) the data have for some rows, before any plan.

    They are the data set's own `present` (a dict of (rows,) bools). Where the first sample has
    `x["present"]`, they are those of all samples, which are then loaded once. Otherwise all are present.
    """
    if isinstance(dataset, Subset):
        return given_of(dataset.dataset, names, np.asarray(dataset.indices)[rows])
    known, complete = getattr(dataset, PRESENT, None), np.ones(len(rows), dtype=bool)
    if isinstance(known, Mapping):
        return np.stack([np.asarray(known[n])[rows] if n in known else complete for n in names], axis=1)
    with seeded(0):  # transforms may draw from the global states
        if PRESENT not in dataset[0][0]:
            return np.stack([complete] * len(names), axis=1)
        flags = [dataset[row][0].get(PRESENT, {}) for row in rows.tolist()]
    return np.array([[bool(flag.get(name, True)) for name in names] for flag in flags]).reshape(
        -1, len(names)
    )
