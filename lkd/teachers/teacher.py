"""`Teacher`: any model, frozen, as the source of distillation targets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lkd.addresses import find_part
from lkd.taps import Call, Taps
from lkd.teachers.inputs import chunks, first_tensor, shape_of
from lkd.teachers.recipe import follow
from lkd.teachers.sources import load


class Teacher(LightningModule):
    """A frozen model that gives targets: always in eval mode, never in the gradient graph.

    Args:
        model: What teaches. A module, which is frozen in place (no gradients, eval mode: give a copy of one that
            shall train on), or a callable; or a path: a Lightning checkpoint that the command line made (`.ckpt`;
            of another give `MyModule.load_from_checkpoint(path)`), YOLO weights (`.pt`, needs the `yolo` extra;
            only from a source you trust); or the name of a timm model.
        recipe: A config of `python cli.py fit` that trains this teacher and saves it at the path `model`.
            It runs when the file is not there yet, or was made by another version of the recipe.
        class_map: For `.pt` weights: source class -> class of the student, such as `{2: 0, 5: 0, 7: 0}`
            for car, bus and truck of COCO as one class.
        pretrained: For a timm name: fetch its published weights.
        num_classes: For a timm name: the number of classes, default that of the weights.
        precision: `None` follows the trainer's autocast, `"32"` switches autocast off for the teacher,
            `"bf16"` runs it in bfloat16 autocast, `"int8"` stores the weights of its linear layers in 8
            bits (needs `torchao`).
        batch_size: Largest number of samples in one forward; larger batches are split. Default no limit.

    A detector with a copy per camera cannot teach, because `detect(images)` does not say whose image it is.

    Raises:
        ValueError: If the name or a value is not known.
        FileNotFoundError: If the path does not exist and there is no recipe.

    Example:
        >>> teacher = Teacher(nn.Linear(4, 3))
        >>> teacher(torch.ones(2, 4)).requires_grad, teacher.train().training
        (False, False)
    """

    def __init__(
        self,
        model: str | nn.Module | Callable[[Tensor], Any],
        recipe: str | None = None,
        class_map: dict[int, int] | None = None,
        pretrained: bool = True,
        num_classes: int | None = None,
        precision: Literal["32", "bf16", "int8"] | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1, or None for no limit.")
        if recipe is not None and not Path(recipe).is_file():
            raise FileNotFoundError(f"recipe={recipe!r} does not exist; give the path of a config for `fit`.")
        self.source = model
        self.recipe = recipe
        self.class_map = class_map
        self.pretrained = pretrained
        self.num_classes = num_classes
        self.precision = precision
        self.batch_size = batch_size
        self.model: nn.Module | None = None
        if not (isinstance(model, str) and recipe):
            self.prepare()

    def prepare(self) -> "Teacher":
        """Loads the teacher, and trains it first where a recipe says how. Does nothing the second time."""
        if self.model is None:
            source = self.source
            if isinstance(source, str) and self.recipe:
                follow(self.recipe, Path(source))
            self.model = load(source, self.class_map, self.pretrained, self.num_classes)
            if self.precision == "int8":
                quantize_linear(self.model)
            self.model.requires_grad_(False)
            self.eval()
        return self

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(self, inputs: Any) -> Any:
        """The model's output for a batch `(B, ...)`, or a dict of tensors `(B, ...)`, without a graph."""
        return self.tapped(inputs, [""])[""]

    def tapped(self, inputs: Any, layers: Sequence[str]) -> dict[str, Any]:
        """The outputs of named layers of the model, `""` being the model's own output.

        Raises:
            ValueError: If there is no such layer.
        """
        model = self.loaded

        def run(chunk: Any) -> dict[str, Any]:
            with Taps(model, layers, "teacher_layer") as taps:
                if isinstance(chunk, Call):
                    model(*chunk.args, **chunk.kwargs)
                else:
                    model(chunk)
            return {layer: taps.output(layer) for layer in layers}

        return self._run(run, inputs)

    def owner(self, address: str) -> tuple[nn.Module | None, str]:
        """The model that a layer is in, and how that model calls it; None for what no layer gives."""
        return self.loaded, address

    def part(self, address: str) -> Callable[[Tensor], Any]:
        """A part of the model as a function of its input, to which gradients flow; the weights stay frozen.

        It runs where the teacher is, in the teacher's precision, and on the whole batch whatever `batch_size`.

        Args:
            address: `"a.b"` for a submodule or a method, `"a.b[2:]"` for the end of an `nn.Sequential`.

        Raises:
            ValueError: If there is no such part.

        Example:
            >>> teacher = Teacher(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
            >>> teacher.part("[1:]")(torch.ones(1, 3, requires_grad=True)).requires_grad
            True
        """
        part = find_part(self.loaded, address, "rest")

        def run(inputs: Tensor) -> Any:
            try:
                with self._autocast(inputs):
                    return part(inputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise RuntimeError(
                    f"rest={address!r} of the teacher failed on an input of shape {tuple(inputs.shape)}: {error}"
                ) from error

        return run

    def detect(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Detections for images `(B, 3, H, W)`: one dict of `boxes` (N, 4), `scores` and `labels` each.

        Raises:
            TypeError: If the model neither has `detect` nor returns detections when called.
        """
        model = self.loaded
        found = self._run(getattr(model, "detect", model), images)
        if not (isinstance(found, list) and all(isinstance(f, dict) and "boxes" in f for f in found)):
            raise TypeError(
                f"the teacher {type(model).__name__} gives no detections; it needs a method detect(images) or "
                "must return a list of dicts with boxes, scores and labels."
            )
        return found

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """`Trainer.predict` on batches that are a tensor, a tuple that starts with it or a dict of images."""
        inputs = (
            batch["images"]
            if isinstance(batch, dict)
            else batch[0]
            if isinstance(batch, (list, tuple))
            else batch
        )
        return self.detect(inputs) if isinstance(batch, dict) else self(inputs)

    @property
    def loaded(self) -> nn.Module:
        """The model, prepared if it was not yet."""
        self.prepare()
        assert self.model is not None
        return self.model

    @torch.no_grad()  # not inference_mode: its tensors may not take part in the student's graph
    def _run(self, function: Any, inputs: Any) -> Any:
        example = first_tensor(inputs)
        if self.device != example.device:
            self.to(example.device)
        try:
            with self._autocast(example):
                if self.batch_size is None or len(example) <= self.batch_size:
                    outputs = function(inputs)
                else:
                    parts = chunks(inputs, self.batch_size)
                    outputs = _join([function(part) for part in parts], [len(first_tensor(p)) for p in parts])
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, AssertionError) as error:  # what torch and timm raise where shapes do not fit
            name = getattr(self.source, "__name__", type(self.model).__name__)
            raise RuntimeError(
                f"the teacher {name} failed on an input of shape {shape_of(inputs)}: {error} "
                "(It is given what enters the student's forward, or the layer that student_input names.)"
            ) from error
        return apply_to_collection(outputs, Tensor, Tensor.detach)

    def _autocast(self, inputs: Tensor) -> torch.autocast:
        kind = inputs.device.type
        if self.precision in ("32", "bf16"):
            return torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")
        dtype = torch.get_autocast_dtype(kind)
        return torch.autocast(kind, dtype, enabled=torch.is_autocast_enabled(kind))


def _join(parts: list[Any], sizes: list[int]) -> Any:
    """Joins the outputs of chunks; what does not grow with the batch (such as anchors) is taken once."""
    first = parts[0]
    if isinstance(first, Tensor):
        batched = all(p.ndim and len(p) == n for p, n in zip(parts, sizes, strict=True))
        return torch.cat(parts) if batched else first
    if isinstance(first, dict):
        return {k: _join([p[k] for p in parts], sizes) for k in first}
    if isinstance(first, (list, tuple)):
        if first and isinstance(first[0], dict):  # detections: a list with one entry a sample
            return [sample for part in parts for sample in part]
        return type(first)(_join(list(column), sizes) for column in zip(*parts, strict=True))
    return first


def quantize_linear(model: nn.Module) -> None:
    """Stores the weights of all linear layers in 8 bits, in place.

    Raises:
        ValueError: If the model has no linear layer to speak of.
        ModuleNotFoundError: If torchao is not installed.
    """
    if not any(isinstance(m, nn.Linear) for m in model.modules()):
        raise ValueError(
            f'precision="int8" stores linear layers in 8 bits, and {type(model).__name__} has none; use "bf16".'
        )
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ModuleNotFoundError('precision="int8" needs torchao: pip install "lkd[int8]".') from error
    quantize_(model, Int8WeightOnlyConfig())
