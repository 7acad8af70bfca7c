"""What MkDocs calls: pages that are made when the site is built, links that are moved, graphs that are drawn."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import config_pages
import flowchart
import moved_links
import notebook_pages
import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]


def on_config(config: MkDocsConfig) -> None:
    """Adds what is made to the navigation, under the titles that have a list of their own in mkdocs.yml."""
    sections = {title: below for entry in config.nav for title, below in entry.items()}
    sections["Tutorials"] += list(notebook_pages.pages())
    sections["Reference"] += [{"Configs": list(config_pages.pages())}, *_packages()]
    config.watch += [
        str(ROOT / folder) for folder in ("lkd", "datamodules", "callbacks", "configs", "notebooks")
    ]


def _packages() -> list[dict[str, Any]]:
    made = {package: list(reference_pages.of_package(package)) for package in reference_pages.packages()}
    return [{package: pages if pages[1:] else pages[0]} for package, pages in made.items()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the repository's top folder, of configs, packages and notebooks."""
    made = {**config_pages.pages(), **reference_pages.pages(), **notebook_pages.pages()}
    for name, page in moved_links.ROOT_PAGES.items():
        made[page] = (ROOT / name).read_text(encoding="utf-8")
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Moves links of what lies in the repository, and draws its graphs."""
    if not page.file.src_uri.startswith("reference/"):
        markdown = moved_links.moved(markdown, page.file.src_uri)
    return flowchart.drawn(markdown)
