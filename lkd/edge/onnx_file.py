"""An ONNX file, run by ONNX Runtime on the CPU."""

from collections.abc import Mapping
from pathlib import Path

from lkd.edge.extra import optional
from lkd.edge.nms import Array


class OnnxFile:
    """An `.onnx` file that is loaded to run.

    Args:
        path: The file.
        threads: Number of threads of ONNX Runtime.

    Attributes:
        runtime: Name and version of what runs it.

    Raises:
        ImportError: Without the extra `edge`.
        ValueError: If ONNX Runtime cannot run it.
    """

    def __init__(self, path: Path, threads: int) -> None:
        runtime = optional("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.add_session_config_entry(
            "session.intra_op.allow_spinning", "0"
        )  # the device has other work, too
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise ValueError(f"path={str(path)!r} cannot be run by ONNX Runtime: {error}") from error
        self.runtime = f"ONNX Runtime {runtime.__version__}, CPU"

    def written(self, key: str) -> str | None:
        """Returns what the metadata have under a key."""
        text: str | None = self.session.get_modelmeta().custom_metadata_map.get(key)
        return text

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the outputs by name."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, dict(inputs)), strict=True))
