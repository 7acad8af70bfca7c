"""Writing and reading of checkpoints: completely or not at all, and without running what is in them."""

import os
import pickle
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import nn

from lkd.safe_load import holds_objects, only_tensors
from lkd.trust import check


class Checkpoints(TorchCheckpointIO):
    """Lightning's checkpoints, which the command line uses unless the config has a `CheckpointIO` of its own.

    A file is written beside its target, flushed to the disk and renamed, so that a killed run, a power cut or
    a full disk leaves the one before it. Reading allows tensors, numbers and text alone, whatever else this
    process allows. For a damaged file, the error names the one before it. Addresses such as `s3://...` are
    left to Lightning.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(plugins=[Checkpoints()], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> type(trainer.strategy.checkpoint_io).__name__
        'Checkpoints'
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a checkpoint, completely or not at all.

        Raises:
            OSError: If it cannot be written; the former file is then still there.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, target)
        except OSError as error:
            why = error.strerror or str(error)
            raise OSError(
                f"the checkpoint {str(target)!r} could not be written ({why}); those before it are as they were: make room for it, "
                "then resume from the last one by --ckpt_path."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = None) -> dict[str, Any]:  # fmt: skip
        """Reads a checkpoint; `weights_only=False` allows any object, for a file that is trusted.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is damaged, or holds objects.
        """
        strict = weights_only is not False
        try:
            if "://" not in str(path):
                _check_sums(Path(path))
            with only_tensors() if strict else nullcontext():
                return super().load_checkpoint(path, map_location, weights_only=strict)
        except (FileNotFoundError, PermissionError):
            raise
        except (
            pickle.UnpicklingError,
            BadZipFile,
            OSError,
            RuntimeError,
            EOFError,
            KeyError,
            AttributeError,
        ) as error:
            raise ValueError(_complaint(path, error)) from error


def look(options: Any) -> dict[str, Any] | None:
    """Checks the checkpoint that `ckpt_path` among a verb's options names, before anything that takes long.

    Args:
        options: Options of a verb; `weights_only` becomes true unless they say otherwise.

    Returns:
        Its contents, if its arguments may become part of the configuration; else None.

    Raises:
        FileNotFoundError: If it does not exist.
        ValueError: If it is on another machine, damaged, or holds or names what would run code.
    """
    path = options.get("ckpt_path")
    if path is None:
        return None
    if str(path).startswith(("http:", "https:")):
        raise ValueError(
            f"ckpt_path={path!r} is an address: download it first, and give the path of the file."
        )
    if options.get("weights_only") is None:
        options["weights_only"] = True
    if (
        path in ("best", "last", "hpc", "registry") or ":" in path
    ):  # registry:... and s3://... are left to Lightning
        return None
    if not Path(path).exists():
        raise FileNotFoundError(
            f"ckpt_path={path!r} does not exist; give the path of a checkpoint, 'best', 'last' or 'hpc'."
        )
    if not options["weights_only"]:
        return None
    if Path(path).is_dir():
        raise ValueError(
            f"ckpt_path={path!r} is a folder, as sharded checkpoints are, and torch unpickles what is in it, which runs code; if it is "
            "your own, add --weights_only=false."
        )
    found = read(path)
    check(found.get("hyper_parameters"), path, options.get("trust") or (), "--trust+={}", _plain(options))
    return found


def read(path: str) -> dict[str, Any]:
    """Reads the contents of a checkpoint: tensors, numbers and text.

    Raises:
        ValueError: If it is damaged, holds objects, or is not Lightning's.
    """
    found = Checkpoints().load_checkpoint(path)
    if not isinstance(found, dict) or "state_dict" not in found:
        raise ValueError(f"ckpt_path={path!r} is no checkpoint of Lightning: it has no entry 'state_dict'.")
    return found


def fill(module: nn.Module, state: Mapping[str, Any], path: str, **options: Any) -> Any:
    """Loads a checkpoint's weights into a module, by the module's own `load_state_dict`.

    Args:
        module: The module.
        state: Weights and buffers by name.
        path: The checkpoint, for the message.
        **options: Passed to `load_state_dict`.

    Raises:
        ValueError: If they are those of another module.
    """
    try:
        return type(module).load_state_dict(module, state, **options)
    except RuntimeError as error:
        raise ValueError(
            f"ckpt_path={path!r} does not fit {type(module).__name__}: {' '.join(str(error).split())[:400]}: give the "
            "configuration that it was trained by."
        ) from error


def _plain(options: Any) -> Any:
    return options.as_dict() if hasattr(options, "as_dict") else options


def _write(checkpoint: dict[str, Any], target: Path) -> None:
    part = target.with_name(
        f".{target.name}.{os.getpid()}.part"
    )  # beside the target, since a rename is only atomic within one file system
    try:
        with part.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        if target.is_dir():  # left by a sharded checkpoint
            raise IsADirectoryError(f"{target} is a folder")
        os.replace(part, target)
    except RuntimeError as error:  # raised by torch's writer once the file has failed
        cause = error.__context__ if isinstance(error.__context__, OSError) else OSError(str(error))
        raise cause from error
    finally:
        part.unlink(missing_ok=True)
    with suppress(OSError):  # not every system can flush a folder to the disk
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _check_sums(path: Path) -> None:
    """Refuses a file whose bytes have changed since it was written, which torch would read silently."""
    if path.is_file() and is_zipfile(path):
        with ZipFile(path) as file:
            sums = {entry.CRC for entry in file.infolist() if entry.file_size}
            if len(sums) > 1 and (bad := file.testzip()):  # one sum for all: written without checksums
                raise BadZipFile(bad)


def _complaint(path: Any, error: Exception) -> str:
    if holds_objects(error, path):
        return (
            f"ckpt_path={str(path)!r} holds Python objects beside weights, which are not unpickled, since that would run code; if the "
            "file is your own, add --weights_only=false."
        )
    before = _before(Path(path))
    return f"ckpt_path={str(path)!r} is damaged, or no checkpoint" + (
        f"; the one before it is {str(before)!r}." if before else ", and there is no other beside it."
    )


def _before(path: Path) -> Path | None:
    """Returns the newest whole checkpoint beside another."""
    others = [p for p in path.parent.glob("*.ckpt") if p != path and p.is_file() and is_zipfile(p)]
    return max(others, key=lambda p: p.stat().st_mtime_ns, default=None)
