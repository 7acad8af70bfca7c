import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from ..students import by_hand


@pytest.fixture
def quick(monkeypatch):
    """Graphs are put together by hand."""
    monkeypatch.setattr("lkd.edge.export.files.to_graph", by_hand)
