"""Who has which modality: types of clients, what is missing of what they own, and wrong labels."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from lkd.checks import expect
from lkd.datamodules.modalities.missing_modalities import ClientSamples, by_client, by_sample, by_time
from lkd.datamodules.samples.splits import pick
from lkd.modalities import check_names

Level = Literal["sample", "client", "time"]


class ModalityPlan:
    """Plan of which client owns which modalities, which its samples lack, and how many labels are wrong.

    All draws depend on (seed, client, row of the sample, name of the modality) alone, and not on other
    samples, orders, batches or workers. Let A be the number of modalities that a sample could have, because
    its client owns them and the data have them, and let q = `missing`:

    - `level="sample"`: each is missing with probability q, independently of the others. If all would be
      missing, one of them is drawn to stay. So the expected rate is q - q^A / A, and nothing is ever missing
      at A = 1.
    - `level="client"`: the same with one draw for all samples of a client, in training, validation and test.
    - `level="time"`: each is out for one stretch of round(q n) of a client's n samples in the order of the
      column "time" (or of the rows without one); its place is drawn uniformly. Where the stretches of all
      overlap, one modality stays, drawn once for each client. Training, validation and test data have
      stretches of their own.

    A sample is left out if nothing of it is left: if the data lack for this sample all that its client owns,
    or all that it kept at level "client".

    Args:
        types: sets of modalities; `None` for one type that owns all. Nobody has a modality that is in no
            type.
        assign: type of every client, by its id; default: the types in turn. Give the same list as
            `client_models` of a `Federation` if clients of type k are to have its architecture k.
        missing: the probability, or share, q.
        level: whether it is drawn for each sample, client or stretch of time.
        label_noise: probability that a training label is replaced by another class of the training set, drawn
            uniformly for each sample. Validation, test and public data keep theirs.
        evaluation: whether modalities are missing in the clients' own validation and test data, too. A client
            never has there what it does not own. The global sets and the public data are always complete.

    Raises:
        ValueError: for numbers out of range, or types that are no sets of modalities.

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
        """Returns the type (clients,) of every client.

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
        """Returns which types own which of the data's modalities, (types, modalities).

        Raises:
            ValueError: for a modality that the data do not have; the message names those that they have.
        """
        if self.types is None:
            return np.ones((1, len(modalities)), dtype=bool)
        for number, names in enumerate(self.types):
            pick(f"types[{number}]", names, modalities)
        return np.array([[name in names for name in modalities] for names in self.types])

    def draw(
        self,
        seed: int,
        rows: ClientSamples,
        modalities: Sequence[str],
        owned: np.ndarray,
        given: np.ndarray,
        time: np.ndarray,
    ) -> np.ndarray:
        """Draws which modalities n samples have.

        Args:
            seed: seed of the draws, not negative.
            rows: the samples.
            modalities: names of the modalities, M.
            owned: whether the client of each sample owns each modality (n, M).
            given: whether the data have it (n, M).
            time: times of the samples (n,), as numbers.

        Returns:
            Bools (n, M).
        """
        if self.level == "time":
            return by_time(seed, rows, modalities, owned, given, self.missing, time)
        level = by_sample if self.level == "sample" else by_client
        return level(seed, rows, modalities, owned, given, self.missing)
