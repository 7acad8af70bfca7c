"""`Federation`: rounds over any LightningModule, as a LightningModule."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.checkpoints import FEDERATION, describe
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.algorithms.fedavg import FedAvg
from lkd.federated.attack import Attack
from lkd.federated.books import report
from lkd.federated.client import Client, Part
from lkd.federated.clock import Clock
from lkd.federated.engines import OWN, LoopEngine
from lkd.federated.given import (
    check_cohort,
    check_fewest,
    check_kinds,
    check_outlier_factor,
    check_parts,
    check_public,
    check_result,
    check_trainer,
    check_validation,
)
from lkd.federated.heterogeneity import Devices
from lkd.federated.mean import RunningSum
from lkd.federated.owned import check_owned
from lkd.federated.plan import Plan
from lkd.federated.ranks import Ranks
from lkd.federated.records import Record
from lkd.federated.resume import Population, check_resumed
from lkd.federated.round import Round
from lkd.federated.rules import Rule, reseed
from lkd.federated.seeds import derive
from lkd.federated.served import untrained
from lkd.federated.server_optimizer import configure_server, server_step
from lkd.federated.stations import Stations, modules
from lkd.federated.store import ClientStore
from lkd.federated.tensors import Tensors, moved
from lkd.federated.work import LocalWork
from lkd.federated.wrapped import Wrapped


class Federation(Wrapped):
    """Trains a LightningModule over many clients; a round is one step of a server optimizer.

    The train dataloader yields cohorts (lists of clients, see `lkd.datamodules.FederatedDataModule`). In
    `training_step` every client of the cohort trains a copy of `client` locally, and the algorithm turns what
    comes back into a change of the weights, whose negative is the gradient of the server's optimizer: SGD with
    lr=1 is FedAvg (McMahan et al. 2017), with momentum FedAvgM, Adam is FedAdam (Reddi et al. 2021,
    Algorithm 2). So `max_epochs` are rounds, and checkpoints, resume, schedulers, loggers and several
    processes are Lightning's own.

    `client` is any LightningModule with one optimizer. Its `training_step`, `configure_optimizers`, schedulers,
    hooks around training steps, `validation_step`, `test_step`, `predict_step` and `self.log` work as they are;
    what clients log is averaged over a round. A scheduler of the client with Lightning's default interval
    counts rounds, with `interval: "step"` a client's local steps. Buffers (batch statistics) are averaged too,
    integer ones stay.

    Clients may have different architectures: those in `others`. Then a layer's mean is over the clients that have it.

    Args:
        client: The module that clients train; here it holds the server's weights.
        algorithm: What is done in a round. Default: FedAvg.
        work: How much a client trains in a round. Default: one epoch.
        server_optimizer: Makes the server's optimizer. Default: SGD with lr 1.
        server_scheduler: Makes its scheduler, stepped once a round. Default: constant.
        personal: Layers that stay with each client, by name, pattern, or `"batchnorm"` (FedBN).
        robust: A robust rule in place of the weighted mean.
        devices: Stragglers, drop-outs and speeds of the clients' machines. Default: all reliable.
        attack: Clients that lie, to try `robust` on. Default: all honest.
        min_clients: Clients of a round that have to succeed; with fewer the run stops.
        seed: All randomness of a client's work comes from (seed, round, client).
        others: Modules of further architectures. Default: all clients train copies of `client`.
        assign: Architecture of every client, by its id: 0 is `client`, 1 the first of `others`. Default: in turns.
        common: Layers that the architectures have in common, by name or pattern; else each has its own weights.
        outlier_factor: A reply whose change of the weights is more times as long as the median of the round's is left out
            like one that fails; see `lkd.federated.outliers`. None: however long. Default: 1000.
        client_timeout: Seconds that a client may take for an answer; looked at between its batches. Default: any time.

    Raises:
        ValueError: If the module, its optimizer or a number does not fit; before the first round.
        TypeError: If a class or a name is given where an object should be.

    Example:
        >>> from torch import nn
        >>> from lkd.modules import Classifier
        >>> federation = Federation(Classifier(nn.Linear(4, 3), num_classes=3))
        >>> federation(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        client: LightningModule,
        algorithm: Algorithm | None = None,
        work: LocalWork | None = None,
        server_optimizer: OptimizerCallable = lambda params: torch.optim.SGD(params, lr=1.0),
        server_scheduler: LRSchedulerCallable | None = None,
        personal: list[str] | str | None = None,
        robust: Rule | None = None,
        devices: Devices | None = None,
        attack: Attack | None = None,
        min_clients: int = 1,
        seed: int = 0,
        others: list[LightningModule] | None = None,
        assign: list[int] | None = None,
        common: list[str] | str | None = None,
        outlier_factor: float | None = 1000.0,
        client_timeout: float | None = None,
    ) -> None:
        super().__init__(client)
        if min_clients < 1:
            raise ValueError(f"min_clients={min_clients} must be 1 or more.")
        if seed < 0:
            raise ValueError(f"seed={seed} must be 0 or more.")
        check_parts(algorithm, work, robust, devices, attack)
        self.outlier_factor = check_outlier_factor(outlier_factor)
        self._clock = Clock(client_timeout)
        self.automatic_optimization = False
        self.algorithm = FedAvg() if algorithm is None else algorithm
        self.work = work or LocalWork()
        self.server_optimizer, self.server_scheduler = server_optimizer, server_scheduler
        self.robust, self.devices, self.attack = robust, devices, attack
        self.min_clients, self.seed = min_clients, seed
        self.personal = _patterns(personal) if self.algorithm.shares else ["*"]
        self.others, self.assign, self.common = modules(client, others), assign, _patterns(common)
        check_kinds(self.algorithm, len(self.others), robust)
        self.store = ClientStore()
        self.records: list[Record] = []
        self.told: set[str] = set()  # metrics that were warned of
        self.bytes_down, self.bytes_up = 0, 0
        self._restored: dict[str, Any] | None = None
        self._clients = Population()  # of this fit, or of the one that goes on
        self._sums: dict[str, RunningSum] = {}
        self._stations: Stations | None = None

    @property
    def stations(self) -> Stations:
        """Copies of `client` and of `others` that train; what is attached to their modules takes part in every client."""
        if self._stations is None:
            others = cast(list[LightningModule], list(self.others))
            with torch.inference_mode(
                False
            ):  # a test may be the first to ask, and its tensors could not be written to
                self._stations = Stations(self.client, others, self.assign, self.personal, self.common)
        return self._stations

    def configure_callbacks(self) -> list[Any]:
        """No callbacks: the first hook of a fit, and so the place to refuse what a Trainer would do by itself."""
        if self.trainer.state.fn == "fit":
            check_trainer(self.trainer)
        return []

    def setup(self, stage: str) -> None:
        """That of all architectures."""
        super().setup(stage)
        for other in cast(list[LightningModule], list(self.others)):
            other.trainer = self.trainer
            other.setup(stage)

    def configure_model(self) -> None:
        """That of all architectures."""
        super().configure_model()
        for other in cast(list[LightningModule], list(self.others)):
            other.configure_model()

    def configure_optimizers(self) -> Any:
        """The server's optimizer and scheduler over the trainable parameters of all architectures."""
        return configure_server([self.client, *self.others], self.server_optimizer, self.server_scheduler)

    @property
    def serves(self) -> bool:
        """Whether the server's model, or a part of it, is trained: by weights that clients share, or by the server itself."""
        serves = bool(self.algorithm.serves)
        return serves or (self.algorithm.shares and (not self.others or self._first_is_shared))

    @property
    def _first_is_shared(self) -> bool:
        """Whether a client has the first architecture, or layers in common with it."""
        return self.assign is None or 0 in self.assign or bool(self.common)

    def on_test_start(self) -> None:
        """Says so where what is tested was never trained, or not in all its parts."""
        self._own_up("test")

    def on_validation_start(self) -> None:
        """Says so where what is validated in a fit is not trained, or not in all its parts."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._own_up("val")

    def _own_up(self, part: str) -> None:
        if why := untrained(self, part):
            rank_zero_warn(why)

    def on_fit_start(self) -> None:
        """Makes worker and engine before the first round; a fit that resumes nothing starts its algorithm anew."""
        super().on_fit_start()
        self.store.keep(OWN)
        self._clients = Population()
        clients = getattr(cast(Any, self.trainer).datamodule, "clients", ())
        check_public(self.algorithm, clients)
        check_validation(self.algorithm, clients)
        check_owned(self.stations, clients)
        self._prepare(anew=True)  # which may train a teacher first
        self.engine.expect(clients, self.work)
        if self.algorithm.shares and not self.x:
            rank_zero_warn(
                f"personal={self.personal} keeps every layer that trains with its client, so nothing is shared, and the server's "
                "model stays as it is: if that is meant, say algorithm=Local()."
            )

    def _prepare(self, anew: bool) -> None:
        """Prepares this process's worker and engine, and takes up what a checkpoint brought.

        Args:
            anew: Whether algorithm and schedule begin; else they stay where a fit of another Trainer left them.
        """
        self.stations.prepare(self.trainer, self.work, anew, self.algorithm)
        self.engine = LoopEngine(
            self.stations, self.stations.kind_of, self.algorithm, self.store, self.seed, self._clock
        )
        self.ranks = Ranks.of(self.trainer)
        if anew:
            self.algorithm.setup(self.x)
        self._sums.clear()  # of another device or precision, it may be
        if self._restored is not None:
            self._restore(self._restored)
            self._restored = None

    @property
    def students(self) -> list[LightningModule]:
        """The modules that clients train; distillation that is attached to them is part of their training."""
        return [station.module for station in self.stations]

    def example(self, cohort: Sequence[Client]) -> Any:
        """A training batch of a client."""
        return next(iter(cohort[0].train_batches(self.seed)))

    @property
    def x(self) -> Tensors:
        """The server's shared weights by name, detached and live."""
        return self.stations.x

    @property
    def shared_buffers(self) -> Tensors:
        """The server's shared buffers by name, live."""
        return self.stations.buffers

    def training_step(self, cohort: Sequence[Client], batch_idx: int) -> None:
        """One round with this cohort, and one step of the server's optimizer."""
        self._check(cohort)
        plan = Plan(self.global_step, cohort, self.work, self.devices, self.seed)
        check_fewest(self.robust, len(plan.present), self.global_step)
        reseed([self.robust, getattr(self.algorithm, "rule", None)], derive(self.seed, self.global_step))
        server = Round(
            self.global_step,
            plan.present,
            cohort[0].population,
            self.stations,
            self.attack.on(self.engine.exchange) if self.attack else self.engine.exchange,
            self.ranks,
            plan.steps,
            weighting=self.algorithm.weights,
            rule=self.robust,
            min_clients=self.min_clients,
            sums=self._sums,
            on_record=self._tell,
            seed=self.seed,
            outlier_factor=self.outlier_factor,
        )
        # what clients draw is theirs; what runs outside sees nothing of it
        with isolate_rng(include_cuda=self.device.type == "cuda"):
            self.stations.attach(self.algorithm, cohort, self.seed)
            delta = self.algorithm.round(server)
        check_result(self.algorithm, delta, self.x)
        buffers = server.mean_buffers()
        server_step(self, self.stations.parameters, delta, buffers, server.absent)
        with torch.no_grad():
            for name, value in buffers.items():
                self.shared_buffers[name].copy_(value)
            self.stations.end_round()
        self.records = server.all_records()
        self.bytes_down += sum(record.bytes_down for record in self.records)
        self.bytes_up += sum(record.bytes_up for record in self.records)
        report(self, server.index, self.records, plan.speeds)

    def _check(self, cohort: Any) -> None:
        """Refuses what is no cohort, one that is too small, and other clients than those of the run that goes on."""
        check_cohort(cohort, self.min_clients)
        check_validation(self.algorithm, cohort)
        population = cohort[0].population
        if self._clients.meet(self.trainer.train_dataloader, population):
            self.stations.check(population)
            check_owned(self.stations, cohort)
            if self.attack is not None:
                self.attack.check(population)

    def _tell(self, record: Record) -> None:
        """Callbacks with a method `on_client_end(trainer, federation, record)` hear of every client."""
        for callback in cast(Any, self.trainer).callbacks:
            if hasattr(callback, "on_client_end"):
                callback.on_client_end(self.trainer, self, record)

    def evaluate(self, clients: Sequence[Client], part: Part = "val") -> list[Record]:
        """Measures every client's model (the server's weights and its own layers) on the client's own data.

        Args:
            clients: Who; those without that part of the data are left out.
            part: `"val"` or `"test"`.

        Returns:
            A record for each, with `metrics`, in the order of their ids; the same on all ranks.
        """
        with self._measuring():
            here = [client for client in clients if client.has(part)]
            server = Round(
                self.global_step, here, len(clients), self.stations, self.engine.exchange, self.ranks
            )
            server.evaluate(part)
        return server.all_records()

    def models(self, clients: Sequence[Client]) -> Iterator[tuple[Client, LightningModule]]:
        """Every client's model in eval mode, one after the other, to be looked at; of this process's clients.

        Args:
            clients: Whose.

        Yields:
            A client and its model, which is the next client's in the next turn.
        """
        with self._measuring():
            for client in clients:
                if self.ranks.owns(client.id):
                    module = self.engine.show(client, self.x, self.shared_buffers)
                    yield client, module.eval()

    @contextlib.contextmanager
    def _measuring(self) -> Iterator[None]:
        """Clients can be looked at inside; what that draws, nobody outside sees."""
        # a validation is in inference mode, whose tensors training could not use again
        with torch.inference_mode(False), isolate_rng(include_cuda=self.device.type == "cuda"):
            engine = getattr(self, "engine", None)
            elsewhere = engine is None or self.stations[0].loop.trainer is not self.trainer
            if elsewhere or self._restored is not None:
                self._prepare(anew=engine is None)
            yield

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what algorithm and clients keep; tensors and plain numbers only."""
        super().on_save_checkpoint(checkpoint)
        if hasattr(self, "engine"):
            parts = self.ranks.gather_objects(self.store.state_dict())
            checkpoint[FEDERATION] = {
                **self._run(),
                "modules": [describe(station.source) for station in self.stations],
                "assign": self.assign,
                "serves": self.serves,
                "shares": self.algorithm.shares,
                "population": self._clients.known,
                "state": self.algorithm.state,
                "clients": {client: state for part in parts for client, state in part.items()},
                "optimizer": self.stations.state_dict(),
                "bytes": [self.bytes_down, self.bytes_up],
            }
        elif self._restored is not None:  # nothing was trained or measured
            checkpoint[FEDERATION] = self._restored

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps it until a fit or a measurement starts."""
        self._restored = checkpoint.get(FEDERATION)
        super().on_load_checkpoint(checkpoint)

    def _restore(self, saved: dict[str, Any]) -> None:
        """Goes on from a checkpoint; of another algorithm's, only the clients' own layers are of use."""
        resumes = self.trainer.state.fn == "fit" and self.trainer.ckpt_path is not None
        if resumes:
            check_resumed(saved, self._run())
        same, clients = saved["algorithm"] == type(self.algorithm).__name__, saved["clients"]
        if not same:
            clients = {client: {OWN: groups[OWN]} for client, groups in clients.items() if OWN in groups}
        self.store.load_state_dict(clients, self.ranks.rank, self.ranks.world_size)
        # weights go anywhere, what a client kept goes to that client
        self._clients = Population(saved.get("population") if resumes or any(clients.values()) else None)
        if same:
            self.algorithm.state = {k: moved(group, self.device) for k, group in saved["state"].items()}
            self.stations.load_state_dict(saved["optimizer"])
            self.bytes_down, self.bytes_up = saved["bytes"]

    def _run(self) -> dict[str, str | None]:
        """What has to be the same in a run that goes on from this one; one that measures has no server's optimizer."""
        optimizers = self.trainer.optimizers
        return {
            "algorithm": type(self.algorithm).__name__,
            "server_optimizer": type(optimizers[0]).__name__ if optimizers else None,
            "architectures": f"{len(self.stations)} architectures, assign={self.assign}",
        }


def _patterns(given: list[str] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])
