"""Paths with named places, such as `visible/{part}/{frame}.jpg`, which tell what is known of every file."""

import re
from pathlib import Path
from string import Formatter

from lkd.datamodules.io.files import find
from lkd.picture_files import is_hidden

Places = tuple[tuple[str, str], ...]  # name and what stands there, by name


class PathPattern:
    """Pattern of a path below a folder, in which `{name}` stands for a part of one name, without slashes.

    Args:
        text: the pattern; a place may come twice and then holds the same text.
        argument: name of the user's argument, for messages.

    Raises:
        ValueError: for places without a name or with a format, or a pattern without places.

    Example:
        >>> pattern = PathPattern("images/{set}/{video}/lwir/{frame}.jpg", "thermal")
        >>> pattern.match("images/set00/V001/lwir/I00002.jpg")
        (('frame', 'I00002'), ('set', 'set00'), ('video', 'V001'))
    """

    def __init__(self, text: str, argument: str) -> None:
        self.text, regex, glob = text, "", ""
        self.places: set[str] = set()
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{argument}={text!r} is no pattern: {error}.") from error
        for literal, name, form, conversion in pieces:
            regex += re.escape(literal)
            glob += re.sub(r"([*?[])", r"[\1]", literal)
            if name is None:
                continue
            if not name.isidentifier() or form or conversion:
                raise ValueError(f"{argument}={text!r} must have plain places like {{frame}}.")
            regex += f"(?P={name})" if name in self.places else f"(?P<{name}>[^/]+)"
            glob += "*"
            self.places.add(name)
        if not self.places or text.startswith("/"):
            raise ValueError(
                f"{argument}={text!r} must be a path below root with a place like {{frame}} in it."
            )
        self.glob, self._regex = glob, re.compile(regex)

    def match(self, path: str) -> Places | None:
        """Returns what stands in the places of a path, or `None` if it does not match."""
        found = self._regex.fullmatch(path)
        return found and tuple(sorted(found.groupdict().items()))

    def base(self, root: Path) -> Path | None:
        """Returns the folder with files of this pattern: `root`, or one up to two levels below."""
        for path in find(root, [self.glob]):
            base = path.parents[self.text.count("/")]
            if self.match(path.relative_to(base).as_posix()):
                return base
        return None

    def files(self, base: Path) -> dict[Places, Path]:
        """Returns all files of this pattern, sorted by path; hidden ones, such as `._a.jpg`, are skipped."""
        found = {}
        for path in sorted(base.glob(self.glob)):
            below = path.relative_to(base)
            if not is_hidden(below) and (places := self.match(below.as_posix())):
                found[places] = path
        return found
