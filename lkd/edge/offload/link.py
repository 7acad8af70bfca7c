"""`Link` and `Server`: the time at which an answer comes back, event by event; without torch."""

import heapq
from dataclasses import dataclass
from math import inf

import numpy as np

from lkd.checks import expect
from lkd.edge.nms import Array


@dataclass(frozen=True)
class Link:
    """The link between each device and the server; every device has an uplink of its own.

    Args:
        mbps: Rate of the uplink, in megabits (1e6 bits) per second.
        rtt_ms: Round trip time without anything to transmit, half of it each way.
        jitter_ms: Mean delay that each way has in addition, exponentially distributed, so never negative.
        loss: Share of messages that never arrive, requests and answers alike, so `1 - (1 - loss)**2` of what
            is sent fails.
        deadline_ms: Time from a sample until the device stops waiting and its own answer stands. Default: it
            waits forever, which is not allowed on a link that loses messages.

    Raises:
        ValueError: For a rate that is not positive, negative times, a loss outside [0, 1], or a loss without
            a deadline.

    Example:
        >>> Link(mbps=5, rtt_ms=50)
        Link(mbps=5, rtt_ms=50, jitter_ms=0.0, loss=0.0, deadline_ms=None)
    """

    mbps: float
    rtt_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        expect(mbps=self.mbps, gt=0, lt=inf, why="nothing ever arrives over such a link")
        expect(rtt_ms=self.rtt_ms, jitter_ms=self.jitter_ms, ge=0, lt=inf)
        expect(loss=self.loss, ge=0, le=1, why="it is the share of messages that are lost")
        expect(deadline_ms=self.deadline_ms, gt=0, lt=inf, none="a device that waits")
        if self.loss and self.deadline_ms is None:
            raise ValueError(
                f"loss={self.loss:g} without deadline_ms: the device would wait for ever for a message that is lost; say how long."
            )


@dataclass(frozen=True)
class Server:
    """A server that answers requests of all devices in the order of their arrival.

    Args:
        ms: Time of one request, as measured.
        workers: Number of requests that are worked on at once.

    Raises:
        ValueError: For a negative time, or no worker.
    """

    ms: float
    workers: int = 1

    def __post_init__(self) -> None:
        expect(ms=self.ms, ge=0, lt=inf)
        expect(workers=self.workers, ge=1, why="nobody would ever answer")


@dataclass(frozen=True)
class Trip:
    """Latency and outcome of each sample.

    Attributes:
        latency_ms: `(N,)`, from the sample to the answer that stands.
        failed: `(N,)` bool: sent, but lost or too late, so that the device's answer stands.
        server_ms: `(N,)`, work of the server, also for answers that came too late; 0 for what was not sent or
            was lost.
    """

    latency_ms: Array
    failed: Array
    server_ms: Array


