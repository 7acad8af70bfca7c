"""The options of `predict SOURCE`, and which words of a command line are sources."""

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lkd.edge.predict.reuse.asked import Reuse, read

FLAGS = ("--track", "--clip", "--slot_columns", "--print_config", "-h", "--help")
"""Options that take no value."""
OF_BOXES = ("track", "slots")
OF_REUSE = ("audit",)
"""Options that mean nothing without `--reuse`."""
OF_SLOTS = ("truth", "slot_camera", "slot_classes", "slot_up", "slot_down", "slot_dwell", "slot_columns")
"""Options that mean nothing without `--slots`."""
DESCRIPTION = """\
Predicts pictures, a folder, a glob, a clip or a stream, by an exported file or by a checkpoint.

  python cli.py predict frames/ --model student.onnx
  python cli.py predict frames/ --config configs/traffic/oracle.yaml --ckpt_path X.ckpt
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = re.sub(r"ignored explicit argument '(.*)'", r"takes no value; leave '=\1' out", message)
        self.exit(2, f"error: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Makes a parser of the verb's own options; for a checkpoint, those of `fit` are added."""
    made = _Parser(
        prog="python cli.py predict SOURCE",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add(
        "--model",
        metavar="STUDENT.onnx",
        help="a file that export wrote; in place of --config and --ckpt_path",
    )
    add("--folder", type=Path, help="where to write; default runs/<name>/predict")
    add(
        "--pictures",
        type=_pictures,
        default=argparse.SUPPRESS,
        help="annotated pictures: all, none, or how many; default all, of clips and streams 20",
    )
    add("--score_threshold", type=float, help="lowest score of a box; default .25")
    add("--threads", type=_count, default=1, help="of the network; default 1")
    add("--every", type=_count, default=1, help="1 for all frames, n for every n-th")
    add(
        "--slots",
        help="a map of slots, whose occupancy is followed: .csv of CNRPark-EXT, .xml of PKLot, .json",
    )
    add(
        "--truth",
        help="what is known of the slots, to be compared: a .csv, a list of patches, a folder of .xml",
    )
    add("--slot_camera", help="the camera's name, to be compared with the map's")
    add(
        "--slot_classes",
        type=_names,
        help="classes that fill a slot; default those that are vehicles by name",
    )
    add("--slot_up", type=float, help="share of a free slot that a box covers when it is busy")
    add("--slot_down", type=float, help="share of a busy slot below which it is free")
    add("--slot_dwell", type=float, help="seconds that a change has to last")
    add("--slot_columns", action="store_true", help="a column for each slot in occupancy.csv")
    add(
        "--reuse",
        type=_reuse,
        metavar="'{distance: 16, ttl_s: 60}'",
        help="give the answer of an earlier frame again while no cell of the picture changes by more than distance and it is "
        "younger than ttl_s; more: where (frame or slots), step_s, agree, cells, seed",
    )
    add("--audit", type=float, help="share of reused answers that are computed all the same; default .1")
    add("--clip", action="store_true", help="write the annotated frames as a clip, annotated.mp4")
    add(
        "--track",
        nargs="?",
        const="bytetrack",
        choices=["bytetrack", "sort"],
        help="give boxes the ids of tracks; --track=sort for another method",
    )
    add(
        "--camera",
        help="of a checkpoint with a copy of the network for each camera: whose pictures these are",
    )
    add("--client", help="of a federation's checkpoint: whose model; default the server's")
    add(
        "--classes",
        type=_names,
        help="names of a checkpoint's classes, as car,truck",
    )
    return made


def split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into sources and options; a word that is no option's value is a source.

    Example:
        >>> split(["a.jpg", "--config", "c.yaml", "--trainer.devices=1", "b/"])
        (['a.jpg', 'b/'], ['--config', 'c.yaml', '--trainer.devices=1'])
    """
    sources: list[str] = []
    options: list[str] = []
    value = False
    for word in args:
        option = word.startswith("-") and not _is_number(word)
        (options if option or value else sources).append(word)
        value = option and "=" not in word and word not in FLAGS
    return sources, options


def is_asked(args: Sequence[str]) -> bool:
    """Returns whether `predict` is to predict a source: if one is named, or an exported file.

    Example:
        >>> is_asked(["--config", "c.yaml"]), is_asked(["--model", "x.onnx"]), is_asked(["x.png"])
        (False, True, True)
    """
    return bool(split(args)[0]) or any(is_file(model) for model in _models(args))


def is_file(model: str) -> bool:
    """Returns whether `--model` names a file, and no class of a module.

    Example:
        >>> is_file("student.onnx"), is_file("Classifier"), is_file("parts/model.yaml")
        (True, False, False)
    """
    path = Path(model)
    if path.suffix.lower() in (".yaml", ".yml"):  # part of a configuration
        return False
    return path.suffix.lower() in (".onnx", ".xml") or "/" in model or path.is_file()


def check_options(rest: Sequence[str], known: argparse.ArgumentParser) -> None:
    """Refuses remaining options if nothing else takes any.

    Raises:
        ValueError: For an unknown option; the message suggests a similar name.
    """
    if rest:
        names = [option for action in known._actions for option in action.option_strings]
        near = difflib.get_close_matches(rest[0].partition("=")[0], names, n=1)
        raise ValueError(
            f"{rest[0]} is no option of predict with an exported file"
            + (f"; did you mean {near[0]}?" if near else ".")
        )


def _models(args: Sequence[str]) -> list[str]:
    pairs = zip(args, [*args[1:], ""], strict=True)
    return [
        after if word == "--model" else word.partition("=")[2]
        for word, after in pairs
        if word.partition("=")[0] == "--model"
    ]


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdecimal()


def _reuse(text: str) -> Reuse:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number of 1 or more")
    return int(text)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.strip("[]").split(",")]


def _pictures(text: str) -> int | None:
    if text not in ("all", "none") and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} must be all, none, or a number")
    return None if text == "all" else 0 if text == "none" else int(text)
