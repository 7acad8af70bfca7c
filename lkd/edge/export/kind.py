"""What kinds of students there are: what each one's file takes and gives, and what in its module the file stands in for."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.edge.export.parity import Comparison
from lkd.edge.exported import Exported
from lkd.edge.nms import Array


class Part(NamedTuple):
    """What becomes one file.

    Attributes:
        name: Of the part, such as a camera's; empty where the student is one file.
        network: Maps the inputs, by position, to the outputs.
        inputs: Two samples of the test data, by the inputs' names.
        outputs: Names.
        classes: Number of classes.
    """

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]
    classes: int


class Kind(ABC):
    """A kind of student. A test of the module as it is shows it the data; then it knows its parts.

    Args:
        module: The trained module.
    """

    name: str
    """In the metadata."""
    method: str
    """Of the module, which the file stands in for while the module's own test runs."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module

    @abstractmethod
    def watch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The method, which notes what it is given.

        Args:
            original: The method.
        """

    @abstractmethod
    def parts(self) -> list[Part]:
        """What becomes files, after the data were seen.

        Raises:
            ValueError: If the data showed nothing, or what no file can take.
        """

    @abstractmethod
    def stand_in(
        self, parts: Mapping[str, Part], files: Mapping[str, Exported], parity: Mapping[str, Comparison]
    ) -> Callable[..., Any]:
        """The method, answered by the files and compared with the networks; all by the part's name."""

    def options(self) -> dict[str, Any]:
        """What the metadata say beside inputs and classes."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Attributes of the module while it is measured."""
        return {}

    def step(self) -> Callable[..., Any] | None:
        """The module's test, as far as it is of the method's answer alone; None for the test as it is."""
        return None


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """As NumPy."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
