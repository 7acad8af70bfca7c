"""A site of NVFlare, without NVFlare: what it answers to frames, and that it does what the loop does, to the same bits."""

import contextlib
import json
import pickle
import queue
import re
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback

from lkd.cli import main
from lkd.datamodules import SiteClients
from lkd.federated import Centralized, Federation
from lkd.federated.engines import NVFlare
from lkd.federated.engines import nvflare as module
from lkd.federated.engines.local_file import LocalFile
from lkd.federated.engines.site_process import SiteProcess
from lkd.federated.protocol.messages import Message, Reply
from lkd.federated.protocol.wire import pack, unpack
from lkd.federated.server.round import TooFewClientsError
from lkd.frames import frame, unframe

from .. import job
from ..job import KINDS, PUBLIC, run
from ..quadratic import Quadratic, trainer
from ..test_exact import assert_same, result
from ..test_rounds import Noisy
from .described import DATA, plan


class Here:
    """In the place of a deployment: one site with all clients, which answers in a thread of this process."""

    def __init__(self, kit, sites, locals_, timeout):
        self.joined = queue.Queue()
        (local,) = locals_
        self.local = json.loads(local)
        self.spoil = lambda data, do: data
        self.join()

    def join(self):
        self.site = SiteProcess(LocalFile(**{**self.local, "folder": self.folder}))
        ours, theirs = Pipe()
        self.thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        self.thread.start()
        self.joined.put(("site-0", ours))

    def _serve(self, pipe):
        while True:
            try:
                data = pipe.recv_bytes()
            except (EOFError, OSError):
                return
            if (told := self.spoil(self.site(data), unframe(data)[0]["do"])) is None:
                pipe.close()
                return
            if not unframe(data)[0].get("quiet"):
                with contextlib.suppress(OSError):
                    pipe.send_bytes(told)

    def gather(self, there=()):
        return {} if there else dict([self.joined.get(timeout=10)])

    def close(self):
        pass


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "installed", lambda: True)
    monkeypatch.setattr(module, "Deployment", Here)
    Here.folder = tmp_path / "kept"
    Here.folder.mkdir()
    return lambda kind: NVFlare(
        sites=1, allow=["tests"], description=plan(kind, public=0.2 * (kind in PUBLIC))
    )


@pytest.mark.parametrize(
    "kind", ["fedavgm", "scaffold", "fedbn", "fedmd", "mixed", *({"private"} & KINDS.keys())]
)
def test_same_bits(kind, tmp_path, here):
    run(kind, tmp_path / "loop", 3)
    run(kind, tmp_path / "site", 3, engine=here(kind))
    assert_same(result(tmp_path / "loop"), result(tmp_path / "site"))


@pytest.mark.skipif("private" not in KINDS, reason="dp-accounting is not installed")
def test_noise_that_a_site_could_compute_is_told_of(tmp_path, here):
    with pytest.warns(UserWarning, match=r"every site is told the run's seed.*ClientDP\(secret=True\)"):
        run("private", tmp_path, 1, engine=here("private"))


def test_a_run_goes_on_at_a_site_that_has_lost_what_it_kept(tmp_path, here):
    run("scaffold", tmp_path / "whole", 4)
    run("scaffold", tmp_path / "parts", 2, engine=here("scaffold"))
    for path in Here.folder.iterdir():
        path.unlink()
    run("scaffold", tmp_path / "parts", 4, engine=here("scaffold"))
    assert_same(result(tmp_path / "whole"), result(tmp_path / "parts"))


def test_another_federation_than_the_server_s_is_refused(tmp_path, here):
    engine = here("scaffold")
    engine.description["model"]["init_args"]["seed"] = 7
    with pytest.raises(ValueError, match=r"another federation than the server's: seed is 7 here and 0 there"):
        run("scaffold", tmp_path, 1, engine=engine)


def test_other_data_than_the_server_s_are_refused(tmp_path, here):
    engine = here("scaffold")
    engine.description["data"]["init_args"]["seed"] = 5
    with pytest.raises(
        ValueError, match=r"site site-0 has client \d with \d+ samples, and the server's data say"
    ):
        run("scaffold", tmp_path, 1, engine=engine)


def test_data_that_would_have_to_be_in_one_place_are_refused(tmp_path, here):
    engine = here("scaffold")
    engine.sites = 3
    pooled = Federation(Noisy(), Centralized())
    with pytest.raises(ValueError, match=r"algorithm=Centralized trains on .* stay at sites=3 of them"):
        run("centralized", tmp_path, 1, engine=engine, make=lambda: pooled)


