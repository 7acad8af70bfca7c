"""Outputs of a head in a client's own model or another client's, and their dissimilarity."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.func import functional_call

from lkd.batches import Keys, call_of
from lkd.federated.client.context import ClientContext
from lkd.federated.knowledge.common.batch_inputs import told
from lkd.federated.knowledge.common.batch_labels import labels_of
from lkd.federated.protocol.tensors import Tensors
from lkd.losses.dissimilarity import Measure, dissimilarity_loss
from lkd.losses.inputs import full_precision
from lkd.taps import Call, Taps

Strategy = Literal["holistic", "pairwise"]


def neighbors_loss(
    student: Tensor,
    teachers: Tensor,
    measure: Measure = "js",
    strategy: Strategy = "holistic",
    temperature: float = 1.0,
) -> Tensor:
    """Computes the dissimilarity of a head from several teachers, `T² D`, mean over the batch.

    Holistic: D compares the student with `softmax(mean_j z_j / T)`, a mean of logits. Pairwise: D is summed
    over the teachers' `softmax(z_j / T)`. `"msed"` compares all at once, whatever the strategy. See
    `lkd.losses.dissimilarity`.

    Args:
        student: Logits `(B, C)`.
        teachers: Logits `(B, K, C)`; no gradient flows into them.
        measure: Name of D.
        strategy: `"holistic"` or `"pairwise"`, see above.
        temperature: T.

    Example:
        >>> student, teachers = torch.zeros(1, 2), torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
        >>> neighbors_loss(student, teachers, "kl"), neighbors_loss(student, teachers, "kl", "pairwise")
        (tensor(0.), tensor(0.6556))
    """
    if measure == "msed":
        return dissimilarity_loss(student, teachers, measure, temperature)
    targets = [full_precision(teachers).mean(1)] if strategy == "holistic" else teachers.unbind(1)
    return torch.stack([dissimilarity_loss(student, t, measure, temperature) for t in targets]).sum()


def look(module: LightningModule, tensors: Tensors, layer: str, call: Call) -> tuple[Tensor, Tensor]:
    """Returns a layer's input and output in a model that differs from the module in some tensors.

    Args:
        module: The module; its mode is kept, and only statistics in training mode may change.
        tensors: Parameters and buffers by name; all others are the module's.
        layer: Address of the layer.
        call: Arguments of the module's forward.
    """
    with told(module, call), Taps(module, [layer], "layer") as taps:
        functional_call(module, tensors, call.args, call.kwargs)
    return taps.input(layer), taps.output(layer)


@torch.no_grad()
def validation_losses(
    context: ClientContext,
    models: Mapping[int, Tensors],
    layer: str,
    label_key: str | int,
    input_key: Keys | None = None,
) -> dict[int, float]:
    """Computes the cross entropy of several models' heads on the client's validation data, mean over samples.

    Args:
        context: The client.
        models: Tensors of each model, see `look`.
        layer: Address of the head.
        label_key: Key or index of the labels in a batch.
        input_key: Entries of a batch that the forward is given, see `call_of`.
    """
    totals, samples = dict.fromkeys(models, 0.0), 0
    module = context.module.eval()
    for given in context.client.ordered_batches("val"):
        batch = context.loop.on_device(given)
        labels = labels_of(batch, label_key)
        call = call_of(module, batch, input_key, label_key)
        samples += len(labels)
        for j, tensors in models.items():
            with context.loop.trainer.precision_plugin.val_step_context():
                logits = look(module, tensors, layer, call)[1]
            totals[j] += float(F.cross_entropy(full_precision(logits), labels, reduction="sum"))
    return {j: total / samples for j, total in totals.items()}
