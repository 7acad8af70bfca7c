"""Makes the model zoo: small trained students as files that run without lkd, each with its card, and a page of them.

    python release/zoo.py                    # all whose data are here, into dist/zoo: about an hour on two cores
    python release/zoo.py digits parking     # these

A student that is there already is not made again. One whose data are missing is named and passed over; ask for it by its name, and
that is an error.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Student:
    """A student of the zoo.

    Attributes:
        name: Name of its folder.
        what: What it is, in a few words.
        config: Configuration that trains it.
        data: License of the data.
        export: More options of the export.
        needs: Folders of data that no configuration fetches or renders.
    """

    name: str
    what: str
    config: str
    data: str
    export: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


ZOO = (
    Student("digits", "a digit of 8x8 pixels; distilled", "configs/classification/digits.yaml", "CC BY 4.0"),
    Student(
        "digits_federation",
        "a digit; the server's model of ten clients",
        "configs/federated/digits_fedavg.yaml",
        "CC BY 4.0",
        ("--only=[server]",),
    ),
    Student(
        "parking_slot",
        "is a parking slot free? rendered patches",
        "configs/parking/patches.yaml",
        "rendered by lkd",
        ("--classes=[free,busy]",),
    ),
    Student(
        "parking",
        "cars of nine rendered cameras; distilled without labels, a file a camera",
        "configs/parking/oracle.yaml",
        "rendered by lkd",
        ("--classes=[car]",),
    ),
    Student(
        "wrist",
        "what somebody does, by a watch's accelerometer; distilled from four sensors",
        "configs/multimodal/har_student.yaml",
        "CC BY 4.0",
        needs=("data/har_spsw",),
    ),
    Student(
        "traffic",
        "vehicles on six real traffic cameras at 320 px; distilled without labels",
        "configs/traffic/oracle.yaml",
        "CC BY 4.0",
        ("--classes=[vehicle]",),
        needs=("data/traffic_cams", "data/weights"),
    ),
)


def made(student: Student, folder: Path, fit: Sequence[str] = ()) -> list[Path]:
    """Trains and exports a student, unless that is done.

    Args:
        student: The student.
        folder: Folder of the zoo.
        fit: More options of the fit.

    Returns:
        Its cards.

    Raises:
        subprocess.CalledProcessError: If training or export fails, after what it has printed.
    """
    to, checkpoint = folder / student.name, folder / f"{student.name}.ckpt"
    if cards := sorted(to.glob("*.json")):
        return cards
    print(f"{student.name}: {student.what}", flush=True)
    if not checkpoint.is_file():
        _lkd("fit", "--config", student.config, *fit, f"--save_as={checkpoint}")
    given = ("--config", student.config, "--ckpt_path", str(checkpoint), f"--folder={to}")
    _lkd("export", *given, f"--licenses.data={student.data}", *student.export)
    return sorted(to.glob("*.json"))


def page(cards: dict[str, list[Path]]) -> str:
    """Writes the zoo's page in Markdown, from what the cards say.

    Args:
        cards: Cards of each student by its name.
    """
    known = {student.name: student for student in ZOO}
    lines = [
        "# Model zoo\n",
        "Students that lkd trained and exported. Each file runs by ONNX Runtime; its card, beside it, says inputs, classes, figures,",
        "where it comes from and under which terms. Figures are those of the file on the test data of the configuration; the",
        "time is that of one sample on one thread.\n",
        "| file | what | configuration | metric | kB | ms | processor | license of the data |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, paths in cards.items():
        for path in paths:
            card = json.loads(path.read_text(encoding="utf-8"))
            measured = {k: v for k, v in card["metrics"]["file"].items() if "loss" not in k}
            metric, value = next(iter(measured.items()))
            file = f"{name}/{card['file']}"
            what, config = (known[name].what, known[name].config) if name in known else ("", "")
            cells = [
                f"[{file}]({file})",
                what,
                config,
                f"{metric} {value:.3f}",
                f"{card['size']['bytes'] / 1e3:.0f}",
                f"{card['latency']['p50_ms']:.3g}",
                card["latency"]["cpu"],
                card["licenses"]["data"],
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _lkd(*words: str) -> None:
    subprocess.run([sys.executable, "cli.py", *words], cwd=ROOT, check=True)


def main(args: Sequence[str] | None = None) -> None:
    """Makes the zoo."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [student.name for student in ZOO]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; default all")
    parser.add_argument("--folder", type=Path, default=ROOT / "dist/zoo")
    given = parser.parse_args(args)
    if unknown := [name for name in given.names if name not in names]:
        parser.error(f"there is no student {unknown[0]!r}; there are {', '.join(names)}")
    chosen = [student for student in ZOO if student.name in (given.names or names)]
    missing = {s.name: [path for path in s.needs if not (ROOT / path).is_dir()] for s in chosen}
    missing = {name: paths for name, paths in missing.items() if paths}
    for name, paths in missing.items():
        said = f"{name} needs {' and '.join(paths)}, which README.md says where to get"
        if given.names:
            sys.exit(f"{said}.")
        print(f"{said}: it is left out.")
    folder: Path = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cards = {student.name: made(student, folder) for student in chosen if student.name not in missing}
    (folder / "README.md").write_text(page(cards), encoding="utf-8")
    print(f"{folder / 'README.md'}: {sum(map(len, cards.values()))} files")


if __name__ == "__main__":
    main()
