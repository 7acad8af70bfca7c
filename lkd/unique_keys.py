"""YAML in which no key stands twice: PyYAML would take the last one, without a word."""

from collections.abc import Iterator
from typing import Any

import yaml

MERGE = "tag:yaml.org,2002:merge"


class RepeatedKeyError(yaml.YAMLError):
    """A key that stands twice in one mapping."""


def load_yaml(text: str) -> Any:
    r"""Loads YAML safely, and refuses a key that stands twice.

    Raises:
        yaml.YAMLError: If it is no YAML, or a key stands twice in one mapping; the message has both lines.

    Example:
        >>> load_yaml("a: 1")
        {'a': 1}
        >>> load_yaml("model: {lr: 1}\nmodel: {}")
        Traceback (most recent call last):
        lkd.unique_keys.RepeatedKeyError: line 2: 'model' stands in line 1 already, and only one of the two can hold
    """
    check_unique(text)
    return yaml.safe_load(text)


def check_unique(text: str) -> None:
    """Refuses YAML with a key that stands twice in one mapping; see `load_yaml`."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for node in _mappings(root, set()) if root is not None else ():
        lines: dict[tuple[str, str], int] = {}
        for key in (one for one, _ in node.value if isinstance(one, yaml.ScalarNode) and one.tag != MERGE):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in lines:
                raise RepeatedKeyError(
                    f"line {line}: {key.value!r} stands in line {lines[name]} already, and only one of the two can hold"
                )
            lines[name] = line


def _mappings(node: yaml.Node, seen: set[int]) -> Iterator[yaml.MappingNode]:
    """Yields all mappings below a node; one that an alias repeats comes once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        yield node
        for pair in node.value:
            for one in pair:
                yield from _mappings(one, seen)
    elif isinstance(node, yaml.SequenceNode):
        for one in node.value:
            yield from _mappings(one, seen)
