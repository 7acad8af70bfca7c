"""A federation as plain values that travel, and as objects again where only certain classes may be named."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from lkd.parser import Parser
from lkd.trust import check, import_trusted

Plan = dict[str, Any]
"""`model` and `data` with class path and arguments, and a list of `callbacks`."""
ALLOW = "`allow: [{!r}]` in the site's local YAML"


def check_description(given: Mapping[str, Any]) -> None:
    """Refuses a description without `model` or `data`, or with one that names no class.

    Raises:
        ValueError: If there is something wrong; the message names it.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"description={given!r:.80} must be a dict with model, data and callbacks.")
    if strange := sorted(map(str, given.keys() - {"model", "data", "callbacks"})):
        raise ValueError(
            f"description has {strange[0]!r:.80}, and must have model and data, and may have callbacks."
        )
    callbacks = given.get("callbacks", [])
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise ValueError(f"description={{'callbacks': {callbacks!r:.80}}} must have a list of callbacks.")
    parts = {"model": given.get("model"), "data": given.get("data")}
    for name, value in [*parts.items(), *((f"callbacks[{k}]", one) for k, one in enumerate(callbacks))]:
        if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
            raise ValueError(
                f"description={{{name!r}: {value!r:.80}}} must have a {name} with a class_path and init_args."
            )
        if not isinstance(value.get("init_args"), Mapping | None):
            raise ValueError(
                f"description: {name} has init_args={value['init_args']!r:.80}, which must be a dict of arguments."
            )


def plan_of(trainer: Trainer, given: Mapping[str, Any] | None, callbacks: Sequence[Any]) -> Plan:
    """Describes a run by its configuration.

    Args:
        trainer: The federation's Trainer; the command line's has a callback that knows the configuration.
        given: A description in its place, for runs from Python.
        callbacks: Those that reach into clients' modules.

    Raises:
        ValueError: If nothing describes the run, or not all of it.
    """
    if given is None:
        saved = [c for c in trainer.callbacks if isinstance(c, SaveConfigCallback)]  # type: ignore[attr-defined]
        if not saved:
            raise ValueError(
                "engine=NVFlare: a site makes the federation from a description in plain values; run it by `cli.py fit --config`, or "
                'give NVFlare(description={"model": {"class_path": ..., "init_args": ...}, "data": ...}).'
            )
        config = saved[0].config.as_dict()
        listed = config["trainer"]["callbacks"] or []
        given = {"model": config["model"], "data": config["data"]}
        given = {**given, "callbacks": listed if isinstance(listed, list) else [listed]}
    plan: Plan = json.loads(json.dumps(given, default=str))
    plan["model"].get("init_args", {}).pop("engine", None)
    names = {type(callback).__name__ for callback in callbacks}
    found = [c for c in plan.get("callbacks", []) if c["class_path"].rpartition(".")[2] in names]
    if len(found) != len(callbacks):
        raise ValueError(
            f"engine=NVFlare: {', '.join(sorted(names))} reach into the clients' modules, and the description has {len(found)} such "
            "callbacks: name each of them under `callbacks`."
        )
    return {**plan, "callbacks": found}


def make_federation(plan: Plan, allow: Sequence[str]) -> Any:
    """Makes the federation of a plan.

    Raises:
        ValueError: If it names what this site does not allow.
    """
    return _made(plan["model"], LightningModule, allow)


def make_callbacks(plan: Plan, allow: Sequence[str]) -> list[Any]:
    """Makes the callbacks of a plan that reach into clients' modules; see `make_federation`."""
    made = [_made(each, Callback, allow) for each in plan["callbacks"]]
    if strange := [type(c).__name__ for c in made if not hasattr(c, "take_settings")]:
        raise ValueError(f"{strange[0]} has nothing to do at a client, so a site does not run it.")
    return made


def _made(described: Any, kind: type, allow: Sequence[str]) -> Any:
    if not isinstance(described, dict) or not isinstance(described.get("class_path"), str):
        raise ValueError("a description must have a class_path and init_args.")
    for name in allow:
        import_trusted(f"{name}.x" if "." not in name else name, allow)
    check(described, "the server's description", allow, ALLOW)
    parser = Parser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "it")
    return parser.instantiate(parser.parse_object(Namespace(it=described)))["it"]
