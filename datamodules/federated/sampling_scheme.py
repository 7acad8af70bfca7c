"""How clients are drawn, in the words of privacy accounting."""

from typing import Literal, NamedTuple


class Sampling(NamedTuple):
    """Scheme by which a round's clients are drawn from all of them.

    Attributes:
        scheme: `"poisson"`: each client for itself, with the chance `size / population`. `"fixed"`: exactly
            `size` of them, without replacement, all sets alike. `"always"`: the same `size` in every round.
        size: Number of clients that a round is expected to have.
        population: Number of all clients.
    """

    scheme: Literal["poisson", "fixed", "always"]
    size: float
    population: int
