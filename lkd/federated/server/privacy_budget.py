"""Budget of differential privacy of a federation: which rounds fit, and what they have cost."""

import math
import secrets
from typing import Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from lkd.datamodules import Sampling
from lkd.federated.privacy.client_dp import ClientDP
from lkd.federated.server.privacy_ledger import PrivacyLedger
from lkd.federated.server.private_round import Release
from lkd.federated.server.ranks import Ranks

NOISE = 0x6E6F697365  # separates these draws from those of clients' work


class PrivacyBudgetError(RuntimeError):
    """Error for a round that would cost more than `max_epsilon`."""


class PrivacyBudget:
    """Budget of a federation, over all of its fits.

    The noise of a round follows from the seed and the number of private rounds before it, in whatever fit: the
    same noise on two sums would show their difference.

    Args:
        privacy: The settings.
        seed: Seed of the federation.

    Attributes:
        ledger: What was spent.
    """

    def __init__(self, privacy: ClientDP, seed: int) -> None:
        self.privacy, self._seed = privacy, seed
        self.ledger = PrivacyLedger(privacy.delta)
        self._secret: int | None = None
        self._sampling: Sampling | None = None
        self._counted: Sampling | None = None
        self._seeds: set[int] = set()  # of cohorts that were drawn
        self._foretold = False
        self._told: set[str] = set()

    @property
    def sampling(self) -> Sampling:
        """How clients are drawn."""
        assert self._sampling is not None, "a fit has begun"
        return self._sampling

    @property
    def counted(self) -> Sampling:
        """How the ledger counts that: as no amplification where the cohorts of an earlier fit come again."""
        assert self._counted is not None, "a fit has begun"
        return self._counted

    def begin(self, trainer: Trainer, ranks: Ranks, min_clients: int) -> None:
        """Learns how clients are drawn, and looks whether a round fits.

        Args:
            trainer: The federation's Trainer.
            ranks: The processes, which agree on a secret seed.
            min_clients: Clients of a round that have to succeed.

        Raises:
            ValueError: If the sampler is unknown or may draw too few, or `delta` is too large to mean anything.
            PrivacyBudgetError: If not one round fits.
        """
        trainer.fit_loop.setup_data()
        self._sampling = self._counted = _sampling_of(trainer)
        self._look_for_former(trainer)
        if self.privacy.delta >= 1 / self._sampling.population:
            raise ValueError(
                f"privacy.delta={self.privacy.delta} must be below 1/{self._sampling.population}, one over the number of clients: telling "
                "all about one client, drawn by chance, would have as small a chance to fail."
            )
        if min_clients > 1 and self._sampling.scheme == "poisson":
            raise ValueError(
                f"min_clients={min_clients}: with PoissonSampler a round may have fewer clients, and even none, by chance; leave it at 1."
            )
        if self.privacy.secret and self._secret is None:
            self._secret = ranks.gather_objects(secrets.randbits(128))[0]
        _cohorts(trainer).salt = self._salt
        if not self.fits:
            raise PrivacyBudgetError(
                f"{self._too_much}: allow more, take more noise, or {'begin anew' if self.ledger.rounds else 'draw fewer clients'}."
            )
        self._foretold = False

    @property
    def _salt(self) -> tuple[int, ...]:
        """What the draw of clients follows from beside the data's seed, which others may know."""
        return () if self._secret is None else (self._secret,)

    def _look_for_former(self, trainer: Trainer) -> None:
        """Counts a fit without amplification if it draws the cohorts of an earlier one, from epoch 0 on, again.

        Given all before it, such a round tells no more than one whose clients are known, which is so however its
        cohort depends on the former ones.
        """
        seed = _cohorts(trainer).seed
        amplified = self.sampling.scheme != "always"
        if amplified and self.ledger.rounds and trainer.ckpt_path is None and seed in self._seeds:
            self._counted = self.sampling._replace(scheme="always")
            rank_zero_warn(
                f"privacy: this fit draws the same cohorts as an earlier one, by the data's seed={seed}, so its rounds count without "
                "amplification by sampling: resume (ckpt_path), or give the data another seed."
            )
        self._seeds.add(seed)

    def _foretell(self, trainer: Trainer) -> None:
        """Says what the planned rounds will cost."""
        total = trainer.estimated_stepping_batches
        planned = total - trainer.global_step if math.isfinite(total) else math.inf
        if self.privacy.noise_multiplier == 0:
            rank_zero_warn("privacy: noise_multiplier=0 is no noise, so epsilon is infinite: no privacy.")
        elif math.isfinite(planned) and planned > 0:
            cost = self._after(int(planned))
            told = f"privacy: {int(planned)} rounds will bring epsilon to {cost:.3g} at delta={self.privacy.delta:g}"
            most = self.privacy.max_epsilon
            rank_zero_info(
                f"{told}; max_epsilon={most:g} ends before." if cost > (most or cost) else f"{told}."
            )

    def _after(self, rounds: int = 1) -> float:
        return self.ledger.epsilon_after(self.counted, self.privacy.noise_multiplier, rounds)

    @property
    def fits(self) -> bool:
        """Whether one more round costs no more than is allowed."""
        return self.privacy.max_epsilon is None or self._after() <= self.privacy.max_epsilon

    @property
    def _too_much(self) -> str:
        spent, most = self.ledger.epsilon(), self.privacy.max_epsilon
        if not self.ledger.rounds:
            return f"privacy.max_epsilon={most}: the first round alone costs {self._after():.3g} at delta={self.privacy.delta:g}"
        return (
            f"privacy.max_epsilon={most}: {self.ledger.rounds} rounds have cost {spent:.3g} at delta={self.privacy.delta:g}, and one more "
            f"brings it to {self._after():.3g}"
        )

    def release(self, trainer: Trainer) -> Release:
        """Returns what the next round lets out.

        Args:
            trainer: The federation's Trainer; only now it knows how many rounds a resumed run has behind it.

        Raises:
            PrivacyBudgetError: If it would cost too much.
            ValueError: If the clients were drawn by another loader than the one that the fit began with.
        """
        if _cohorts(trainer).salt != self._salt:
            raise ValueError(
                "privacy.secret=True with reload_dataloaders_every_n_epochs: a new train loader does not know the secret by which "
                "clients are drawn; leave it at 0."
            )
        if not self._foretold:
            self._foretold = True
            self._foretell(trainer)
        if not self.fits:
            raise PrivacyBudgetError(
                f"{self._too_much}, but the Trainer does not stop before min_epochs or min_steps: lower these."
            )
        seed = self._seed if self._secret is None else self._secret
        return Release(self.privacy, self.sampling.size, (seed, self.ledger.rounds, NOISE))

    def spend(self, trainer: Trainer) -> None:
        """Counts a round, and ends the run where the next one would cost too much."""
        self.ledger.count(self.counted, self.privacy.noise_multiplier)
        if not self.fits:
            rank_zero_info(f"{self._too_much}: the run ends here.")
            trainer.should_stop = True

    def own_up(self) -> None:
        """Says once that measurements of clients are not protected."""
        self._warn(
            "what is measured on clients' own data (ClientReport) leaves them as it is, and epsilon does not count it: leave it out where "
            "that is no study."
        )

    def _warn(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            rank_zero_warn(f"privacy: {why}")

    def state_dict(self) -> dict[str, Any]:
        """Returns what was spent, and how, as plain values."""
        return {
            "mechanism": self.privacy.mechanism,
            "epsilon": self.ledger.epsilon(),
            "delta": self.privacy.delta,
            "rounds": self.ledger.state_dict(),
            "seeds": sorted(self._seeds),
            "secret": self._secret,
        }

    def load_state_dict(self, saved: dict[str, Any] | None) -> None:
        """Goes on where a checkpoint is: what it has spent stays spent.

        Args:
            saved: What `state_dict` gave; None for a checkpoint of a run without privacy.
        """
        if saved is None:
            self._warn(
                "the weights that this federation begins with are of a run without privacy, whose rounds epsilon does not count."
            )
            return
        self.ledger.load_state_dict(saved["rounds"])
        self._seeds = set(saved["seeds"])
        if self.privacy.secret:
            self._secret = saved["secret"]


def _cohorts(trainer: Trainer) -> Any:
    """Returns the sampler of cohorts of a loader that `_sampling_of` takes."""
    return cast(Any, trainer.train_dataloader).cohorts


def _sampling_of(trainer: Trainer) -> Sampling:
    """Finds how the train loader draws clients.

    Raises:
        ValueError: If that is not known.
    """
    cohorts = getattr(trainer.train_dataloader, "cohorts", None)
    if cohorts is None:
        raise ValueError(
            "privacy: how clients are drawn decides what the noise is worth, and this train loader does not say: take FederatedDataModule or "
            "SiteClients, with a sampler such as PoissonSampler(rate=0.1)."
        )
    # a subclass that draws in another way has to say again how
    owner = next(kind for kind in type(cohorts.cohort).__mro__ if "draw" in vars(kind))
    found = cohorts.cohort.sampling(cohorts.clients) if "sampling" in vars(owner) else None
    if found is None:
        raise ValueError(
            f"privacy: cohort={type(cohorts.cohort).__name__} draws clients in a way whose privacy is not known here: take PoissonSampler, "
            "UniformSampler, AllClients or FixedSampler, or define `sampling` beside `draw`."
        )
    return found
