"""A job that carries code, or names a class that is not lkd's, is refused by a closed kit, which runs nothing of it."""

import json
import subprocess
import sys
import time
from multiprocessing.connection import Listener

import pytest

from lkd.flare.job import RELAY, SITE, write_job
from lkd.flare.kits import ADMIN, SERVER, close, command, provision

pytest.importorskip("nvflare")

TOUCH = {"path": "subprocess.Popen", "args": {"args": ["touch", "ran.txt"]}}
"""Any class of any package that is installed at a site, by a job without code."""
CARRIED = 'from pathlib import Path\n\nPath("ran.txt").touch()\n\n\nclass Carried:\n    pass\n'


def job(folder, address="none", custom=False, component=None):
    """A job like lkd's, but for what is said."""
    path = write_job(folder, address)
    if custom:
        (path / "app/custom").mkdir()
        (path / "app/custom/carried.py").write_text(CARRIED)
    if component is not None:
        given = {**SITE, "components": [*SITE["components"], {"id": "more", **component}]}
        (path / "app/config/config_fed_client.json").write_text(json.dumps(given))
    return path


def edited(path, name, change):
    file = path / "app/config" / name
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: None, ""),
        (lambda path: (path / "app/config/.__nvfl_sig.json").write_text("{}"), ""),
        (lambda path: (path / "app/config/config_fed_client.yml").write_text(""), "carries 'config/config_fed_client.yml'"),
        (lambda path: (path / "app/lone.txt").write_text(""), "carries 'lone.txt'"),
        (lambda path: (path / "app/custom").symlink_to("/"), "carries 'custom'"),
        (lambda path: (path / "app/config/config_fed_server.json").unlink(), "lacks 'config/config_fed_server.json'"),
        (lambda path: (path / "app/config/config_fed_client.json").write_text("{"), "cannot be read"),
        (lambda path: edited(path, "config_fed_server.json", lambda given: []), "cannot be read"),
        (lambda path: edited(path, "config_fed_server.json", lambda given: {**given, "more": 1}), "names other classes"),
        (lambda path: edited(path, "config_fed_server.json", lambda given: json.loads(json.dumps(given).replace(RELAY, "os.system"))), "names other classes"),
        (lambda path: edited(path, "config_fed_client.json", lambda given: {**given, "task_result_filters": []}), "names other classes"),
    ],
)  # fmt: skip
def test_what_is_not_lkd_s_own_job_is_refused(spoil, told, tmp_path):
    from lkd.flare.one_job import OneJob

    path = job(tmp_path)
    spoil(path)
    said, more = OneJob().validate(str(path / "app"))
    assert told in said and bool(told) == bool(said) and more == {}


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    """A server and one site that are open, as a bad owner would have them, and a site that is closed; two admins."""
    folder = tmp_path_factory.mktemp("kits")
    provision(folder, ["closed", "open"])
    project = json.loads((folder / "project.yml").read_text())
    project["participants"].append({"name": "s@lkd.org", "type": "admin", "org": "lkd", "role": "super"})
    (folder / "project.yml").write_text(json.dumps(project))
    again = [sys.executable, "-m", "nvflare.cli", "provision", "-p", str(folder / "project.yml")]
    subprocess.run([*again, "-w", str(folder / "ws"), "--force"], check=True, capture_output=True)
    kits, running = folder / "ws/lkd/prod_01", []
    for name in (SERVER, "closed", "open"):
        kit = kits / name
        close(kit)
        if name != "closed":
            given = json.loads((kit / "local/resources.json").read_text())
            del given["app_validator"]
            (kit / "local/resources.json").write_text(json.dumps({**given, "class_allow_list": ["*"]}))
            (kit / "local/authorization.json").unlink()  # NVFlare's default holds: an admin may bring code
        with (kit / "output.txt").open("wb") as output:
            running.append(subprocess.Popen(command(kit), stdout=output, stderr=subprocess.STDOUT, cwd=kit))
    yield kits
    import psutil

    for process in running:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def session(kits, admin):
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    until = time.monotonic() + 300
    while True:
        try:
            found = new_secure_session(admin, str(kits / admin), timeout=5)
            if len(found.get_connected_client_list()) == 2:
                return found
            found.close()
        except Exception:
            if time.monotonic() > until:
                raise
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("admin", [ADMIN, "s@lkd.org"])
@pytest.mark.parametrize(
    ("custom", "component"), [(True, {"path": "carried.Carried"}), (False, TOUCH)], ids=["code", "class"]
)
def test_a_closed_site_refuses_it_and_runs_nothing_where_an_open_one_does(
    kits, admin, custom, component, tmp_path
):
    """The open site is what shows that there was something to run."""
    marks = {name: kits / name / "ran.txt" for name in ("closed", "open")}
    with Listener(str(tmp_path / "socket"), "AF_UNIX"):
        talks = session(kits, admin)
        number = talks.submit_job(str(job(tmp_path, str(tmp_path / "socket"), custom, component)))
        until = time.monotonic() + 120
        while not marks["open"].exists() and time.monotonic() < until:
            time.sleep(0.2)
        told = talks.get_job_meta(number)["job_deploy_detail"]
        time.sleep(3)  # as much as the open site may have been ahead
        talks.abort_job(number)
        talks.close()
    assert marks["open"].exists() and not marks["closed"].exists(), told
    marks["open"].unlink()
    why = "carries 'custom/carried.py'" if custom else "names other classes"
    assert {
        "server: OK",
        "open: OK",
        f"closed: NVFLARE_ERROR: {why}: this kit takes lkd's own job alone",
    } == set(told)
    assert not list((kits / "closed").glob("*/app_*")), "what was refused is not kept"
