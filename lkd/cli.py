"""The command line. Plain help and misplaced options are answered before the slow imports."""

import difflib
import errno
import os
import sys
from collections.abc import Sequence
from opcode import opmap

from lkd.busy import prepare_threads
from lkd.wandb_account import has_account

HELP = """\
usage: python cli.py {fit,validate,test,predict,partition,export,compress,offload} --config CONFIG.yaml [--KEY.SUBKEY=VALUE ...]
       python cli.py predict SOURCE {--model STUDENT.onnx | --config CONFIG.yaml --ckpt_path X.ckpt}
       python cli.py cache {build,stat,verify,prune} --config CONFIG.yaml
       python cli.py compare COMPARISON.yaml [--jobs N]
       python cli.py leaderboard STUDY [STUDY ...]
       python cli.py camera --data LOCAL.yaml --kit DIR
       python cli.py doctor [--json]

Knowledge distillation for federated and decentralized learning at the edge, native to Lightning.

  fit        train, distill, and report on the test data
  validate   measure on the validation data
  test       measure on the test data and report
  predict    run on pictures, a folder, a clip or a stream; without a SOURCE on the predict data
  partition  show which client holds what, without training
  export     write a trained student as a file that runs without lkd, measured as that file
  compress   prune, recover and quantize a trained student, each stage measured as the file that it is
  offload    share the work between a student on the device and a teacher at the edge server, within a budget
  cache      fill, list, test or shrink the store of a CachedTeacher
  compare    run methods over settings and seeds, and report what they reach and what they cost
  leaderboard  write one page and one CSV of what comparisons have found
  camera     look whether this machine can take part in a federation of machines, and join it
  doctor     say what is installed, on which machine, and what of it is wrong or missing

  python cli.py fit --config configs/parking/oracle.yaml             the car-park case study, rendered
  python cli.py fit --config configs/classification/digits.yaml --distillation.alpha=0.5
                                                                     overrides stand AFTER --config
  lkd fit --config lkd:parking/oracle.yaml                           the same from any folder, when lkd is installed
  python cli.py fit --help                                           all options
  python cli.py fit --model.help Detector                            options of one class
  python cli.py fit --config X.yaml --print_config                   what would run
"""
PARTITION_HELP = """\
usage: python cli.py partition --config CONFIG.yaml [--folder FOLDER] [--column COLUMN] [--KEY.SUBKEY=VALUE ...]

Shows which client holds what, as a table, a CSV and a picture, without training.

  --folder FOLDER  where to write; default runs/<name>/partition
  --column COLUMN  what to count in place of labels: camera, weather, ...

It takes all options of fit, too (python cli.py fit --help), such as --data.partition.alpha=0.1 after --config.
"""
VERBS = (
    "fit",
    "validate",
    "test",
    "predict",
    "partition",
    "export",
    "compress",
    "offload",
    "cache",
    "compare",
    "leaderboard",
    "camera",
    "doctor",
)
_FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
_PARTS = (
    "--model",
    "--data",
    "--trainer",
    "--distillation",
    "--more_loggers",
    "--seed_everything",
    "--ckpt_path",
    "--test_after_fit",
    "--trust",
    "--supervised_twin",
    "--save_as",
)


def misplaced_override(args: Sequence[str]) -> str | None:
    """Returns the first override that stands before a `--config`, whose file would silently replace it.

    Example:
        >>> misplaced_override(["fit", "--model.lr=1", "--config", "x.yaml"])
        '--model.lr=1'
        >>> misplaced_override(["fit", "--config", "x.yaml", "--model.lr=1"])
    """
    configs = [i for i, a in enumerate(args) if a in ("--config", "-c") or a.startswith("--config=")]
    before = args[: configs[-1]] if configs else []
    files = {
        i for i, a in enumerate(args[1:]) if a.lower().endswith(".onnx")
    }  # `--model student.onnx` is no override
    return next((a for i, a in enumerate(before) if a.startswith(_PARTS) and i not in files), None)


def wrong_verb(given: str) -> str | None:
    """Returns the message for a first word that is no verb.

    Example:
        >>> wrong_verb("fitt")
        "there is no verb 'fitt'; did you mean 'fit'?"
        >>> wrong_verb("fit")
    """
    if given in VERBS or given.startswith("-"):
        return None
    near = difflib.get_close_matches(given, VERBS, n=1)
    return f"there is no verb {given!r}; " + (
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(VERBS)}."
    )


def own_sentence(error: BaseException | None) -> str | None:
    """Returns lkd's own message, if lkd's deliberate refusal is the cause of an error.

    A refusal is recognized by a `raise` statement in lkd's own code. A ValueError without it may be a bug,
    such as one of shapes that PyTorch raises in a call of lkd's, and a bug needs its traceback; so does every
    KeyError or the like. Errors of the system about a file, and of Python about a package, are no bugs
    wherever they come up.
    """
    while error is not None:
        module, stated = _origin(error)
        refused = stated and isinstance(error, ValueError | TypeError | ArithmeticError | RuntimeError)
        if module.startswith("lkd.") and (refused or isinstance(error, OSError | ImportError)):
            return f"{type(error).__name__}: {error}"
        error = error.__cause__
    return None


