"""Pages that show the files of configs/, and which of them use a name of lkd."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@cache
def texts() -> dict[str, str]:
    """Returns the text of each file of configs/, by its path in there."""
    return {
        path.relative_to(CONFIGS).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(CONFIGS.rglob("*.yaml"))
    }


def that_use(name: str) -> list[str]:
    """Returns the configs that name a class of lkd, or that a command of a comparison gives it."""
    used = re.compile(rf"(?:class_path: *|[\w.]=)(?:lkd\.[\w.]+\.)?{name}\b")
    return [path for path, text in texts().items() if used.search(text)]


def address(config: str) -> str:
    """Returns page and anchor of a config on the site, from the site's root.

    Example:
        >>> address("parking/oracle.yaml")
        'reference/configs/parking.md#oracle'
    """
    path = Path(config)
    return f"reference/configs/{path.parent.as_posix()}.md#{path.stem}"


def pages() -> dict[str, str]:
    """Returns a page for each folder of configs/, by its path on the site."""
    found: dict[str, str] = {}
    for config, text in texts().items():
        folder, page = Path(config).parent.as_posix(), address(config).split("#")[0]
        head = (
            f"# configs/{folder}\n\nRun as `python cli.py fit --config configs/{folder}/NAME.yaml`"
            if (page not in found)
            else ""
        )
        if head and folder in VERBS:
            head = f"# configs/{folder}\n\n{VERBS[folder]}"
        found.setdefault(page, f"{head}.\n")
        found[page] += f"\n## {Path(config).name} {{#{Path(config).stem}}}\n\n```yaml\n{text.rstrip()}\n```\n"
    return found


VERBS = {
    "cnrpark": "Run by `fit`, or by `test` where the first lines say so",
    "edge": "Run by `python cli.py compress` or `offload`, as the first lines say",
    "logging": "Parts: a second `--config` beside any run's",
    "networks": "Parts: networks that configs of other folders name",
    "pklot": "Run by `python cli.py test --config configs/pklot/NAME.yaml`",
    "sweeps": "Run by `wandb sweep configs/sweeps/NAME.yaml`",
    "tradeoff": "Run by `python cli.py compare configs/tradeoff/NAME.yaml`",
}
