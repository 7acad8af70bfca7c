"""ClientProgress: its line beside Lightning's own bars, and its silence where there is none."""

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from lkd.callbacks import ClientProgress

from .federation import Flaky, data, federation, fit


class Look(Callback):
    """Notes the line of a Rich bar whenever a client ends."""

    def __init__(self):
        self.lines, self.displays = [], set()

    def on_client_end(self, trainer, federation, record):
        bar = trainer.progress_bar_callback
        line = bar.progress.tasks[-1]
        self.lines.append((line.description, line.completed, line.total))
        self.displays.add(len(bar.progress.tasks))


def test_with_the_rich_bar():
    look = Look()
    fit([ClientProgress(), RichProgressBar(), look], 2, limit_val_batches=0, enable_progress_bar=True)
    wanted = [(f"round {r}: client {c}", c + 1, 4) for r in range(2) for c in range(4)]
    assert look.lines == wanted
    assert look.displays == {2}  # Lightning's bar and one line, which is used again


def test_with_the_tqdm_bar(capsys):
    fit([ClientProgress(), TQDMProgressBar()], 2, enable_progress_bar=True)
    seen = "".join(capsys.readouterr())
    assert "Epoch 1: 100%" in seen and "Validation" in seen
    assert "round 0" in seen and "0/4" in seen and "round 1" in seen


def test_a_failure_is_named():
    look = Look()
    callbacks = [ClientProgress(), RichProgressBar(), look]
    with pytest.warns(UserWarning, match="client 1 failed"):
        fit(callbacks, 1, federation(module=Flaky), data(spoil=True), enable_progress_bar=True)
    assert look.lines[1][0] == "round 0: client 1 failed"


@pytest.mark.parametrize("bars", [[], [TQDMProgressBar(refresh_rate=0)], [RichProgressBar(refresh_rate=0)]])
def test_silent_without_a_bar(capsys, bars):
    fit([ClientProgress(), *bars], 1, enable_progress_bar=bool(bars))
    assert "round" not in "".join(capsys.readouterr())


def test_lets_go_of_the_display():
    for bar in (TQDMProgressBar(), RichProgressBar()):
        progress = ClientProgress()
        fit([progress, bar], 1, enable_progress_bar=True)
        assert progress._rich is None and progress._tqdm is None


def test_closes_its_line_when_a_run_breaks_off(capsys):
    class Broken(Callback):
        def on_client_end(self, *args):
            raise RuntimeError("stop here")

    progress = ClientProgress()
    with pytest.raises(RuntimeError, match="stop here"):
        fit([progress, TQDMProgressBar(), Broken()], 1, enable_progress_bar=True)
    assert progress._tqdm is None
