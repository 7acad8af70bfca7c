"""The parts of a module, listed in microseconds, since every client's work begins with them."""

from collections.abc import Iterator

from torch import nn


def named_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Lists a module and all modules inside, each once, by their names, as `named_modules` does.

    That puts each into a set, for which a torchmetrics `Metric` hashes all its tensors; here they are told
    apart by `id`.

    Example:
        >>> [name for name, _ in named_parts(nn.Sequential(nn.Sequential(nn.ReLU())))]
        ['', '0', '0.0']
    """
    return list(_walk("", module, set()))


def _walk(prefix: str, module: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(module) in seen:
        return
    seen.add(id(module))
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _walk(f"{prefix}.{name}" if prefix else name, child, seen)


def parameters_of(parts: list[tuple[str, nn.Module]]) -> list[nn.Parameter]:
    """Lists the parameters of parts, each once.

    Example:
        >>> len(parameters_of(named_parts(nn.Linear(2, 1))))
        2
    """
    found = (p for _, part in parts for p in part._parameters.values() if p is not None)
    return list({id(p): p for p in found}.values())
