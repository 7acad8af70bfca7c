"""The parts of a module, listed in microseconds, since every client's work begins with them."""

from torch import nn


def named_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Lists a module and all modules inside, each once, by their names, as `named_modules` does.

    That puts each into a set, for which a torchmetrics `Metric` hashes all its tensors; here they are told
    apart by `id`.

    Example:
        >>> [name for name, _ in named_parts(nn.Sequential(nn.Sequential(nn.ReLU())))]
        ['', '0', '0.0']
    """
    found: list[tuple[str, nn.Module]] = []
    _walk("", module, set(), found)
    return found


def _walk(prefix: str, module: nn.Module, seen: set[int], found: list[tuple[str, nn.Module]]) -> None:
    if id(module) in seen:
        return
    seen.add(id(module))
    found.append((prefix, module))
    for name, child in module._modules.items():
        if child is not None:
            _walk(f"{prefix}.{name}" if prefix else name, child, seen, found)


def parameters_of(parts: list[tuple[str, nn.Module]]) -> list[nn.Parameter]:
    """Lists the parameters of parts, each once.

    Example:
        >>> len(parameters_of(named_parts(nn.Linear(2, 1))))
        2
    """
    found = {}
    for _, part in parts:
        for p in part._parameters.values():
            if p is not None:
                found[id(p)] = p
    return list(found.values())


def begin_training(module: nn.Module) -> None:
    """Sets a module to training mode, and spends nothing where it is in it, unless a part has a `train` of its own.

    Example:
        >>> begin_training(net := nn.Sequential(nn.ReLU()).eval())
        >>> net[0].training
        True
    """
    parts = named_parts(module)
    if not all(part.training and type(part).train is nn.Module.train for _, part in parts):
        module.train()
