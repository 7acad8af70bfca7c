"""Who has which modality: types of clients, what is missing of what they own, and wrong labels."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from lkd.checks import expect
from lkd.datamodules.modalities.missing_modalities import Rows, by_client, by_sample, by_time
from lkd.datamodules.samples.splits import pick
from lkd.modalities import check_names

Level = Literal["sample", "client", "time"]


class ModalityPlan:
    """Which client owns which modalities, which of these its samples lack, and how many training labels are wrong.

    All is drawn by (seed, client, row of the sample, name of the modality), so that it depends neither on other
    samples nor on orders, batches and workers. With A modalities that a sample could have (its client owns them,
    and the data have them for it), and q = `missing`:

    - `level="sample"`: each is missing with probability q, independently of the others. Where all would be, one
      drawn at random stays, so the rate to be observed is q - q^A / A, and nothing is ever missing at A = 1.
    - `level="client"`: the same, drawn once for all samples of a client, whether they train, validate or test.
    - `level="time"`: each is out for one stretch of round(q n) of a client's n samples in the order of the column
      "time" (of the rows, where there is none), its place drawn uniformly. Where the stretches of all overlap one
      stays, which is drawn once a client. Training, validation and test data have stretches of their own.

    A sample is left out where nothing of it is left: its client owns, or kept at level "client", only what the
    data lack for this sample.

    Args:
        types: sets of modalities; `None` for one type that owns all. What is in no type, nobody has.
        assign: type of every client, by its id; default: one after the other, in turns. Just as `client_models` of a
            `Federation`, where clients of type k are to have its architecture k.
        missing: the probability, or share, q.
        level: what it is drawn for.
        label_noise: probability of a training label to be replaced by another class of the training set, drawn
            uniformly for each sample. Validation, test and public data keep theirs.
        evaluation: whether modalities are missing in the clients' own validation and test data, too. What a client
            does not own, it does not own there either. The global sets and the public data are always complete.

    Raises:
        ValueError: for numbers out of range, or types that are none.

    Example:
        >>> plan = ModalityPlan([["phone", "watch"], ["phone"]], missing=0.5)
        >>> plan.kinds(5)
        array([0, 1, 0, 1, 0])
        >>> plan.owned(["phone", "watch"])
        array([[ True,  True],
               [ True, False]])
    """

    def __init__(
        self,
        types: Sequence[Sequence[str]] | None = None,
        assign: Sequence[int] | None = None,
        missing: float = 0.0,
        level: Level = "sample",
        label_noise: float = 0.0,
        evaluation: bool = True,
    ) -> None:
        if types is not None and (isinstance(types, str) or not len(types)):
            raise ValueError(
                f"types={types!r} must be a list of lists of modalities, or None for one that has all."
            )
        for number, names in enumerate(types or ()):
            if isinstance(names, str) or not names or len(set(names)) < len(names):
                raise ValueError(
                    f"types[{number}]={names!r} must be a list of one modality at least, each once."
                )
            check_names(names, f"types[{number}]")
        last = 0 if types is None else len(types) - 1
        if assign is not None and not all(0 <= kind <= last for kind in assign):
            raise ValueError(f"assign={list(assign)} must give each client a type from 0 to {last}.")
        for name, rate in (("missing", missing), ("label_noise", label_noise)):
            if not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise ValueError(f"{name}={rate!r} must be in [0, 1].")
        expect(level=level, among=get_args(Level))
        self.types = None if types is None else [list(names) for names in types]
        self.assign = None if assign is None else list(assign)
        self.missing, self.level, self.label_noise, self.evaluation = missing, level, label_noise, evaluation

    def kinds(self, clients: int) -> np.ndarray:
        """Type (clients,) of every client.

        Raises:
            ValueError: for an `assign` of another length.
        """
        if self.assign is None:
            return np.arange(clients) % (1 if self.types is None else len(self.types))
        if len(self.assign) != clients:
            raise ValueError(
                f"assign has {len(self.assign)} entries, but there are {clients} clients: give each its type."
            )
        return np.array(self.assign, dtype=np.int64)

    def owned(self, modalities: Sequence[str]) -> np.ndarray:
        """Which types own which of the data's modalities, (types, modalities).

        Raises:
            ValueError: for one that the data do not have; the message names those that they have.
        """
        if self.types is None:
            return np.ones((1, len(modalities)), dtype=bool)
        for number, names in enumerate(self.types):
            pick(f"types[{number}]", names, modalities)
        return np.array([[name in names for name in modalities] for names in self.types])

    def draw(
        self,
        seed: int,
        rows: Rows,
        modalities: Sequence[str],
        owned: np.ndarray,
        given: np.ndarray,
        time: np.ndarray,
    ) -> np.ndarray:
        """What is there of n samples.

        Args:
            seed: not negative.
            rows: the samples.
            modalities: their names, M.
            owned: by the client of every sample (n, M).
            given: whether the data have it (n, M).
            time: of every sample (n,), numbers.

        Returns:
            (n, M).
        """
        if self.level == "time":
            return by_time(seed, rows, modalities, owned, given, self.missing, time)
        level = by_sample if self.level == "sample" else by_client
        return level(seed, rows, modalities, owned, given, self.missing)
