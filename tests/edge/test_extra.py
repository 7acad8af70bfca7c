import importlib

import pytest

from lkd.edge.extra import optional


@pytest.mark.parametrize(
    ("library", "extra"),
    [("onnxruntime", "edge"), ("openvino", "openvino"), ("av", "video"), ("trackers", "video")],
)
def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch, library, extra):
    def gone(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", gone)
    with pytest.raises(
        ImportError, match=rf'{library} is not installed: pip install "lightning-kd\[{extra}\]"'
    ):
        optional(f"{library}.inner")


def test_what_a_library_lacks_itself_is_not_blamed_on_it(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        optional("onnxruntime")
