"""`reuse.csv`: for each frame, whether an earlier answer was reused, and how old it was."""

from pathlib import Path

from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.reuse.reused import Reused
from lkd.edge.predict.tables import CSVFile, seconds


class ReuseFile:
    """Writer of a row for each frame: camera, kind of answer, changes, age, and agreement if audited.

    Args:
        folder: Folder to write into.
        reused: Predictor that gave the answers.
    """

    def __init__(self, folder: Path, reused: Reused) -> None:
        self.reused = reused
        self.rows = CSVFile(
            folder / "reuse.csv", ["camera", "answer", "distance", "mean_distance", "age_s", "agreement"]
        )
        self.paths = [self.rows.path]

    def write(self, frame: Frame, found: Found) -> None:
        """Writes the row of the frame that was answered last."""
        row = self.reused.last
        assert row is not None  # the frame was answered
        look = row.look
        numbers = [None] * 3 if look is None else [look.distance, look.mean, look.age]
        numbers = [*numbers[:2], numbers[2] if look and look.hit else None, row.agreed]
        cells = ["" if number is None else round(number, 3) for number in numbers]
        self.rows.add([[frame.source, frame.number, seconds(frame), row.camera, row.how, *cells]])

    def close(self) -> None:
        """Closes the file `reuse.csv`."""
        self.rows.close()
