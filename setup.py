"""Package discovery, which pyproject.toml cannot express: three folders of the package lie at the top level.

They are installed as `lkd.*`, so that no package called `callbacks` ever lands in somebody's environment. The links
to two of them in lkd/ are for running in the repository; a search follows them on some systems and not on others, so
both places are searched, and each package counts once.
"""

from setuptools import find_namespace_packages, find_packages, setup

CODE, DATA = ("callbacks", "datamodules"), "configs"


def within(*folders: str) -> list[str]:
    """Returns patterns of packages and all that is in them."""
    return [pattern for folder in folders for pattern in (folder, f"{folder}.*")]


found = find_packages(include=within("lkd", *CODE)) + find_namespace_packages(include=within(DATA))
setup(
    packages=sorted({name if name.split(".")[0] == "lkd" else f"lkd.{name}" for name in found}),
    package_dir={f"lkd.{folder}": folder for folder in (*CODE, DATA)},
)
