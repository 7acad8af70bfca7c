"""Direction of a metric: whether more of it is better, told by its name."""

import re

FALLS = frozenset(
    """
    loss logloss mlogloss crossentropy ce bce nll deviance perplexity ppl bpd bpc bits
    error err mae mse rmse msle rmsle mape smape wape mase medae mpe silog crps huber
    ece mce brier
    wer cer mer ter der eer fpr fnr fdr miss false
    fid kid fvd lpips distance dist divergence kl kld wasserstein hausdorff chamfer emd
    forgetting regret cost penalty latency bytes
    """.split()
)
"""Words of which less is better, also in the plural. This is the one list of them."""

_PHRASES = r"\bcross entrop(y|ies)\b|\bneg(ative)? (log )?likelihood\b|\babs rel\b|\bsq rel\b"
"""Phrases of which less is better, though no word of them says so by itself."""

TURNS = frozenset(
    "reduction improvement gain saved avoided skill accuracy precision recall auc auroc auprc iou".split()
)
"""Words that turn a falling word before them round: more of `error_recall` is better."""

_TURNED = r"\bneg(ative)? (mean|median|root|max|brier|log loss)\b|\b(error|err|loss) free\b"
"""Phrases of which more is better though a word falls, such as those of scikit-learn's scorers, -error."""


def rises(metric: str) -> bool:
    """Tells by a metric's name whether more of it is better: unless a word of it is one of `FALLS`.

    Words end at every character that is no letter, and where a capital begins a new one, as in valLoss. More of
    a metric that no word is known of is better.

    Example:
        >>> rises("shared/test/acc/mean"), rises("test/loss"), rises("clients/val/loss_head4/worst"), rises("test/glossy")
        (True, False, False, True)
        >>> rises("valLoss"), rises("test/NLL"), rises("top1_err"), rises("error_free_rate")
        (False, False, False, True)
    """
    words = _words(metric)
    text = " ".join(words)
    if re.search(_TURNED, text):
        return True
    places = [place for place, word in enumerate(words) if _falls(word)]
    if not places:
        return not re.search(_PHRASES, text)
    return not TURNS.isdisjoint(words[places[-1] + 1 :])


def _words(metric: str) -> list[str]:
    # the small s of NLLs is a plural and begins no word
    capitals = r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z](?!s(?![a-z]))[a-z])"
    return [word for word in re.split(r"[\W\d_]+", re.sub(capitals, " ", metric).lower()) if word]


def _falls(word: str) -> bool:
    return bool({word, word.removesuffix("s"), word.removesuffix("es")} & FALLS)
