"""Students that map one tensor to logits."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.edge.export.kind import ExportPart, StudentKind, arrays
from lkd.edge.export.parity import Comparison
from lkd.edge.export.precision import check_precision
from lkd.edge.exported import Exported
from lkd.modules import Classifier


class Forward(nn.Module):
    """The forward of a module's class, whatever replaces it in the module meanwhile."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Returns what the module's own forward gives."""
        logits: Tensor = type(self.module).forward(self.module, x)
        return logits


class ClassifierKind(StudentKind):
    """A classifier: `forward` takes a tensor `(B, ...)` and gives logits `(B, C)`."""

    name, method = "logits", "forward"

    def __init__(self, module: LightningModule) -> None:
        super().__init__(module)
        self.inputs: Tensor | None = None
        self.classes = 0

    def watch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the forward, to note the first two samples, and refuses what is no such classifier."""

        def forward(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            given = [*args, *kwargs.values()]
            self._check(given, found)
            x: Tensor = given[0]
            if self.inputs is None:
                self.inputs, self.classes = x[:2].detach().clone(), found.shape[1]
            if x.shape[1:] != self.inputs.shape[1:]:
                raise ValueError(
                    f"test samples have the shapes {tuple(self.inputs.shape[1:])} and {tuple(x.shape[1:])}, but a file takes one: "
                    "let the data give all of one size, such as image_size=64."
                )
            return found

        return forward

    def _check(self, given: list[Any], found: Any) -> None:
        who = type(self.module).__name__
        if len(given) != 1 or not isinstance(given[0], Tensor):
            kinds = ", ".join(type(one).__name__ for one in given)
            raise ValueError(
                f"{who}.forward is given ({kinds}), and export takes modules whose forward takes one tensor."
            )
        if not isinstance(found, Tensor) or found.ndim != 2:
            what = tuple(found.shape) if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ValueError(
                f"{who}.forward gives {what}, and export takes modules that give logits (B, C): let forward give those, and other "
                "methods the rest."
            )
        check_precision(self.module, found.dtype)

    def parts(self) -> list[ExportPart]:
        """Returns the one part, with the two samples that were noted."""
        if self.inputs is None:
            who = type(self.module).__name__
            raise ValueError(
                f"the test of {who} never called its forward, so a file cannot stand in for it: let test_step call self(x)."
            )
        return [ExportPart("", Forward(self.module).eval(), {"x": self.inputs}, ["logits"], self.classes)]

    def stand_in(
        self, parts: Mapping[str, ExportPart], files: Mapping[str, Exported], parity: Mapping[str, Comparison]
    ) -> Callable[..., Any]:
        """Returns a forward that gives the logits of the file."""

        def forward(x: Any) -> Tensor:
            wanted = arrays({"logits": parts[""].network(*self.tensors(x).values())})
            got = files[""].run(arrays(self.tensors(x)))
            parity[""].compare(wanted, got)
            return torch.from_numpy(got["logits"])

        return forward

    def tensors(self, x: Any) -> dict[str, Tensor]:
        """Returns the file's inputs, made of the module's."""
        return {"x": x}

    def step(self) -> Callable[..., Any] | None:
        """Returns, for lkd's classifiers, a test of the logits alone: inner heads are not in the file."""
        module = self.module
        if not isinstance(module, Classifier):
            return None
        return lambda batch, batch_idx=0: Classifier._evaluate(module, batch, "test")
