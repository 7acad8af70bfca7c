"""A car park's states as two tables, complete after every frame: `occupancy.csv` and `changes.csv`."""

import csv
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from lkd.edge.predict.frame import Frame
from lkd.edge.predict.parking.occupancy import Change, Occupancy
from lkd.edge.predict.tables import opened

STATES = ("free", "busy")


class OccupancyFiles:
    """Writer of each frame's occupancy and each change, which closes its files at the end of a `with` block.

    `occupancy.csv` has a row for each frame: source, frame, time, slots, busy, free. `changes.csv` has a row
    for each change: source, frame, time, slot, from, to. Times are in seconds, to the millisecond, and empty
    where not known. The state in the first frame is no change.

    Args:
        folder: Folder of the files, made if it does not exist. Older files are overwritten.
        occupancy: The occupancy to write.
        wide: Whether `occupancy.csv` has a column for each slot, 0 free or 1 busy. Default: no.

    Example:
        >>> with OccupancyFiles("runs/gate", occupancy) as files:  # doctest: +SKIP
        ...     files.write(frame, occupancy.update(frame, found))
    """

    def __init__(self, folder: str | Path, occupancy: Occupancy, wide: bool = False) -> None:
        self.occupancy, self.wide = occupancy, wide
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._files = [opened(Path(folder) / f"{name}.csv") for name in ("occupancy", "changes")]
        columns = ["source", "frame", "time"]
        _row(self._files[0], [*columns, "slots", "busy", "free", *(occupancy.slots.names if wide else ())])
        _row(self._files[1], [*columns, "slot", "from", "to"])

    def write(self, frame: Frame, changes: list[Change]) -> None:
        """Adds a frame and its changes, after the occupancy was updated by it."""
        start = [frame.source, frame.number, "" if frame.time is None else f"{frame.time:.3f}"]
        busy = self.occupancy.busy.astype(int).tolist()
        _row(
            self._files[0],
            [*start, len(busy), sum(busy), len(busy) - sum(busy), *(busy if self.wide else ())],
        )
        for change in changes:
            _row(self._files[1], [*start, change.slot, STATES[not change.busy], STATES[change.busy]])

    def close(self) -> None:
        """Closes both of the tables."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        """Returns the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the files, also after an error or Ctrl-C."""
        self.close()


def _row(file: IO[str], cells: list[Any]) -> None:
    """Writes a whole row at once, so that no partial row is ever on the disk."""
    csv.writer(file, lineterminator="\n").writerow(cells)
    file.flush()
