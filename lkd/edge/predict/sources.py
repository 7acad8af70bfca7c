"""Sources of pictures: files, folders and globs; clips and streams come from `video`."""

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lkd.checks import expect
from lkd.edge.predict.clips.decode import shown
from lkd.edge.predict.clips.video import VideoSource
from lkd.edge.predict.frame import Frame, FrameSource
from lkd.edge.predict.sentences import Sentences
from lkd.natural_order import path_key
from lkd.picture_files import IMAGES, NOTES, is_hidden, walk
from lkd.pictures import image_size, pixels

CLIPS = (
    ".mp4",
    ".mkv",
    ".avi",
    ".mov",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".m2v",
    ".vob",
    ".ts",
    ".mts",
    ".m2ts",
    ".flv",
    ".f4v",
    ".wmv",
    ".asf",
    ".3gp",
    ".3g2",
    ".ogv",
    ".mxf",
    ".gif",
    ".mjpeg",
    ".mjpg",
    ".h264",
    ".264",
    ".h265",
    ".265",
    ".hevc",
)


class PictureSource:
    """Pictures of these paths, in order; damaged ones are named in `skipped`.

    Args:
        paths: Paths of the files.
        every: 1 for all, n for every n-th.

    Attributes:
        skipped: A sentence for each picture that could not be read.

    Example:
        >>> source = PictureSource([Path("gone.jpg")])
        >>> list(source), source.skipped
        ([], ['the image gone.jpg is missing.'])
    """

    def __init__(self, paths: Sequence[Path], every: int = 1) -> None:
        self.paths, self.every = list(paths), every
        self.skipped = Sentences()
        self.dropped = 0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the first picture that can be read.

        Raises:
            ValueError: If none can be read.
        """
        for path in self.paths:
            try:
                return image_size(path)
            except (OSError, ValueError) as error:
                last = error
        raise ValueError(f"no frame could be read: {last}")

    def sizes(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yields each picture's path, width and height, without decoding it.

        Pictures that cannot be read are skipped.
        """
        for path in self.paths[:: self.every]:
            with suppress(OSError, ValueError):
                yield path, image_size(path)

    def __len__(self) -> int:
        """Returns the number of pictures to read."""
        return len(range(0, len(self.paths), self.every))

    def __iter__(self) -> Iterator[Frame]:
        """Yields the pictures, read one after the other."""
        for number in range(0, len(self.paths), self.every):
            path = self.paths[number]
            try:
                image = pixels(path, str(path))
            except FileNotFoundError:
                self.skipped.append(f"the image {path} is missing.")
            except ValueError as error:
                self.skipped.append(str(error))
            else:
                yield Frame(str(path), number, None, image)

    def close(self) -> None:
        """Does nothing, since no file stays open."""


def open_source(words: Sequence[str], every: int = 1) -> FrameSource:
    """Opens the source that the command line names.

    Args:
        words: Pictures, folders (with those below them) and globs; or one clip or address of a stream.
            Pictures of a folder or glob are in natural order: 9.jpg comes before 10.jpg.
        every: 1 for all frames, n for every n-th.

    Raises:
        FileNotFoundError: If something does not exist, or holds no picture.
        ValueError: For a file of another kind, or several clips.
    """
    expect(every=every, ge=1)
    streams = [word for word in words if is_stream(word)]
    if streams and len(words) > 1:
        raise ValueError(
            f"SOURCE is {' '.join(map(shown, words))}: a clip or a stream is predicted by itself; name {shown(streams[0])} alone."
        )
    if streams:
        if "://" not in streams[0] and not Path(streams[0]).is_file():
            raise FileNotFoundError(f"SOURCE={streams[0]!r} does not exist.")
        return VideoSource(streams[0], every)
    return PictureSource(_once([path for word in words for path in _pictures(word)]), every)


def is_stream(word: str) -> bool:
    """Returns whether a word names a clip or a stream.

    Example:
        >>> is_stream("rtsp://camera/1"), is_stream("a.MP4"), is_stream("a.png")
        (True, True, False)
    """
    return "://" in word or (Path(word).suffix.lower() in CLIPS and not Path(word).is_dir())


def _once(paths: Sequence[Path]) -> list[Path]:
    """Returns each picture where it is named first; warns of those that are named again."""
    first: dict[str, Path] = {}
    again = [path for path in paths if first.setdefault(os.path.abspath(path), path) is not path]
    if again:
        others = f", and {len(again) - 1} other pictures too" if len(again) > 1 else ""
        warnings.warn(
            f"SOURCE names {again[0]} more than once{others}: each is used once, where it is named first.",
            stacklevel=3,
        )
    return list(first.values())


def _pictures(word: str) -> list[Path]:
    path = Path(word)
    if path.is_dir():
        found = sorted((p for p in walk(path) if not is_hidden(p.relative_to(path))), key=path_key)
        return _only_pictures(found, f"SOURCE={word!r}: the folder, and those below it,")
    if path.exists():
        if path.suffix.lower() not in IMAGES:
            raise ValueError(
                f"SOURCE={word!r} is no picture by its suffix, {path.suffix or 'none'}: predict reads {' '.join(IMAGES)}, clips "
                f"({' '.join(CLIPS)}) and addresses of streams."
            )
        return [path]
    if glob.has_magic(word):
        files = (p for p in map(Path, glob.glob(word, recursive=True)) if p.is_file())
        found = sorted(files, key=path_key)
        if not found:
            raise FileNotFoundError(f"SOURCE={word!r} matches no file.")
        return _only_pictures(found, f"SOURCE={word!r}: what it matches")
    raise FileNotFoundError(
        f"SOURCE={word!r} does not exist; give a picture, a folder, a glob, a clip or the address of a stream."
    )


def _only_pictures(found: Sequence[Path], what: str) -> list[Path]:
    pictures = [path for path in found if path.suffix.lower() in IMAGES]
    others = [path for path in found if path.suffix.lower() not in (*IMAGES, *NOTES)]
    kinds = ", ".join(sorted({path.suffix or "(none)" for path in others})[:8])
    if not pictures:
        clip = next((path for path in others if is_stream(str(path))), None)
        raise FileNotFoundError(
            f"{what} has no picture"
            + (f", but files with the suffix {kinds}" if others else "")
            + (f"; a clip is named by itself: {clip}." if clip else ".")
        )
    if others:
        warnings.warn(f"{what} has {len(others)} other files, which are passed over ({kinds}).", stacklevel=4)
    return pictures
