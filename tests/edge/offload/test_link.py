import numpy as np
import pytest

from lkd.edge.offload.link import Link, Server, travel

FAST = Link(8000.0)  # a byte takes 1 ns
ONE = np.ones(1)


def even(count, every_ms):
    return np.arange(count) * every_ms / 1e3


@pytest.mark.parametrize(
    ("mbps", "rtt_ms", "expected"),
    [(0.05, 0, 4960.0), (5, 50, 99.2 + 0.4), (50, 5, 9.96)],  # LoRa, LTE, WiFi
)
def test_one_message_by_hand(mbps, rtt_ms, expected):
    trip = travel(Link(mbps, rtt_ms), Server(7), np.zeros(1), np.array([31_000]), 11, seed=0)
    assert trip.latency_ms == pytest.approx(11 + expected + 7)
    assert not trip.failed.any() and trip.server_ms.tolist() == [7]


def test_what_is_not_sent_costs_the_device_alone():
    device = np.array([3.0, 4.0, 5.0])
    trip = travel(Link(1, 50, 5, 1, 80), Server(9), even(3, 1), np.zeros(3), device, seed=0)
    np.testing.assert_array_equal(trip.latency_ms, device)
    assert not trip.failed.any() and not trip.server_ms.any()


def test_no_sample_at_all():
    trip = travel(FAST, Server(1), np.zeros(0), np.zeros(0), 1.0, seed=0)
    assert trip.latency_ms.shape == trip.failed.shape == (0,)


def test_the_uplink_takes_one_message_after_the_other():
    trip = travel(
        Link(8.0), Server(0), np.zeros(3), np.array([1000, 2000, 3000]), 10, seed=0
    )  # 1 kB takes 1 ms
    np.testing.assert_allclose(trip.latency_ms, [11, 13, 16])


def test_a_slow_link_is_overloaded_evenly():
    trip = travel(
        Link(8.0), Server(0), even(50, 4), np.full(50, 5000), 0, seed=0
    )  # 5 ms each, one every 4 ms
    np.testing.assert_allclose(trip.latency_ms, 5 + np.arange(50))


def test_a_server_with_time_to_spare_has_no_queue():
    trip = travel(FAST, Server(10), even(50, 10.5), np.full(50, 1), 0, seed=0)
    np.testing.assert_allclose(trip.latency_ms, 10, atol=1e-5)


def test_an_overloaded_server_falls_behind_evenly():
    trip = travel(FAST, Server(15), even(50, 10), np.full(50, 1), 0, seed=0)
    np.testing.assert_allclose(trip.latency_ms, 15 + 5 * np.arange(50), atol=1e-5)


def test_workers_share_what_is_too_much_for_one():
    trip = travel(FAST, Server(15, workers=2), even(50, 10), np.full(50, 1), 0, seed=0)
    np.testing.assert_allclose(trip.latency_ms, 15, atol=1e-5)


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_random_arrivals_wait_as_queueing_theory_says(load):
    """M/D/1: the mean wait is load / (2 (1 - load)) services."""
    arrivals = np.random.default_rng(1).exponential(0.01 / load, 40_000).cumsum()
    trip = travel(FAST, Server(10), arrivals, np.full(len(arrivals), 1), 0, seed=0)
    assert trip.latency_ms.mean() - 10 == pytest.approx(10 * load / (2 * (1 - load)), rel=0.05)


def test_cameras_have_uplinks_of_their_own_and_share_the_server():
    sizes = np.array([4000, 4000])
    apart = travel(Link(8.0), Server(3), np.zeros(2), sizes, 0, seed=0, cameras=np.array(["a", "b"]))
    np.testing.assert_allclose(apart.latency_ms, [7, 10])  # both there after 4 ms, one waits for the other
    one = travel(Link(8.0), Server(3), np.zeros(2), sizes, 0, seed=0)
    np.testing.assert_allclose(one.latency_ms, [7, 11])  # the second is there after 8 ms
    both = travel(Link(8.0), Server(3, 2), np.zeros(2), sizes, 0, seed=0, cameras=np.array(["a", "b"]))
    np.testing.assert_allclose(both.latency_ms, [7, 7])


def test_samples_need_not_come_in_order():
    sizes, order = np.array([1000, 2000, 3000]), np.array([2, 0, 1])
    straight = travel(Link(8.0), Server(5), even(3, 1), sizes, 0, seed=0)
    mixed = travel(Link(8.0), Server(5), even(3, 1)[order], sizes[order], 0, seed=0)
    np.testing.assert_allclose(mixed.latency_ms, straight.latency_ms[order])


