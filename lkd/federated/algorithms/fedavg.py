"""Federated averaging."""

from lkd.federated.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Local training from the server's weights, then the weighted mean of the results.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    arXiv:1602.05629, Algorithm 1: `x <- x + sum_i (n_i / n_S) Delta_i`. What the server's optimizer makes of
    the mean gives FedAvgM, FedAdam, FedYogi and FedAdagrad. Travels: the weights and buffers, each way.

    Args:
        weights: How replies are averaged: by the clients' numbers of samples, all the same (`"uniform"`), or (`"present"`, for
            clients with a `ModalityPlan`) an encoder, and whatever else a `ModuleDict` holds by modality, by the numbers of
            samples that have it.
    """

    supports_multiple_models = True
    supports_modality_weighting = True