def others_sentence(error: BaseException) -> str | None:
    """Returns the message of Lightning or the system, if it is about machine or configuration, not code."""
    if isinstance(error, OSError) and error.errno in _FULL_OR_CLOSED:
        return f"{error.filename or 'a file'} cannot be written or read: {error.strerror}."
    if type(error).__name__ == "MisconfigurationException":
        hint = (
            "; --trainer.accelerator=auto takes what this machine has"
            if "machine" in str(error) or "backend" in str(error)
            else ""
        )
        return " ".join(str(error).split()).removesuffix(".").removesuffix("!") + hint + "."
    cause: BaseException | None = error
    while cause is not None:  # the parser wraps errors of the objects that it makes
        if isinstance(cause, ImportError) and _origin(cause)[0].startswith("lightning."):
            return f"what this configuration names needs a package that is not installed: {cause}"
        cause = cause.__cause__ or cause.__context__
    return None


def _origin(error: BaseException) -> tuple[str, bool]:
    """Returns the module that an error comes from, and whether a `raise` statement there made it."""
    last = error.__traceback__
    if last is None:
        return "", False
    while last.tb_next is not None:
        last = last.tb_next
    stated = last.tb_frame.f_code.co_code[last.tb_lasti] == opmap["RAISE_VARARGS"]
    return str(last.tb_frame.f_globals.get("__name__", "")), stated


def _has_source(args: Sequence[str]) -> bool:
    """Returns whether `predict` is to predict pictures, and not the data of a configuration."""
    from lkd.edge.predict.words import is_asked

    return is_asked(args)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: The arguments after the program's name; default those of the process.

    Raises:
        SystemExit: With a one-sentence message, if the arguments or the data are wrong. Set `LKD_TRACEBACK=1`
            for the traceback.
    """
    given = list(sys.argv[1:] if args is None else args)
    if not given or given[0] in ("-h", "--help"):
        print(HELP)
        return
    if wrong := wrong_verb(given[0]):
        sys.exit(wrong)
    if given[0] == "doctor":  # before all else, as anything may be missing
        from lkd import doctor

        return doctor.run(given[1:])
    if len(given) == 1 and given[0] in VERBS:
        what = "COMPARISON.yaml" if given[0] == "compare" else "--config CONFIG.yaml"
        what = "build --config CONFIG.yaml" if given[0] == "cache" else what
        what = "--data LOCAL.yaml --kit DIR" if given[0] == "camera" else what
        what = "STUDY, as of a comparison's folder" if given[0] == "leaderboard" else what
        what += ", or SOURCE --model STUDENT.onnx" if given[0] == "predict" else ""
        sys.exit(f"{given[0]} needs to know what to run: {given[0]} {what} (configs/ has examples).")
    if late := misplaced_override(given):
        sys.exit(
            f"{late} stands before --config, whose file would silently win; put overrides after --config."
        )
    if not has_account():
        os.environ.setdefault("WANDB_MODE", "offline")  # runs, instead of asking for a login
    if given[0] == "partition" and {"-h", "--help"} & set(given):
        print(PARTITION_HELP)
        return
    prepare_threads()  # before torch is loaded
    try:
        if given[0] == "partition":
            from lkd import partition

            partition.run(given[1:])
        elif given[0] == "export":
            from lkd.edge.export import command as exporting

            exporting.run(given[1:])
        elif given[0] == "cache":
            from lkd.edge.cache import command as caching

            caching.run(given[1:])
        elif given[0] == "predict" and _has_source(given[1:]):
            from lkd.edge.predict import command as predicting

            predicting.run(given[1:])
        elif given[0] == "compress":
            from lkd.edge.compress import command as compressing

            compressing.run(given[1:])
        elif given[0] == "offload":
            from lkd.edge.offload import command as offloading

            offloading.run(given[1:])
        elif given[0] == "compare":
            from lkd.compare.options import read_options

            read_options(given[1:])  # its help and its mistakes need no slow import
            from lkd.compare import command

            command.run(given[1:])
        elif given[0] == "leaderboard":
            from lkd.leaderboard import command as listing

            listing.run(given[1:])
        elif given[0] == "camera":
            from lkd.flare import command as joining

            joining.run(given[1:])
        else:
            from lkd import lightning_cli

            lightning_cli.run(None if args is None else given)
    except Exception as error:
        sentence = own_sentence(error) or others_sentence(error)
        if os.environ.get("LKD_TRACEBACK") or sentence is None:
            raise
        sys.exit(sentence)
