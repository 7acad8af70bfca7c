"""The drawn car park: cameras with exact boxes of every car, read like CNRPark-EXT."""

import json
from typing import Any, Literal

from filelock import FileLock

from lkd.datamodules.detection.cnrpark import CNRParkEXT
from lkd.datamodules.samples.splits import pick
from lkd.datamodules.world import VIEWS, number, write_world
from lkd.datamodules.world.labels import put
from lkd.datamodules.world.view import HEIGHTS
from lkd.natural_order import natural_key

CAMERAS = [f"C{number}" for number in range(1, 10)]  # the nine of the study; any other number is another lot


class ParkingWorld(CNRParkEXT):
    """Car parks seen by fixed cameras, drawn into `root` once and read as `CNRParkEXT` reads its files.

    The same arguments draw the same world. A world that is already there is used if it was drawn with the
    same `frames`, `world_seed`, `size` and `heights` and holds the cameras asked for; cameras that it lacks
    are drawn in addition.

    Args:
        root: folder for the pictures and labels.
        cameras: names "C1" to "C999", each a camera over a lot of its own; `None` for "C1" to "C9".
        frames: number of pictures for each camera.
        world_seed: seed of the world's look; `seed` is that of training.
        size: width and height of the pictures in pixels.
        heights: heights of the lowest and highest camera, in meters above the ground.
        task: "detection" or "patches".
        views: also draw "thermal" and "depth" pictures (see `lkd.datamodules.world.write_world`); those that
            `modalities` name are drawn anyway.
        targets: "cars" (tight boxes) or "busy_slots".
        **kwargs: see `CNRParkEXT` and `DetectionDataModule`.

    Raises:
        ValueError: for unknown cameras, numbers below 1, or a root that holds another world.
    """

    def __init__(
        self,
        root: str = "data/world",
        cameras: list[str] | None = None,
        frames: int = 60,
        world_seed: int = 0,
        size: tuple[int, int] = (480, 360),
        heights: tuple[float, float] = HEIGHTS,
        task: Literal["detection", "patches"] = "detection",
        targets: Literal["cars", "busy_slots"] = "cars",
        views: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if frames < 1 or min(size) < 1:
            raise ValueError(f"frames={frames} and size={tuple(size)} must be at least 1.")
        self.drawn_cameras = sorted(CAMERAS if cameras is None else set(cameras), key=natural_key)
        for camera in self.drawn_cameras:
            number(camera)  # raises if it is no name of a camera
        super().__init__(root, task=task, targets=targets, cameras=self.drawn_cameras, **kwargs)
        self.world: dict[str, Any] = {"frames": frames, "seed": world_seed, "size": list(size)}
        if tuple(heights) != HEIGHTS:  # worlds drawn before heights were a choice do not record them
            self.world["heights"] = list(heights)
        self.with_patches = task == "patches"
        named = (self.patches.modalities if self.patches else None) or []
        wanted = [] if not views else pick("views", views, VIEWS)
        self.views = [view for view in VIEWS if view in wanted or view in named]

    def prepare_data(self) -> None:
        """Draws what is missing, and continues an interrupted drawing.

        Of several runs one draws, and the others wait.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "world.json.lock"):
            self._draw()

    def _draw(self) -> None:
        there = self._noted()
        done, done_patches, drawn = there.pop("cameras"), there.pop("patches"), there.pop("views", [])
        if there != self.world:
            raise ValueError(f"{self.root} holds another world ({there}): choose another root, or delete it.")
        if (
            set(self.drawn_cameras) <= set(done)
            and done_patches >= self.with_patches
            and set(self.views) <= set(drawn)
        ):
            return
        cameras = sorted({*self.drawn_cameras, *done}, key=natural_key)
        patches, views = self.with_patches or done_patches, sorted({*self.views, *drawn})
        self._note(
            done, done_patches, drawn
        )  # from the first frame on, so that no other world can be mixed in
        world = self.world
        size, heights = tuple(world["size"]), tuple(world.get("heights", HEIGHTS))
        write_world(self.root, cameras, world["frames"], world["seed"], size, patches, views, heights)
        self._note(cameras, patches, views)

    def _noted(self) -> dict[str, Any]:
        """Reads what is drawn here, and which cameras of it are complete."""
        note, nothing = self.root / "world.json", {**self.world, "cameras": [], "patches": False}
        if not note.is_file():
            return nothing
        try:
            there = dict(json.loads(note.read_text()))
        except (ValueError, TypeError):
            there = {}
        if missing := nothing.keys() - there.keys() - {"heights"}:  # recorded by worlds of other cameras only
            raise ValueError(
                f"{note} is damaged (it does not say {', '.join(sorted(missing))}): delete it, and {self.root} is drawn anew, "
                "or choose another root."
            )
        return there

    def _note(self, cameras: list[str], patches: bool, views: list[str]) -> None:
        text = json.dumps({**self.world, "cameras": cameras, "patches": patches, "views": views})
        put(self.root / "world.json", text)
