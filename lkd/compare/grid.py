"""What is compared: methods, settings and seeds, and the runs that they make up."""

import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Method:
    """One line of the comparison.

    Attributes:
        config: Configuration file of `fit`, in place of the comparison's `base`.
        overrides: Options of the command line, `--KEY=VALUE`.
        baseline: Whether it is a yardstick whose exchange does not count (isolated clients, pooled data). It
            is drawn as a horizontal line, without bytes.
        measure: Name by which the module logs the comparison's metric, where it differs, such as
            `test/acc_head4` for `test/acc`.
    """

    config: str = ""
    overrides: tuple[str, ...] = ()
    baseline: bool = False
    measure: str = ""


@dataclass(frozen=True)
class Run:
    """One fit: a method in a setting with a seed. `setting` is empty where there is only one.

    Example:
        >>> str(Run("missing .5", "FedAvg", 0)), Run("missing .5", "FedAvg", 0).folder.as_posix()
        ('FedAvg, missing .5, seed 0', 'missing_.5/FedAvg/seed_0')
    """

    setting: str
    method: str
    seed: int

    @property
    def folder(self) -> Path:
        """Folder of the run, relative to the folder of the comparison."""
        return Path(*map(_safe, filter(None, (self.setting, self.method))), f"seed_{self.seed}")

    def __str__(self) -> str:
        """Names the run for people."""
        return f"{self.method}{f', {self.setting}' if self.setting else ''}, seed {self.seed}"


@dataclass(frozen=True)
class RunGrid:
    """A comparison. Its YAML has these attributes as keys.

    Attributes:
        base: Configuration file of `fit` that all methods start from.
        methods: By name: `config`, `overrides`, `baseline` and `measure`, each of which may be left out.
        title: Title of the report.
        about: A few sentences for the top of the report.
        settings: By name: overrides, after those of the method. Default: one setting.
        overrides: Overrides of all runs, before those of the method.
        seeds: Every method runs in every setting once with each of these seeds.
        seeded: Options that are set to the seed. Default: `seed_everything`, `data.seed` and `model.seed`, as
            far as they exist.
        metric: Metric to compare, such as `test/acc`, `clients/test/acc/worst` or `shared/test/acc/mean` (see
            `lkd.callbacks.TradeoffLog`).
        higher_is_better: Default: true unless the metric's name has a word such as "loss" or "error".
        target: A value of the metric; the report says how many bytes each method needs to reach it.
        every: Rounds between two measurements.
        limit: Largest number of clients to measure, drawn by chance once, see `lkd.callbacks.TradeoffLog`.
        folder: Where runs and report go. Default: `runs/<name of the file>`.
    """

    base: str
    methods: dict[str, Method]
    title: str = ""
    about: str = ""
    settings: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"": ()})
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    seeded: tuple[str, ...] = ()
    metric: str = "test/acc"
    higher_is_better: bool = True
    target: float | None = None
    every: int = 1
    limit: int = 100
    folder: str = "runs/compare"

    @property
    def runs(self) -> list[Run]:
        """All runs, seed after seed, so that an interrupted comparison has complete seeds."""
        return [Run(s, m, seed) for seed in self.seeds for s in self.settings for m in self.methods]

    @property
    def part(self) -> str:
        """Data that the metric is measured on: `"val"` or `"test"`."""
        return "val" if "val" in self.metric.split("/") else "test"

    @property
    def measure(self) -> str:
        """Name that the module itself logs: the metric without `clients`, `shared`, mean, best or worst.

        Example:
            >>> RunGrid("x.yaml", {}, metric="clients/test/acc/worst").measure
            'test/acc'
        """
        words = self.metric.split("/")
        words = words[words[0] in ("clients", "shared") :]
        return "/".join(words[: -1 if words[-1] in ("mean", "best", "worst", "std") else None])

    def arguments(self, setting: str, method: str) -> list[str]:
        """Returns the arguments of `fit`, without a seed."""
        chosen = self.methods[method]
        overrides = [*self.overrides, *chosen.overrides, *self.settings[setting]]
        return ["--config", chosen.config or self.base, *overrides]


def _safe(name: str) -> str:
    """Makes a name safe for a folder."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("_") or "_"
