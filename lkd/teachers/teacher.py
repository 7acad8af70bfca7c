"""`Teacher`: any model, frozen, as the source of distillation targets."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.addresses import entry_of, parse
from lkd.checks import expect
from lkd.kept import Kept
from lkd.models.per_camera import PerCamera
from lkd.nested import on_tensors
from lkd.taps import Call, Taps
from lkd.teachers.asking import ask
from lkd.teachers.callables import Called
from lkd.teachers.classes import Translation
from lkd.teachers.detecting import by_camera, by_copy, joined
from lkd.teachers.frozen import frozen
from lkd.teachers.inputs import as_call, batch_length, chunks, device_of, moved
from lkd.teachers.normalization import Normalization, Statistics
from lkd.teachers.outputs import join
from lkd.teachers.part import part_of
from lkd.teachers.precision import Precision, check_precision, dtypes_of, running, to_own
from lkd.teachers.recipe import follow, require_recipe
from lkd.teachers.scripted import require_layers
from lkd.teachers.sources import load
from lkd.teachers.steady import Steady

Ask = Callable[[Call], Any]
Join = Callable[[list[Any], list[int]], Any]


class Teacher(LightningModule):
    """Frozen model that gives targets: always in eval mode, never in the gradient graph.

    It is given what the student's forward was given, all positional and keyword arguments, on the student's
    device. Floating-point inputs are converted to the type of its own weights. If student and teacher need
    different inputs:

    - other statistics: `mean`, `std` and `student_mean`, `student_std`, below;
    - another size, crop or augmentation, or other arguments: put a second input into the batch and name it by
      `Distillation(input_key=...)`.

    Args:
        model: The model that teaches. A module, which is frozen in place (no gradients, eval mode: give a
            copy of one that shall train on). Or a callable: a method of a module (`clip.encode_image`), a
            `functools.partial`, or a function that uses modules; these are found if it closes over them or
            names them, and are its layers `module` or `module.0`, `module.1`. Or a path: a Lightning
            checkpoint made by the command line (`.ckpt`; for another one give
            `MyModule.load_from_checkpoint(path)`; for a federation's it is the server's model, and
            `lkd.federated.load_client(path, client=3)` a client's), or YOLO weights (`.pt`, needs the `yolo`
            extra). Or the name of a timm model.
        recipe: A configuration of `python cli.py fit` that trains this teacher and saves it at the path
            `model`. It runs when the file does not exist yet, or was made by another version of the recipe.
        class_map: For `.pt` weights: source class -> class of the student, such as `{2: 0, 5: 0, 7: 0}`
            for car, bus and truck of COCO as one class.
        classes: For a detector: the student's name of a teacher's class, such as
            `{"car": "vehicle", "truck": "vehicle"}`; other classes are left out. Both must have names of
            classes, `Detector(class_names=...)`.
        pretrained: For a timm name: whether to download its published weights.
        num_classes: For a timm name: the number of classes. Default: that of the weights.
        precision: `None` follows the trainer's autocast (weights in another type than float32 run in their
            own), `"32"` switches autocast off for the teacher, `"bf16"` runs it in bfloat16 autocast,
            `"int8"` stores the weights of its linear layers in 8 bits (needs `torchao`).
        batch_size: Largest number of samples in one forward; larger batches are split, with every tensor in
            them that is as long as the first. Default: no limit.
        mean: Mean that the teacher's images are centered by, one number per channel or one for all. Default:
            the batch is as the teacher needs it.
        std: Standard deviation that they are divided by.
        student_mean: Mean that the batch has been centered by, for the student; this is undone first. Without
            `mean`, the teacher is given values in [0, 1].
        student_std: Standard deviation that the batch has been divided by.
        trust: Packages or classes that a checkpoint may name beside lkd's, torch's and those already
            imported, such as `["my_package"]`. Creating the module runs their code.

    A detector with a copy per camera teaches if the batch names the camera of each image (`cameras`).

    Raises:
        ValueError: If the name or a value is unknown, or a module has no forward.
        FileNotFoundError: If the path does not exist and there is no recipe.

    Example:
        >>> teacher = Teacher(nn.Linear(4, 3))
        >>> teacher(torch.ones(2, 4)).requires_grad, teacher.train().training
        (False, False)
    """

    sees_student_view = False  # even if the data have another picture for the teacher

    def __init__(
        self,
        model: nn.Module | Callable[..., Any] | str | os.PathLike[str],
        recipe: str | None = None,
        class_map: dict[int, int] | None = None,
        pretrained: bool = True,
        num_classes: int | None = None,
        precision: Precision | None = None,
        batch_size: int | None = None,
        mean: Statistics | None = None,
        std: Statistics | None = None,
        student_mean: Statistics | None = None,
        student_std: Statistics | None = None,
        trust: Sequence[str] = (),
        classes: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        expect(batch_size=batch_size, ge=1, none="no limit")
        require_recipe("recipe", recipe)
        check_precision(precision)
        statistics = (mean, std, student_mean, student_std)
        self.normalization = None if statistics == (None,) * 4 else Normalization(*statistics)
        source = os.fspath(model) if isinstance(model, os.PathLike) else model
        self.source = source if isinstance(source, str) else None
        self.class_map, self.classes = class_map, classes
        self.translation: Translation | None = None  # once a student is known
        self.pretrained, self.num_classes, self.trust = pretrained, num_classes, tuple(trust)
        self.recipe, self.precision, self.batch_size = recipe, precision, batch_size
        self.model: nn.Module | None = None
        self._alters: bool | None = None  # whether it changes its inputs in place; None until it was seen
        self._steady = Steady()
        if not (self.source and recipe):
            self.model = self._frozen(source)

    def prepare(self) -> "Teacher":
        """Loads the teacher, or trains it by its recipe first; the second time it does nothing."""
        if self.model is None and self.source is not None:
            if self.recipe:
                follow(self.recipe, Path(self.source))
            self.model = self._frozen(self.source)
        return self

    def _frozen(self, source: str | nn.Module | Callable[..., Any]) -> nn.Module:
        model = load(source, self.class_map, self.pretrained, self.num_classes, self.trust)
        return frozen(model, self.precision)

    def train(self, mode: bool = True) -> "Teacher":
        """Keeps the teacher in eval mode, whatever is asked."""
        return super().train(False)

    def forward(self, inputs: Any) -> Any:
        """Computes the output for a batch `(B, ...)`, a dict of such tensors or a `Call`, without a graph."""
        return self.tapped(inputs, [""])[""]

    def tapped(self, inputs: Any, layers: Sequence[str]) -> dict[str, Any]:
        """Computes the outputs of named layers of the model, `""` being the model's own output.

        Args:
            inputs: The model's only argument, or a `lkd.taps.Call` with all its arguments.
            layers: Layer addresses.

        Raises:
            ValueError: If there is no such layer.
            TypeError: If the model cannot be called with these arguments.
        """
        model = self.loaded
        if isinstance(model, Called):
            require_layers(model, layers)

        whole_only = all(parse(layer, "teacher_layer").module == "" for layer in layers)

        def run(call: Call) -> dict[str, Any]:
            if whole_only:  # what the model gives is at hand, and nothing runs after it
                output = ask(model, call, self._name, model)
                return {layer: entry_of(output, layer, "teacher_layer") for layer in layers}
            with Taps(model, layers, "teacher_layer", sides=("gave",)) as taps:
                ask(model, call, self._name, model)
            return {layer: taps.output(layer) for layer in layers}

        def whole(parts: list[Any], sizes: list[int]) -> dict[str, Any]:
            return {layer: join([part[layer] for part in parts], sizes, layer) for layer in layers}

        return by_copy(model, as_call(inputs), partial(self._run, run, whole, asked=layers))

    @property
    def asked(self) -> nn.Module:
        """The model whose forward shows, by its arguments, what it can be given."""
        return self.loaded

    def owner(self, address: str) -> tuple[nn.Module | None, str]:
        """Returns the model that has a layer, or None if no single model has it, and the layer's address."""
        return self.loaded, address

    def part(self, address: str) -> Callable[[Tensor], Any]:
        """Returns a part of the model as a function of its input, with gradients; the weights stay frozen.

        It runs where the teacher is, in the teacher's precision, and on the whole batch whatever
        `batch_size`.

        Args:
            address: `"a.b"` for a submodule or a method, `"a.b[2:]"` for the end of an `nn.Sequential`.

        Raises:
            ValueError: If there is no such part.

        Example:
            >>> teacher = Teacher(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
            >>> teacher.part("[1:]")(torch.ones(1, 3, requires_grad=True)).requires_grad
            True
        """
        return part_of(self, address)

    def detect(self, images: Tensor, cameras: Sequence[str] | None = None) -> list[dict[str, Tensor]]:
        """Detects objects in images `(B, 3, H, W)`: one dict of `boxes` (N, 4), `scores` and `labels` each.

        Labels are the student's, if a student is known to have other classes (`BoxDistillation`,
        `DetectionReport`).

        Args:
            images: The images, as the student sees them.
            cameras: Camera of each image, for a detector with a copy per camera; other models ignore it.

        Raises:
            TypeError: If the model neither has `detect` nor returns detections when called.
            ValueError: If a camera has no copy, or the images' cameras are not given.
        """
        function = getattr(self.loaded, "detect", self.loaded)
        if cameras is None or not isinstance(getattr(self.loaded, "network", None), PerCamera):
            return self._detect(function, images)
        return by_camera(self._detect, function, images, cameras)

    def _detect(
        self, function: Callable[..., Any], images: Tensor, camera: str = ""
    ) -> list[dict[str, Tensor]]:
        whole: Join = partial(joined, self._name)
        outputs: list[dict[str, Tensor]] = self._run(
            lambda call: ask(function, call, self._name, self.loaded), whole, images, f"detect({camera})"
        )
        return outputs if self.translation is None else self.translation(outputs)

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Any:
        """Predicts on batches that are a tensor, a tuple that starts with it, or a dict of images."""
        if isinstance(batch, dict):
            return self.detect(batch["images"], batch.get("cameras"))
        return self(batch[0] if isinstance(batch, (list, tuple)) else batch)

    @property
    def loaded(self) -> nn.Module:
        """The model, which is prepared first if necessary."""
        model = self.model if self.model is not None else self.prepare().model
        assert model is not None
        return model

    @property
    def _name(self) -> str:
        return self.model.name if isinstance(self.model, Called) else type(self.model).__name__

    def served(self, asked: Sequence[str] | str, call: Call, answer: Ask) -> Any:
        """Answers a call, for layers or (a string) for `detect`; subclasses may do so without the model.

        Args:
            asked: Layers of the model, or a string for `detect`.
            call: Arguments of the model.
            answer: Asks the model.
        """
        return answer(call)

    @torch.no_grad()  # not inference_mode, whose tensors could not take part in the student's graph
    def _run(self, function: Ask, whole: Join, inputs: Any, asked: Sequence[str] | str) -> Any:
        """Runs a function on the parts of a batch, and joins their outputs by `whole`."""
        model, call = self.loaded, as_call(inputs)
        theirs = Kept(call)
        device = device_of(call)
        if device is None:
            device, call = self.device, moved(call, self.device)
        elif self.device != device:
            self.to(device)
        if self.normalization is not None:
            call = self.normalization(call)
        dtypes = dtypes_of(model)
        call = to_own(dtypes, call)

        def answer(call: Call) -> Any:
            alters = self._alters is not False  # until known, the student's batch is copied
            given = on_tensors(torch.clone, call) if alters else call
            own = Kept(given) if alters else theirs
            parts = chunks(given, self.batch_size) if self.batch_size else [(given, batch_length(given) or 1)]
            outputs = whole([function(part) for part, _ in parts], [size for _, size in parts])
            self._alters = bool(self._alters) or (alters and own.changed(own.value))
            return outputs

        def ask_model(call: Call) -> Any:
            self.eval()  # a user that shares the model may have set it to training
            return self._steady.ask(model, lambda: answer(call), self._name)

        with running(dtypes, self.precision, device.type):
            outputs = self.served(asked, call, ask_model)
        if theirs.changed(theirs.value):
            raise ValueError(
                f"the teacher {self._name} changes in place what it is given, the student's batch, which its first forward did not; "
                "let it make a new tensor, as x = x - mean does."
            )
        return on_tensors(Tensor.detach, outputs)
