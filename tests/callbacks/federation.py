"""A small federation over the digits, for the callbacks that report on one."""

import torch

from lkd.datamodules import IID, Digits, FederatedDataModule
from lkd.federated import Federation
from lkd.models import MLP
from lkd.modules import Classifier

from .plain import quick_trainer, seeded


class Flaky(Classifier):
    """Fails where the batch begins with a blank picture, as client 1 of `data(spoil=True)` does."""

    def training_step(self, batch, batch_idx=0):
        if not batch[0][0].any():
            raise RuntimeError("this camera is broken")
        return super().training_step(batch, batch_idx)


def federation(algorithm=None, module=Classifier, **kwargs):
    network = seeded(0, lambda: MLP(64, 10, hidden=[8]))
    client = module(network, 10, optimizer=lambda params: torch.optim.SGD(params, lr=0.1))
    return Federation(client, algorithm, **kwargs)


def data(clients=4, fractions=(0.6, 0.2, 0.2), spoil=False, **kwargs):
    digits = Digits(batch_size=32, fractions=(0.2, 0.1, 0.7))
    module = FederatedDataModule(digits, IID(), clients, client_fractions=fractions, **kwargs)
    if spoil:
        setup = module.setup

        def spoiled(stage=None):
            setup(stage)
            batching, rows, *_ = module.clients.parts["train"]
            batching.dataset.tensors[0][rows[1]] = 0

        module.setup = spoiled
    return module


def fit(callbacks, rounds=2, module=None, datamodule=None, ckpt_path=None, **kwargs):
    """Fits, and returns the trainer."""
    trainer = quick_trainer(max_epochs=rounds, callbacks=callbacks, **kwargs)
    trainer.fit(module or federation(), datamodule=datamodule or data(), ckpt_path=ckpt_path)
    return trainer
