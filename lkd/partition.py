"""The verb `partition`: which client holds what, as a table, a CSV and a picture, without training."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.cli import LightningArgumentParser

from lkd.metrics.tables import Row, print_table
from lkd.partition_picture import SHOWN, draw
from lkd.verb import Verb

WIDTH = 45  # characters for a column for each label; with more labels only their number is printed
PLAN = ("modalities", "missing", "flipped")  # further entries of clients' rows under a modality plan


class _Partition(Verb):
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the verb's own options to those of `fit`."""
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--folder", type=str | None, default=None, help="Where to write; default runs/<name>/partition."
        )
        parser.add_argument(
            "--column",
            type=str | None,
            default=None,
            help="What to count in place of labels: camera, weather, ...",
        )


def run(args: list[str]) -> Path:
    """Prints the clients of a configuration and writes `clients.csv` and `clients.png`.

    With a modality plan also `modalities.csv`: a line for every training sample, with the modalities that it
    has.

    Args:
        args: Options of a `fit`, and `--folder` and `--column`.

    Returns:
        The folder of the files.

    Raises:
        ValueError: If the data has no clients.
    """
    cli = _Partition.parsed("partition", __doc__, args)
    data: Any = cli.datamodule
    if not hasattr(data, "summary"):
        raise ValueError(
            f"data: {type(data).__name__} has no clients; make it the `data` of a FederatedDataModule with a partition."
        )
    data.prepare_data()
    data.setup("fit")
    column = cli.config["column"]
    clients = data.summary(column)
    folder = Path(cli.config["folder"] or Path("runs", cli.name, "partition"))
    folder.mkdir(parents=True, exist_ok=True)
    _show(clients)
    if (public := getattr(getattr(data, "clients", None), "public", None)) is not None:
        print(f"All clients have {len(public)} public samples beside these.")
    save(clients, folder / "clients.csv")
    draw(clients, folder / "clients.png", column or data.counted or "")
    written = [folder / "clients.csv", folder / "clients.png"]
    if getattr(data, "plan", None) is not None:
        written.append(folder / "modalities.csv")
        save_masks(data.masks(), written[-1])
    print(f"{', '.join(map(str, written[:-1]))} and {written[-1]} hold all of it.")
    return folder


def flat(clients: Sequence[Row]) -> list[Row]:
    """Returns rows of `FederatedDataModule.summary` with the counts, and shares that are missing, as columns.

    Example:
        >>> flat([{"client": 0, "samples": 3, "counts": {"cat": 2, "dog": 1}}])
        [{'client': 0, 'samples': 3, 'cat': 2, 'dog': 1}]
        >>> plan = {"modalities": ["phone"], "missing": {"phone": 0.5, "watch": None}, "flipped": 1}
        >>> flat([{"client": 0, "samples": 4, "counts": {}, **plan}])
        [{'client': 0, 'samples': 4, 'modalities': 'phone', 'phone missing': 0.5, 'watch missing': None, 'flipped': 1}]
    """
    rows = []
    for row in clients:
        flattened: Row = {name: v for name, v in row.items() if name not in ("counts", *PLAN)}
        if "missing" in row:
            flattened["modalities"] = "+".join(row["modalities"])
            flattened |= {f"{name} missing": share for name, share in row["missing"].items()}
            flattened["flipped"] = row["flipped"]
        rows.append(flattened | row["counts"])
    return rows


def save(clients: Sequence[Row], path: Path) -> None:
    """Writes one line for each client."""
    rows = flat(clients)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def save_masks(drawn: Any, path: Path) -> None:
    """Writes a line for every training sample: client, row, 0 or 1 per modality, 1 for a wrong label."""
    columns = [drawn.client, drawn.row, *drawn.present.T, drawn.flipped]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["client", "row", *drawn.modalities, "flipped"])
        writer.writerows(np.stack([column.astype(np.int64) for column in columns], axis=1).tolist())


def _show(clients: Sequence[Row]) -> None:
    sizes = np.array([row["samples"] for row in clients])
    shown = clients[:SHOWN]
    rows = [{name: v for name, v in row.items() if name not in PLAN} for row in shown]
    if sum(len(label) + 3 for label in clients[0]["counts"]) > WIDTH:
        for row in rows:
            row["counts"] = {"different labels": sum(count > 0 for count in row["counts"].values())}
    nameless = all(str(row["client"]) == row["name"] for row in shown)  # the number is not shown twice
    tables = {f"{len(clients)} clients": flat(rows)}
    if "missing" in clients[0]:
        held = [{name: row[name] for name in ("client", "name")} | row["missing"] for row in shown]
        held = [one | {"wrong labels": row["flipped"]} for one, row in zip(held, shown, strict=True)]
        tables["Share of the samples that lack a modality (- where it is not owned)"] = held
    for title, table in tables.items():
        table = [{name: v for name, v in row.items() if name != "name" or not nameless} for row in table]
        print_table(table, title + f", the first {SHOWN}" * (len(clients) > SHOWN))
    print(
        f"{sizes.sum()} samples; a client has {sizes.min()} to {sizes.max()}, in the median {np.median(sizes):g}."
    )
