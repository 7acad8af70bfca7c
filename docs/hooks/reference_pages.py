"""The pages of the API reference, made from the packages: every public name, one page for a loss or an algorithm."""

import re
from itertools import groupby
from operator import attrgetter

import yaml
from config_examples import example
from config_pages import address, that_use
from public_names import Public, file_of, module_doc, names, packages

SPLIT = ("lkd.losses", "lkd.federated")  # so many names that each file of them has a page
IN_PYTHON = {
    "MultiTeacher": "several-teachers",
    "PixelKD": "one-logit-several-labels-pixels",
}  # in teachers.md
PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}|\b[A-Z][A-Za-z]+(?: [A-Z]\w+)* (?:19|20)\d\d\b|\b(?:19|20)\d\d\b")
TRAVELS = re.compile(r"(Travels?\b.*?\.)(?= [A-Z(]|\n\n|\s*\Z)", flags=re.S)


def pages() -> dict[str, str]:
    """Returns the pages of the reference, by their path on the site."""
    found = {"reference/index.md": _overview()}
    for package in packages():
        found |= of_package(package)
    return found


def of_package(package: str) -> dict[str, str]:
    """Returns the pages of one package, its own first."""
    public = list(names(package))
    if package not in SPLIT:
        head = f"# {package}\n\n{module_doc(package)}\n\n"
        return {f"reference/{package}.md": head + "\n".join(_identifier(p) for p in public)}
    found = {f"reference/{package}.md": _table(package, public)}
    for module, group in groupby(sorted(public, key=_place), attrgetter("module")):
        found[f"reference/{module}.md"] = _entry(module, list(group))
    return found


def paper(public: list[Public]) -> str:
    """Returns what a page's docstrings cite: numbers of arXiv, or else a year with the words before it."""
    text = "\n".join([module_doc(public[0].module), *(p.doc for p in public)])
    cited = list(dict.fromkeys(match.replace("\n", " ") for match in PAPER.findall(text)))
    return ", ".join([c for c in cited if c.startswith("arXiv")] or cited[:2])


def travels(public: list[Public]) -> str:
    """Returns what the docstrings of an algorithm say of what travels; what it has from another is put in its place."""
    said = " ".join(" ".join(found for p in public for found in TRAVELS.findall(p.doc)).split())
    for other in names("lkd.federated"):
        if f"see `{other.name}`" in said:
            said = said.replace(f"see `{other.name}`", travels([other]).removeprefix("Travels: ").rstrip("."))
    return said


def _overview() -> str:
    rows = [
        f"| [`{package}`]({package}.md) | {len(list(names(package)))} | {module_doc(package).splitlines()[0]} |"
        for package in packages()
    ]
    return (
        "# Reference\n\nWhat the packages offer, made from their source when the site is built. What no `__all__` "
        "names is private and may change.\n\n| package | names | what |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _table(package: str, public: list[Public]) -> str:
    """A page with one line for each file of a package, in tables by folder."""
    text = f"# {package}\n\n{module_doc(package)}\n"
    ordered = sorted(public, key=_place)
    for folder, group in groupby(ordered, _folder):
        exchanges = folder.endswith((".algorithms", ".knowledge", ".peers"))
        text += f"\n## {folder}\n\n| names | what | {'travels' if exchanges else 'paper'} |\n|---|---|---|\n"
        for module, file in groupby(group, attrgetter("module")):
            entries = list(file)
            named = ", ".join(f"`{p.name}`" for p in entries)
            what = module_doc(module).splitlines()[0]
            last = travels(entries) if exchanges else paper(entries)
            text += f"| [{named}]({module}.md) | {what} | {last.replace('|', chr(92) + '|')} |\n"
    return text


def _place(public: Public) -> tuple[str, str]:
    return _folder(public), public.module


def _folder(public: Public) -> str:
    return public.module if file_of(public.module).name == "__init__.py" else public.module.rpartition(".")[0]


def _entry(module: str, public: list[Public]) -> str:
    """The page of one file: what it is, configs, and its public names."""
    classes = [p.name for p in public if p.is_class] or [p.name for p in public]
    text = f"# {', '.join(classes)}\n\n{module_doc(module)}\n\n"
    for name in classes:
        if used := that_use(name):
            links = ", ".join(f"[{c}]({address(c).removeprefix('reference/')})" for c in used)
            text += f"Configs with `{name}`: {links}.\n\n"
        elif found := example(name):
            base, overlay = found
            block = yaml.safe_dump(overlay, sort_keys=False, default_flow_style=None, width=100).rstrip()
            link = f"[{base}]({address(base).removeprefix('reference/')})"
            text += f"`{name}` in a config, a second `--config` after {link}:\n\n```yaml\n{block}\n```\n\n"
        elif name in IN_PYTHON:
            text += f"`{name}` in Python: [teachers](../teachers.md#{IN_PYTHON[name]}).\n\n"
    return text + "\n".join(_identifier(p) for p in public)


def _identifier(public: Public) -> str:
    """What mkdocstrings replaces by the entry of a name; an alias, which has no docstring, is shown as it is."""
    alias = "" if public.doc else "    options:\n      show_if_no_docstring: true\n"
    return f"::: {public.package}.{public.name}\n{alias}"
