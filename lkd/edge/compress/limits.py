"""Limits that a compressed student has to obey, measured on its file."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lkd.checks import expect


@dataclass(frozen=True)
class Limits:
    """Limits of the measured file.

    Args:
        max_drop: How much worse the metric may be than that of the dense student's file.
        max_ms: Most milliseconds for a sample (p50); None for any.
        max_mb: Largest size in megabytes (1e6 bytes) of each file; None for any.
        threads: Number of threads in all timing.
        metric: Metric that judges quality; None for mAP50-95 (`map`) of a detector, else the first metric of
            the test that is better when higher, such as `test/acc`.
        allow_slower: Whether int8 or a pruned student is kept if it is slower on this machine, as small
            networks may be.

    Raises:
        ValueError: For limits that nothing can obey.

    Example:
        >>> Limits(max_drop=0.01, max_mb=3.5).broken(drop=0.02, ms=5.0, mb=3.4)
        ['worse by 0.0200, max_drop=0.01']
    """

    max_drop: float = 0.01
    max_ms: float | None = None
    max_mb: float | None = None
    threads: int = 1
    metric: str | None = None
    allow_slower: bool = False

    def __post_init__(self) -> None:
        expect(max_drop=self.max_drop, ge=0, lt=math.inf)
        why = "no file could meet it"
        expect(max_ms=self.max_ms, max_mb=self.max_mb, gt=0, lt=math.inf, none="no limit", why=why)
        expect(threads=self.threads, ge=1)
        if self.max_ms is not None and self.threads > (there := os.cpu_count() or 1):
            raise ValueError(
                f"max_ms={self.max_ms:g} and threads={self.threads} contradict each other on this machine, which has {there} CPUs: "
                f"what is timed here says nothing of {self.threads} threads."
            )

    def spoiled(self, drop: float) -> list[str]:
        """Returns in words whether the limit of quality is broken."""
        return [] if drop <= self.max_drop else [f"worse by {drop:.4f}, max_drop={self.max_drop:g}"]

    def too_much(self, ms: float, mb: float) -> list[str]:
        """Returns in words which limits of size and time are broken."""
        found = []
        if self.max_ms is not None and ms > self.max_ms:
            found.append(f"{ms:.3g} ms, max_ms={self.max_ms:g}")
        if self.max_mb is not None and mb > self.max_mb:
            found.append(f"{mb:.3g} MB, max_mb={self.max_mb:g}")
        return found

    def broken(self, drop: float, ms: float, mb: float) -> list[str]:
        """Returns in words which limits are broken."""
        return [*self.spoiled(drop), *self.too_much(ms, mb)]


def check_reachable(limits: Limits, steps: Sequence[Any], parameters: int) -> None:
    """Refuses a size that the steps cannot reach.

    Args:
        limits: The limits.
        steps: Steps with `bits` and `removes`.
        parameters: Number of parameters of the dense student's largest part.

    Raises:
        ValueError: If the parameters alone are larger.

    Example:
        >>> check_reachable(Limits(max_mb=3.0), [], parameters=1_000_000)
        Traceback (most recent call last):
        ...
        ValueError: max_mb=3 contradicts the steps: 1,000,000 parameters of 32 bits are 4 MB, ...
    """
    if limits.max_mb is None or any(step.removes for step in steps):
        return
    bits = min((step.bits for step in steps), default=32)
    least = parameters * bits / 8e6
    if least > limits.max_mb:
        raise ValueError(
            f"max_mb={limits.max_mb:g} contradicts the steps: {parameters:,} parameters of {bits} bits are {least:.3g} MB, and none "
            "of the steps removes parameters: add Prune (or Quantize), or allow more."
        )
