"""`python cli.py predict SOURCE --model student.onnx`, on files that are put together by hand."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lkd.cli import main
from lkd.edge.predict.words import is_asked

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from ..files import detector_file, picture

ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An exported detector, and three pictures of which one is damaged."""
    monkeypatch.chdir(tmp_path)
    Path("runs/one/export").mkdir(parents=True)
    detector_file("runs/one/export/student.onnx")
    picture(Path("in/a.png"))
    picture(Path("in/c.png"), score=50)  # below the threshold
    Path("in/b.png").write_bytes(b"no picture")
    return tmp_path


def call(*options):
    main(["predict", *map(str, options)])


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have text for names")
def test_a_name_that_is_no_text_ends_nothing(place):
    strange = os.fsdecode(b"in/d\xe9.png")  # Latin-1, as from an old card
    picture(Path(strange))
    call("in", "--model", "runs/one/export/student.onnx", "--folder=out")
    assert [row["source"] for row in read("out/counts.csv")] == ["in/a.png", "in/c.png", r"in/d\udce9.png"]
    assert json.loads(Path("out/boxes.jsonl").read_text().splitlines()[-1])["source"] == strange


def test_a_model_as_a_part_of_a_configuration_is_no_file():
    assert not is_asked(["--config=c.yaml", "--model=parts/model.yaml", "--ckpt_path=x.ckpt"])
    assert is_asked(["--model=student.xml"])


@pytest.mark.parametrize("verb", ["export_openvino", "compress"])
def test_results_lie_in_the_folder_of_the_run_that_the_file_is_of(place, verb):
    Path(f"runs/one/{verb}").mkdir()
    detector_file(f"runs/one/{verb}/student.onnx")
    call("in/a.png", "--model", f"runs/one/{verb}/student.onnx", "--pictures", "none")
    assert Path("runs/one/predict/boxes.csv").is_file()


def test_a_folder(place, capsys):
    call("in", "--model", "runs/one/export/student.onnx")
    folder, shown = Path("runs/one/predict"), capsys.readouterr()
    (box,) = read(folder / "boxes.csv")
    assert [box[k] for k in ("source", "frame", "class", "score")] == ["in/a.png", "0", "car", "0.8"]
    assert [float(box[k]) for k in ("x1", "y1", "x2", "y2")] == [3, 5, 40, 32]  # clipped to the picture
    assert [row["n_car"] for row in read(folder / "counts.csv")] == ["1", "0"]
    assert [len(json.loads(line)["boxes"]) for line in (folder / "boxes.jsonl").open()] == [1, 0]
    assert sorted(p.name for p in (folder / "pictures").iterdir()) == ["000000_a.jpg", "000002_c.jpg"]
    report = json.loads((folder / "report.json").read_text())
    assert (
        report["frames"] == 2
        and report["skipped"] == 1
        and "b.png is damaged" in report["skipped_because"][0]
    )
    assert [row["part"] for row in report["latency"]] == [
        "decode",
        "prepare",
        "network",
        "NMS",
        "write",
        "all",
    ]
    assert "skipped: the image in/b.png is damaged" in shown.err
    assert "2 frames, 1 skipped" in shown.out and "boxes score above 0.25" in shown.out


def test_nothing_is_written_over(place):
    for expected in ("predict", "predict_2"):
        call("in/a.png", "--model", "runs/one/export/student.onnx", "--pictures", "none")
        assert (Path("runs/one") / expected / "boxes.csv").is_file()
    assert not Path("runs/one/predict/pictures").exists()
    with pytest.raises(SystemExit, match="folder='in' holds files already: name another"):
        call("in/a.png", "--model", "runs/one/export/student.onnx", "--folder", "in")


