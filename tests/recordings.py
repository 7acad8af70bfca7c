"""Generated recordings of a phone and a watch, as the files that `SmartphoneSmartwatchHAR` reads."""

import csv

import numpy as np

from lkd.datamodules.sensors.har_files import CLASSES, DEVICES, FIELDS
from lkd.datamodules.sensors.har_synthetic import draw_recordings


def write_recordings(root, kind="npz", recordings=None, **kwargs):
    """`har_spsw.npz`, or with kind "csv" the folders of the release, of drawn recordings (`kwargs`) or given ones."""
    recordings = draw_recordings(**kwargs) if recordings is None else recordings
    root.mkdir(parents=True, exist_ok=True)
    arrays = {"labels": np.array(CLASSES)}
    for one in recordings:
        for device, stream in one.streams.items():
            name = f"{one.execution}_{DEVICES[device]}"
            arrays |= {f"{name}/{part}": getattr(stream, part) for part in "txy"}
            if kind == "csv":
                (root / one.subject).mkdir(exist_ok=True)
                with (root / one.subject / f"{name}.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow([*FIELDS, "timestamp", "label"])
                    for t, x, y in zip(stream.t, stream.x, stream.y, strict=True):
                        writer.writerow([*map(repr, map(float, x)), t, CLASSES[y]])
    if kind == "npz":
        np.savez(root / "har_spsw.npz", **arrays)
    lines = [f"{one.execution},{one.orientation},l,r" for one in recordings]
    (root / "executions_info.csv").write_text(
        "execution_id,orientation,first_turn,second_turn\n" + "\n".join(lines)
    )
    return root
