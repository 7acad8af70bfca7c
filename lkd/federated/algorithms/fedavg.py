"""Federated averaging."""

from lkd.federated.algorithms.base import Algorithm


class FedAvg(Algorithm):
    """Local training from the server's weights, then the weighted mean of the results.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", AISTATS 2017,
    arXiv:1602.05629, Algorithm 1: `x <- x + sum_i (n_i / n_S) Delta_i`. With a server optimizer that takes
    the mean as a gradient this is FedAvgM, FedAdam, FedYogi or FedAdagrad. Travels: the weights and buffers,
    each way.

    Args:
        weighting: How replies are averaged: by the clients' numbers of samples (`"samples"`), or all alike
            (`"uniform"`). `"present"` is for clients with a `ModalityPlan`: an encoder, and any other entry
            of a `ModuleDict` with a key per modality, is averaged by the numbers of samples that have that
            modality.
    """

    stacks = True
    sends_one_change = True

    supports_multiple_models = True
    supports_modality_weighting = True