def test_what_the_site_does_not_allow_is_refused(tmp_path, here):
    engine = here("scaffold")
    engine.allow = []
    with pytest.raises(ValueError, match=r"names tests\.\S*federation, .*allow: \['tests'\].* local YAML"):
        run("scaffold", tmp_path, 1, engine=engine)
    engine = here("scaffold")
    engine.description["model"]["class_path"] = "os.system"
    with pytest.raises(ValueError, match=r"names os.system, .*allow: \['os'\].* local YAML"):
        run("scaffold", tmp_path, 1, engine=engine)


def test_a_site_that_goes_costs_its_clients_the_round(tmp_path, here):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if trainer.current_epoch == 1:
                module.engine._deployment.spoil = lambda data, do: None

        def on_train_batch_end(self, trainer, module, *args):
            errors.append({record.error for record in module.records})

        def on_exception(self, trainer, module, exception):
            told.append(str(exception))

    errors, told = [], []
    with pytest.raises(TooFewClientsError, match="0 of 3 clients succeeded"):
        run("scaffold", tmp_path / "alone", 4, callbacks=[Fails()], engine=here("scaffold"))
    assert errors == [{""}] and "site site-0 is gone" in told[0]


def test_the_command_line_describes_itself(tmp_path, here, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Path(__file__).parents[3] / "configs/federated/digits_fedavg.yaml"
    more = [
        "--trainer.max_epochs=2",
        "--trainer.logger=false",
        "--trainer.callbacks=[]",
        "--test_after_fit=false",
    ]
    for engine in ("Loop", "NVFlare"):
        site = ["--model.engine.sites=1"] if engine == "NVFlare" else []
        main(
            [
                "fit",
                "--config",
                str(config),
                f"--model.engine={engine}",
                *site,
                *more,
                f"--save_as={engine}.ckpt",
            ]
        )
    one, other = (torch.load(f"{name}.ckpt", weights_only=False) for name in ("Loop", "NVFlare"))
    assert_same({"weights": one["state_dict"], "kept": {}}, {"weights": other["state_dict"], "kept": {}})


def test_a_server_without_data_knows_what_the_sites_say(tmp_path, here, monkeypatch):
    run("scaffold", tmp_path / "loop", 2)
    (tmp_path / "startup").mkdir()
    (tmp_path / "startup/fed_admin.json").write_text("{}")
    engine = here("scaffold")
    engine.kit = str(tmp_path)
    sites = SiteClients(cohort=3, seed=4)
    monkeypatch.setattr(job, "FederatedDataModule", lambda *args, **kwargs: sites)
    run("scaffold", tmp_path / "site", 2, engine=engine)
    assert_same(result(tmp_path / "loop"), result(tmp_path / "site"))
    assert sites.clients.names[0] == "site-0/0" and not hasattr(sites.clients[0], "train_batches")


def test_data_of_sites_need_sites(tmp_path, here):
    with pytest.raises(ValueError, match=r"data=SiteClients: a rehearsal's sites need data"):
        trainer(1).fit(Federation(Quadratic(), engine=here("scaffold")), datamodule=SiteClients())
    with pytest.raises(RuntimeError, match=r"data=SiteClients: .* run it with engine=NVFlare"):
        trainer(1).fit(Federation(Quadratic()), datamodule=SiteClients())


def test_two_sites_with_the_same_client_are_refused(tmp_path, here, monkeypatch):
    engine, asking = here("scaffold"), module.ask
    monkeypatch.setattr(module, "ask", lambda sites: [*(told := asking(sites)), ("site-1", told[0][1])])
    with pytest.raises(ValueError, match="sites site-0 and site-1 both have client 0"):
        run("scaffold", tmp_path, 1, engine=engine)


def test_what_nothing_describes_is_refused(tmp_path, here):
    engine = here("scaffold")
    engine.description = None
    with pytest.raises(ValueError, match=r"engine=NVFlare: .* give NVFlare\(description="):
        run("scaffold", tmp_path, 1, engine=engine)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"model": ...}, "description={'model': None} must have a model with a class_path"),
        ({"data": ...}, "description={'data': None} must have a data with a class_path"),
        ({"data": "Digits"}, "description={'data': 'Digits'} must have a data with a class_path"),
        ({"model": {"class_path": "a.B", "init_args": [1]}}, "model has init_args=[1], which must be a dict"),
        ({"callbacks": {"class_path": "a.B"}}, "must have a list of callbacks"),
        ({"callbacks": ["EMA"]}, "description={'callbacks[0]': 'EMA'} must have"),
        ({"modell": {}}, "description has 'modell', and must have model and data"),
    ],
)
def test_a_description_that_is_none(wrong, told, here):
    description = {**plan("scaffold"), **wrong}
    with pytest.raises(ValueError, match=re.escape(told)):
        NVFlare(description={name: value for name, value in description.items() if value is not ...})


