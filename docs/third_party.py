"""Writes the list of papers in THIRD_PARTY.md from the docstrings that cite them: python docs/third_party.py."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "THIRD_PARTY.md"
BEGIN = "<!-- written by docs/third_party.py from the docstrings -->\n"
VENUES = "NeurIPS|NIPS|ICLR|ICML|CVPR|ICCV|ECCV|AAAI|IJCAI|MLSys|TPAMI|KDD|VISAPP|AISTATS|INTERSPEECH|JMLR|BMVC|WACV"
CITED = re.compile(rf"arXiv:\d{{4}}\.\d+|(?:{VENUES})\w* (?:Workshops? )?(?:19|20)\d\d")
SENTENCE = re.compile(r"(?<!al)(?<!\bcf)(?<!\beq)(?<!\bEq)(?<!\b[A-Z])\.\s+(?=[A-Z])")

UNBROKEN = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*\w+:\s)|(?<=:)\n")  # the description of each argument is one, too


def cited(path: Path) -> Iterator[str]:
    """Yields the sentences of a file's docstrings that name a paper, each once."""
    seen = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = (ast.get_docstring(node) or "").partition("\nExample:")[0]
            for paragraph in PARAGRAPH.split(text):
                for sentence in SENTENCE.split(" ".join(paragraph.split())):
                    if CITED.search(sentence) and sentence not in seen:
                        seen.add(sentence)
                        yield sentence.rstrip(".") + "."


def listed() -> str:
    """Returns the list: a file, and what its docstrings cite."""
    lines = []
    for folder in ("lkd", "callbacks", "datamodules"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.relative_to(ROOT).parts[:2] in (("lkd", "callbacks"), ("lkd", "datamodules")):
                continue  # the links
            said = " ".join(cited(path))
            name = path.relative_to(ROOT).as_posix()
            lines += textwrap.wrap(f"- `{name}`: {said}", 110, **UNBROKEN) if said else []
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Returns the page with the list as it is now."""
    return text.partition(BEGIN)[0] + BEGIN + "\n" + listed()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
