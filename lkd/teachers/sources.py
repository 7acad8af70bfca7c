"""Sources of a teacher's model: a checkpoint, YOLO weights, a timm name or a callable."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import nn

from lkd.safe_load import only_tensors
from lkd.teachers.callables import Called
from lkd.teachers.checkpoint import read
from lkd.trust import check, import_trusted


def load(
    source: str | nn.Module | Callable[..., Any],
    class_map: dict[int, int] | None = None,
    pretrained: bool = True,
    num_classes: int | None = None,
    trust: Sequence[str] = (),
) -> nn.Module:
    """Loads a model from what the user names.

    Args:
        source: A module, a callable, the path of a `.ckpt` or `.pt` file, or a timm name.
        class_map: For `.pt`: source class -> target class.
        pretrained: For timm: whether to download the published weights.
        num_classes: For timm: the number of classes. Default: that of the weights.
        trust: For a checkpoint: packages whose classes it may name; see `lkd.trust`.

    Returns:
        The model.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the name is unknown, or the file does not tell its network or class.
        TypeError: If the source is something else.

    Example:
        >>> load("resnet10t", pretrained=False, num_classes=3).eval()(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 3])
    """
    if isinstance(source, torch.jit.ScriptModule):
        return Called(source.__call__)  # a scripted module takes no hooks, which record outputs
    if isinstance(source, nn.Module):
        return source
    if not isinstance(source, str):
        if callable(source):
            return Called(source)
        if isinstance(source, dict):
            raise TypeError(
                "model is a dict; if it holds weights (a state_dict), build their network, load them into it by "
                "load_state_dict and give that module."
            )
        raise TypeError(f"model={source!r} must be a module, a callable, a path or the name of a timm model.")
    if source.endswith((".ckpt", ".pt")):
        if not Path(source).exists():
            raise FileNotFoundError(f"model={source!r} does not exist; train it first or give another path.")
        if source.endswith(".ckpt"):
            return _checkpoint(source, trust)
        from lkd.models.yolo import YOLO

        return YOLO(source, class_map=class_map)
    if Path(source).suffix in (".pth", ".bin", ".safetensors"):
        raise ValueError(
            f"model={source!r} holds weights without their network: build the network, load them into it by "
            "load_state_dict and give that module to Teacher."
        )
    import timm

    if not timm.is_model(source):
        near = difflib.get_close_matches(source, timm.list_models(), n=3) or ["resnet18"]
        raise ValueError(
            f"model={source!r} is neither a .ckpt or .pt file nor a timm model; "
            f"did you mean {' or '.join(near)}?"
        )
    extra: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    return timm.create_model(source, pretrained=pretrained, **extra)


def _checkpoint(path: str, trust: Sequence[str]) -> LightningModule:
    import lkd.modules  # noqa: F401  (the checkpoint names its class by a dotted path of these)
    from lkd.checkpoints import FEDERATION, load_client

    checkpoint = read(path)
    if FEDERATION in checkpoint:
        return load_client(path, trust=trust)
    made_by = checkpoint.get("hyper_parameters") or {}
    if "_class_path" not in made_by:
        raise ValueError(
            f"model={path!r} does not say which LightningModule it is of (only checkpoints of the command line "
            "do); give the module: Teacher(YourModule.load_from_checkpoint(path))."
        )
    check(made_by, path, trust)
    try:
        import_trusted(made_by["_class_path"], trust)
        with only_tensors():
            return LightningModule.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except (ValueError, TypeError, ImportError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"model={path!r} is of a {made_by['_class_path']}, which could not be made from it ({shorten(str(error), 200)}); give the "
            "module: Teacher(YourModule.load_from_checkpoint(path)), or, where its setup makes layers, one that has been set up and "
            "filled by load_state_dict."
        ) from error
