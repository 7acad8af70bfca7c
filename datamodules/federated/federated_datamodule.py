"""A federation as data: the training set of any LightningDataModule, dealt out to clients."""

from functools import partial
from typing import Any, cast

import numpy as np
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader

from lkd.checks import expect
from lkd.datamodules.federated.as_datamodule import as_module
from lkd.datamodules.federated.build_clients import match, populate
from lkd.datamodules.federated.client_data import Population
from lkd.datamodules.federated.client_sampling import (
    AllClients,
    ClientSampler,
    CohortLoader,
    CohortSampler,
    UniformSampler,
)
from lkd.datamodules.federated.client_statistics import Masks, count_labels, describe, masks, summarize
from lkd.datamodules.federated.partitions import Natural, Partition
from lkd.datamodules.federated.public_data import PublicData, open_public
from lkd.datamodules.federated.relay import Relay, carried, carry
from lkd.datamodules.modalities.modality_clients import PARTS, apply
from lkd.datamodules.modalities.modality_plan import ModalityPlan
from lkd.datamodules.samples.class_numbers import check_columns
from lkd.datamodules.samples.metadata import LABEL, Columns
from lkd.packages import is_data_module
from lkd.transfers import hooks_of


class FederatedDataModule(Relay):
    """Data module that deals the training set of `data` out to clients.

    Training batches are lists of clients (cohorts).

    Validation, test and prediction data are those of `data`: they measure the global model. How a client's
    batches are made (collation, augmentation, workers) is taken from the training loader of `data`.

    A client has validation and test data of its own where `client_fractions` cut them from its shard. The cut
    is by time where there is a column "time", else at random; rows with the same value of a column "group"
    stay together. These rows are seen without augmentation if the training set offers `plain`. Without such
    shares, under a `Natural` partition, the client has the rows of the validation and test sets with its
    value of the column.

    Hooks of `data` that change a batch on its way to the device run at the clients, and for the global
    model's data. Those of a `public` module run for public data, which are treated as in a validation,
    whoever learns from them.

    Args:
        data: any LightningDataModule with one training loader over a map-style data set; or such a data set
            (with `batch_size`), a loader, or (train, val) or (train, val, test) of data sets or loaders. Bare
            arrays are refused: join them, `TensorDataset(X, Y)`.
        partition: rule that says who gets which rows.
        clients: number of clients; leave it out where the partition finds it.
        cohort: who takes part in a round; a number draws that many uniformly, `None` takes every client.
        batch_size: batch size of the clients; `None` for that of `data`.
        public: data that all clients have (`client.public`), without augmentation: a share of the training
            set, which is held out, disjoint from all clients; or another data module, whose training set is
            public: other data, or inputs that are made up (`Noise`). 0 or None for none.
        client_fractions: shares (train, val, test) of every client's rows.
        cohorts_per_epoch: rounds in an epoch.
        seed: seed on which partition, splits, cohorts and the draws of the plan depend, and nothing else.
        plan: which client has which modality, and what is missing; `None` where all have all.

    Raises:
        TypeError: for a partition or a cohort that is none.
        ValueError: for numbers out of range, and in `setup` for a partition or cohort that is impossible.

    Example:
        >>> from lkd.datamodules import Digits
        >>> from lkd.datamodules.federated.partitions import IID
        >>> data = FederatedDataModule(Digits(), IID(), clients=10, cohort=2)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))
        [ClientShard(7, '7', train=108), ClientShard(9, '9', train=107)]
    """

    def __init__(
        self,
        data: LightningDataModule,
        partition: Partition,
        clients: int | None = None,
        cohort: ClientSampler | int | None = None,
        batch_size: int | None = None,
        public: float | LightningDataModule | None = 0.0,
        client_fractions: tuple[float, float, float] = (1.0, 0.0, 0.0),
        cohorts_per_epoch: int = 1,
        seed: int = 0,
        plan: ModalityPlan | None = None,
    ) -> None:
        expect(batch_size=batch_size, ge=1, none="NONE")
        if isinstance(data, FederatedDataModule):
            raise ValueError(
                "data is a FederatedDataModule, whose clients cannot be dealt out again: give the data module that it was given."
            )
        if not isinstance(partition, Partition):
            found = partition.__name__ if isinstance(partition, type) else type(partition).__name__
            raise TypeError(
                f"partition={found} must be an object of Partition, such as IID() or Dirichlet(0.5)."
            )
        data, more = as_module(data, batch_size, "data"), []
        public = 0.0 if public is None else public
        if not isinstance(public, int | float):
            public = as_module(public, batch_size, "public")
            if public is data or isinstance(public, FederatedDataModule):
                raise ValueError(
                    "public must be a data module of its own, other than the clients' and without clients; for a "
                    "part of the clients' data give a share, public=0.1."
                )
            more.append(public)
        elif not 0 <= public < 1:
            raise ValueError(
                f"public={public} must be a share of the training set in [0, 1), or a data module."
            )
        shares = tuple(client_fractions or ())  # a config's null gets the message below, too
        if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"client_fractions={client_fractions} must be three shares (train, val, test) of sum 1, train above 0."
            )
        if not (cohort is None or isinstance(cohort, int | ClientSampler)):
            raise TypeError(
                f"cohort={cohort!r} must be a number of clients or a sampler: PoissonSampler(rate=0.3)."
            )
        expect(seed=seed, ge=0)
        expect(cohorts_per_epoch=cohorts_per_epoch, ge=1)
        super().__init__(data, *more)
        self.partition, self.num_clients = partition, clients
        self.cohort = UniformSampler(cohort) if isinstance(cohort, int) else cohort or AllClients()
        self.batch_size, self.public, self.client_fractions = batch_size, public, shares
        self.cohorts_per_epoch, self.seed, self.plan = cohorts_per_epoch, seed, plan
        self._clients: Population | None = None

    def setup(self, stage: str | None = None) -> None:
        """Sets `data` up, deals out its training set, and finds the clients' own validation and test rows."""
        super().setup(stage)
        self._say_who_takes_cohorts(stage)
        if stage in ("validate", "test") and self._clients is None:
            self.data.setup("fit")  # the training set decides who the clients are
            self._deal()
        self.data.setup(stage)
        if stage in ("fit", None):
            self._deal()
        if isinstance(self.partition, Natural) and self.client_fractions[0] == 1 and stage != "predict":
            found = {}
            if stage in ("fit", "validate", None):
                found["val"] = match(self.val_dataloader(), self.partition, self.names, self.batch_size)
            if stage == "test":
                found["test"] = match(self.test_dataloader(), self.partition, self.names, self.batch_size)
            for name, part in found.items():
                if part is not None and self.plan is not None:
                    columns = Columns(part.batching.dataset)
                    part = apply(self.plan, part, columns, self.seed, name, PARTS.index(name))
                if part is not None:
                    self.clients.parts[name] = part
                    carry(part, self.data, plain=True)

    def _say_who_takes_cohorts(self, stage: str | None) -> None:
        """Warns where a plain module is trained: its batches would be lists of clients."""
        module = self.trainer.lightning_module if self.trainer is not None and stage == "fit" else None
        if module is not None and not hasattr(type(module), "architectures"):
            who = type(module).__name__
            rank_zero_warn(
                f"FederatedDataModule gives {who} lists of clients as training batches: if it is the clients' module, train "
                f"Federation({who}(...))."
            )

    def teardown(self, stage: str) -> None:
        """Tears `data` and `public` down, and ends the worker processes of clients."""
        super().teardown(stage)
        if self._clients is not None:
            self._clients.dismiss()

    @property
    def clients(self) -> Population:
        """All clients; each is made when it is asked for."""
        if self._clients is None:
            raise RuntimeError("who the clients are is known after setup('fit').")
        return self._clients

    @property
    def names(self) -> list[str]:
        """Names of all clients."""
        return self.clients.names

    def train_dataloader(self) -> DataLoader:
        """Returns cohorts: lists of clients in ascending order, the same on every rank."""
        sampler = CohortSampler(self.clients, self.cohort, self.cohorts_per_epoch, self.seed)
        return CohortLoader(sampler)

    def public_dataloader(self) -> DataLoader:
        """Returns public data in order, without labels: x of (x, y), or dicts without `lkd.batches.LABELS`.

        Raises:
            ValueError: if there are none.
        """
        if (public := self.clients.public) is None:
            raise ValueError(
                f"public={self.public}: there is no public data; hold out a share, public=0.1, or give a data module."
            )
        return public.loader()

    def summary(self, column: str | None = None) -> list[dict[str, Any]]:
        """Returns what every client holds.

        Args:
            column: column whose values are counted; `None` for the labels if no sample has to be loaded for
                them, else the partition's column, else nothing.

        Returns:
            A row for every client, see `lkd.datamodules.federated.client_statistics.summarize`; with a plan,
            also the fields of `describe` there. Labels are counted as the data have them, without a plan's
            noise.

        Raises:
            ValueError: for an unknown column; the message names those that exist.
        """
        table = summarize(self.clients, self._columns, column or self.counted)
        if self.plan is None:
            return table
        return [row | more for row, more in zip(table, describe(self.clients.parts["train"]), strict=True)]

    @property
    def counted(self) -> str | None:
        """Column that `summary` counts if none is named."""
        return LABEL if LABEL in self._columns.cheap else self.partition.column

    def masks(self, part: str = "train") -> Masks:
        """Returns which modalities the clients' own samples have under the plan, and whose labels are wrong.

        Args:
            part: "train", "val" or "test".

        Raises:
            ValueError: without a plan, or where no client has such a part.
        """
        if self.plan is None or part not in self.clients.parts:
            what = "plan" if self.plan is None else f"{part} data of clients"
            raise ValueError(f"masks({part!r}): there is no {what}.")
        return masks(self.clients.parts[part])

    def label_counts(self) -> np.ndarray:
        """Counts the training samples (clients, classes) of every client and class; nothing is loaded for it.

        Labels are those that the data have, without a plan's noise.

        Raises:
            ValueError: where labels are not known without loading every sample, or are no class numbers.
        """
        return count_labels(self.clients, self._columns)

    def _deal(self) -> None:
        """Finds the public data and makes the clients."""
        loader = self.data.train_dataloader()
        if not isinstance(loader, DataLoader):
            raise ValueError(
                f"the train_dataloader() of {type(self.data).__name__} gives a {type(loader).__name__}: "
                "clients need exactly one DataLoader."
            )
        if is_data_module(self.public):
            self.public.setup("fit")
            public: float | PublicData = open_public(self.public, self.batch_size)
        else:
            public = cast(float, self.public)
        clients, self._columns = populate(
            loader,
            self.partition,
            self.num_clients,
            public,
            self.client_fractions,
            self.batch_size,
            self.seed,
            self.plan,
        )
        dealt = np.concatenate([part.rows.flat for part in clients.parts.values()])
        known = self._columns if LABEL in self._columns.cheap else {}
        check_columns(known, self.trainer, "the clients' data", dealt)
        clients.probabilities = self.cohort.probabilities(clients)
        self._clients = clients
        for name, part in clients.parts.items():
            carry(part, self.data, plain=name != "train")
        if clients.public is not None and hooks_of(self._sources[-1]):
            clients.public.carry_by(partial(carried, data=self._sources[-1], plain=True))
