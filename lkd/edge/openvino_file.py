"""OpenVINO's files: made from an ONNX file, and run on the CPU."""

from collections.abc import Mapping
from pathlib import Path

from lkd.edge.extra import optional
from lkd.edge.nms import Array


class OpenVINOFile:
    """An `.xml` file with its weights as `.bin` beside it, loaded to run.

    It computes in float32 even on processors with bfloat16, which OpenVINO would use by default.

    Args:
        path: The `.xml`.
        threads: Number of threads of OpenVINO.

    Attributes:
        runtime: Name and version of what runs it.

    Raises:
        ImportError: Without the extra `openvino`.
        ValueError: If OpenVINO cannot run it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        openvino = optional("openvino")
        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            self._info = core.read_model(path)
            self.model = core.compile_model(self._info, "CPU", options)
        except RuntimeError as error:
            raise ValueError(f"path={str(path)!r} cannot be run by OpenVINO: {error}") from error
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}, CPU"

    def written(self, key: str) -> str | None:
        """Returns what the metadata have under a key."""
        return str(self._info.get_rt_info(key).value) if self._info.has_rt_info(key) else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        found = self.model(dict(inputs))
        return {output.get_any_name(): found[output] for output in self.model.outputs}


def to_openvino(path: str | Path, folder: str | Path | None = None) -> Path:
    """Writes an ONNX file as OpenVINO's `.xml` and `.bin`, in the precision that it has, with lkd's metadata.

    A file in 8 bits (QDQ) stays in 8 bits.

    Args:
        path: The `.onnx`.
        folder: Folder to write into; default: beside the `.onnx`.

    Returns:
        The path of the `.xml`. It has no card, since a card needs measurements, as `export --format=openvino`
        makes them.

    Raises:
        ImportError: Without the extra `openvino`.
        FileNotFoundError: If there is no such file.
        ValueError: If it is no ONNX file, or OpenVINO does not know one of its operators.

    Example:
        >>> to_openvino("runs/digits/export/student.onnx")  # doctest: +SKIP
        PosixPath('runs/digits/export/student.xml')
    """
    openvino, path = optional("openvino"), Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path={str(path)!r} must be a .onnx file.")
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r} does not exist; give a .onnx that export wrote.")
    try:
        model = openvino.Core().read_model(path)
    except RuntimeError as error:
        raise ValueError(f"path={str(path)!r} cannot be read by OpenVINO: {error}") from error
    for entry in optional("onnx").load(path, load_external_data=False).metadata_props:
        model.set_rt_info(entry.value, entry.key)
    end = Path(folder or path.parent) / path.with_suffix(".xml").name
    openvino.save_model(model, end, compress_to_fp16=False)
    return end
