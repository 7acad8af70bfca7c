"""The command line. Bare help and mistakes in the order of options are answered before the slow imports."""

import netrc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

HELP = """\
usage: python cli.py {fit,validate,test,predict,partition,export} --config CONFIG.yaml [--KEY.SUBKEY=VALUE ...]
       python cli.py compare COMPARISON.yaml [--jobs N]

Knowledge distillation for federated and decentralized learning at the edge, native to Lightning.

  fit        train, distil, and report on the test data
  validate   measure on the validation data
  test       measure on the test data and report
  predict    run on the predict data
  partition  show which client holds what, without training
  export     write a trained student as a file that runs without lkd, measured as that file
  compare    run methods over settings and seeds, and report what they reach and what they cost

  python cli.py fit --config configs/parking/oracle.yaml             the car-park case study, rendered
  python cli.py fit --config configs/classification/digits.yaml --distillation.alpha=0.5
                                                                     overrides stand AFTER --config
  python cli.py fit --help                                           all options
  python cli.py fit --model.help Detector                            options of one class
  python cli.py fit --config X.yaml --print_config                   what would run
"""
_PARTS = (
    "--model",
    "--data",
    "--trainer",
    "--distillation",
    "--seed_everything",
    "--ckpt_path",
    "--test_after_fit",
)


def misplaced_override(args: Sequence[str]) -> str | None:
    """The first override that stands before a `--config`, whose file would silently win over it.

    Example:
        >>> misplaced_override(["fit", "--model.lr=1", "--config", "x.yaml"])
        '--model.lr=1'
        >>> misplaced_override(["fit", "--config", "x.yaml", "--model.lr=1"])
    """
    configs = [i for i, a in enumerate(args) if a in ("--config", "-c") or a.startswith("--config=")]
    before = args[: configs[-1]] if configs else []
    return next((a for a in before if a.startswith(_PARTS)), None)


def has_wandb_account() -> bool:
    """Whether W&B knows who we are: an API key in the environment or in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    files = (
        [os.environ["NETRC"]] if "NETRC" in os.environ else [Path.home() / ".netrc", Path.home() / "_netrc"]
    )
    return any(netrc.netrc(file).authenticators(host) for file in files if Path(file).is_file())


def own_sentence(error: BaseException | None) -> str | None:
    """What one of lkd's own checks said, if it is the cause of an error; such a sentence says it all.

    Only the kinds that checks raise: a KeyError or the like is a bug, and a bug needs its traceback.
    """
    kinds = (
        ValueError,
        TypeError,
        OSError,
        ImportError,
        ArithmeticError,
        RuntimeError,
    )
    while error is not None:
        code = error.__traceback__
        while code is not None and code.tb_next is not None:
            code = code.tb_next
        if (
            code is not None
            and isinstance(error, kinds)
            and code.tb_frame.f_globals.get("__name__", "").startswith("lkd.")
        ):
            return f"{type(error).__name__}: {error}"
        error = error.__cause__
    return None


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: The arguments after the program's name; default those of the process.

    Raises:
        SystemExit: With one sentence, if the arguments or the data are wrong. Set `LKD_TRACEBACK=1` for the
            traceback.
    """
    given = list(sys.argv[1:] if args is None else args)
    if not given or given[0] in ("-h", "--help"):
        print(HELP)
        return
    if late := misplaced_override(given):
        sys.exit(
            f"{late} stands before --config, whose file would silently win; put overrides after --config."
        )
    if not has_wandb_account():
        os.environ.setdefault("WANDB_MODE", "offline")  # runs, instead of asking for a login
    try:
        if given[0] == "partition":
            from lkd import partition

            partition.run(given[1:])
        elif given[0] == "export":
            from lkd.edge.export import command as exporting

            exporting.run(given[1:])
        elif given[0] == "compare":
            from lkd.compare import command

            command.run(given[1:])
        else:
            from lkd import lightning_cli

            lightning_cli.run(None if args is None else given)
    except Exception as error:
        sentence = own_sentence(error)
        if os.environ.get("LKD_TRACEBACK") or sentence is None:
            raise
        sys.exit(sentence)
