"""Regions over several students: how much of the gap a gate closes for its bytes, as mean and deviation over seeds.

    python benchmarks/regions_seeds.py --seeds 0 1 2

For each seed the student of configs/traffic/oracle.yaml is trained, if it is not in the folder yet, and its frames are shared with the server as in
configs/edge/traffic_regions.yaml. Gates and thresholds come from training frames, without labels. The teacher is asked once for all students: what
it says of a tile depends on no student. Bytes are relative to all frames as JPEG of quality 80; the gap is that to the teacher on the untouched
files.
"""

import argparse
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lkd.datamodules import YoloFolder
from lkd.edge.offload import Budget, CameraMean, Gate, Learned, Link, Payload, Tiles
from lkd.edge.offload.answers import Answers
from lkd.edge.offload.boxes import BoxTask
from lkd.edge.offload.curves import ranks
from lkd.edge.offload.frames import FrameAnswerSource
from lkd.edge.offload.point import Point
from lkd.edge.offload.source import SPLITS
from lkd.edge.offload.students import known_classes, predictor_of, student_of
from lkd.edge.offload.trial import Conditions, Trial
from lkd.edge.predict.frame import Frame
from lkd.edge.predict.predictor import PARTS, Predictor
from lkd.edge.predict.timing import FrameTimes
from lkd.metrics.tables import Row, print_table, save_table
from lkd.teachers import Teacher
from lkd.teachers.classes import understand
from lkd.teachers.sources import load

STUDENT, REGIONS = Path("configs/traffic/oracle.yaml"), Path("configs/edge/traffic_regions.yaml")
SHARES = (0.05, 0.1, 0.2, 0.3)
METRICS = ("map50", "map")


def trained(seed: int, folder: Path) -> Path:
    """The checkpoint of a seed's student, trained if it is not there."""
    path = folder / f"seed{seed}" / "student.ckpt"
    if not path.is_file():
        options = [f"--seed_everything={seed}", f"--data.seed={seed}", f"--save_as={path}"]
        options += [
            "--supervised_twin=false",
            "--test_after_fit=false",
            f"--trainer.logger.name={folder.name}",
        ]
        subprocess.run([sys.executable, "cli.py", "fit", "--config", str(STUDENT), *options], check=True)
    return path


def answered(
    predictor: Predictor, source: FrameAnswerSource, known: dict[str, Answers]
) -> dict[str, Answers]:
    """Answers of another student, with those of the teacher that are known."""
    found = {}
    for split in SPLITS:
        local = [
            predictor(Frame(str(frame.path), 0, None, source.image(split, n)), FrameTimes(PARTS))
            for n, frame in enumerate(source.frames[split])
        ]
        found[split] = replace(known[split], local=local)
    return found


class Study:
    """Six cameras, their teacher, and what is known of all students alike."""

    def __init__(self, folder: Path) -> None:
        student, regions = (yaml.safe_load(path.read_text()) for path in (STUDENT, REGIONS))
        self.folder, self.data = folder, YoloFolder(**student["data"]["init_args"])
        given: dict[str, Any] = regions["teacher"]
        self.teacher = Teacher(given.pop("model"), **given)
        self.tiles, self.payload = Tiles(**regions["tiles"]), Payload(**regions["payload"])
        self.conditions = Conditions(Link(**regions["link"]), regions["fps"], 1, regions["server_speed"])
        self.known: dict[str, Answers] = {}

    def source(self, predictor: Predictor, payload: Payload, tiles: Tiles | None) -> FrameAnswerSource:
        """The frames, sent in one way."""
        size = self.data.eval_views.teacher_size or self.data.eval_views.image_size
        return FrameAnswerSource(
            lambda camera: predictor, self.teacher, self.data, payload, BoxTask(tiles), size
        )

    def trials(self, ckpt_path: Path) -> tuple[Trial, Trial]:
        """Calibration and test of a student."""
        module: Any = load(str(ckpt_path))
        student = student_of(module, self.data, str(ckpt_path), None, 1)
        self.teacher.prepare()
        understand(self.teacher, known_classes(student("").spec, module, self.data))
        predictor = predictor_of(student, str(ckpt_path))("")
        source = self.source(predictor, self.payload, self.tiles)
        if not self.known:
            self.known = {split: source.answers(split, self.folder / "tiles") for split in SPLITS}
            whole = self.source(predictor, Payload("png"), None)  # loses nothing: the untouched file
            files = Trial(whole.task, whole.answers("test", self.folder / "files"), self.conditions)
            self.best = files.metrics(np.ones((len(files.answers), 1), bool))
            jpeg, count = Payload("jpeg", quality=80), len(source.frames["test"])
            self.kb = sum(len(jpeg.encode(source.image("test", n))) for n in range(count)) / count / 1e3
        found = answered(predictor, source, self.known)
        calibration, test = (Trial(source.task, found[split], self.conditions) for split in SPLITS)
        return calibration, test

    def points(self, gate: Gate, calibration: Trial, test: Trial) -> dict[float, Point]:
        """Operating points of a gate, at each share of the bytes."""
        gate.fit(calibration.task, calibration.answers)
        scores, there = ranks(gate, calibration), ranks(gate, test)
        budgets = {share: Budget(kb=share * self.kb) for share in SHARES}
        chosen = {share: budget.choose(scores, calibration, "map50") for share, budget in budgets.items()}
        return {share: test.point(gate.name, there >= at.threshold) for share, at in chosen.items()}


def spread(values: list[float], digits: int = 0) -> str:
    """Mean and deviation of shares, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.{digits}f} ± {100 * deviation:.{digits}f}"


def main() -> None:
    """Trains what is not there, measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/traffic_seeds"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [trained(seed, options.folder) for seed in options.seeds]
    study = Study(options.folder)
    closed: dict[tuple[str, float], list[dict[str, float]]] = defaultdict(list)
    students = []
    for path in paths:
        calibration, test = study.trials(path)
        alone = test.metrics(np.zeros(test.answers.nbytes.shape, bool))
        students.append(alone)
        print(f"{path}: {alone['map50']:.3f} / {alone['map']:.3f}", flush=True)
        for gate in (Learned(), CameraMean()):
            for share, point in study.points(gate, calibration, test).items():
                gaps = {m: (point.metrics[m] - alone[m]) / (study.best[m] - alone[m]) for m in METRICS}
                closed[gate.name, share].append({**gaps, "bytes": point.kb / study.kb})
    print(
        f"teacher {study.best['map50']:.3f} / {study.best['map']:.3f}; a frame as JPEG of quality 80 has {study.kb:.1f} kB"
    )
    rows: list[Row] = [
        {
            "gate": name,
            "bytes asked": f"{share:.0%}",
            "bytes sent, %": spread([one["bytes"] for one in found], 1),
            "gap closed in mAP50, %": spread([one["map50"] for one in found]),
            "gap closed in mAP50-95, %": spread([one["map"] for one in found]),
        }
        for (name, share), found in closed.items()
    ]
    alone_row = ", ".join(f"{m} {statistics.mean(s[m] for s in students):.3f}" for m in METRICS)
    print_table(rows, f"{len(paths)} students ({alone_row} alone)")
    save_table(rows, options.folder / "regions")


if __name__ == "__main__":
    main()
