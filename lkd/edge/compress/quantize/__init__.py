"""int8 quantization after training, by ONNX Runtime, on the camera's own frames."""

from lkd.edge.compress.quantize.int8 import quantize_file
from lkd.edge.compress.quantize.step import Quantize

__all__ = ["Quantize", "quantize_file"]
