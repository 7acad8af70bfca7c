"""`Point`: costs and results of one way of sharing the work between device and server."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan


@dataclass(frozen=True)
class Point:
    """One row of the report, over all samples of a split.

    Attributes:
        arm: Name of what decided, such as `"device-only"`, `"entropy"` or `"split 2, 4 bits"`.
        rate: Share of the samples of which anything was sent.
        units: Share of all units (frames, or tiles of frames) that were sent.
        kb: Kilobytes (1e3 bytes) that were sent, in the mean over all samples.
        metrics: Metrics of the answers that stood in the end, by name.
        p50_ms: Time from a sample to its answer, median over all samples; device, link, queue and server.
        p95_ms: 95th percentile of this time.
        failed: Share of all samples that were sent and came back too late or never, so that the device's
            answer stood.
        server_ms: Work of the server, in the mean over all samples.
        mmacs: Work of the device, in millions of multiply-accumulates, in the mean over all samples; NaN if
            not counted.
        reused: Share of all samples that took the final answer of an earlier one.
        kb_busiest: As `kb`, over the samples of the camera that sends most.
    """

    arm: str
    rate: float
    units: float
    kb: float
    metrics: Mapping[str, float]
    p50_ms: float
    p95_ms: float
    failed: float = 0.0
    server_ms: float = 0.0
    mmacs: float = nan
    reused: float = 0.0
    kb_busiest: float = 0.0
