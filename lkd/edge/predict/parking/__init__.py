"""Slots of a car park: where they are, which are busy, and how often that is right."""

from lkd.edge.predict.parking.occupancy import Occupancy
from lkd.edge.predict.parking.occupancy_files import OccupancyFiles
from lkd.edge.predict.parking.occupancy_score import OccupancyScore
from lkd.edge.predict.parking.slots import Slots
from lkd.edge.predict.parking.truth import Truth

__all__ = ["Occupancy", "OccupancyFiles", "OccupancyScore", "Slots", "Truth"]
