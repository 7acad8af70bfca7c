import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
