"""Links of a page, from where its file lies in the repository to where the page lies on the site."""

import os
import re
from pathlib import Path, PurePosixPath

from config_pages import address
from public_names import ROOT

ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "reporting.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "THIRD_PARTY.md": "third_party.md",
}
"""Files of the repository's top folder that are pages of the site."""

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def origin(page: str) -> Path:
    """Returns the file that a page of the site is made from."""
    for name, other in ROOT_PAGES.items():
        if page == other:
            return ROOT / name
    if page.startswith("notebooks/"):
        return ROOT / page
    return ROOT / "docs" / page


def on_the_site(path: Path) -> str | None:
    """Returns where a file of the repository is on the site, with an anchor of a config; None if it is not."""
    inside = path.relative_to(ROOT).as_posix()
    if inside in ROOT_PAGES:
        return ROOT_PAGES[inside]
    if inside.startswith("docs/") and path.suffix != ".py":
        return inside.removeprefix("docs/")
    if inside.startswith("configs/") and path.suffix == ".yaml":
        return address(inside.removeprefix("configs/"))
    if inside.startswith("notebooks/") and path.suffix == ".ipynb":
        return f"notebooks/{path.stem}.md"
    return None


def moved(text: str, page: str) -> str:
    """Returns a page's text with the links of its file led to pages of the site.

    A file that is no page, such as a module, keeps its text and loses its link. What is not a file of the
    repository, such as an address, stays as it is.
    """
    start, here = origin(page).parent, PurePosixPath(page).parent

    def led(found: re.Match[str]) -> str:
        mark, label, target, anchor = found.groups()
        path = Path(os.path.normpath(start / target))
        if not target or "://" in target or not path.is_relative_to(ROOT) or not path.is_file():
            return found[0]
        to = on_the_site(path)
        if to is None:
            return label
        return f"{mark}[{label}]({os.path.relpath(to, here).replace(os.sep, '/')}{anchor or ''})"

    return LINK.sub(led, text)