def test_work_scales_with_what_was_sent():
    trip = travel(FAST, Server(10), even(2, 1000), np.ones(2), 0, seed=0, work=np.array([0.5, 2.0]))
    np.testing.assert_allclose(trip.server_ms, [5, 20])
    np.testing.assert_allclose(trip.latency_ms, [5, 20], atol=1e-5)


def test_a_link_that_loses_everything_leaves_the_device():
    trip = travel(Link(8.0, 5, loss=1, deadline_ms=90), Server(3), even(20, 1), np.full(20, 1000), 2, seed=0)
    assert trip.failed.all() and not trip.server_ms.any()
    np.testing.assert_array_equal(trip.latency_ms, 90)


def test_requests_and_answers_are_lost_alike():
    trip = travel(
        Link(8000, loss=0.1, deadline_ms=5), Server(1), even(20_000, 2), np.full(20_000, 1), 0, seed=0
    )
    assert trip.failed.mean() == pytest.approx(1 - 0.9**2, abs=0.01)
    assert (trip.server_ms > 0).mean() == pytest.approx(
        0.9, abs=0.01
    )  # the server has worked on what is lost on the way back


def test_what_comes_after_the_deadline_has_failed_and_cost_the_server():
    trip = travel(Link(8.0, deadline_ms=12), Server(5), np.zeros(2), np.array([5000, 5000]), 0, seed=0)
    assert trip.failed.tolist() == [False, True]
    np.testing.assert_allclose(trip.latency_ms, [10, 12])
    assert trip.server_ms.tolist() == [5, 5]


def test_a_device_slower_than_the_deadline_answers_when_it_can():
    trip = travel(Link(8.0, loss=1, deadline_ms=10), Server(5), np.zeros(1), ONE, 30, seed=0)
    assert trip.failed.all() and trip.latency_ms.tolist() == [30]


def test_jitter_is_late_by_its_mean_each_way_and_never_early():
    trip = travel(Link(8000, 20, jitter_ms=4), Server(0), even(20_000, 100), np.full(20_000, 1), 0, seed=3)
    assert trip.latency_ms.min() >= 20 and trip.latency_ms.mean() == pytest.approx(28, rel=0.02)


def test_luck_belongs_to_the_sample():
    link, arrivals, few = Link(8.0, 20, 4, 0.2, 500), even(200, 100), np.arange(200) % 3 == 0
    every = travel(link, Server(1), arrivals, np.full(200, 1000), 0, seed=3)
    some = travel(link, Server(1), arrivals, np.where(few, 1000, 0), 0, seed=3)
    np.testing.assert_array_equal(some.failed[few], every.failed[few])
    np.testing.assert_allclose(some.latency_ms[few], every.latency_ms[few])
    other = travel(link, Server(1), arrivals, np.full(200, 1000), 0, seed=4)
    assert (other.latency_ms != every.latency_ms).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Link(0), "mbps=0 must be above 0 and finite: nothing ever arrives"),
        (lambda: Link(-1), "mbps=-1 must be above 0"),
        (lambda: Link(np.nan), "mbps=nan must be above 0"),
        (lambda: Link(1, -5), "rtt_ms=-5 must be 0 or more and finite"),
        (lambda: Link(1, jitter_ms=np.inf), "jitter_ms=inf must be 0 or more and finite"),
        (lambda: Link(1, loss=1.5, deadline_ms=1), r"loss=1.5 must be in \[0, 1\]"),
        (lambda: Link(1, loss=0.1), "loss=0.1 without deadline_ms"),
        (
            lambda: Link(1, deadline_ms=0),
            "deadline_ms=0 must be above 0 and finite, or None for a device that waits",
        ),
        (lambda: Server(-1), "ms=-1 must be 0 or more and finite"),
        (lambda: Server(1, 0), "workers=0 must be 1 or more"),
        (lambda: travel(FAST, Server(1), np.zeros(2), np.ones(3), 1, 0), r"nbytes has the shape \(3,\)"),
        (
            lambda: travel(FAST, Server(1), np.zeros(2), -np.ones(2), 1, 0),
            "nbytes holds -1, and must be finite and not",
        ),
        (lambda: travel(FAST, Server(1), np.zeros(2), np.ones(2), np.nan, 0), "device_ms holds nan"),
        (lambda: travel(FAST, Server(1), np.full(2, np.nan), np.ones(2), 1, 0), "arrivals_s holds nan"),
        (
            lambda: travel(FAST, Server(1), np.zeros(2), np.ones(2), 1, 0, np.zeros(3)),
            "cameras has 3 entries",
        ),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
