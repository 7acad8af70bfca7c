"""A generated release of UCI-HAR in its own format: folders, lines of 128 readings, and the zip in a zip."""

import zipfile

import numpy as np

from lkd.datamodules.sensors.uci_har_files import ARCHIVES, CLASSES

SIGNALS = [f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"]
ORDER = (5, 4, 6, 1, 3, 2)  # activities in the release's order, in each of the two trials of a person


def write_release(root, train=(1, 3, 5, 6, 7, 8), test=(2, 4), windows=3, seed=0, numbered=False):
    """`root/UCI HAR Dataset`, two trials of every activity a person, `windows` half-overlapping windows each.

    With `numbered` the readings of body_acc_x are numbers from 0 on, none of them twice: which readings a window holds
    can then be read off. Else an activity is a rhythm, an amplitude and a posture, with noise.
    """
    folder, rng, reading = root / "UCI HAR Dataset", np.random.default_rng(seed), 0
    for half, people in (("train", train), ("test", test)):
        lines = {name: [] for name in SIGNALS}
        labels, subjects = [], []
        for person, activity in [(p, a) for p in people for a in ORDER * 2]:
            length = 64 * (windows + 1)
            time = np.arange(length) / 50
            for number, name in enumerate(SIGNALS):
                wave = 0.1 * (7 - activity) * np.sin(2 * np.pi * (0.5 + 0.4 * activity) * time + number)
                values = wave + 0.05 * rng.standard_normal(length)
                values += (name == "total_acc_x") * (activity != 6)  # gravity, unless one lies
                if numbered and name == "body_acc_x":
                    values = np.arange(reading, reading + length)
                cut = [values[64 * k : 64 * k + 128] for k in range(windows)]
                lines[name] += [" ".join(f"{value: 16.7e}" for value in window) for window in cut]
            reading += length
            labels += [activity] * windows
            subjects += [person] * windows
        (folder / half / "Inertial Signals").mkdir(parents=True, exist_ok=True)
        for name, rows in lines.items():
            (folder / half / "Inertial Signals" / f"{name}_{half}.txt").write_text("\n".join(rows) + "\n")
        for name, column in (("y", labels), ("subject", subjects)):
            (folder / half / f"{name}_{half}.txt").write_text("\n".join(map(str, column)) + "\n")
    named = [f"{number} {name}" for number, name in enumerate(CLASSES, 1)]
    (folder / "activity_labels.txt").write_text("\n".join(named) + "\n")
    return folder


def pack_release(folder, where):
    """The zip in a zip, as it is downloaded; a Mac made the inner one."""
    outer, inner = (where / name for name in ARCHIVES)
    where.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(inner, "w") as file:
        for path in sorted(folder.rglob("*.txt")):
            name = path.relative_to(folder.parent)
            file.write(path, name)
            file.writestr(f"__MACOSX/{name.parent}/._{name.name}", "junk")
    with zipfile.ZipFile(outer, "w") as file:
        file.write(inner, inner.name)
        file.writestr("UCI HAR Dataset.names", "a text")
    inner.unlink()
    return outer
