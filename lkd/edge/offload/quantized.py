"""A tensor of features as it is sent over the link: quantized to a few bits, packed, with its scales.

Nothing here needs torch.
"""

from math import prod

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array

BITS = (32, 16, 8, 4, 2)


def pack(x: Array, bits: int, axis: int | None = None) -> bytes:
    """Packs a tensor: uniform levels between minimum and maximum, `8 / bits` of them in a byte.

    32 and 16 bits are floats.

    Both sides know the tensor's shape, so it is not sent. Sent are the two ends of the range, as float32 for
    each group.

    Args:
        x: Tensor of any shape, real and finite.
        bits: 32, 16, 8, 4 or 2 for each number.
        axis: Each slice along it has a range of its own, such as 0 for the channels of `(C, H, W)`. Default:
            one range for all.

    Raises:
        ValueError: For another number of bits, or a tensor that is empty, not finite or too large for 16
            bits.

    Example:
        >>> message = pack(np.array([0.0, 1.0, 2.0, 3.0]), bits=2)
        >>> len(message), message[8:].hex(), unpack(message, (4,), bits=2).tolist()
        (9, '1b', [0.0, 1.0, 2.0, 3.0])
    """
    _check(x, bits)
    if bits >= 16:
        return x.astype(f"<f{bits // 8}").tobytes()
    groups = _grouped(x.astype(np.float32), axis)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    step = _step(low, high, bits)
    levels = np.rint((groups - low.astype(np.float64)) / np.where(step > 0, step, 1)).astype(np.uint8)
    return np.concatenate([low, high], 1).astype("<f4").tobytes() + _squeezed(levels.ravel(), bits).tobytes()


def unpack(message: bytes, shape: tuple[int, ...], bits: int, axis: int | None = None) -> Array:
    """Unpacks a message of `pack` as the server does: float32 of the given shape.

    Args:
        message: Result of `pack`.
        shape: Shape of the tensor.
        bits: The bits that it was packed with.
        axis: The axis that it was packed with.
    """
    if bits >= 16:
        return np.frombuffer(message, f"<f{bits // 8}").astype(np.float32).reshape(shape)
    order = _grouped(np.arange(prod(shape)).reshape(shape), axis)  # the origin of each number of a group
    ranges = np.frombuffer(message, "<f4", count=2 * len(order)).reshape(-1, 2)
    low, high = ranges[:, :1], ranges[:, 1:]
    levels = _spread(np.frombuffer(message, np.uint8, offset=ranges.nbytes), bits)[: order.size].reshape(
        order.shape
    )
    restored = np.empty(order.size, np.float32)
    restored[order.ravel()] = (low + levels * _step(low, high, bits)).astype(np.float32).ravel()
    return restored.reshape(shape)


def quantized(x: Array, bits: int, axis: int | None = None) -> tuple[Array, int]:
    """Returns a tensor as the server sees it, and the bytes that are sent for it.

    Args:
        x: The tensor of one sample, real and finite.
        bits: 32, 16, 8, 4 or 2 for each number.
        axis: Each slice along it has a range of its own. Default: one range for all.

    Returns:
        float32 of the same shape, off by at most half a level; and the length of the message, its ranges
        included.

    Raises:
        ValueError: For another number of bits, or a tensor that is empty, not finite or too large for 16
            bits.

    Example:
        >>> restored, size = quantized(np.array([[0.0, 15.0], [0.0, 0.25]]), bits=4, axis=0)
        >>> restored.tolist(), size
        ([[0.0, 15.0], [0.0, 0.25]], 18)
    """
    message = pack(x, bits, axis)
    return unpack(message, x.shape, bits, axis), len(message)


def _check(x: Array, bits: int) -> None:
    expect(bits=bits, among=BITS)
    if not x.size:
        raise ValueError(f"a tensor of shape {x.shape} is empty, and there is nothing to send.")
    if not np.isfinite(x).all():
        raise ValueError(
            "the tensor holds NaN or infinity, for which no level stands: look for them in the network."
        )
    if bits == 16 and np.abs(x).max() > np.finfo(np.float16).max:
        raise ValueError(
            f"the tensor reaches {np.abs(x).max():.3g}, and 16 bits end at 65504: take bits=32 or 8."
        )


def _grouped(x: Array, axis: int | None) -> Array:
    """Returns `(groups, numbers)`, where each row has a range of its own."""
    return x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def _step(low: Array, high: Array, bits: int) -> Array:
    """Returns the step between two levels, in float64 against overflow; 0 where all numbers are the same."""
    return (high.astype(np.float64) - low) / (2**bits - 1)


def _squeezed(levels: Array, bits: int) -> Array:
    """Packs several levels into a byte, the first on top; the last byte is filled with zeros."""
    each = 8 // bits
    rows = np.pad(levels, (0, -len(levels) % each)).reshape(-1, each)
    shifts = np.arange(8 - bits, -1, -bits)
    return (rows << shifts).sum(1).astype(np.uint8)


def _spread(packed: Array, bits: int) -> Array:
    """Returns the levels again, with the zeros that filled the last byte."""
    shifts = np.arange(8 - bits, -1, -bits)
    spread: Array = (packed[:, None] >> shifts & (2**bits - 1)).ravel()
    return spread
