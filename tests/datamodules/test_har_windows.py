from collections import Counter

import numpy as np
import pytest

from lkd.datamodules.sensors.har_files import Stream
from lkd.datamodules.sensors.har_synthetic import draw_recordings
from lkd.datamodules.sensors.windows import cut, sample_times


def stream(t, y=None, x=None):
    t = np.asarray(t, dtype=np.int64)
    x = np.stack([t, -t], axis=1).astype(np.float32) if x is None else x
    return Stream(t, x, np.zeros(len(t), dtype=np.int64) if y is None else np.asarray(y))


def reference_times(t):
    """The definition, pair by pair."""
    n = len(t)
    lag = max(1, n // 8)
    period = np.median([t[i + lag] - t[i] for i in range(n - lag)]) / lag
    return [min(t[j] - (j - i) * period for j in range(i, n)) for i in range(n)]


def reference(streams, rate, window, overlap, purity, max_gap):
    """Windows by plain loops: (label, first tick, {device: (channels, T) or None})."""
    times = {device: reference_times(s.t) for device, s in streams.items()}
    begin, end = max(t[0] for t in times.values()), min(t[-1] for t in times.values())
    ticks, length, found = [], round(window * rate), []
    while begin + len(ticks) * 1000 / rate <= end + 1e-9:
        ticks.append(begin + len(ticks) * 1000 / rate)
    hop = max(1, round(length * (1 - overlap)))
    for start in range(0, len(ticks) - length + 1, hop):
        votes, signals = Counter(), {}
        for device, s in streams.items():
            t, rows = times[device], []
            for tick in ticks[start : start + length]:
                k = max(i for i in range(len(t) - 1) if t[i] < tick or i == 0)
                share = (tick - t[k]) / (t[k + 1] - t[k])
                rows.append((1 - share) * s.x[k] + share * s.x[k + 1])
                if t[k + 1] - t[k] > 1000 * max_gap:
                    signals[device] = None
                votes[int(s.y[k] if tick - t[k] < t[k + 1] - tick else s.y[k + 1])] += 1
            signals.setdefault(device, np.array(rows).T)
        label, count = max(sorted(votes.items()), key=lambda vote: vote[1])
        if count >= purity * length * len(streams) and any(v is not None for v in signals.values()):
            found.append((label, ticks[start], signals))
    return found


def test_late_rows_go_back_to_where_they_belong_and_gaps_stay():
    rng = np.random.default_rng(0)
    true = 10.0 * np.arange(400) + (np.arange(400) >= 250) * 300  # 30 rows were lost after row 249
    late = true.copy()
    late[100:118] = true[118]  # a burst
    stamps = np.round(late + rng.uniform(0, 1, 400)).astype(np.int64)
    times = sample_times(stamps)
    assert times == pytest.approx(reference_times(stamps))
    assert np.abs(times - true).max() < 4 and np.abs(times - true)[90:240].max() < 2
    steps = np.diff(times)
    assert steps[249] == pytest.approx(310, abs=4) and np.delete(steps, 249).max() < 14 and steps.min() > 9
    assert (times <= stamps).all()
    assert sample_times(np.array([7])).tolist() == [7.0]


@pytest.mark.parametrize(
    "settings", [(50, 1.0, 0.5, 0.6, 0.1), (30, 0.7, 0.75, 0.9, 0.02), (20, 0.5, 0, 0.3, 0.1)]
)
def test_windows_are_those_of_the_plain_reference(settings):
    recording = draw_recordings(subjects=1, executions=1, seed=3)[0]
    lost = np.r_[0:300, 340:700]  # .4 s of the phone are lost; both end early
    streams = {
        device: Stream(*(part[lost] if device == "phone" else part[:650] for part in s))
        for device, s in recording.streams.items()
    }
    mine, theirs = cut(streams, *settings), reference(streams, *settings)
    assert len(theirs) > 3 and mine.y.tolist() == [label for label, *_ in theirs]
    assert mine.time.tolist() == [round(start) for _, start, _ in theirs]
    for k, (_, _, signals) in enumerate(theirs):
        for device, values in signals.items():
            assert mine.present[device][k] == (values is not None)
            if values is None:
                assert not mine.x[device][k].any()
            else:
                assert mine.x[device][k] == pytest.approx(values, abs=1e-3)
    assert not mine.present["phone"].all() and mine.present["watch"].all()
    assert all(values.dtype == np.float32 for values in mine.x.values()) and mine.y.dtype == np.int64


def test_a_straight_line_is_kept_and_only_shared_time_counts():
    streams = {"phone": stream(range(1000, 5000, 10)), "watch": stream(range(1305, 4000, 9))}
    windows = cut(streams, rate=50, window=1, overlap=0.5)
    assert windows.time.tolist() == [1305, 1805, 2305, 2805]  # 3999 ends the watch
    for device in streams:
        values = windows.x[device]
        assert values.shape == (4, 2, 50)
        assert values[:, 0] == pytest.approx(windows.time[:, None] + 20 * np.arange(50), abs=0.01)
        assert np.array_equal(values[:, 1], -values[:, 0])


def test_labels_by_majority_of_both_devices_and_by_purity():
    t = np.arange(0, 1010, 10)
    phone, watch = stream(t, (t >= 400) * 3), stream(t, (t >= 500) * 3)
    one = {"rate": 100, "window": 1.0, "overlap": 0}
    assert cut({"phone": phone, "watch": watch}, **one, purity=0.55).y.tolist() == [3]
    assert cut({"phone": phone, "watch": watch}, **one, purity=0.56).y.tolist() == []
    assert cut({"phone": phone}, **one, purity=0.6).y.tolist() == [3]


def test_too_short_or_never_together():
    for t in (range(5000, 9000, 10), range(3500, 9000, 10)):
        windows = cut({"phone": stream(range(0, 4000, 10)), "watch": stream(t)})
        assert windows.x["phone"].shape == (0, 2, 50) and windows.y.shape == windows.time.shape == (0,)
