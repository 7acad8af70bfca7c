"""What every term compares: the student's outputs, and the teacher's on the same input."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lkd.addresses import parse
from lkd.distillation.compared import compared
from lkd.losses import Term
from lkd.nested import tensors
from lkd.taps import Call, Taps
from lkd.teachers import Teacher


@dataclasses.dataclass
class TermPair:
    """A term, with the outputs that it compares.

    Args:
        name: Name of the term.
        term: The loss.
        student: A tensor, a list of tensors, or raw outputs.
        teacher: The teacher's counterpart.
        unknown: Addresses of sequences for which it is not known whether channels come first.
    """

    name: str
    term: Term
    student: Any
    teacher: Any
    unknown: Sequence[str] = ()


def pair_up(
    terms: Mapping[str, Term],
    outputs: Taps,
    teacher: Teacher,
    given: Call,
    layouts: dict[tuple[str, str], str | None],
) -> list[TermPair]:
    """Asks the teacher, and pairs its outputs with the student's.

    Args:
        terms: The losses by name.
        outputs: Outputs of the student's layers.
        teacher: The teacher.
        given: Arguments that the teacher is called with.
        layouts: Layouts found so far, which stay as they were first found.

    Raises:
        ValueError: If a layer did not run, or gave what its loss cannot take.
    """
    theirs = teacher.tapped(given, teacher_layers(terms.values()))
    pairs = []
    for name, term in terms.items():
        ours = [
            compared(outputs.model, _found(outputs, at), outputs.output(at), "student_layer", term, layouts)
            for at in as_list(term.student_layer)
        ]
        taught = [
            compared(*teacher.owner(at), theirs[at], "teacher_layer", term, layouts)
            for at in as_list(term.teacher_layer)
        ]
        unknown = [place for _, places in (*ours, *taught) for place in places]
        sides = [[value for value, _ in side] for side in (ours, taught)]
        student = sides[0] if isinstance(term.student_layer, list) else sides[0][0]
        answer = sides[1] if isinstance(term.teacher_layer, list) else sides[1][0]
        pairs.append(TermPair(name, term, student, answer, unknown))
    return pairs


def _found(outputs: Taps, address: str) -> str:
    """Returns the address, with the name of the layer that stands for the student's own forward."""
    return f"{outputs.root}{address}" if outputs.root and parse(address).module == "" else address


def require_gradient(pairs: Iterable[TermPair]) -> None:
    """Refuses to compare outputs that no gradient reaches: the loss would be logged, and train nothing.

    Raises:
        ValueError: If there is such an output.
    """
    for pair in pairs:
        moved = [tensor.requires_grad for tensor in tensors(pair.student)]
        if not (any(moved) if pair.term.raw else all(moved)):  # raw outputs hold anchors and the like
            raise ValueError(
                f"student_layer={pair.term.student_layer!r} of {type(pair.term).__name__} gives what no gradient reaches, so that its loss "
                "moves nothing: the layer and those before it are frozen, or run under no_grad (or in a reentrant checkpoint); "
                "unfreeze it, or name a later layer."
            )


def name_terms(terms: Iterable[Term]) -> dict[str, Term]:
    """Names every term after its class, with a number where a class occurs again.

    Example:
        >>> from lkd.losses import KD
        >>> list(name_terms([KD(), KD(temperature=1.0)]))
        ['kd', 'kd_2']
    """
    named: dict[str, Term] = {}
    for term in terms:
        base = type(term).__name__.lower()
        count = 1 + sum(n.split("_")[0] == base for n in named)
        named[base if count == 1 else f"{base}_{count}"] = term
    return named


def student_layers(terms: Iterable[Term]) -> list[str]:
    """Returns all layers of the student that terms compare."""
    return [layer for term in terms for layer in as_list(term.student_layer)]


def teacher_layers(terms: Iterable[Term]) -> list[str]:
    """Returns all layers of the teacher that terms compare."""
    return [layer for term in terms for layer in as_list(term.teacher_layer)]


def as_list(value: str | list[str]) -> list[str]:
    """Returns a single layer address as a list of one."""
    return [value] if isinstance(value, str) else list(value)
