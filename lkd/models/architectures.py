"""Names allowed in the description of a YOLO network, since Ultralytics evaluates parts of it as code."""

import ast
import re
from typing import Any

HEADS = ("Detect", "v10Detect")
"""Heads that give raw boxes and scores on a grid, and nothing else."""

# layers of the published architectures and their relatives; none of them reads files or text
LAYERS = (
    *("A2C2f", "AConv", "ADown", "AIFI", "Bottleneck", "BottleneckCSP", "C1", "C2", "C2PSA", "C2f", "C2fCIB"),
    *(
        "C2fPSA",
        "C3",
        "C3Ghost",
        "C3TR",
        "C3k2",
        "C3x",
        "CBFuse",
        "CBLinear",
        "Concat",
        "Conv",
        "ConvTranspose",
    ),
    *("DWConv", "DWConvTranspose2d", "ELAN1", "Focus", "GhostBottleneck", "GhostConv", "HGBlock", "HGStem"),
    *("Index", "PSA", "RepC3", "RepNCSPELAN4", "ResNetLayer", "SCDown", "SPP", "SPPELAN", "SPPF", "Silence"),
    *("nn.AvgPool2d", "nn.BatchNorm2d", "nn.Conv2d", "nn.ConvTranspose2d", "nn.Dropout", "nn.Identity"),
    *("nn.LeakyReLU", "nn.MaxPool2d", "nn.ReLU", "nn.SiLU", "nn.Upsample", "nn.ZeroPad2d"),
    *HEADS,
)
ACTIVATIONS = (
    *(
        "CELU",
        "ELU",
        "GELU",
        "Hardsigmoid",
        "Hardswish",
        "Identity",
        "LeakyReLU",
        "LogSigmoid",
        "Mish",
        "PReLU",
    ),
    *("ReLU", "ReLU6", "SELU", "Sigmoid", "SiLU", "Softplus", "Softsign", "Tanh"),
)
_TEXT = re.compile(r"nc|None|True|False|nearest|bilinear|bicubic|[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)


def check(architecture: Any, model: Any) -> None:
    """Refuses a description that is not one of boxes on a grid, or that names what no published network has.

    Args:
        architecture: The dict of a yaml file or of weights.
        model: The user's argument, for the message.

    Raises:
        ValueError: If a part is refused; the message names it.

    Example:
        >>> check({"backbone": [], "head": [[-1, 1, "Detect", ["nc"]]], "activation": "nn.SiLU()"}, "x.yaml")
        >>> check({"backbone": [[-1, 1, "open", ["x"]]], "head": [[-1, 1, "Detect", ["nc"]]]}, "x.yaml")
        Traceback (most recent call last):
        ValueError: model='x.yaml' names the layer 'open', which is none that published YOLO networks have ...
    """
    try:
        head = architecture["head"][-1][2]
        layers = [
            (str(name), args) for _, _, name, args in [*architecture["backbone"], *architecture["head"]]
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"model={model!r} is no architecture: it needs the lists `backbone` and `head` of layers [from, repeats, name, arguments]."
        ) from error
    if head not in HEADS:
        raise ValueError(
            f"model={model!r} has the head {head}; lkd needs {' or '.join(HEADS)}, which give boxes on a grid and need no text; "
            "another detector can teach boxes as a module with a method detect(images), Teacher(module)."
        )
    for name, args in layers:
        if name not in LAYERS:
            raise ValueError(
                f"model={model!r} names the layer {name!r}, which is none that published YOLO networks have (it could run code); build "
                "a network with such layers yourself and give the module."
            )
        if not isinstance(args, list) or not all(map(_plain, args)):
            raise ValueError(
                f"model={model!r}: the arguments {args!r} of a layer {name} must be numbers, true, false, null, nc, or the name of an "
                "interpolation."
            )
    activation = architecture.get("activation")
    if activation and not _known(activation):
        raise ValueError(
            f"model={model!r} has activation={activation!r}; lkd builds nn.NAME(numbers) with NAME one of {', '.join(ACTIVATIONS)}."
        )


def _plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, str):
        return _TEXT.fullmatch(value) is not None
    return value is None or type(value) in (bool, int, float)


def _known(activation: Any) -> bool:
    """Returns whether it is a call such as `torch.nn.LeakyReLU(0.1)`, with literals only."""
    try:
        call = ast.parse(str(activation).strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            return False
        for value in [*call.args, *(keyword.value for keyword in call.keywords)]:
            ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return False
    return re.fullmatch(rf"(torch\.)?nn\.({'|'.join(ACTIVATIONS)})", ast.unparse(call.func)) is not None
