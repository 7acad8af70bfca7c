"""The summary that a prediction prints."""

import sys
from pathlib import Path
from typing import Any, TextIO


def tell(report: dict[str, Any], folder: Path) -> None:
    """Prints frames, times by part, occupancy and files.

    Args:
        report: Report of `lkd.edge.predict.command.run`.
        folder: Folder of its files.
    """
    ended = " until a signal ended it" if report["signal"] else ""
    dropped = f", {report['dropped']} dropped" if report["dropped"] else ""
    rate = report["frames_per_second"]
    print(f"{report['frames']} frames{ended}, {report['skipped']} skipped{dropped}, {rate:.1f} a second")
    detects = report["score_threshold"] is not None
    if report["latency"]:
        print(f"{'ms a frame':<12}{'p50':>10}{'p95':>10}{'CPU p50':>10}")
    for row in report["latency"]:
        if detects or row["part"] != "NMS":
            print(f"{row['part']:<12}{row['p50_ms']:>10.2f}{row['p95_ms']:>10.2f}{row['cpu_ms']:>10.2f}")
    if "occupancy" in report:
        print(_occupancy(report["occupancy"]))
    if "reuse" in report:
        print(_reuse(report["reuse"]))
    files = ", ".join(Path(path).name for path in report["files"])
    above = f"; boxes score above {report['score_threshold']:g}" if detects else ""
    print(f"{folder}: {files}, report.json{above}")


def plainly(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Formats a warning as a sentence, without a line of code."""
    print(f"\nwarning: {message}" if sys.stderr.isatty() else f"warning: {message}", file=sys.stderr)


def _reuse(figures: dict[str, Any]) -> str:
    """Returns a line on what reuse saved, and what that cost as far as it was measured."""
    share, hits = 100 * figures["share_reused"], figures["reused"] + figures["audited"]
    words = [
        f"{figures['reused']} of {figures['frames']} frames ({share:.0f} %) were given an earlier answer"
        + (f" of {figures['cameras']} cameras" if figures["cameras"] > 1 else "")
    ]
    if figures["longest_age_s"] is not None:
        words[0] += f", up to {figures['longest_age_s']:.1f} s old"
    saved = figures["saved_s"]
    words.append(f"{abs(saved):.1f} s of CPU time {'saved' if saved >= 0 else 'LOST on comparisons'}")
    if figures["agreement"] is not None:
        words.append(f"{figures['audited']} audited, agreement {figures['agreement']:.3f}")
    elif hits:
        words.append("nothing was audited, so nobody knows how many of them were right")
    elif figures["too_old"]:
        words.append(
            f"{figures['too_old']} looked like the kept one and came later than ttl_s={figures['ttl_s']:g}, which would have to be longer"
        )
    elif figures["distances"]:
        least, half, _ = figures["distances"]
        words.append(
            f"the scene never stood still for distance={figures['distance']:g}: the median change was {half:g}, the 5th percentile {least:g}"
        )
    if figures.get("slots_alike") is not None:
        words.append(f"slots alike {figures['slots_alike']:.3f}")
    if figures.get("accuracy_reused") is not None:
        words.append(
            f"accuracy of their slots {figures['accuracy_reused']:.3f} reused, {figures['accuracy_fresh']:.3f} fresh"
        )
    return "reuse: " + "; ".join([*words, *figures["stopped_because"]])


def _occupancy(figures: dict[str, Any]) -> str:
    """Returns a line on what the slots did."""
    words = [f"{figures['free']} of {figures['slots']} slots are free at the end"]
    each = figures["flips_per_hour"]
    words.append(f"{figures['flips']} flips" + ("" if each is None else f" ({each:.1f} an hour)"))
    if figures["accuracy"] is not None:
        balanced = figures["balanced_accuracy"]
        more = "" if balanced is None else f", balanced {balanced:.3f}"
        words.append(
            f"accuracy {figures['accuracy']:.3f}{more} of {figures['compared']} states that are known; "
            f"{figures['wrong_flips']} flips were wrong, {figures['true_flips']} true"
        )
    return "; ".join(words)
