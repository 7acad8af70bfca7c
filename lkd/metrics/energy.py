"""Costs of a run for the machine: energy, where codecarbon is installed, and memory."""

import sys
from importlib.util import find_spec
from typing import Any


class EnergyMeter:
    """Estimate of the energy of this process by codecarbon, offline; without codecarbon there is none.

    codecarbon estimates from the power that processor, GPU and memory are known to draw, and, where it may
    read them, from the machine's own counters. The figure is for comparing methods on one machine.
    `pip install lightning-kd[energy]`.
    """

    def __init__(self) -> None:
        self._tracker: Any = None

    def start(self) -> None:
        """Begins the measurement; only the first call has an effect."""
        if find_spec("codecarbon") is None or self._tracker is not None:
            return
        from codecarbon import OfflineEmissionsTracker

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # required; it changes emissions, not energy
            tracking_mode="process",
            save_to_file=False,
            log_level="error",
            allow_multiple_runs=True,  # in other processes
        )
        self._tracker.start()

    def stop(self) -> float | None:
        """Ends the measurement; returns watt-hours, or None if there is none or it has ended before."""
        if self._tracker is None:
            return None
        tracker, self._tracker = self._tracker, None
        tracker.stop()
        return 1000 * float(tracker.final_emissions_data.energy_consumed)


def peak_memory() -> float | None:
    """Returns the largest main memory of this process in MB; None where the system does not tell.

    Example:
        >>> peak_memory() is None or peak_memory() > 1
        True
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes on macOS, kB elsewhere
