"""The drawn car park: cameras with exact boxes of every car, made on the spot, read as CNRPark-EXT is."""

import json
from pathlib import Path
from typing import Any, Literal

from lkd.datamodules.cnrpark import CNRParkEXT
from lkd.datamodules.splits import natural_key, pick

CAMERAS = [f"C{number}" for number in range(1, 10)]


class ParkingWorld(CNRParkEXT):
    """Draws a car park seen by up to nine fixed cameras into `root` (once), and reads it as `CNRParkEXT`
    does.

    The same arguments draw the same world. A world that is already there is used if it was drawn with the
    same `frames`, `world_seed` and `size` and holds the cameras asked for; cameras that it lacks are drawn
    in addition.

    Args:
        root: folder for the pictures and labels.
        cameras: of "C1".."C9"; `None` for all nine.
        frames: pictures a camera.
        world_seed: what the world looks like; `seed` is that of training.
        size: width and height of the pictures in pixels.
        task: "detection" or "patches".
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
        task: Literal["detection", "patches"] = "detection",
        targets: Literal["cars", "busy_slots"] = "cars",
        **kwargs: Any,
    ) -> None:
        if frames < 1 or min(size) < 1:
            raise ValueError(f"frames={frames} and size={tuple(size)} must be at least 1.")
        self.drawn_cameras = pick("cameras", cameras, CAMERAS)
        super().__init__(root, task=task, targets=targets, cameras=self.drawn_cameras, **kwargs)
        self.world = {"frames": frames, "seed": world_seed, "size": list(size), "patches": task == "patches"}

    def prepare_data(self) -> None:
        """Draws what is not there yet."""
        from lkd.datamodules.world import write_world  # needed only where a world is drawn

        note = self.root / "world.json"  # written last: a root without it holds nothing, or half a world
        cameras, world = self.drawn_cameras, dict(self.world)
        if note.is_file():
            there = json.loads(note.read_text())
            done, with_patches = there.pop("cameras"), there.pop("patches")
            if there != {name: value for name, value in world.items() if name != "patches"}:
                raise ValueError(
                    f"{self.root} holds another world ({there}): choose another root, or delete it."
                )
            if set(cameras) <= set(done) and with_patches >= world["patches"]:
                return
            cameras = sorted({*cameras, *done}, key=natural_key)
            world["patches"] = world["patches"] or with_patches
        note.unlink(missing_ok=True)
        frames, seed, (width, height) = world["frames"], world["seed"], world["size"]
        write_world(self.root, cameras, frames, seed, size=(width, height), patches=world["patches"])
        Path(note).write_text(json.dumps({"cameras": cameras, **world}))
