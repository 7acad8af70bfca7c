"""Ultralytics' module of networks: the one file of lkd that imports ultralytics (AGPL-3.0), lazily.

Only its networks and its training loss are used, never its trainer, predictor or downloads.
"""

import difflib
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image

from lkd.shipped import find


def ultralytics_tasks() -> Any:
    """Imports Ultralytics' module of networks without its side effects on this process.

    The import would set environment variables (such as OMP_NUM_THREADS=1), look up two names on the network,
    and replace torch.save, PIL's Image.open (by one that installs packages for a damaged picture) and the
    print options of torch and NumPy. All of it is prevented or undone. What remains is the settings file that
    its first import ever writes to the user's configuration folder.
    """
    if "ultralytics.nn.tasks" in sys.modules:
        return sys.modules["ultralytics.nn.tasks"]
    environment, save, open_image = dict(os.environ), torch.save, Image.open
    os.environ |= {"YOLO_OFFLINE": "1", "YOLO_AUTOINSTALL": "0"}
    try:
        with warnings.catch_warnings(), numpy.printoptions(), torch._tensor_str.printoptions():
            from ultralytics.nn import tasks
            from ultralytics.utils import SETTINGS
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "ultralytics":
            raise
        raise ImportError(
            'YOLO needs the extra: pip install "lightning-kd[yolo]" (Ultralytics, AGPL-3.0).'
        ) from error
    finally:
        torch.save, Image.open = save, open_image
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ |= environment
    dict.update(SETTINGS, sync=False)  # in this process only: the user's settings file stays as it is
    return tasks


def bundled(name: str) -> dict[str, Any]:
    """Reads the architecture of a yaml name such as `yolo11n.yaml`: a file, or one from Ultralytics."""
    tasks = ultralytics_tasks()
    described = find(name)
    if not described.is_file():
        known = {path.name for path in (Path(tasks.__file__).parents[1] / "cfg" / "models").rglob("*.yaml")}
        if not known & {name, re.sub(r"(?<=\d)[nsmlx](?=[-.])", "", name)}:
            sized = {re.sub(r"(?<=\d)(?=[-.])", size, each, count=1) for each in known for size in "nsmlx"}
            near = difflib.get_close_matches(name, sorted(sized), n=3) or ["yolo11n.yaml", "yolov8n.yaml"]
            raise ValueError(
                f"model={name!r} is neither a file nor a known yaml; near ones: {', '.join(near)}."
            )
    return tasks.yaml_model_load(str(described))
