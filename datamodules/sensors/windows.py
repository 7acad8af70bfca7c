"""Windows on one clock from irregular streams of several devices."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lkd.datamodules.sensors.har_files import Stream


class Windows(NamedTuple):
    """W windows of T ticks."""

    x: dict[str, np.ndarray]  # by device (W, channels, T) float32; zeros where the device is absent
    present: dict[str, np.ndarray]  # by device (W,) bool
    y: np.ndarray  # (W,) int64
    time: np.ndarray  # (W,) int64, ms: the first tick


def sample_times(t: np.ndarray) -> np.ndarray:
    """Estimates when rows were measured, from the stamps at which they arrived.

    A sensor measures at an even period, but its rows may arrive late and then many at once: stamps repeat,
    and seem to have gaps. A stamp is never too early, so row i was measured at

        s_i = min over j >= i of (t_j - (j - i) p),    p = median of (t_(i+w) - t_i) / w,  w = n // 8

    Times of rows that are on time stay, late rows move back to where they belong, and where rows are missing
    the gap stays.

    Args:
        t: time stamps (n,), in any unit.

    Returns:
        Times (n,) float64, at least p apart.

    Example:
        >>> sample_times(np.array([0, 10, 20, 52, 52, 52, 60, 70]))  # three rows of 30, 40, 50 came at 52
        array([ 0., 10., 20., 30., 40., 50., 60., 70.])
    """
    stamps, n = t.astype(np.float64), len(t)
    lag = max(1, n // 8)
    period = float(np.median(stamps[lag:] - stamps[:-lag])) / lag if n > 1 else 0.0
    even = period * np.arange(n)
    return even + np.minimum.accumulate((stamps - even)[::-1])[::-1]


def cut(
    streams: Mapping[str, Stream],
    rate: float = 50.0,
    window: float = 1.0,
    overlap: float = 0.5,
    purity: float = 0.6,
    max_gap: float = 0.1,
) -> Windows:
    """Puts all devices on one clock, by linear interpolation, and cuts windows out of their common time.

    A device is absent from a window that touches a gap between two of its rows longer than `max_gap`; a
    window from which all are absent is left out. A window's label is the most frequent one over the ticks of
    all devices, where each tick has the label of the device's nearest row. A window is left out if less than
    a share `purity` of its ticks has this label.

    Args:
        streams: streams by device.
        rate: ticks per second.
        window: length in seconds.
        overlap: share of a window that the next one sees again, in [0, 1).
        purity: least share of the label.
        max_gap: longest gap in seconds.

    Returns:
        The windows in order of time; none where the devices share less than one window of time.
    """
    times = {device: sample_times(stream.t) for device, stream in streams.items()}
    first, last = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
    ticks = first + np.arange(int(max(last - first, -1) * rate / 1000 + 1e-6) + 1) * 1000 / rate
    length = round(window * rate)
    hop = max(1, round(length * (1 - overlap)))
    if last < first or len(ticks) < length:
        ticks = ticks[:0]
    x, present, votes = {}, {}, []
    for device, stream in streams.items():
        t = times[device]
        after = np.clip(np.searchsorted(t, ticks), 1, len(t) - 1)
        before = after - 1
        signals = [np.interp(ticks, t, channel) for channel in stream.x.T]
        x[device] = _slide(np.stack(signals).astype(np.float32), length, hop).transpose(1, 0, 2)
        present[device] = _slide((t[after] - t[before])[None] <= 1000 * max_gap, length, hop)[0].all(1)
        nearest = np.where(ticks - t[before] < t[after] - ticks, before, after)
        votes.append(stream.y[nearest])
    classes = 1 + max(int(vote.max(initial=0)) for vote in votes)
    hot = np.concatenate(
        [vote == np.arange(classes)[:, None] for vote in votes]
    )  # (devices x classes, ticks)
    counts = _slide(hot, length, hop).sum(2).reshape(len(votes), classes, -1).sum(0)
    kept = (counts.max(0) >= purity * length * len(votes) - 1e-9) & np.any(list(present.values()), axis=0)
    present = {device: there[kept] for device, there in present.items()}
    x = {device: values[kept] * present[device][:, None, None] for device, values in x.items()}
    starts = _slide(ticks[None], length, hop)[0, :, :1].reshape(-1)
    return Windows(x, present, counts.argmax(0)[kept], np.round(starts[kept]).astype(np.int64))


def _slide(values: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Returns windows (channels, W, length) of values (channels, ticks)."""
    if values.shape[1] < length:
        return np.empty((len(values), 0, length), dtype=values.dtype)
    return sliding_window_view(values, length, axis=1)[:, ::hop]
