"""Runs as processes: what is done, what fails, what is interrupted; the processes here are a line of Python each."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lkd.compare.job import Running
from lkd.compare.process import Started
from lkd.compare.running import carry_out
from lkd.leaderboard import Origin, origin

from .study import a_grid, a_result, jobs_of, write

WRITES = """
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1]).parent / "fit/report"
folder.mkdir(parents=True)
result = {"threads_seen": os.environ["OMP_NUM_THREADS"], "config": pathlib.Path(sys.argv[1]).read_text()}
(folder / "tradeoff.json").write_text(json.dumps(result))
print("all is well")
"""
FAILS = "import sys; print('first'); print(); sys.exit('it broke')"
SLEEPS = "import time; time.sleep(60)"


def processes(scripts, seen=None):
    """Starts a script for each run, by its method's name; notes how many are under way."""

    def start(arguments, log, threads):
        assert arguments[:2] == ["fit", "--config"]
        method = log.parent.parent.name
        process = Started(
            [sys.executable, "-S", "-c", scripts.get(method, WRITES), arguments[2]], log, threads
        )
        if seen is not None:
            seen.append(process)
        return process

    return start


@pytest.fixture
def jobs(tmp_path):
    return jobs_of(a_grid(tmp_path, seeds=(0,)))


def test_runs_end_with_a_result_and_their_number_of_threads(jobs, capsys):
    assert [job.state for job in jobs] == ["missing"] * 3
    assert carry_out(jobs, 2, 3, {}, processes({})) == 0
    assert [job.state for job in jobs] == ["done"] * 3
    for job in jobs:
        result = job.result
        assert (result["threads_seen"], result["threads"], result["jobs"], result["code"]) == ("3", 3, 2, 0)
        assert result["log"] == [] and str(job.run) in result["config"]
        assert Origin(**result["origin"]) == origin()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"]
    assert " left" in lines[0] and " left" not in lines[2]


def test_no_more_at_a_time_than_asked(jobs):
    most, under_way = [], []
    start = processes({})

    def watched(*args):
        most.append(1 + sum(process.code() is None for process in under_way))
        under_way.append(start(*args))
        return under_way[-1]

    carry_out([*jobs], 2, 1, {}, watched)
    assert max(most) <= 2 and len(most) == 3


def test_a_failure_is_kept_with_its_last_lines_and_stops_nobody(jobs, capsys):
    assert carry_out(jobs, 1, 1, {}, processes({"FedAvg": FAILS})) == 1
    assert [job.state for job in jobs] == ["done", "failed", "done"]
    assert jobs[1].result["log"] == ["first", "it broke"] and jobs[1].result["code"] == 1
    assert "FedAvg, seed 0: FAILED: it broke" in capsys.readouterr().out


def test_a_process_that_ends_well_without_a_result_has_failed(jobs):
    assert carry_out(jobs[:1], 1, 1, {}, processes({"alone": "pass"})) == 1
    assert jobs[0].result["log"] == ["It ended with code 0 and said nothing."]


def test_other_options_are_a_change_and_leave_nothing_of_before(jobs):
    carry_out(jobs[:1], 1, 1, {}, processes({}))
    (jobs[0].folder / "old").write_text("")
    jobs[0].config["seed_everything"] = 5
    assert jobs[0].state == "changed"
    carry_out(jobs[:1], 1, 1, {}, processes({}))
    assert jobs[0].state == "done" and not (jobs[0].folder / "old").exists()


def test_a_folder_that_is_not_a_runs_is_left_alone(jobs):
    jobs[0].folder.mkdir(parents=True)
    (jobs[0].folder / "thesis.txt").write_text("do not delete")
    with pytest.raises(ValueError, match="is not the folder of a run, and is left as it is"):
        carry_out(jobs[:1], 1, 1, {}, processes({}))
    assert (jobs[0].folder / "thesis.txt").is_file()


def test_an_interrupt_stops_what_is_under_way_and_keeps_what_is_done(jobs):
    seen = []
    start = processes({"FedAvg": SLEEPS, "FedMD": SLEEPS}, seen)

    def interrupts():
        while len(seen) < 3:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupts)
    thread.start()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        carry_out(jobs, 2, 1, {}, start)
    thread.join()
    assert time.perf_counter() - began < 20 and all(process.code() is not None for process in seen)
    assert [job.state for job in jobs] == ["done", "missing", "missing"]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_children_of_a_run_are_stopped_with_it(jobs, tmp_path):
    script = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)"
    )

    def start(*args):
        process = processes({"alone": script})(*args)
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        return process

    Running(jobs[0], 1, 1, start).stop()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        status = Path(f"/proc/{pid}/stat")
        if not status.exists() or status.read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child is still there")


def test_what_runs_took_before_tells_how_long_it_will_be(jobs, capsys):
    write(jobs[0], a_result([0.5]))
    carry_out(jobs[1:], 1, 1, {"FedMD": 100.0}, processes({}))
    assert "about 1 min 40 s left" in capsys.readouterr().out


def test_a_result_is_there_as_a_whole_or_not_at_all(jobs):
    carry_out(jobs[:1], 1, 1, {}, processes({}))
    assert not list(jobs[0].folder.glob("*.part"))
    assert json.loads((jobs[0].folder / "result.json").read_text())["status"] == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own doing")
def test_runs_end_with_a_comparison_that_is_killed(tmp_path):
    """Of SIGKILL nothing is told; a run that went on would write where the next comparison does."""
    parent = (
        "import sys, pathlib, time; from lkd.compare.process import Started;"
        "print(Started([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], pathlib.Path('log'), 1).pid, flush=True);"
        "time.sleep(60)"
    )
    comparison = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, cwd=tmp_path, text=True
    )
    child = int(comparison.stdout.readline())
    os.kill(child, 0)
    comparison.kill()
    comparison.wait()
    until = time.monotonic() + 20
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < until  # a zombie has no command line
        time.sleep(0.05)
