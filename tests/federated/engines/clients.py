"""Clients that do one thing wrong, by their ids; in a file of their own, as other processes have to find them."""

import os
import time

import torch

from ..quadratic import Point, Quadratic

WRONG = 2
"""Who of the clients does it."""


class Wrong(Quadratic):
    """Its training step does something wrong where the batch's points are those of client `WRONG`, in the first round or in all."""

    def __init__(self, how="", always=False, **kwargs):
        super().__init__(**kwargs)
        self.how, self.always = how, always

    def training_step(self, batch, batch_idx):
        if batch[1].max() == WRONG and (self.always or self.trainer.current_epoch == 0):
            match self.how:
                case "late":
                    time.sleep(0.5)
                case "hangs":
                    time.sleep(60)
                case "dead":
                    os._exit(3)
                case "raises":
                    raise OSError("no space left on the camera")
                case "nan":
                    return super().training_step(batch, batch_idx) * float("nan")
        return super().training_step(batch, batch_idx)


def clients(number=4):
    """A point at its own id each; two batches, so that there is a between."""
    return [Point(k, [(1, float(k)), (1, float(k))], number, batch=1) for k in range(number)]


class Two(Quadratic):
    """Another architecture: two layers, one after the other."""

    def __init__(self):
        super().__init__()
        self.y = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))

    def training_step(self, batch, batch_idx):
        h, e = batch
        return (0.5 * h * (self.x * self.y - e).square().sum(1)).mean()
