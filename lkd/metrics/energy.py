"""What a run costs the machine: energy, where codecarbon is installed, and memory."""

import sys
from importlib.util import find_spec
from typing import Any


class EnergyMeter:
    """Estimates the energy of this process by codecarbon, offline; without codecarbon it measures nothing.

    codecarbon estimates from the power that the processor, GPU and memory are known to draw, and, where it may read them,
    from the machine's own counters: a figure to compare methods on one machine with. `pip install lightning-kd[energy]`.
    """

    def __init__(self) -> None:
        self._tracker: Any = None

    def start(self) -> None:
        """Begins; once in the life of a meter."""
        if find_spec("codecarbon") is None or self._tracker is not None:
            return
        from codecarbon import OfflineEmissionsTracker

        self._tracker = OfflineEmissionsTracker(
            country_iso_code="USA",  # it asks for one; emissions depend on it, energy does not
            tracking_mode="process",
            save_to_file=False,
            log_level="error",
            allow_multiple_runs=True,  # of other processes
        )
        self._tracker.start()

    def stop(self) -> float | None:
        """Ends, and gives watt-hours; None if there is nothing to tell. A second stop would be wrong, so it tells nothing."""
        if self._tracker is None:
            return None
        tracker, self._tracker = self._tracker, None
        tracker.stop()
        return 1000 * float(tracker.final_emissions_data.energy_consumed)


def peak_memory() -> float | None:
    """The most megabytes of main memory that this process has held; None where the system does not say.

    Example:
        >>> peak_memory() is None or peak_memory() > 1
        True
    """
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kB elsewhere
