"""The options of `compare`, apart from the verb, so that its help needs no slow import."""

import argparse
from collections.abc import Sequence

DESCRIPTION = """\
Runs every method of a comparison in every setting with every seed, each in a process of its own, and writes
report.html and the same numbers as CSV. What is done is not done again unless its options have changed; an interrupted
comparison goes on with the same command. More --KEY=VALUE are options of every run."""


def read_options(args: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads the command line after `compare`.

    Args:
        args: Its words.

    Returns:
        The verb's own options, and those of every run.

    Raises:
        SystemExit: After the help, or for a mistake.
    """
    parser = argparse.ArgumentParser(
        prog="python cli.py compare",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", help="the YAML of the comparison")
    parser.add_argument("--jobs", type=_positive, default=1, help="runs at a time (default 1)")
    parser.add_argument("--threads", type=_positive, help="of each run (default: the cores, shared out)")
    parser.add_argument(
        "--only", action="append", metavar="METHOD", help="run this method alone; may be repeated"
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="in place of those of the YAML")
    parser.add_argument("--folder", help="where to write, in place of the YAML's")
    parser.add_argument("--report-only", action="store_true", help="run nothing")
    given, more = parser.parse_known_args(args)
    for each in more:
        if not each.startswith("--") or "=" not in each:
            parser.error(f"unrecognized argument {each}; options of the runs are --KEY=VALUE")
    return given, more


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} must be 1 or more")
    return number
