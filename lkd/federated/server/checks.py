"""Checks of a federation's parts and data, and of the result of an algorithm."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lkd.federated.protocol.client_data import NO_PUBLIC, ClientData, ClientInfo
from lkd.federated.protocol.tensors import Tensors
from lkd.federated.server.robust import Rule
from lkd.federated.topology.base import listed

if TYPE_CHECKING:
    from lkd.federated.algorithms.base import Algorithm


def check_public(algorithm: "Algorithm", clients: Sequence[ClientData]) -> None:
    """Refuses clients without public data if the algorithm needs them, and warns of those that nobody uses.

    Raises:
        ValueError: If there are none; the message says how to get some.
    """
    size = len(clients[0].public or ()) if len(clients) else None
    if algorithm.needs_public_data and size == 0:
        raise ValueError(NO_PUBLIC)
    if size and not algorithm.needs_public_data:
        rank_zero_warn(
            f"{type(algorithm).__name__} uses no public data, so the {size} public samples lie idle, which no client trains on if they "
            "were held out: leave public out, unless another algorithm is to be compared on the same shares."
        )


def check_validation(algorithm: "Algorithm", clients: Sequence[ClientData] | Sequence[ClientInfo]) -> None:
    """Refuses clients without validation data of their own if the algorithm needs them.

    Raises:
        ValueError: If there is such a client; the message says how to get some.
    """
    if algorithm.needs_validation_data:
        without = [clients[k].name for k in range(len(clients)) if not clients[k].has("val")]
        if without:
            raise ValueError(
                f"{type(algorithm).__name__} with stopping needs validation data at every client, and {listed(without)} "
                f"{'have' if len(without) > 1 else 'has'} none: FederatedDataModule(client_fractions=[0.8, 0.1, 0.1]) cuts a tenth "
                "from every client's, where that is a sample at least."
            )


def check_kinds(algorithm: "Algorithm", other_models: int, aggregator: Rule | None) -> None:
    """Refuses several architectures, or an aggregator, where the algorithm does not support them.

    Raises:
        ValueError: If they are given; the message says what to use instead.
    """
    if other_models and not algorithm.supports_multiple_models:
        raise ValueError(
            f"other_models: {type(algorithm).__name__} is for clients of one architecture; with several, exchange knowledge "
            "(FedMD, FedProto, FedDF, MHD and such), or average each on its own with FedAvg or FedProx."
        )
    if aggregator is not None and not algorithm.aggregates_weights:
        raise ValueError(
            f"aggregator={type(aggregator).__name__} joins weights, and {type(algorithm).__name__} shares none: leave it out, or "
            "give a rule to an algorithm that joins knowledge by one, such as FedMD(rule=...)."
        )
    if aggregator is not None and algorithm.weighting == "present":
        raise ValueError(
            f"aggregator={type(aggregator).__name__} knows no weights, so weighting='present' would do nothing: leave out one of them."
        )
    if other_models and aggregator is not None:
        raise ValueError(
            f"aggregator={type(aggregator).__name__} compares the changes of all clients, which must have one architecture: leave out "
            "other_models, or exchange knowledge, which has rules of its own."
        )


def check_outlier_factor(factor: float | None) -> float | None:
    """Refuses a factor by which the median itself would be an outlier.

    Raises:
        ValueError: If it is not above 1.
    """
    if factor is not None and not factor > 1:
        raise ValueError(
            f"outlier_factor={factor} must be above 1: how many times as long as the median a client's change may be; None for "
            "any length."
        )
    return factor


def check_trainer(trainer: Trainer) -> None:
    """Refuses Trainer options that would act at the server instead of the clients, or on rounds.

    Raises:
        ValueError: If there is one; the message says what to set instead.
    """
    for name, off in (("gradient_clip_val", (None, 0)), ("accumulate_grad_batches", (1,))):
        value = getattr(trainer, name)
        if value not in off:
            raise ValueError(
                f"Trainer({name}={value}) would be the server's, whose step is a round; the clients have their own: use "
                f"LocalTraining({name}={value}), on the command line --model.local.{name}={value}."
            )
    if overfit := cast(Any, trainer).overfit_batches:
        raise ValueError(
            f"Trainer(overfit_batches={overfit}) would pick rounds, whose clients are drawn, and not batches of a client: "
            "leave it out; Trainer(limit_train_batches=1) makes one round an epoch, and to overfit few samples, wrap "
            "data that has no others in FederatedDataModule."
        )


def check_synced(modules: Sequence[nn.Module], ranks: int) -> None:
    """Refuses batch statistics that are synchronized over ranks, where each rank trains other clients.

    Args:
        modules: The modules that train.
        ranks: Number of processes.

    Raises:
        ValueError: If there are any; the message names the layer.
    """
    layers = (
        (n, m) for module in modules for n, m in module.named_modules() if isinstance(m, nn.SyncBatchNorm)
    )
    if ranks > 1 and (found := next(layers, None)):
        raise ValueError(
            f"{found[0]} is a SyncBatchNorm, which joins the batches of all {ranks} ranks, and every rank trains clients of its own, which "
            "must not see each other's: use BatchNorm, and leave out Trainer(sync_batchnorm=True)."
        )


def check_cohort(cohort: Any, min_clients: int) -> None:
    """Refuses a batch that is no list of clients, or too short.

    Raises:
        ValueError: If it is; the message says what to do.
    """
    if not isinstance(cohort, list) or not all(hasattr(client, "num_batches") for client in cohort):
        raise ValueError(
            "the train loader yields batches, not lists of clients: wrap your data in "
            "FederatedDataModule(data, partition)."
        )
    ids = [client.id for client in cohort]
    population = cohort[0].population if cohort else 0
    if len(set(ids)) < len(ids) or any(
        c.population != population or not 0 <= c.id < population for c in cohort
    ):
        raise ValueError(
            f"the cohort has the ids {ids[:5]} in populations of {sorted({c.population for c in cohort})}: every client needs an "
            "id of its own, from 0 to the number of all clients less one, and all the same population."
        )
    if len(cohort) < min_clients:
        raise ValueError(f"min_clients={min_clients}, but the cohort has {len(cohort)} clients.")


def check_fewest(aggregator: Rule | None, present: int, index: int) -> None:
    """Refuses, before any training, a round with fewer clients than a robust rule needs.

    Raises:
        ValueError: If there are fewer; the message says how many it needs.
    """
    if aggregator is not None and present < aggregator.min_clients:
        raise ValueError(
            f"aggregator={type(aggregator).__name__} as it is set needs at least {aggregator.min_clients} clients that reply, but "
            f"{present} take part in round {index}."
        )


def check_result(algorithm: "Algorithm", delta: Any, x: Tensors) -> None:
    """Checks what an algorithm's `round` returns.

    Raises:
        ValueError: If it is no change of the weights `x`.
    """
    if (
        not isinstance(delta, dict)
        or delta.keys() != x.keys()
        or any(not isinstance(change, Tensor) or change.shape != x[n].shape for n, change in delta.items())
    ):
        found = f"a dict of {list(delta)[:5]}" if isinstance(delta, dict) else type(delta).__name__
        raise ValueError(
            f"{type(algorithm).__name__}.round returned {found}, not the change of every shared weight as a dict name -> "
            'tensor, such as server.mean(server.train())["delta"].'
        )
