"""Counts of what every client holds."""

from typing import Any, NamedTuple

import numpy as np

from lkd.datamodules.federated.client_data import Part, Population
from lkd.datamodules.samples.metadata import LABEL, Columns, codes
from lkd.datamodules.samples.metadata import column as find_column


def summarize(clients: Population, columns: Columns, column: str | None) -> list[dict[str, Any]]:
    """Returns a row for every client.

    Args:
        clients: all of them.
        columns: columns of their training data.
        column: column whose values are counted; `None` for none.

    Returns:
        Rows with `client` (number), `name`, `samples` (of training), `val` and `test` where any client has
        such data, and `counts`. The last has, for every value of the column in the training set (as text),
        the client's number of samples with it; it is empty without a column.

    Raises:
        ValueError: for an unknown column; the message names those that exist.
    """
    values, place = codes(find_column(columns, column)) if column else ([], np.arange(0))
    table = []
    for number in range(len(clients)):
        held = {name: part.rows[number] for name, part in clients.parts.items()}
        sizes = {"samples" if name == "train" else name: len(rows) for name, rows in held.items()}
        counts = np.bincount(place[held["train"]], minlength=len(values)).tolist() if values else []
        table.append(
            {
                "client": number,
                "name": clients[number].name,
                **sizes,
                "counts": dict(zip(map(str, values), counts, strict=True)),
            }
        )
    return table


def count_labels(clients: Population, columns: Columns) -> np.ndarray:
    """Counts the training samples of every client and class.

    Args:
        clients: all of them, K.
        columns: columns of their training data.

    Returns:
        (K, C) int64; C is the highest class of the whole training set plus 1, so that column c is class c.

    Raises:
        ValueError: where labels are not known without loading every sample, or are no class numbers 0, 1, ...
    """
    if LABEL not in columns.cheap:
        name = type(columns.dataset).__name__
        raise ValueError(
            f"the labels of {name} are not known without loading every sample: give it a dict `columns` with a "
            f"{LABEL!r} for each, or a list `targets`."
        )
    labels = columns[LABEL]
    numbers = labels.dtype.kind in "iub"
    if not numbers or labels.min() < 0:
        wrong = labels.min() if numbers else labels[0]
        raise ValueError(
            f"labels such as {wrong} cannot be counted: they must be class numbers 0, 1, ..., a column each."
        )
    classes, rows = int(labels.max()) + 1, clients.parts["train"].rows
    owners = np.repeat(np.arange(len(clients)), rows.sizes)
    counts = np.bincount(owners * classes + labels[rows.flat], minlength=len(clients) * classes)
    return counts.reshape(len(clients), classes)


class Masks(NamedTuple):
    """Draws of a modality plan for n samples, in the order of the clients."""

    client: np.ndarray  # (n,)
    row: np.ndarray  # (n,) row of the data set
    modalities: tuple[str, ...]
    present: np.ndarray  # (n, modalities) bool; also False for what the client does not own
    flipped: np.ndarray  # (n,) bool: whether the label was made wrong


def masks(part: Part) -> Masks:
    """Returns what was drawn for a part to which a plan was applied."""
    planned, rows = part.views[0].dataset, part.rows.flat
    flipped = np.zeros(len(rows), dtype=bool) if planned.labels is None else planned.labels[rows] >= 0
    client = np.repeat(np.arange(len(part.rows)), part.rows.sizes)
    return Masks(client, rows, planned.modalities, planned.there[rows], flipped)


def describe(part: Part) -> list[dict[str, Any]]:
    """Returns, for every client, what a plan left.

    Returns:
        `modalities` (names of those that it owns), `missing` (for every modality of the data the share of the
        client's samples that lack it; `None` if it does not own it) and `flipped` (number of wrong labels).
    """
    drawn = masks(part)
    clients = len(part.rows)
    sums = [np.bincount(drawn.client, have, minlength=clients) for have in (*drawn.present.T, drawn.flipped)]
    table = []
    for number in range(clients):
        size = max(int(part.rows.sizes[number]), 1)
        shown = part.of(number)[0].dataset.shown
        lack = {
            name: 1 - float(sums[m][number]) / size if name in shown else None
            for m, name in enumerate(drawn.modalities)
        }
        table.append({"modalities": list(shown), "missing": lack, "flipped": int(sums[-1][number])})
    return table
