"""Pictures with drawn findings, as single files or as a clip."""

import colorsys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lkd.edge.predict.clips.clip_writer import ClipWriter
from lkd.edge.predict.frame import Found, Frame

Overlay = Callable[[Image.Image], None]


class Annotated:
    """Writer of pictures with boxes, or with the likeliest class, as `pictures/<frame number>_<name>.jpg`.

    Args:
        folder: Folder that `pictures` is made in.
        classes: Names of the classes.
        most: Most pictures to write; None for all.
        overlay: What is drawn beneath the boxes, such as slots.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], most: int | None, overlay: Overlay | None = None
    ) -> None:
        self.folder, self.classes, self.most, self.overlay = folder / "pictures", list(classes), most, overlay
        self.written = 0
        self.paths: list[Path] = []

    def write(self, frame: Frame, found: Found) -> None:
        """Writes a picture, unless there are enough."""
        if self.most is not None and self.written >= self.most:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.paths = [self.folder]
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(frame.source).stem)[:80]
        path = self.folder / f"{frame.number:06d}_{stem}.jpg"
        draw(frame, found, self.classes, self.overlay).save(path, quality=90)
        self.written += 1

    def close(self) -> None:
        """Does nothing, since no file stays open."""


class AnnotatedClip:
    """Writer of all frames into `annotated.mp4`; frames of another size than the first are refused.

    Args:
        folder: Folder of the clip.
        classes: Names of the classes.
        rate: Frames per second, for frames without a time.
        overlay: What is drawn beneath the boxes, as in `Annotated`.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], rate: float | None, overlay: Overlay | None = None
    ) -> None:
        self.classes, self.rate, self.overlay = list(classes), rate or 25.0, overlay
        self.paths = [folder / "annotated.mp4"]
        self._writer: ClipWriter | None = None

    def write(self, frame: Frame, found: Found) -> None:
        """Adds a frame to the clip."""
        image = np.asarray(draw(frame, found, self.classes, self.overlay))
        if self._writer is None:
            self._writer = ClipWriter(self.paths[0], (image.shape[1], image.shape[0]), self.rate)
        self._writer.write(image, frame.time)

    def close(self) -> None:
        """Ends the file of the clip."""
        if self._writer is not None:
            self._writer.close()


def draw(frame: Frame, found: Found, classes: Sequence[str], overlay: Overlay | None = None) -> Image.Image:
    """Copies a frame, with boxes in a color for each class, and names with scores above them.

    Args:
        frame: The frame.
        found: Boxes, scores and labels, or probabilities.
        classes: Names of the classes.
        overlay: What is drawn beneath the boxes, such as slots.

    Example:
        >>> frame = Frame("a.png", 0, None, np.zeros((40, 60, 3), np.uint8))
        >>> found = {"boxes": np.array([[10.0, 20, 30, 36]]), "scores": np.array([0.9]), "labels": np.array([0])}
        >>> draw(frame, found, ["car"]).getpixel((10, 28)) != (0, 0, 0)
        True
    """
    picture = Image.fromarray(frame.image)
    if overlay is not None:
        overlay(picture)
    pen, size = ImageDraw.Draw(picture), max(picture.size)
    font = ImageFont.load_default(max(10, size // 64))
    if "probabilities" in found:
        best = int(found["probabilities"].argmax())
        words = f"{classes[best]} {found['probabilities'][best]:.2f}"
        _label(pen, (2, 2), words, _color(best, len(classes)), font)
        return picture
    ids = found.get("ids", [None] * len(found["labels"]))
    for box, score, label, one in zip(
        found["boxes"].tolist(), found["scores"], found["labels"], ids, strict=True
    ):
        color = _color(int(label), len(classes))
        pen.rectangle(box, outline=color, width=max(1, size // 400))
        words = f"{classes[int(label)]} {score:.2f}" + ("" if one is None or one < 0 else f" #{one}")
        _label(pen, (box[0], box[1]), words, color, font, above=True)
    return picture


def _label(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    words: str,
    color: tuple[int, int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    above: bool = False,
) -> None:
    left, top, right, bottom = pen.textbbox(corner, words, font=font)
    shift = max(0.0, min(bottom - corner[1] + 1, corner[1])) if above else 0.0
    pen.rectangle((left, top - shift, right + 1, bottom - shift + 1), fill=color)
    pen.text((corner[0], corner[1] - shift), words, fill=(0, 0, 0), font=font)


def _color(label: int, classes: int) -> tuple[int, int, int]:
    r, g, b = colorsys.hsv_to_rgb(0.12 + label / max(classes, 1), 0.75, 1.0)
    return int(255 * r), int(255 * g), int(255 * b)
