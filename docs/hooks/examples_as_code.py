"""Shows the examples of docstrings as code: Google's style calls the section `Example` or `Examples`, Griffe the latter."""

import re
from typing import Any

import griffe

ONE = re.compile(r"^(\s*)Example:$", flags=re.M)


class ExamplesAsCode(griffe.Extension):
    """Extension of Griffe that names every section of examples as Griffe does."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Renames the section in an object's docstring."""
        if obj.docstring:
            obj.docstring.value = ONE.sub(r"\1Examples:", obj.docstring.value)
