"""Runs of two batches: what tests of snippets and notebooks make of every Trainer, in this process or in a kernel."""

import functools
import shutil
from pathlib import Path

from lightning.pytorch import Trainer

SHORT = {
    "max_epochs": 1,
    "limit_train_batches": 2,
    "limit_val_batches": 1,
    "limit_test_batches": 1,
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def shortened(original):
    """A Trainer's `__init__` whose runs are two batches long; a validation that was turned off stays so."""

    @functools.wraps(original)
    def init(self, *args, **kwargs):
        no_validation = {"limit_val_batches": 0} if kwargs.get("limit_val_batches") == 0 else {}
        original(self, *args, **{**kwargs, **SHORT, **no_validation})

    return init


def shorten():
    """Makes every Trainer of this process short, for good."""
    Trainer.__init__ = shortened(Trainer.__init__)


def short_study(config):
    """Writes a config of lkd's and its recipes into the working directory, shortened; returns its path and options."""
    import yaml

    import lkd.teachers.recipe
    from tests import test_configs as configs

    path = Path("configs", config)
    given = yaml.safe_load((configs.ROOT / path).read_text())
    path.parent.mkdir(parents=True)
    shutil.copy(configs.ROOT / path, path)
    shutil.copytree(configs.ROOT / "configs/networks", "configs/networks")
    for _, recipe in configs.recipes_of(given):
        configs.shrunk_recipe(recipe)
    lkd.teachers.recipe.fit = configs.in_this_process
    return str(path), configs.words(configs.how_to_shrink(path, given)[2])
