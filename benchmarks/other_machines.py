"""What a round costs where clients are at sites of NVFlare, on this machine and by mutual TLS, against `Loop`.

    pip install -e ".[nvflare]"
    python benchmarks/other_machines.py

Three clients, one at each of three sites, make one step of FedAvg with a model of 1 MB and of 25 MB, whose changes travel as they are and
by a codec. Wall seconds, the first round left out; `work` is the longest time of a client's own answer, so what is beyond it is
messages, checks and sums. `start` is from the beginning of the fit to the end of the first round. The last column says whether the
weights are those of `Loop`, bit for bit.
"""

import argparse
import statistics
import sys
import time

import torch
from costs import QUIET
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from lkd import federated
from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import FedAvg, Federation, LocalTraining
from lkd.federated.engines import Engine, Loop, NVFlare
from lkd.metrics.tables import Row, print_table
from lkd.models import MLP
from lkd.modules import Classifier

SIZES = {"1 MB": [512, 400], "25 MB": [2400, 2500]}
DATA = {
    "class_path": "lkd.datamodules.FederatedDataModule",
    "init_args": {"data": {"class_path": "lkd.datamodules.Digits"}, "partition": {"class_path": "lkd.datamodules.IID"}, "clients": 3},
}  # fmt: skip


_WEIGHTS = dict[tuple[str, str | None], torch.Tensor]()


class Watch(Callback):
    """Seconds of every round, and of the client in it that took longest."""

    def __init__(self) -> None:
        self.begin, self.rounds, self.work = time.perf_counter(), list[float](), list[float]()

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: object, index: int
    ) -> None:
        """Notes when a round begins."""
        self.at = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: object) -> None:
        """Notes how long it took."""
        if not self.rounds:
            self.start = time.perf_counter() - self.begin
        self.rounds.append(time.perf_counter() - self.at)
        self.work.append(max(record.seconds for record in module.records))


def described(hidden: list[int], codec: str | None) -> dict[str, object]:
    """The federation as a site makes it."""
    network = {
        "class_path": "lkd.models.MLP",
        "init_args": {"features": 64, "classes": 10, "hidden": hidden},
    }
    model = {"class_path": "lkd.modules.Classifier", "init_args": {"network": network, "num_classes": 10}}
    local = {"class_path": "lkd.federated.LocalTraining", "init_args": {"steps": 1}}
    args: dict[str, object] = {
        "model": model,
        "algorithm": {"class_path": "lkd.federated.FedAvg"},
        "local": local,
    }
    if codec is not None:
        args["codec"] = {"class_path": f"lkd.federated.{codec}"}
    return {"model": {"class_path": "lkd.federated.Federation", "init_args": args}, "data": DATA}  # fmt: skip


def measured(name: str, hidden: list[int], engine: Engine, codec: str | None, rounds: int) -> Row:
    """A line of the table."""
    watch = Watch()
    seed_everything(0, verbose=False)
    model = Classifier(MLP(64, 10, hidden=hidden), num_classes=10)
    form = None if codec is None else getattr(federated, codec)()
    federation = Federation(model, FedAvg(), LocalTraining(steps=1), engine=engine, codec=form)
    data = FederatedDataModule(Digits(), IID(), clients=3)
    Trainer(max_epochs=1 + rounds, callbacks=[watch], **QUIET).fit(federation, data)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    same = torch.equal(_WEIGHTS.setdefault((name, codec), weights), weights)
    whole, work = (statistics.median(found[1:]) for found in (watch.rounds, watch.work))
    row: Row = {
        "model": name,
        "codec": codec or "none",
        "engine": type(engine).__name__,
        "MB up a round": f"{federation.bytes_up / (1 + rounds) / 1e6:.2f}",
        "start s": f"{watch.start:.1f}",
        "round s": f"{whole:.2f}",
    }
    row |= {"work s": f"{work:.2f}", "beyond s": f"{whole - work:.2f}", "same bits": "yes" if same else "NO"}
    print(row, file=sys.stderr, flush=True)
    return row


def main(args: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args(args).rounds
    rows = []
    for name, hidden in SIZES.items():
        for codec in (None, "Int8"):
            rows.append(measured(name, hidden, Loop(), codec, rounds))
            engine = NVFlare(description=described(hidden, codec), start_timeout=600)
            rows.append(measured(name, hidden, engine, codec, rounds))
    print_table(rows, f"three clients, one step of FedAvg, median of {rounds} rounds")


if __name__ == "__main__":
    main()
