"""What this machine's processor does to int8 sums."""

from pathlib import Path

import pytest

INFO = Path("/proc/cpuinfo")
EXACT = not (INFO.is_file() and "flags" in INFO.read_text() and "vnni" not in INFO.read_text())
"""False without VNNI: ONNX Runtime adds up int8 in pairs of 16 bits there, which saturate."""
exact_sums = pytest.mark.skipif(
    not EXACT,
    reason="this processor has no VNNI: ONNX Runtime adds up int8 in pairs of 16 bits there, which saturate",
)
