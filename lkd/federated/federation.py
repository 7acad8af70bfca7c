"""`Federation`: rounds over any LightningModule, as a LightningModule."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng

from lkd.checks import expect
from lkd.federated.algorithms.base import Algorithm
from lkd.federated.algorithms.fedavg import FedAvg
from lkd.federated.client.verbs import OWN
from lkd.federated.codecs.base import Codec
from lkd.federated.engines import Engine
from lkd.federated.engines.closing import watch
from lkd.federated.given import FORMER, check_codec, check_parts, check_privacy, check_statistics
from lkd.federated.measured import Measured
from lkd.federated.privacy.client_dp import ClientDP, require_accountant
from lkd.federated.protocol.cache_use import total
from lkd.federated.protocol.client_data import ClientData, ClientInfo
from lkd.federated.protocol.seeds import derive
from lkd.federated.server.attack import Attack
from lkd.federated.server.books import advised, report
from lkd.federated.server.checkpoint import ClientRoster
from lkd.federated.server.checks import (
    check_cohort,
    check_fewest,
    check_kinds,
    check_outlier_factor,
    check_public,
    check_result,
    check_trainer,
    check_validation,
)
from lkd.federated.server.heterogeneity import SystemHeterogeneity
from lkd.federated.server.local_work import LocalTraining
from lkd.federated.server.owned import check_owned, warn_of_unowned
from lkd.federated.server.participation import Plan
from lkd.federated.server.private_round import PrivateRound
from lkd.federated.server.records import Record
from lkd.federated.server.robust import Rule, reseed
from lkd.federated.server.round import ServerRound
from lkd.federated.server.server_optimizer import configure_server, server_step
from lkd.federated.server.untrained import untrained
from lkd.federated.server.without_loss import Losses
from lkd.former_names import former_arguments, former_attributes


@former_attributes(client="model", stations="engine.host.slots")
@former_arguments(**FORMER)
class Federation(Measured):
    """Federated training of a LightningModule over many clients; a round is one step of a server optimizer.

    The train dataloader yields cohorts (lists of clients, see `lkd.datamodules.FederatedDataModule`). In
    `training_step` every client of the cohort trains a copy of `model` locally. The algorithm turns their
    replies into a change of the weights, and its negative is the gradient for the server's optimizer: SGD
    with lr=1 is FedAvg (McMahan et al. 2017), with momentum FedAvgM, Adam is FedAdam (Reddi et al. 2021,
    Algorithm 2). So `max_epochs` are rounds, and checkpoints, resume, schedulers, loggers and several
    processes are Lightning's own.

    `model` is any LightningModule with one optimizer. Its `training_step`, `configure_optimizers`,
    schedulers, hooks around training steps, `validation_step`, `test_step`, `predict_step` and `self.log`
    work as they are; what clients log is averaged over a round. A scheduler of the client with Lightning's
    default interval counts rounds, with `interval: "step"` a client's local steps. Float buffers (batch
    statistics) are averaged too, integer buffers stay.

    Clients may have different architectures: those of `other_models`. Then a layer's mean is over the clients
    that have it.

    Args:
        model: The module that clients train; here it holds the server's weights.
        algorithm: What happens in a round. Default: FedAvg; with `privacy`, its uniform mean.
        local: How much a client trains in a round. Default: one epoch.
        server_optimizer: Creates the server's optimizer. Default: SGD with lr 1.
        server_scheduler: Creates the server's scheduler, stepped once per round. Default: constant.
        personal_layers: Layers that stay with each client, by name, pattern, or `"batchnorm"` (FedBN).
        aggregator: A robust rule in place of the weighted mean.
        heterogeneity: Stragglers, drop-outs and speeds of the clients' machines. Default: all are reliable.
        attack: Lets some clients lie, to test `aggregator`. Default: all are honest.
        min_clients: Clients of a round that have to succeed; with fewer the run stops.
        seed: All randomness of a client's work comes from (seed, round, client).
        other_models: Modules of further architectures. Default: all clients train copies of `model`.
        client_models: Architecture of every client, by its id: 0 is `model`, 1 the first of `other_models`.
            Default: in turns.
        shared_layers: Layers that the architectures have in common, by name or pattern; else each has its own
            weights.
        outlier_factor: Replies with a change of the weights longer than this many times the round's median
            are left out, like failed ones; see `lkd.federated.server.outliers`. None: no limit. Default:
            1000.
        client_timeout: Seconds that a client may take for an answer. Default: no limit.
        engine: Where and how clients work. Default: `Auto()`, in this process, many small ones together.
        codec: Form in which the clients' changes of the weights travel, such as `Int8()`; see
            `lkd.federated.codecs`. Default: as they are.
        privacy: Client-level differential privacy, see `ClientDP`. Default: none.

    Raises:
        ValueError: If the module, its optimizer or a number does not fit; raised before the first round.
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
        model: LightningModule,
        algorithm: Algorithm | None = None,
        local: LocalTraining | None = None,
        server_optimizer: OptimizerCallable = lambda params: torch.optim.SGD(params, lr=1.0),
        server_scheduler: LRSchedulerCallable | None = None,
        personal_layers: list[str] | str | None = None,
        aggregator: Rule | None = None,
        heterogeneity: SystemHeterogeneity | None = None,
        attack: Attack | None = None,
        min_clients: int = 1,
        seed: int = 0,
        other_models: list[LightningModule] | None = None,
        client_models: list[int] | None = None,
        shared_layers: list[str] | str | None = None,
        outlier_factor: float | None = 1000.0,
        client_timeout: float | None = None,
        engine: Engine | None = None,
        codec: Codec | None = None,
        privacy: ClientDP | None = None,
    ) -> None:
        check_parts(algorithm, local, aggregator, heterogeneity, attack, engine, codec, privacy)
        method = algorithm or FedAvg(weighting="samples" if privacy is None else "uniform")
        super().__init__(
            model,
            method,
            local or LocalTraining(),
            seed,
            personal_layers,
            other_models,
            client_models,
            shared_layers,
            client_timeout,
            engine,
            codec,
            privacy,
        )
        expect(min_clients=min_clients, ge=1)
        check_codec(codec, self.algorithm)
        check_privacy(privacy, method, aggregator, len(self.other_models))
        self.outlier_factor = check_outlier_factor(outlier_factor)
        self.automatic_optimization = False
        self.server_optimizer, self.server_scheduler = server_optimizer, server_scheduler
        self.aggregator, self.heterogeneity, self.attack = aggregator, heterogeneity, attack
        self.min_clients = min_clients
        check_kinds(self.algorithm, len(self.other_models), aggregator)
        self.records: list[Record] = []
        self._losses = Losses()
        self.told: set[str] = set()  # metrics and reasons that have been warned of

    def configure_callbacks(self) -> list[Any]:
        """Checks the Trainer and shows it to the engine, in the first hook of a fit; gives no callbacks."""
        watch(self.trainer)  # before the engine starts anything
        if self.trainer.state.fn == "fit":
            check_trainer(self.trainer)
            if self.privacy is not None:
                require_accountant()
        self.engine.meet(self.trainer)
        return []

    def teardown(self, stage: str) -> None:
        """Calls the client module's hook, and closes the engine."""
        super().teardown(stage)
        self.engine.close()

    def configure_optimizers(self) -> Any:
        """Creates the server's optimizer and scheduler over the trainable parameters of all architectures."""
        return configure_server(self.held, self.server_optimizer, self.server_scheduler)

    def on_test_start(self) -> None:
        """Warns where the tested model, or a part of it, was never trained."""
        self._own_up("test")
        super().on_test_start()

    def on_validation_start(self) -> None:
        """Warns where the model that is validated in a fit, or a part of it, is not trained."""
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self._own_up("val")
        super().on_validation_start()

    def _own_up(self, part: str) -> None:
        why = untrained(self, part)
        if why and why not in self.told:
            self.told.add(why)
            rank_zero_warn(why)

    def on_fit_start(self) -> None:
        """Checks the data and prepares the engine before the first round."""
        super().on_fit_start()
        self._clients, self._losses = ClientRoster(), Losses()
        clients = getattr(cast(Any, self.trainer).datamodule, "clients", ())
        check_public(self.algorithm, clients)
        check_validation(self.algorithm, clients)
        check_owned(self.architectures, clients)
        warn_of_unowned(self.architectures, clients)
        check_statistics(self.privacy, self.shared_buffers)
        self.engine.keep(OWN)
        self._prepare(anew=True)  # may train a teacher first
        if self.budget is not None:
            self.budget.begin(self.trainer, self.ranks, self.min_clients)
        self.engine.expect(clients)
        if self.algorithm.aggregates_weights and not self.x:
            rank_zero_warn(
                f"personal_layers={self.personal_layers} keeps every layer that trains with its client, so nothing is shared, and the server's "
                "model stays as it is: if that is meant, say algorithm=Local()."
            )

    def example(self) -> Any:
        """Returns a training batch of a client, for callbacks in this process."""
        trainer = cast(Any, self.trainer)
        trainer.fit_loop.setup_data()  # the fit would do it a moment later
        with isolate_rng():  # looking at a batch must not change what training draws
            loader = trainer.train_dataloader  # which may draw nobody, by Poisson sampling
            cohort = next(filter(None, loader), None) or loader.cohorts.clients[[0]]
            return next(iter(cohort[0].train_batches(self.seed)))

    def training_step(self, cohort: Sequence[ClientData], batch_idx: int) -> None:
        """Runs a round with this cohort, and makes a step of the server's optimizer."""
        self._check(cohort)
        self.engine.enter(cohort)
        infos = [ClientInfo.of(client) for client in cohort]
        plan = Plan(self.global_step, infos, self.local, self.heterogeneity, self.seed)
        check_fewest(self.aggregator, len(plan.present), self.global_step)
        reseed([self.aggregator, getattr(self.algorithm, "rule", None)], derive(self.seed, self.global_step))
        kind = (
            ServerRound if self.budget is None else partial(PrivateRound, self.budget.release(self.trainer))
        )
        server = kind(
            self.global_step,
            plan.present,
            self._population(cohort),
            self.architectures,
            self.attack.on(self._exchange) if self.attack else self._exchange,
            self.runtime,
            self.ranks,
            plan.steps,
            weighting=self.algorithm.weighting,
            rule=self.aggregator,
            min_clients=self.min_clients,
            sums=self._sums,
            on_record=self._tell,
            seed=self.seed,
            outlier_factor=self.outlier_factor,
            public=getattr(cohort[0], "public", None) if cohort else None,
            undo=self.engine.undo,
        )
        # isolates the clients' random draws from all code outside of the round
        with isolate_rng(include_cuda=self.device.type == "cuda"):
            with advised(self.trainer):
                delta = self.algorithm.round(server)
        check_result(self.algorithm, delta, self.x)
        self.records = server.all_records()
        self._losses.check(server.index, self.records)
        buffers = server.mean_buffers()
        server_step(self, self.architectures.parameters, delta, buffers, server.absent)
        with torch.no_grad():
            for name, value in buffers.items():
                self.shared_buffers[name].copy_(value)
            self.architectures.end_round()
            self.engine.end_round()
        if self.budget is not None:
            self.budget.spend(self.trainer)
        self.bytes_down += sum(record.bytes_down for record in self.records)
        self.bytes_up += sum(record.bytes_up for record in self.records)
        self.cache = total([self.cache, *(record.cache for record in self.records)])
        report(self, server.index, self.records, plan.speeds)

    def _check(self, cohort: Any) -> None:
        """Refuses what is no cohort, a cohort that is too small, and clients that do not fit the run."""
        check_cohort(cohort, self.min_clients if cohort or self.budget is None else 0)
        check_validation(self.algorithm, cohort)
        population = self._population(cohort)
        if self._clients.meet(self.trainer.train_dataloader, population):
            self.architectures.check(population)
            check_owned(self.architectures, cohort)
            self.engine.check(cohort)
            if self.attack is not None:
                self.attack.check(population)

    def _population(self, cohort: Sequence[ClientData]) -> int:
        """Returns the number of all clients, also for a private round for which nobody was drawn."""
        return cohort[0].population if self.budget is None or cohort else self.budget.sampling.population

    def _tell(self, record: Record) -> None:
        """Calls `on_client_end(trainer, federation, record)` of every callback that has it."""
        for callback in cast(Any, self.trainer).callbacks:
            if hasattr(callback, "on_client_end"):
                callback.on_client_end(self.trainer, self, record)
