"""A term around another term."""

from lkd.losses.pairwise import PairwiseTerm
from lkd.losses.term import Term


class WrappedTerm(PairwiseTerm):
    """Base class of terms that change the inputs of a term on class scores.

    The term takes over the weight, layers and labels of the inner one.

    Args:
        term: The inner term.

    Raises:
        TypeError: If the inner term is no term.
        ValueError: If it is a term on features, which would lack its adapter.

    Example:
        >>> from lkd.losses import DKD
        >>> outer = WrappedTerm(DKD(weight=0.9, student_layer="head"))
        >>> outer.weight, outer.student_layer, outer.needs_labels
        (0.9, 'head', True)
    """

    def __init__(self, term: Term) -> None:
        if not isinstance(term, Term):
            raise TypeError(
                f"term={term!r} of {type(self).__name__} must be a lkd.losses.Term, such as KD()."
            )
        if type(term).adapter is not Term.adapter:
            raise ValueError(
                f"{type(self).__name__} goes around a loss on class scores, not {type(term).__name__}, which has an adapter."
            )
        super().__init__(term.weight, term.student_layer, term.teacher_layer)
        self.term = term
        self.needs_labels = term.needs_labels
        self.relates_samples = term.relates_samples
        self.least_samples = term.least_samples
        self.raw = term.raw
        self.of_softmax = term.of_softmax
        self.of_sigmoids = term.of_sigmoids
