"""What a head says, in a client's own model or in another client's, and how unlike it is to others."""

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
    """Compute how unlike a head is to several teachers, `T² D`, mean over the batch.

    Holistic: D of the student and `softmax(mean_j z_j / T)`, the mean being of logits. Pairwise: `sum_j D` of the student
    and `softmax(z_j / T)`. `"msed"` compares all at once, whatever the strategy. See `lkd.losses.dissimilarity`.

    Args:
        student: Logits `(B, C)`.
        teachers: Logits `(B, K, C)`; no gradient flows into them.
        measure: D.
        strategy: What D compares the student with.
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
    """What a layer sees and gives in a model that has other tensors of some names than the module.

    Args:
        module: The module, in the mode in which it is; nothing of it changes but statistics in training mode.
        tensors: Parameters and buffers by name; the others are the module's.
        layer: Its address.
        call: What the module's forward is called with.
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
    """Cross entropy of a head of several models on this client's validation data, mean over the samples.

    Args:
        context: The client.
        models: Tensors of each model, see `look`.
        layer: The head.
        label_key: Key or index of the labels in a batch.
        input_key: Entries of it that the forward is given, see `call_of`.
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
