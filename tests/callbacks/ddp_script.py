"""Run by test_distillation_ddp.py in two processes: distills with adapters and writes what each rank holds.

First as DDP is, then with a layer that no step uses, then from a cache that is empty, and from one that is full.
"""

import sys

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from lkd.callbacks import Distillation
from lkd.distillation.adapters import ADAPTERS
from lkd.losses import KD, FitNets
from lkd.teachers import CachedTeacher, Teacher
from tests.callbacks.plain import Plain, digits, seeded


class Keep(Distillation):
    """Saves the state of every rank at the end."""

    name = ""

    def on_train_end(self, trainer, pl_module):
        state = {**pl_module.state_dict(), **getattr(pl_module, ADAPTERS).state_dict()}
        torch.save(state, f"{sys.argv[1]}/{self.name}{trainer.global_rank}.pt")


class WithUnused(Plain):
    """Has a layer that no step uses, which plain DDP refuses."""

    def __init__(self, width):
        super().__init__(width)
        self.spare = torch.nn.Linear(3, 3)


def run(name, teacher):
    unused = name == "find_unused"
    student = seeded(0, lambda: (WithUnused if unused else Plain)(16))
    terms = [KD(weight=0.5), FitNets(weight=1.0, student_layer="net.1", teacher_layer="net.1")]
    callback = Keep(teacher, terms, alpha=0.5)
    callback.name = name
    Trainer(
        accelerator="cpu",
        devices=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        strategy=DDPStrategy(find_unused_parameters=unused, process_group_backend="gloo"),
        callbacks=[callback],
    ).fit(student, digits(batch_size=8))


if __name__ == "__main__":
    for name in ("plain", "find_unused"):
        run(name, Teacher(seeded(1, lambda: Plain(32))))
    for name in ("cold", "warm"):
        run(name, CachedTeacher(seeded(1, lambda: Plain(32)), f"{sys.argv[1]}/cache"))
