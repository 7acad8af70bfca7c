"""One server and three cameras as processes of this machine, by mutual TLS: one is killed on the way, and comes back.

    make deploy-demo          or, with the extra `nvflare` installed:  python benchmarks/deploy_demo.py

Kits with certificates are made, and each is started as its owner would, by `python cli.py camera`. Five rounds of FedAvg then learn
whether a parking slot is free, from rendered pictures that stay with their cameras. In the second round all processes of a camera are
killed (-9); the others go on. Before the fourth it is started again, and takes part from then on. Two to three minutes on two idle cores;
at the end, and after Ctrl+C, all processes and files are gone.
"""

import argparse
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CAMERAS = ["C1", "C2", "C3"]
KILLED, AT, BACK = "camera-2", 1, 3
"""Which camera is killed, in which round, and before which it is started again (from 0)."""
STARTED = time.monotonic()


def say(what: str) -> None:
    """Prints a line of progress."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {what}", flush=True)


class Machines:
    """A server and cameras on this machine, each in processes of its own, started from kits.

    Args:
        folder: Folder of the kits, and of what the processes print.
        rows: Rendered frames of each camera.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        from lkd.flare.kits import ADMIN, SERVER, provision

        self.folder, self.running = folder, dict[str, subprocess.Popen[bytes]]()
        self.names = [f"camera-{k}" for k in range(1, 1 + len(CAMERAS))]
        kits = provision(folder, self.names)
        self.kits, self.server, self.admin = kits, SERVER, str(kits / ADMIN)
        for name, camera in zip(self.names, CAMERAS, strict=True):
            patches = {
                "class_path": "lkd.datamodules.ParkingWorld",
                "init_args": {
                    "root": str(folder / name), "task": "patches", "patch_size": 32, "frames": rows, "size": [400, 300],
                    "cameras": [camera], "fractions": [0.7, 0.3, 0.0], "batch_size": 16,
                },
            }  # fmt: skip
            natural = {"class_path": "lkd.datamodules.Natural", "init_args": {"column": "camera"}}
            data = {
                "class_path": "lkd.datamodules.FederatedDataModule",
                "init_args": {"data": patches, "partition": natural},
            }
            local = {"data": data, "folder": str(folder / f"{name}-kept")}
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(local), encoding="utf-8")

    def start(self, name: str) -> None:
        """Starts a server or a camera from its kit, in a group of its own."""
        data = [] if name == self.server else ["--data", str(self.folder / f"{name}.yaml")]
        command = [sys.executable, "cli.py", "camera", *data, "--kit", str(self.kits / name)]
        with (self.folder / f"{name}.txt").open("ab") as output:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str, within: float = 0.0) -> None:
        """Kills all processes of a server or camera; until then they stand still, so that none of them answers."""
        import psutil

        process = self.running.pop(name)
        if process.poll() is None:
            family = psutil.Process(process.pid)
            family.suspend()  # first, so that it starts nothing
            every = [*family.children(recursive=True), family]
            for one in every:
                one.suspend()
            end = threading.Timer(within, lambda: [one.kill() for one in every])
            end.start()
            if not within:
                end.join()
                process.wait()

    def listens(self) -> bool:
        """Tells whether the server can be reached."""
        from lkd.flare.kit import read_kit

        server = read_kit(self.kits / self.server)
        try:
            socket.create_connection((server.host, server.port), timeout=1).close()
        except OSError:
            return False
        return True

    def well(self) -> None:
        """Ends the demo, with what it printed, if one has ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                told = (self.folder / f"{name}.txt").read_text(encoding="utf-8", errors="replace")
                sys.exit(f"deploy-demo: {name} has ended (exit code {process.returncode}):\n{told[-3000:]}")

    def close(self) -> None:
        """Kills all."""
        for name in list(self.running):
            self.kill(name)


def federation(admin: str) -> Any:
    """The federation, as objects here and as a description for the cameras."""
    from torch.optim import Adam

    from lkd.federated import FedAvg, Federation, LocalTraining
    from lkd.federated.engines import NVFlare
    from lkd.models import CNN
    from lkd.modules import Classifier

    network = {"class_path": "lkd.models.CNN", "init_args": {"image_size": 32, "classes": 2}}
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
    args = {"network": network, "num_classes": 2, "optimizer": optimizer}
    model = {
        "class_path": "lkd.federated.Federation",
        "init_args": {
            "model": {"class_path": "lkd.modules.Classifier", "init_args": args},
            "algorithm": {"class_path": "lkd.federated.FedAvg"},
            "local": {"class_path": "lkd.federated.LocalTraining", "init_args": {"epochs": 4}},
        },
    }
    engine = NVFlare(
        kit=admin,
        sites=len(CAMERAS),
        description={"model": model, "data": {"class_path": "lkd.datamodules.SiteClients"}},
        start_timeout=600,
    )
    here = Classifier(CNN(32, 2), 2, optimizer=lambda p: Adam(p, lr=0.001))
    return Federation(here, FedAvg(), LocalTraining(epochs=4), engine=engine)


def watch(machines: Machines, rows: list[dict[str, object]]) -> Any:
    """A callback that kills a camera and starts it again, and notes each round."""
    from lightning.pytorch import Callback

    class Watch(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            self.note = ""
            if trainer.current_epoch == AT:
                say(f"round {AT + 1}: {KILLED} gets kill -9")
                self.note = f"{KILLED} is killed"
                machines.kill(KILLED, within=1.0)
            if trainer.current_epoch == BACK:
                machines.start(KILLED)
                say(f"{KILLED} is started again")
                self.note = f"{KILLED} is started again"
                while KILLED not in module.engine.waiting():
                    machines.well()
                    time.sleep(0.3)
            self.before, self.at = module.bytes_up + module.bytes_down, time.perf_counter()

        def on_train_batch_end(self, trainer: Any, module: Any, *args: object) -> None:
            seconds = time.perf_counter() - self.at
            names = {record.client: record.name for record in module.records}
            there = [names[r.client].partition("/")[0][-1] for r in module.records if not r.error]
            passed = (module.bytes_up + module.bytes_down - self.before) / 1e6
            measured = [
                r.metrics["val/acc"]
                for r in module.evaluate(list(trainer.datamodule.clients), "val")
                if not r.error
            ]
            row: dict[str, object] = {"Round": trainer.current_epoch + 1, "Cameras": ", ".join(there)}
            row |= {"MB": f"{passed:.2f}", "Seconds": f"{seconds:.1f}", "Accuracy": f"{sum(measured) / len(measured):.3f}",
                    "What happened": self.note}  # fmt: skip
            rows.append(row)
            say(
                f"round {row['Round']}: cameras {row['Cameras']}; {seconds:.1f} s, accuracy {row['Accuracy']}"
            )

    return Watch()


def main(args: list[str] | None = None) -> None:
    """Runs it and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=12, help="Rendered frames of each camera.")
    said = parser.parse_args(args)
    from lkd.federated.engines.nvflare import installed

    if not installed():
        sys.exit('deploy-demo: NVFlare is not installed: make deploy-demo, or pip install -e ".[nvflare]"')
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends, too
    folder, machines = Path(tempfile.mkdtemp(prefix="lkd_demo_")), None
    rows: list[dict[str, object]] = []
    try:
        say("certificates and kits are made for a server, three cameras and an admin")
        machines = Machines(folder, said.frames)
        machines.start(machines.server)
        say("the server starts")
        while not machines.listens():
            machines.well()
            time.sleep(0.3)
        for name in machines.names:
            machines.start(name)
        say("cameras start; each renders its pictures, and looks whether all is well")
        fit(machines, rows, said.rounds)
    except KeyboardInterrupt:
        sys.exit("deploy-demo: interrupted; its processes are ended")
    finally:
        if machines is not None:
            machines.close()
        shutil.rmtree(folder, ignore_errors=True)
    from lkd.metrics.tables import print_table

    print_table(rows, f"{said.rounds} rounds over mutual TLS; accuracy: mean over the cameras' own slots")


def fit(machines: Machines, rows: list[dict[str, object]], rounds: int) -> None:
    """Trains, when all cameras have come."""
    from lightning.pytorch import Trainer, seed_everything

    from lkd.datamodules import SiteClients

    over = threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            try:
                machines.well()
            except SystemExit as error:
                print(error, file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return

    seed_everything(0, verbose=False)
    while any("join:" not in (machines.folder / f"{name}.txt").read_text() for name in machines.names):
        machines.well()
        time.sleep(0.3)
    say("cameras join; the run begins when NVFlare has put all of them into its job")
    threading.Thread(target=look, daemon=True).start()
    try:
        Trainer(
            max_epochs=rounds, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[watch(machines, rows)],
        ).fit(federation(machines.admin), SiteClients())  # fmt: skip
    finally:
        over.set()


if __name__ == "__main__":
    main()
