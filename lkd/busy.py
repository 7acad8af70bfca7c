"""Threads on a busy machine: waiting for each other without spinning, which has to be set before torch is loaded."""

import os
import sys
from collections.abc import MutableMapping

CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user, or a scheduler, has chosen how threads wait."""


def wait_without_spinning(environment: MutableMapping[str, str], load: float, cores: int) -> str | None:
    """Sets `OMP_WAIT_POLICY=PASSIVE` where other work holds the cores.

    The threads of an operation of PyTorch wait for the last of them. GNU's OpenMP spins there for milliseconds; if
    that one waits for a core, the others keep it from getting one, and a step takes many times as long as with one
    thread. An idle machine keeps OpenMP's own choice.

    Args:
        environment: Variables of the process, in which the choice is written.
        load: Mean number of processes that want to run, of the last minute.
        cores: Cores of the machine.

    Returns:
        One sentence that says so, or None if nothing is changed: the machine is idle, one thread is asked for, or
        somebody has chosen.

    Example:
        >>> chosen = {}
        >>> wait_without_spinning(chosen, load=0.1, cores=4), chosen
        (None, {})
        >>> print(wait_without_spinning(chosen, load=6.0, cores=4), chosen)
        other work holds this machine's 4 cores (load 6.0): threads wait without spinning, OMP_WAIT_POLICY=PASSIVE. {'OMP_WAIT_POLICY': 'PASSIVE'}
    """
    if load <= cores / 2 or environment.get("OMP_NUM_THREADS") == "1" or set(CHOSEN) & set(environment):
        return None
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    return (
        f"other work holds this machine's {cores} cores (load {load:.1f}): threads wait without spinning, "
        "OMP_WAIT_POLICY=PASSIVE."
    )


def prepare_threads() -> None:
    """Does so for this process and those it starts, if torch is not loaded yet and the system tells its load."""
    if "torch" in sys.modules or not hasattr(os, "getloadavg"):
        return
    said = wait_without_spinning(os.environ, os.getloadavg()[0], os.cpu_count() or 1)
    if said is not None:
        print(said, file=sys.stderr)
