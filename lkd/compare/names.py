"""Metrics in words: `shared/test/acc/mean` is "mean accuracy, clients' models on shared data"."""

import re

WORDS = {"acc": "accuracy", "map50": "mAP50", "map": "mAP50-95", "f1": "F1", "loss": "loss"}
CACHES = {
    "bytes_saved": "MB saved against sending all anew",
    "hit_rate": "hit rate",
    "age": "mean age of a hit in rounds",
    "acc_hits": "accuracy of hits",
    "acc_misses": "accuracy of what was asked anew",
}
"""What the report says of caches of knowledge, see `lkd.federated.protocol.cache_use.CacheUse.rates`."""
WHOSE = {"shared": "clients' models on shared data", "clients": "clients' models on own data"}


def readable(name: str, federated: bool = True) -> str:
    """Puts a metric's name into words, for readers who do not know how it is logged.

    Args:
        name: Name as it is logged. A name that does not have lkd's form is returned as it is.
        federated: Whether a metric without a kind is that of a server's model. If not, there is only one
            model.

    Example:
        >>> readable("shared/test/acc/mean"), readable("clients/test/acc_head4/worst")
        ("mean accuracy, clients' models on shared data", "worst accuracy (head4), clients' models on own data")
        >>> readable("test/map50"), readable("test/map50/C7", federated=False), readable("perplexity")
        ("mAP50, server's model on shared data", 'mAP50 (C7)', 'perplexity')
    """
    match = re.fullmatch(r"(?:(shared|clients)/)?(test|val)/(.+?)(?:/(mean|worst|best|std))?", name)
    if match is None:
        return name
    kind, part, metric, which = match.groups()
    first, *rest = re.split(r"[_/]", metric)
    word = WORDS.get(first, first) + (f" ({' '.join(rest)})" if rest else "")
    word = f"validation {word}" if part == "val" else word
    word = f"deviation of the {word}" if which == "std" else " ".join(filter(None, (which, word)))
    if kind is None:
        return f"{word}, server's model on shared data" if federated else word
    return f"{word}, {WHOSE[kind]}"
