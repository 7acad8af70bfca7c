"""Whether more of a metric is better."""

import re

FALLS = ("loss", "error", "perplexity", "mae", "mse", "rmse")


def rises(metric: str) -> bool:
    """Whether more is better of a metric, by its name: unless a word of it is one such as "loss" or "error".

    Example:
        >>> rises("shared/test/acc/mean"), rises("test/loss"), rises("clients/val/loss_head4/worst"), rises("test/glossy")
        (True, False, False, True)
    """
    return not set(re.split(r"[/_]", metric.lower())) & set(FALLS)
