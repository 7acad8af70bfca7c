"""`ClientProgress`: which client of a round is at work, below Lightning's own bar."""

from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from lkd.federated import Federation
from lkd.federated.server.round import Record


class ClientProgress(Callback):
    """Callback that shows a line below Lightning's bar while clients train: `round 3: client C4   5/10`.

    It works with Lightning's Rich bar (its default where Rich is installed) and its TQDM bar. It is silent
    where they are: with `enable_progress_bar=false`, and on all ranks but the first, which counts its own
    clients.
    """

    def __init__(self) -> None:
        self._tqdm: Tqdm | None = None
        self._rich: tuple[Any, Any] | None = None  # the display, and our line in it

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the count of clients for a new round."""
        bar = cast(Any, trainer.progress_bar_callback)
        if bar is None or not getattr(bar, "is_enabled", False):
            return
        ranks = cast(Federation, pl_module).ranks
        total = sum(ranks.owns(client.id) for client in batch)
        text = f"round {pl_module.global_step}"
        if not isinstance(bar, RichProgressBar):
            place = (
                2 * getattr(bar, "process_position", 0) + 1
            )  # that of the validation bar, which comes later
            self._tqdm = Tqdm(
                desc=text,
                total=total,
                position=place,
                leave=False,
                dynamic_ncols=True,
                bar_format=bar.BAR_FORMAT,
            )
            return
        display = cast(Any, bar.progress)
        if self._rich is None or self._rich[0] is not display:  # one lasts for a stage
            self._rich = display, display.add_task(text, total=total)
        else:
            display.reset(self._rich[1], total=total, description=text)

    def on_client_end(self, trainer: Trainer, federation: Federation, record: Record) -> None:
        """Counts one more client as done."""
        text = f"round {federation.global_step}: client {record.name}{' failed' if record.error else ''}"
        if self._tqdm is not None:
            self._tqdm.set_description(text, refresh=False)
            self._tqdm.update()
        elif self._rich is not None:
            self._rich[0].update(self._rich[1], advance=1, description=text)

    def on_train_batch_end(self, *args: Any) -> None:
        """Removes the line to make room for the validation bar."""
        if self._tqdm is not None:
            self._tqdm.close()
            self._tqdm = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Removes a line that is half drawn."""
        self.on_train_batch_end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forgets the display, which ends with the stage."""
        self._rich = None