def test_nvflare_that_is_not_there(monkeypatch):
    monkeypatch.setattr(module, "installed", lambda: False)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "lightning-kd\[nvflare\]"'):
        NVFlare()


@pytest.mark.parametrize(
    ("wrong", "told"), [({"sites": 0}, "sites=0"), ({"kit": "/nowhere"}, "kit='/nowhere' must be the folder")]
)
def test_bad_arguments(wrong, told, here):
    with pytest.raises(ValueError, match=told):
        NVFlare(**wrong)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A site that has begun, and an answer that it gives."""
    folder = tmp_path_factory.mktemp("kept")
    found = {}

    class Kept(Here):
        def __init__(self, *args):
            super().__init__(*args)
            found["site"] = self.site
            self.spoil = lambda data, do: found.setdefault("first", data) and data

    Kept.folder = folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "installed", lambda: True)
        patch.setattr(module, "Deployment", Kept)
        engine = NVFlare(sites=1, allow=["tests"], description=plan("scaffold"))
        run("scaffold", tmp_path_factory.mktemp("run"), 1, engine=engine)
    return found["site"]


def asked(site, message=None, **changed):
    """What the site answers to a message that is right but for what is changed."""
    worker = site._side.host.slots[0].worker
    x = {name: worker.tensors[name].detach().clone() for name in worker.shared}
    buffers = {name: worker.tensors[name].clone() for name in worker.buffers}
    right = Message({"x": x, "buffers": buffers, "c": {n: torch.zeros_like(t) for n, t in x.items()}},
                    {"round": 1, "steps": 2})  # fmt: skip
    command = {
        "do": "answer",
        "verb": "train",
        "client": 0,
        "at": [1, 1],
        "settings": [],
        "timeout": None,
        "first": True,
    }
    if message is not None:
        message(right)
    head, body = unframe(site(frame({**command, **changed}, pack(right))))
    return head.get("error", "") or unpack(body, Reply).error


def test_a_right_message_is_answered(begun):
    assert asked(begun) == ""


def put(group, name, change):
    def spoil(message):
        name_ = name or next(iter(message.tensors[group]))
        message.tensors[group][name_] = change(message.tensors[group].get(name_))

    return spoil


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (put("x", None, lambda t: t[:1]), r"the server's x net.0.weight is \(1, 3\) of torch.float32, not"),
        (put("x", None, lambda t: t.double()), r"of torch.float64, not .* of torch.float32"),
        (put("x", None, lambda t: t * float("nan")), "the server's x is not finite"),
        (put("c", None, lambda t: t + float("inf")), "the server's c is not finite"),
        (put("x", "other", lambda t: torch.ones(1)), "the server's x has 'other'"),
        (lambda m: m.tensors.pop("x"), "has no x"),
        (lambda m: m.config.update(round="1"), "round='1'"),
        (lambda m: m.config.update(steps=-1), "steps=-1"),
        (lambda m: m.knowledge.update(k=torch.tensor([float("nan")])), "the server's k is"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(begun, message, told):
    assert re.search(told, asked(begun, message))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"verb": "__init__"}, "verb='__init__'"),
        ({"verb": "no_such"}, "verb='no_such'"),
        ({"client": "0"}, "client='0'"),
        ({"client": 99}, "client 99 is not of this site"),
        ({"at": "1"}, "at='1'"),
        ({"timeout": -1}, "timeout=-1"),
        ({"do": "job"}, "does not do 'job'"),
        ({"settings": None}, "settings"),
    ],
)
def test_a_command_that_is_none_is_refused(begun, changed, told):
    assert told in asked(begun, **changed)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"1": {}}, "the server's start has architecture '1', and here are 1"),
        ({"x": {}}, "the server's start has architecture 'x'"),
        ({"0": {"net.0.weight": torch.ones(8, 3)}}, "the server's start has 'net.0.weight', which does not stay"),
        ({"0": {"other": torch.ones(1)}}, "the server's start has 'other', which does not stay"),
        ({"0": {"net.1.num_batches_tracked": torch.ones(2).long()}}, r"num_batches_tracked is \(2,\) of torch.int64, not \(\)"),
        ({"0": {"net.1.num_batches_tracked": torch.tensor(1.0)}}, "is \\(\\) of torch.float32, not"),
    ],
)  # fmt: skip
def test_a_start_that_does_not_fit_is_refused(begun, tensors, told):
    head, _ = unframe(begun(frame({"do": "start"}, pack(Message(tensors)))))
    assert head["refused"] and re.search(told, head["error"])


@pytest.mark.parametrize("owner", [[99, "c"], [-1, "c"], ["../x", "c"], [0, "c"]])
def test_what_other_clients_have_kept_is_refused(begun, owner):
    before = begun._store.state_dict().keys()
    group = {"w": torch.tensor([float("nan")])}
    head, _ = unframe(begun(frame({"do": "restore", "kept": [owner]}, pack(Message({"0": group})))))
    assert head["refused"] and head["error"].startswith("of what the server says clients have kept, ")
    assert begun._store.state_dict().keys() == before


def test_a_pickle_is_never_read(begun):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a site has unpickled what a server sent",)

    for do in ("job", "begin", "answer", "start", "restore"):
        head, _ = unframe(begun(frame({"do": do, "client": 0}, pickle.dumps(Trap()))))
        assert head["error"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("folder: x", "must say what the data are"),
        ("data: {class_path: a.B}\nfolders: x", "says 'folders', which is none of accelerator"),
        ("data: {class_path: a.B}\nturn: [3, 3]", r"turn=\[3, 3\] must be"),
        ("data: {class_path: a.B}\nthreads: 0", "threads=0 must be a whole number, 1 or more"),
        ("data: {class_path: a.B}\nthreads: two", "threads='two' must be a whole number"),
        ("data: {class_path: a.B}\nthreads: true", "threads=True must be a whole number"),
        ("data: {class_path: a.B}\nturn: 3", r"turn=3 must be \[k, n\], whole numbers"),
        ("data: {class_path: a.B}\nturn: [0]", r"turn=\[0\] must be"),
        ("data: {class_path: a.B}\nturn: [a, b]", r"turn=\['a', 'b'\] must be"),
        ("data: {class_path: a.B}\nfolder: 3", "folder=3 must be the path of a folder"),
        (
            "data: {class_path: a.B}\nfolder: /dev/null/x",
            "folder='/dev/null/x' must be a folder that can be written",
        ),
        ("data: {class_path: a.B}\nfractions: 1", "fractions=1 must be three shares"),
        ("data: {class_path: a.B}\nfractions: [0.5, 0.5, .nan]", "must be three shares"),
        ("data: {class_path: a.B}\naccelerator: gpux", "accelerator='gpux' must be one of cpu, "),
        ("data: {class_path: a.B}\naccelerator: tpu", "accelerator='tpu' must be cpu or auto, since"),
        ("data: {class_path: a.B}\nallow: tests", "allow='tests' must be a list"),
        ("data: Digits", "data='Digits' must be a class_path and init_args"),
        ("data: {class_path: a.B}\n1: 2\nx: 3", "says 1, which is none of"),
        ("data: [", "must be YAML, and is none"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_local_file_that_is_wrong(text, told, tmp_path):
    path = tmp_path / "local.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}.*{told}"):
        LocalFile.read(path)
    head, _ = unframe(SiteProcess(path)(frame({"do": "info"})))  # the server is told, too
    assert head["refused"] is True and re.search(told, head["error"])


def test_a_local_file_that_is_mended_is_read_with_the_next_command(tmp_path):
    path = tmp_path / "local.yaml"
    path.write_text("turn: 3")
    site = SiteProcess(path)
    assert "must say what the data are" in unframe(site(frame({"do": "info"})))[0]["error"]
    path.write_text(json.dumps({"data": {"class_path": "tests.federated.job.Blobs"}}))
    assert len(unframe(site(frame({"do": "info"})))[0]["clients"]) == 1


def test_data_without_clients_are_one_client(tmp_path):
    data = LocalFile({"class_path": "tests.federated.job.Blobs"}, tmp_path).make_data()
    data.setup("fit")
    assert [client.num_samples for client in data.clients] == [120]
    assert LocalFile(DATA, tmp_path, turn=(1, 3)).numbers(5) == range(1, 5, 3)
