"""Kinds of students: inputs and outputs of each one's file, and the method that the file replaces."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lkd.edge.export.parity import Comparison
from lkd.edge.exported import Exported
from lkd.edge.nms import Array


class ExportPart(NamedTuple):
    """The part of a student that becomes one file.

    Attributes:
        name: Name of the part, such as a camera's; empty where the student is one file.
        network: Maps the inputs, by position, to the outputs.
        inputs: Two samples of the test data, by the inputs' names.
        outputs: Names of the outputs.
        classes: Number of classes.
    """

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]
    classes: int


class StudentKind(ABC):
    """A kind of student. It learns its parts from the data that a test of the unchanged module shows it.

    Args:
        module: The trained module.
    """

    name: str
    """Name of the kind in the metadata."""
    method: str
    """Method of the module that the file replaces while the module's own test runs."""

    def __init__(self, module: LightningModule) -> None:
        self.module = module

    @abstractmethod
    def watch(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps the method, to note what it is given.

        Args:
            original: The method.
        """

    @abstractmethod
    def parts(self) -> list[ExportPart]:
        """Returns the parts that become files, after the data were seen.

        Raises:
            ValueError: If the data showed nothing, or what no file can take.
        """

    @abstractmethod
    def stand_in(
        self, parts: Mapping[str, ExportPart], files: Mapping[str, Exported], parity: Mapping[str, Comparison]
    ) -> Callable[..., Any]:
        """Returns a method that asks the files and compares them with the networks, by the part's name."""

    def options(self) -> dict[str, Any]:
        """Returns entries of the metadata besides inputs and classes."""
        return {}

    def settings(self) -> dict[str, Any]:
        """Returns attributes that the module has while it is measured."""
        return {}

    def step(self) -> Callable[..., Any] | None:
        """Returns a test that depends on the method's answer alone, or None for the module's own test."""
        return None


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Converts tensors to NumPy arrays."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
