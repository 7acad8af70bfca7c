"""The main job with a few frames and steps: the same configs, the same command line, in a minute.

    python benchmarks/short_demo.py

For CI. Its figures mean nothing; that it ends with the table of all roles and with the bar chart does. Its files, the
report that it names among them, are removed at the end.
"""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
CAMERAS = ["C1", "C2"]


def shorten(path: str, folder: Path, cameras: list[str]) -> Path:
    """Writes a config of configs/parking with less of everything, reading and writing below `folder`."""
    config = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    config["data"]["init_args"] |= {
        "root": str(folder / f"world_{cameras[0]}"), "cameras": cameras, "frames": 8, "size": [200, 150],
        "image_size": 96, "fractions": [0.5, 0.25, 0.25],
    }  # fmt: skip
    config["trainer"] |= {"max_epochs": 2, "enable_progress_bar": False}
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    for callback in config["trainer"]["callbacks"]:
        if "dirpath" in callback.get("init_args", {}):
            callback["init_args"]["dirpath"] = str(folder)
    if "start" in config["model"]["init_args"]:
        street = shorten("configs/parking/street.yaml", folder, ["C201", "C202"])
        config["model"]["init_args"] |= {"start": str(folder / "street.ckpt"), "start_recipe": str(street)}
    if "distillation" in config:
        teacher = str(folder / "teacher.ckpt")
        config["model"]["init_args"]["cameras"] = cameras
        recipe = shorten("configs/parking/teacher.yaml", folder, ["C101", "C102"])
        config["distillation"]["init_args"]["teacher"] |= {"model": teacher, "recipe": str(recipe)}
        config["data"]["init_args"]["teacher_size"] = 128
    short = folder / Path(path).name
    short.write_text(yaml.safe_dump(config), encoding="utf-8")
    return short


def main() -> None:
    """Runs the short job and looks at what it leaves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = shorten("configs/parking/oracle.yaml", folder, CAMERAS)
        subprocess.run([sys.executable, "cli.py", "fit", "--config", str(config)], cwd=ROOT, check=True)
        report = next(folder.glob("parking_oracle/version_0/report"))
        with (report / "table.csv").open(encoding="utf-8") as file:
            rows = {(row["Role"], row["Camera"]) for row in csv.DictReader(file)}
        expected = {
            (role, camera)
            for role in ("Teacher", "Before", "Student", "Twin")
            for camera in (*CAMERAS, "all")
        }
        missing = expected - rows
        pictures = {f"{camera}.jpg" for camera in CAMERAS} | {"curves.png", "bars.png", "bars.svg"}
        missing_files = pictures - {path.name for path in report.iterdir()}
    if missing or missing_files:
        sys.exit(f"the short demo lacks {missing or ''} {missing_files or ''}")
    print("short demo: 1 passed; its files, the report too, are removed")


if __name__ == "__main__":
    main()
