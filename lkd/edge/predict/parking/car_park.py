"""Slots of a car park followed through a prediction: occupancy, its files, its figures, and a drawing."""

from pathlib import Path
from typing import Any

from PIL import Image

from lkd.edge.predict.frame import Found, Frame
from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.occupancy_files import OccupancyFiles
from lkd.edge.predict.parking.occupancy_score import OccupancyScore
from lkd.edge.predict.parking.slot_drawing import draw_slots
from lkd.edge.predict.parking.truth import Truth


class CarPark:
    """Writer of `occupancy.csv` and `changes.csv`, which also measures, frame after frame.

    Args:
        folder: Folder to write into.
        occupancy: Occupancy of the slots.
        truth: What is known of them, or None.
        wide: A column for each slot in `occupancy.csv`.
    """

    def __init__(self, folder: Path, occupancy: Occupancy, truth: Truth | None, wide: bool = False) -> None:
        self.occupancy = occupancy
        self.files = OccupancyFiles(folder, occupancy, wide)
        self.score = OccupancyScore(occupancy, truth)
        self.paths = [folder / "occupancy.csv", folder / "changes.csv"]

    def write(self, frame: Frame, found: Found) -> None:
        """Updates the slots by the next frame, and writes the changes."""
        changes = self.occupancy.update(frame, found)
        self.files.write(frame, changes)
        self.score.add(frame, changes)

    def overlay(self, picture: Image.Image) -> None:
        """Draws the slots in their present state."""
        draw_slots(picture, self.occupancy.slots, self.occupancy.busy)

    def figures(self) -> dict[str, Any]:
        """Returns the number of slots and of free ones, and the figures of `OccupancyScore`."""
        return {"slots": len(self.occupancy.busy), "free": self.occupancy.free, **self.score.figures()}

    def close(self) -> None:
        """Closes both of the tables."""
        self.files.close()