def test_options(place):
    call(
        "in/*.png",
        "--model=runs/one/export/student.onnx",
        "--folder=out",
        "--score_threshold=.15",
        "--pictures=1",
    )
    assert [row["score"] for row in read("out/boxes.csv")] == ["0.8", "0.19608"]
    assert len(list(Path("out/pictures").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["in"], "neither --model nor --ckpt_path"),
        (["in", "--ckpt_path", "x.ckpt"], "--ckpt_path needs the configuration"),
        (["in", "--model", "s.onnx", "--config", "c.yaml", "--ckpt_path", "x.ckpt"], "both --model=s.onnx and --ckpt_path"),
        (["--model", "s.onnx"], "predict needs a SOURCE"),
        (["in", "--model", "gone.onnx"], r"path='gone.onnx' does not exist"),
        (["in", "--model", "in/a.png"], "must be a .onnx, or a .xml"),
        (["in", "--model", "s.onnx", "--scor_threshold=.3"], "did you mean --score_threshold?"),
        (["in", "--model", "s.onnx", "--config", "c.yaml"], "--config is no option of predict with an exported file"),
        (["in", "--model", "s.onnx", "--camera=C1"], "camera=C1 is of a checkpoint"),
        (["in", "--model", "s.onnx", "--score_threshold=.05"], "s.onnx drops boxes up to 0.1 itself"),
        (["in", "--model", "s.onnx", "--score_threshold=2"], r"score_threshold=2\.0 must be in \[0, 1\]"),
        (["gone", "--model", "s.onnx"], "SOURCE='gone' does not exist"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_before_anything_is_written(place, options, sentence):
    detector_file("s.onnx")
    with pytest.raises(SystemExit, match=sentence):
        call(*options)
    assert not Path("runs/s").exists()


def test_a_file_of_somebody_else(place):
    import onnx

    from ..test_nms import passing

    onnx.save(passing(1, 1), "x.onnx")
    with pytest.raises(SystemExit, match="was not exported by lkd"):
        call("in", "--model", "x.onnx")


def test_only_damaged_pictures(place):
    with pytest.raises(SystemExit, match=r"no frame could be read: the image in/b\.png is damaged"):
        call("in/b.png", "--model", "runs/one/export/student.onnx")


@pytest.mark.parametrize("word", ["some", "²"])  # which is a digit to Python, and no number
def test_a_choice_that_is_none(place, capsys, word):
    with pytest.raises(SystemExit) as ended:
        call("in", "--model", "runs/one/export/student.onnx", "--pictures", word)
    assert ended.value.code == 2 and f"{word!r} must be all, none, or a number" in capsys.readouterr().err


def test_a_flag_with_a_value(place, capsys):
    with pytest.raises(SystemExit) as ended:
        call("in", "--model", "runs/one/export/student.onnx", "--clip=true")
    assert ended.value.code == 2 and "--clip: takes no value; leave '=true' out" in capsys.readouterr().err


def test_without_torch(place):
    """A device has NumPy, Pillow and ONNX Runtime."""
    code = "import sys; sys.modules['torch'] = sys.modules['lightning'] = None; from lkd.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "predict", "in", "--model", "runs/one/export/student.onnx"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(read("runs/one/predict/boxes.csv")) == 1


SLOW = """
import signal, sys
from lkd.cli import main
from lkd.edge.predict import sources
read = sources.pixels
def pixels(path, name):
    if name.endswith("3.png"):
        signal.raise_signal(signal.SIGINT)
    return read(path, name)
sources.pixels = pixels
main(sys.argv[1:])
"""


def test_ctrl_c_leaves_whole_files(place):
    for number in range(6):
        picture(Path(f"many/{number}.png"))
    command = [sys.executable, "-c", SLOW, "predict", "many", "--model", "runs/one/export/student.onnx"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "3 frames until a signal ended it" in done.stdout
    folder = Path("runs/one/predict")
    assert [row["frame"] for row in read(folder / "boxes.csv")] == ["0", "1", "2"]
    assert len([json.loads(line) for line in (folder / "boxes.jsonl").open()]) == 3
    assert json.loads((folder / "report.json").read_text())["signal"] == signal.SIGINT


def test_what_is_lightnings_own():
    assert not is_asked(["--config", "c.yaml", "--ckpt_path", "x.ckpt", "--trainer.devices", "1"])
    assert not is_asked(["--config", "c.yaml", "--model", "Classifier", "--model.lr=-1"])
    assert not is_asked(["--help"])
    assert is_asked(["--config", "c.yaml", "in/"]) and is_asked(["--model=x.onnx"])
