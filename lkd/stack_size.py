"""How many clients a call of a module is for, where `torch.func.vmap` hides it from the call itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_SIZE: ContextVar[int | None] = ContextVar("lkd_stack_size", default=None)


def stack_size() -> int:
    """Returns the number of clients that a call inside of a stack is for; 1 outside.

    Example:
        >>> with stack_of(5):
        ...     stack_size()
        5
        >>> stack_size()
        1
    """
    return _SIZE.get() or 1


def is_stacked() -> bool:
    """Tells whether a call is inside of a stack, where tensors do not tell whether they have gradients.

    Example:
        >>> is_stacked()
        False
    """
    return _SIZE.get() is not None


@contextmanager
def stack_of(clients: int) -> Iterator[None]:
    """Says, inside, how many clients each call is for.

    Args:
        clients: The number.
    """
    token = _SIZE.set(clients)
    try:
        yield
    finally:
        _SIZE.reset(token)
