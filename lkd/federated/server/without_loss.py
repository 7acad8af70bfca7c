"""Check of clients whose `training_step` gives no loss: allowed for a batch, but not for all of them."""

from collections.abc import Sequence

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lkd.federated.server.records import Record


class Losses:
    """Watch over the losses in the rounds of a fit.

    Example:
        >>> losses = Losses()
        >>> losses.check(0, [Record(0, "a", 10, steps=2)])
        >>> losses.check(1, [])
    """

    def __init__(self) -> None:
        self._any = False
        self._told: set[int] = set()

    def check(self, round: int, records: Sequence[Record]) -> None:
        """Warns once of every client that had batches without a loss.

        Args:
            round: Number of the round.
            records: Records of all clients of the round.

        Raises:
            ValueError: If no client has had any loss, in this round and those before.
        """
        trained = [record for record in records if record.steps and not record.error]
        self._any = self._any or any(r.without_loss < r.batches or not r.without_loss for r in trained)
        if trained and not self._any:
            raise ValueError(
                f"round {round}: training_step of the clients returned no loss (None) for any batch of any client, so that nothing was "
                'trained: return the loss, or a dict with it as "loss".'
            )
        for record in trained:
            if record.without_loss and record.client not in self._told:
                self._told.add(record.client)
                rank_zero_warn(
                    f"round {round}: training_step returned no loss (None) for {record.without_loss} of {record.batches} batches of "
                    f"client {record.name}, which learned nothing from them (said once for this client)."
                )
