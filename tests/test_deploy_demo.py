"""`make deploy-demo`: what it shows, that nothing is left of it, and what it says without NVFlare."""

import os
import re
import subprocess
import sys
from pathlib import Path
from signal import SIGINT

import pytest

from lkd.federated.engines import nvflare

ROOT = Path(__file__).parents[1]
needs_nvflare = pytest.mark.skipif(
    not nvflare.installed(), reason='NVFlare is not installed: pip install "lightning-kd[nvflare]"'
)


def test_without_nvflare_it_says_how_to_get_it(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import deploy_demo

    monkeypatch.setattr(nvflare, "installed", lambda: False)
    with pytest.raises(SystemExit, match="NVFlare is not installed: make deploy-demo"):
        deploy_demo.main([])


def started(folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "benchmarks/deploy_demo.py"], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def left(folder):
    """Files and processes that are left."""
    import psutil

    running = [
        p.pid for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or ())
    ]
    return running, list(folder.glob("lkd_*"))


@pytest.mark.slow
@needs_nvflare
def test_it_shows_a_camera_that_is_killed_and_comes_back(tmp_path):
    demo = started(tmp_path)
    told = demo.communicate(timeout=1200)[0]
    assert demo.returncode == 0, told
    rounds = re.findall(r"round (\d): cameras ([\d, ]+); [\d.]+ s, accuracy ([\d.]+)", told)
    took_part = {int(number): cameras for number, cameras, _ in rounds}
    assert took_part == {1: "1, 2, 3", 2: "1, 3", 3: "1, 3", 4: "1, 2, 3", 5: "1, 2, 3"}
    assert float(rounds[-1][2]) > 0.8
    assert left(tmp_path) == ([], [])


@pytest.mark.slow
@needs_nvflare
def test_nothing_is_left_after_ctrl_c(tmp_path):
    demo = started(tmp_path)
    told = next(line for line in demo.stdout if "cameras start" in line)
    assert told and len(left(tmp_path)[0]) >= 4
    demo.send_signal(SIGINT)
    rest = demo.communicate(timeout=120)[0]
    assert "interrupted; its processes are ended" in rest and demo.returncode == 1
    assert left(tmp_path) == ([], [])
