"""Detectors on cameras of their own that exchange boxes, weights or nothing, beside those that an oracle teaches.

    python benchmarks/boxes.py --data traffic --seeds 0 1 2 --folder runs/boxes

`fit` with a config of each arm, for every seed (what the CSV has is skipped, so an interrupted study goes on). After the
last round every camera's detector is measured on every camera's test frames. Prints, as Markdown tables, mAP50 at home
(each on its own camera) and everywhere (each on all cameras, which count the same), with mean and deviation over the
seeds, and mAP50 at home camera by camera. The oracle's students see no label; those of the other arms have labels of
their own frames alone.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

from lkd.federated import Federation
from lkd.lightning_cli import run
from lkd.metrics.detection import ALL, DetectionTable
from lkd.metrics.tables import save_table, to_markdown

FIELDS = ("arm", "seed", "camera", "frames_of", "map50", "megabytes", "seconds", "options")
ONE = ["--model.other_models=null"]
EXCHANGE = [*ONE, "--model.algorithm=BoxExchange", "--model.algorithm.topology=null"]
ARMS = {
    "Local": [*ONE, "--model.algorithm=Local"],
    "BoxExchange": EXCHANGE,
    "BoxExchange, surest score": [*EXCHANGE, "--model.algorithm.confidence=max"],
    "BoxExchange, ring": [*EXCHANGE, "--model.algorithm.topology=Ring"],
    "FedAvg": [*ONE, "--model.algorithm=FedAvg"],
    "FedDFBoxes": [*ONE, "--model.algorithm=FedDFBoxes"],
    "oracle, no labels": ["--model.algorithm=Local"],
    "oracle, no labels, BoxExchange": ["--model.algorithm=BoxExchange"],
    "oracle, no labels, FedAvg": [],
}
FAMILIES = {  # of the traffic cameras' config alone
    "Local, two families": ["--model.algorithm=Local"],
    "BoxExchange, two families": ["--model.algorithm=BoxExchange", "--model.algorithm.topology=null"],
    "BoxExchange, ring, two families": [],
}
CONFIGS = {
    "traffic": ("configs/knowledge/traffic_boxes.yaml", "configs/federated/traffic_oracle.yaml"),
    "parking": ("configs/knowledge/parking_boxes.yaml", "configs/federated/parking_oracle.yaml"),
}
ROUNDS = 6


def train(arm: str, seed: int, data: str, extra: list[str]) -> list[dict[str, object]]:
    """One arm and seed: mAP50 of every camera's detector on every camera's frames."""
    own, oracle = CONFIGS[data]
    overrides = {**ARMS, **FAMILIES}[arm]
    if arm.startswith("oracle"):
        rounds = [f"--trainer.max_epochs={ROUNDS}", f"--model.model.scheduler.T_max={ROUNDS}"]
        overrides = [*overrides, *rounds, "--data.public=0.3", "--trainer.limit_val_batches=0"]
    started = time.perf_counter()
    cli = run(
        [
            *("fit", "--config", oracle if arm.startswith("oracle") else own, *overrides),
            *(f"--seed_everything={seed}", f"--data.seed={seed}", f"--model.seed={seed}"),
            *("--trainer.callbacks=ClientProgress", "--trainer.logger=false", "--test_after_fit=false"),
            *("--trainer.enable_checkpointing=false", *extra),
        ]
    )
    seconds = time.perf_counter() - started
    federation, datamodule = cli.model, cli.datamodule
    assert isinstance(federation, Federation)
    datamodule.setup("test")
    megabytes = (federation.bytes_up + federation.bytes_down) / 1e6
    rows: list[dict[str, object]] = []
    everyone = [datamodule.clients[i] for i in range(len(datamodule.names))]
    for client, model in federation.models(everyone):
        table = DetectionTable()
        for batch in datamodule.test_dataloader():
            table.update(model.detect(batch["images"]), batch["targets"], batch["cameras"])
        rows += [
            {
                "arm": arm,
                "seed": seed,
                "camera": client.name,
                "frames_of": row["camera"],
                "map50": row["map50"],
            }
            | {"megabytes": megabytes, "seconds": seconds, "options": " ".join(extra)}
            for row in table.compute()
            if row["camera"] != ALL
        ]
    return rows


def table(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Mean and deviation over the seeds, at home and everywhere, and the means of the cameras at home."""
    found: list[dict[str, object]] = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        mine = [row for row in rows if row["arm"] == arm]
        seeds = sorted({row["seed"] for row in mine})
        at_home = [row for row in mine if row["camera"] == row["frames_of"]]
        line: dict[str, object] = {"arm": arm, "seeds": len(seeds)}
        for title, which in (("at home", at_home), ("everywhere", mine)):
            means = [
                statistics.fmean(float(r["map50"]) for r in which if r["seed"] == seed) for seed in seeds
            ]
            spread = f" ± {statistics.stdev(means):.3f}" if len(means) > 1 else ""
            line[title] = f"{statistics.fmean(means):.3f}{spread}"
        for camera in sorted({row["camera"] for row in mine}):
            values = [float(row["map50"]) for row in at_home if row["camera"] == camera]
            line[camera] = f"{statistics.fmean(values):.3f}"
        line["MB"] = f"{statistics.fmean(float(row['megabytes']) for row in mine):.2f}"
        found.append(line)
    return found


def main() -> None:
    """Runs what is missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=list(CONFIGS), default="traffic")
    parser.add_argument("--folder", type=Path, default=Path("runs/boxes"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+")
    arguments, extra = parser.parse_known_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    arms = arguments.arms or [*ARMS, *(FAMILIES if arguments.data == "traffic" else ())]
    path = arguments.folder / f"{arguments.data}.csv"
    if not path.exists():
        path.write_text(",".join(FIELDS) + "\n", encoding="utf-8")
    with path.open(encoding="utf-8", newline="") as file:
        others = {row["options"] for row in csv.DictReader(file)} - {" ".join(extra)}
    if others:
        parser.error(f"{path} holds runs with other options, {sorted(others)}: give another --folder.")
    for seed in arguments.seeds:
        for arm in arms:
            with path.open(encoding="utf-8", newline="") as file:
                done = {(row["arm"], row["seed"]) for row in csv.DictReader(file)}
            if (arm, str(seed)) in done:
                continue
            rows = train(arm, seed, arguments.data, extra)
            with path.open("a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, FIELDS).writerows(rows)
    with path.open(encoding="utf-8", newline="") as file:
        result = table(list(csv.DictReader(file)))
    save_table(result, arguments.folder / f"{arguments.data}_table")
    print(to_markdown(result))


if __name__ == "__main__":
    main()
