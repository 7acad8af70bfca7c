"""Outliers: finite replies that are so large that a single one would ruin the server's model."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lkd.federated.protocol.messages import Reply
from lkd.federated.protocol.tensors import Tensors, is_inexact, norm

FEWEST = 3
"""Smallest number of replies whose median is meaningful."""


class Size(NamedTuple):
    """Size of a part of a reply, and its limits.

    Attributes:
        value: Euclidean norm of a group of tensors, root mean square of a tensor of knowledge, or absolute
            value of a number.
        harmless: Size up to which the part is accepted, whatever the others' sizes.
        known: Whether the server has something of its own to compare a single reply with.
        factor: How many times the median it may be.
    """

    value: float
    harmless: float
    known: bool
    factor: float


class Own(NamedTuple):
    """Norms of the server's own weights and buffers for an architecture.

    Attributes:
        weights: Norm of the weights, at least 1.
        statistics: Norm of the buffers, at least 1.
        buffers: The buffers.
    """

    weights: float
    statistics: float
    buffers: Tensors

    @classmethod
    def of(cls, x: Tensors, buffers: Tensors) -> "Own":
        """Measures the weights and buffers of one architecture."""
        return cls(max(1.0, norm(x)), max(1.0, norm(buffers)), buffers)


Middles = Mapping[str, tuple[int, float]]
"""Number of replies with a part that is not zero, and the median of their sizes, by part."""


def sizes(
    reply: Reply, factor: float, own: Own, steps: float = 1.0, lengths: Mapping[str, float] | None = None
) -> dict[str, Size]:
    """Measures the parts of a reply, by their names in a message.

    The change of the weights may be `factor` times as long as the median, and is harmless up to the length of
    the weights themselves (or 1). Other parts may be `factor` squared times as large, and are harmless up to
    `factor` times: buffers hold variances, which are squares, and each algorithm has its own scale of
    controls, numbers and knowledge. Of buffers their change is measured.

    Args:
        reply: The reply.
        factor: See `Federation`.
        own: Norms of the server's tensors for this client's architecture.
        steps: Optimizer steps that the client was to make; numbers may grow in proportion to them.
        lengths: Norms of the groups of tensors, where they are known already.
    """
    found: dict[str, Size] = {}
    for group, tensors in reply.tensors.items():
        if group == "buffers":
            changed = {name: tensor - own.buffers[name] for name, tensor in tensors.items()}
            found[group] = Size(norm(changed), factor * own.statistics, True, factor**2)
            continue
        length = norm(tensors) if lengths is None else lengths[group]
        if group == "delta":
            found[group] = Size(length, own.weights, True, factor)
        else:
            found[group] = Size(length, factor * own.weights, True, factor**2)
    for name, number in reply.metrics.items():
        found[f"number {name}"] = Size(abs(float(number)), 100 * max(1.0, steps), False, factor**2)
    for name, tensor in reply.knowledge.items():
        if is_inexact(tensor) and tensor.numel():
            mean = norm({name: tensor}) / math.sqrt(tensor.numel())
            found[name] = Size(mean, factor, False, factor**2)
    return found


def harmless(sizes: Mapping[str, Size]) -> bool:
    """Tells whether all parts are small enough to be accepted without comparing them with others'."""
    return all(size.value <= size.harmless for size in sizes.values())


def middles(everyone: Sequence[Mapping[str, Size]]) -> Middles:
    """Computes the medians of all replies' sizes, by part.

    Zeros tell nothing about the scale and are not counted. For an even number the smaller one of the middle
    two is taken, so that two liars of four are found.

    Args:
        everyone: Sizes of all replies of an exchange, over all ranks.

    Example:
        >>> middles([{"delta": Size(length, 1.0, True, 1e3)} for length in (3.0, 0.0, 2.0, 1.0, 4.0)])
        {'delta': (4, 2.0)}
    """
    values: dict[str, list[float]] = {}
    for one in everyone:
        for name, size in one.items():
            values.setdefault(name, []).extend([size.value] if size.value else [])
    return {name: (len(v), sorted(v)[(len(v) - 1) // 2]) for name, v in values.items() if v}


def outlier(sizes: Mapping[str, Size], middles: Middles, factor: float) -> str:
    """Says in a sentence why a reply is far from all others; empty if it is not.

    Args:
        sizes: Sizes of the reply's parts.
        middles: Medians over all replies, including this one.
        factor: The user's factor, for the message.

    Example:
        >>> outlier({"delta": Size(1e30, 1.0, True, 1e3)}, {"delta": (3, 2.0)}, 1e3)
        'its delta is 1e+30 long, and the median of 3 replies is 2 (outlier_factor=1000)'
        >>> outlier({"delta": Size(1500.0, 1.0, True, 1e3)}, {"delta": (3, 2.0)}, 1e3)
        ''
    """
    for name, size in sizes.items():
        if size.value <= size.harmless:
            continue
        count, middle = middles[name]
        if count >= FEWEST:
            limit, told = size.factor * middle, f"the median of {count} replies is {middle:.3g}"
        elif size.known:
            limit = size.factor * max(size.harmless, size.factor)
            told = f"there are too few replies for a median, but the server's own allow {limit:.3g}"
        else:
            continue
        if size.value > limit:
            return f"its {name} is {size.value:.3g} long, and {told} (outlier_factor={factor:g})"
    return ""