def travel(
    link: Link,
    server: Server,
    arrivals_s: Array,
    nbytes: Array,
    device_ms: Array | float,
    seed: int,
    cameras: Array | None = None,
    work: Array | float = 1.0,
) -> Trip:
    """Sends samples to the server and waits for the answers, as a simulation of discrete events.

    The device answers after `device_ms`. Then the message waits for those before it (first come, first
    served, one after the other for each camera), takes `8 * nbytes / rate` to transmit and half a round trip
    to arrive, waits for a worker of the server, is worked on, and comes back after the other half. The answer
    itself (some boxes) takes no time to transmit. A lost message has used the uplink all the same, and a late
    one the server too. Without any waiting this is `device + 8 * nbytes / rate + rtt + server`.

    Each sample's jitter and loss are drawn from the seed whether it is sent or not, so two ways to choose
    samples meet the same conditions.

    Args:
        link: The link.
        server: The server.
        arrivals_s: `(N,)`, time at which the device starts on each sample, in seconds.
        nbytes: `(N,)`, size of each message; 0 for a sample that is not sent, which costs `device_ms` alone.
        device_ms: Time until the device's own answer, `(N,)` or one for all.
        seed: Seed of jitter and loss.
        cameras: `(N,)`, the camera of each sample. Default: one camera for all.
        work: Time of each request as a multiple of `server.ms`, `(N,)` or one for all; such as a share of the
            pixels.

    Returns:
        Latency, failure and work of each sample.

    Raises:
        ValueError: If lengths differ, or a number is negative or not finite.

    Example:
        >>> trip = travel(Link(8.0, rtt_ms=20), Server(30), np.zeros(2), np.array([10_000, 0]), 5.0, seed=0)
        >>> trip.latency_ms.tolist(), trip.failed.tolist()
        ([65.0, 5.0], [False, False])
    """
    count = len(arrivals_s)
    nbytes, device, works = (
        _checked(name, values, count)
        for name, values in (("nbytes", nbytes), ("device_ms", device_ms), ("work", work))
    )
    start = _checked("arrivals_s", arrivals_s, count, lowest=-np.inf) * 1e3
    owners = np.zeros(count, int) if cameras is None else np.unique(cameras, return_inverse=True)[1]
    if len(owners) != count:
        raise ValueError(
            f"cameras has {len(owners)} entries and arrivals_s {count}: give one for each sample."
        )
    draw = np.random.default_rng(seed)
    late = draw.exponential(1.0, (count, 2)) * link.jitter_ms
    lost = draw.random((count, 2)) < link.loss
    sent = nbytes > 0
    there = (
        _transmitted(start + device, nbytes * 8e-3 / link.mbps, owners, sent) + link.rtt_ms / 2 + late[:, 0]
    )
    reached = sent & ~lost[:, 0]
    server_ms = np.where(reached, server.ms * works, 0.0)
    back = _worked(there, server_ms, server.workers, reached) + link.rtt_ms / 2 + late[:, 1] - start
    failed = sent & (lost.any(1) | (back > (np.inf if link.deadline_ms is None else link.deadline_ms)))
    given_up = np.maximum(
        device, link.deadline_ms or 0.0
    )  # a device slower than the deadline answers when it can
    return Trip(np.where(failed, given_up, np.where(sent, back, device)), failed, server_ms)


def _transmitted(ready: Array, takes: Array, owners: Array, sent: Array) -> Array:
    """Returns when the last bit of each message leaves its device, which sends them in order; ms."""
    left, free = ready.copy(), np.full(owners.max(initial=0) + 1, -np.inf)
    for i in _in_order(ready, sent):
        left[i] = free[owners[i]] = max(ready[i], free[owners[i]]) + takes[i]
    return left


def _worked(there: Array, takes: Array, workers: int, reached: Array) -> Array:
    """Returns the time in ms when each request is done, by as many workers in the order of arrival."""
    done, free = there.copy(), [-np.inf] * workers
    for i in _in_order(there, reached):
        done[i] = max(there[i], free[0]) + takes[i]
        heapq.heapreplace(free, done[i])
    return done


def _in_order(times: Array, among: Array) -> Array:
    """Returns the places of the chosen ones in the order of time.

    The first of two simultaneous ones comes first.
    """
    places = np.flatnonzero(among)
    order: Array = places[np.argsort(times[places], kind="stable")]
    return order


def _checked(name: str, values: Array | float, count: int, lowest: float = 0.0) -> Array:
    """Returns values as `(count,)` float64.

    Raises:
        ValueError: If the length is another, or a number is below the lowest or not finite.
    """
    row = np.asarray(values, np.float64)
    if row.shape not in ((), (count,)):
        raise ValueError(
            f"{name} has the shape {row.shape} and arrivals_s ({count},): give one for each sample."
        )
    if not np.isfinite(row).all() or (row < lowest).any():
        worst = row[~np.isfinite(row) | (row < lowest)].flat[0]
        raise ValueError(
            f"{name} holds {worst:g}, and must be finite{'' if lowest else ' and not negative'}."
        )
    return np.broadcast_to(row, (count,)).astype(np.float64)
