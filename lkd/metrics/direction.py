"""Direction of a metric: whether more of it is better."""

import re

FALLS = ("loss", "error", "perplexity", "mae", "mse", "rmse")


def rises(metric: str) -> bool:
    """Tells by a metric's name whether more is better: unless a word of it is "loss", "error" or the like.

    Example:
        >>> rises("shared/test/acc/mean"), rises("test/loss"), rises("clients/val/loss_head4/worst"), rises("test/glossy")
        (True, False, False, True)
    """
    return not set(re.split(r"[/_]", metric.lower())) & set(FALLS)
