"""Versions, and versions on machines, that are known to be bad."""

from collections.abc import Iterator, Mapping
from typing import Any

from lkd.doctor.finding import Finding

MALICIOUS = ("2.6.2", "2.6.3")


def known_bad(installed: Mapping[str, str], machine: Mapping[str, Any]) -> Iterator[Finding]:
    """Yields what is known to be bad.

    Args:
        installed: Versions by distribution.
        machine: What `lkd.doctor.machine.machine` returns.

    Example:
        >>> [each.stops for each in known_bad({"lightning": "2.6.3"}, {})]
        [True]
        >>> next(known_bad({"torch": "2.14.1"}, {"vectors": "AVX2"})).sentence[:26]
        'torch 2.14.1 has crashed o'
    """
    for name in ("lightning", "pytorch-lightning"):
        if installed.get(name) in MALICIOUS:
            yield Finding(
                f"{name} {installed[name]} was a malicious upload: treat this machine's keys and passwords as stolen, and "
                f'remove it: pip uninstall {name}, then pip install "{name}>=2.6,<2.7,!=2.6.2,!=2.6.3".',
                stops=True,
            )
    torch = installed.get("torch", "")
    if torch.startswith("2.14.") and machine.get("vectors") == "AVX2":
        yield Finding(
            f"torch {torch} has crashed on processors with AVX2 and without AVX-512, in the backward of convolutions in "
            "the memory format channels_last whose number of channels is no multiple of 8: keep the format that networks "
            "have by default, or take channels in eights."
        )
    if machine.get("driver") and not machine.get("gpus"):
        yield Finding(
            f"there is an NVIDIA driver, and torch {torch} sees no GPU: it may be a build for the CPU (a version that ends in "
            "+cpu), or for a newer driver."
        )
