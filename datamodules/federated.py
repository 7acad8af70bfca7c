"""A federation as data: the training set of any LightningDataModule, dealt out to clients."""

from collections.abc import Callable
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from lkd.datamodules.batching import Batching
from lkd.datamodules.cohorts import AllClients, Cohort, CohortLoader, CohortSampler, UniformCohort
from lkd.datamodules.columns import LABEL, Columns, codes
from lkd.datamodules.columns import column as find_column
from lkd.datamodules.dealing import Unlabelled, check_filled, deal, hold_out, match, split_each
from lkd.datamodules.partitions import Natural, Partition
from lkd.datamodules.shards import Part, Population

PUBLIC, DEAL, SPLIT = range(3)  # streams of random numbers made from the seed

HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class FederatedDataModule(LightningDataModule):
    """Deals the training set of `data` out to clients; training batches are cohorts, lists of clients.

    Validation, test and prediction data are those of `data`: they measure the global model. How a client's
    batches are made (collation, augmentation, workers) is taken from the training loader of `data`.

    A client has validation and test data of its own where `client_fractions` cut them from its shard (by time
    where there is a column "time", else at random; as evaluation sees them if the training set offers `plain`,
    the same rows without augmentation), or else, under a `Natural` partition, the rows of the validation and
    test sets that have its value of the column.

    Args:
        data: any LightningDataModule with one training loader over a map-style data set.
        partition: who gets which rows.
        clients: number of clients; leave it out where the partition finds it.
        cohort: who takes part in a round; a number is that many drawn uniformly, `None` is everybody.
        batch_size: of the clients; `None` for that of `data`.
        public: share of the training set that is held out for `public_dataloader`, disjoint from all clients.
        client_fractions: shares (train, val, test) of every client's rows.
        cohorts_per_epoch: rounds in an epoch.
        seed: partition, splits and cohorts depend on it alone.

    Raises:
        ValueError: for numbers out of range, and in `setup` for a partition or cohort that cannot be.

    Example:
        >>> from lkd.datamodules import Digits
        >>> from lkd.datamodules.partitions import IID
        >>> data = FederatedDataModule(Digits(), IID(), clients=10, cohort=2)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))
        [Shard(7, '7', train=108), Shard(9, '9', train=107)]
    """

    def __init__(
        self,
        data: LightningDataModule,
        partition: Partition,
        clients: int | None = None,
        cohort: Cohort | int | None = None,
        batch_size: int | None = None,
        public: float = 0.0,
        client_fractions: tuple[float, float, float] = (1.0, 0.0, 0.0),
        cohorts_per_epoch: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        if not 0 <= public < 1:
            raise ValueError(f"public={public} must be a share of the training set in [0, 1).")
        for hook in HOOKS:
            if getattr(type(data), hook) is not getattr(LightningDataModule, hook):
                raise ValueError(
                    f"{type(data).__name__} has {hook}(), which the batches of clients would not pass through: "
                    "move it into the LightningModule, or into the data set."
                )
        shares = tuple(client_fractions or ())  # a config's null, too, gets the sentence
        if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"client_fractions={client_fractions} must be three shares (train, val, test) of sum 1, train above 0."
            )
        if seed < 0:
            raise ValueError(f"seed={seed} must not be negative.")
        if cohorts_per_epoch < 1:
            raise ValueError(f"cohorts_per_epoch={cohorts_per_epoch} must be at least 1.")
        self.data, self.partition, self.num_clients = data, partition, clients
        self.cohort = UniformCohort(cohort) if isinstance(cohort, int) else cohort or AllClients()
        self.batch_size, self.public, self.client_fractions = batch_size, public, shares
        self.cohorts_per_epoch, self.seed = cohorts_per_epoch, seed
        self._clients: Population | None = None

    def prepare_data(self) -> None:
        """As of `data`."""
        self.data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        """Sets `data` up, deals its training set out, and finds the clients' own validation and test rows."""
        self.data.trainer = self.trainer
        if stage in ("validate", "test") and self._clients is None:
            self.data.setup("fit")  # who the clients are is a matter of the training set
            self._deal()
        self.data.setup(stage)  # type: ignore[arg-type]
        if stage in ("fit", None):
            self._deal()
        if isinstance(self.partition, Natural) and self.client_fractions[0] == 1 and stage != "predict":
            found = {}
            if stage in ("fit", "validate", None):
                found["val"] = match(self.val_dataloader(), self.partition, self.names, self.batch_size)
            if stage == "test":
                found["test"] = match(self.test_dataloader(), self.partition, self.names, self.batch_size)
            self.clients.parts |= {name: part for name, part in found.items() if part is not None}

    def teardown(self, stage: str) -> None:
        """As of `data`."""
        self.data.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        """That of `data`."""
        return self.data.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hands it to `data`."""
        self.data.load_state_dict(state_dict)

    def on_exception(self, exception: BaseException) -> None:
        """As of `data`."""
        self.data.on_exception(exception)

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

    @property
    def cameras(self) -> list[str]:
        """Those of `data`, if it has cameras."""
        return self.data.cameras  # type: ignore[attr-defined]

    @property
    def serve_whole_frames(self) -> Callable[..., Any]:
        """That of `data`, if it serves frames: for a teacher that labels each frame once."""
        return self.data.serve_whole_frames  # type: ignore[attr-defined]

    @property
    def serve_views(self) -> Callable[[], None]:
        """That of `data`, if it serves frames."""
        return self.data.serve_views  # type: ignore[attr-defined]

    def train_dataloader(self) -> DataLoader:
        """Cohorts: lists of clients in ascending order, the same on every rank."""
        sampler = CohortSampler(self.clients, self.cohort, self.cohorts_per_epoch, self.seed)
        return CohortLoader(sampler)

    def val_dataloader(self) -> Any:
        """Validation data of `data`; an empty list if it has none."""
        return self._theirs("val_dataloader")

    def test_dataloader(self) -> Any:
        """Test data of `data`; an empty list if it has none."""
        return self._theirs("test_dataloader")

    def predict_dataloader(self) -> Any:
        """Predict data of `data`; an empty list if it has none."""
        return self._theirs("predict_dataloader")

    def public_dataloader(self) -> DataLoader:
        """The public share in order, without labels: x of a pair (x, y), dicts without `targets`.

        Raises:
            ValueError: if there is no public share.
        """
        clients = self.clients
        if not len(self._public):
            raise ValueError(
                f"public={self.public}: there is no public share of {len(clients)} clients' data."
            )
        return DataLoader(Unlabelled(self._plain, self._public), batch_size=None, **self._plain.workers)

    def summary(self, column: str | None = None) -> list[dict[str, Any]]:
        """What every client holds.

        Args:
            column: whose values are counted; `None` for the labels where no sample has to be loaded for
                them, else the partition's column, else nothing.

        Returns:
            A row for every client: `client` (number), `name`, `samples` (of training), `val` and `test` where
            any client has such data, and `counts`, a dict from every value of the column in the training set
            (as text) to the client's number of samples with it (empty without a column).

        Raises:
            ValueError: for an unknown column; the message names those that exist.
        """
        clients = self.clients
        if column is None:
            column = LABEL if LABEL in self._columns.cheap else self.partition.column
        values, place = codes(find_column(self._columns, column)) if column else ([], np.arange(0))
        table = []
        for number in range(len(clients)):
            held = {name: part.rows[number] for name, part in clients.parts.items()}
            sizes = {"samples" if name == "train" else name: len(rows) for name, rows in held.items()}
            counts = np.bincount(place[held["train"]], minlength=len(values)).tolist() if values else []
            table.append(
                {
                    "client": number,
                    "name": clients[number].name,
                    **sizes,
                    "counts": dict(zip(map(str, values), counts, strict=True)),
                }
            )
        return table

    def _theirs(self, name: str) -> Any:
        """What a loader method of `data` gives, if it has one."""
        own = name in vars(self.data) or getattr(type(self.data), name) is not getattr(
            LightningDataModule, name
        )
        return getattr(self.data, name)() if own else []

    def _deal(self) -> None:
        """Public share first, then the clients' shards, then each client's own split."""
        loader = self.data.train_dataloader()
        if not isinstance(loader, DataLoader):
            raise ValueError(
                f"the train_dataloader() of {type(self.data).__name__} gives a {type(loader).__name__}: "
                "clients need exactly one DataLoader."
            )
        batching = Batching(loader, self.batch_size)
        self._plain = Batching(loader, self.batch_size, getattr(batching.dataset, "plain", None))
        self._columns = Columns(batching.dataset)
        size = len(batching.dataset)
        public, dealing, splitting = (np.random.default_rng([self.seed, k]) for k in (PUBLIC, DEAL, SPLIT))
        rows, self._public = hold_out(size, self.public, public)
        shards, names = deal(self.partition, self._columns, rows, self.num_clients, dealing)
        parts = {"train": shards}
        if self.client_fractions[0] < 1:
            parts = split_each(shards, self._columns, self.client_fractions, splitting)
            check_filled(parts["train"], names)
        clients = Population(Part(batching, parts.pop("train")), names)
        clients.parts |= {name: Part(self._plain, held) for name, held in parts.items()}
        clients.probabilities = self.cohort.probabilities(clients)
        few = clients[int(clients.sizes.argmin())]
        if not few.num_batches():
            raise ValueError(
                f"client {few.name!r} has {few.num_samples} samples, fewer than a batch of "
                f"{batching.batch_size}, and the loader has drop_last=True: lower batch_size, or do not drop."
            )
        self._clients = clients
