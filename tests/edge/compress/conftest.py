import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from ..students import by_hand


@pytest.fixture
def quick(monkeypatch):
    """Graphs are put together by hand, and files are timed for a moment."""
    monkeypatch.setattr("lkd.edge.export.files.to_graph", by_hand)
    monkeypatch.setattr("lkd.edge.latency.LEAST", 0.0)
    monkeypatch.setattr("lkd.edge.latency.RUNS", 10)
