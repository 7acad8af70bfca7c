"""Answers of a teacher to a batch, put together from kept answers and new ones."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import xxhash

from lkd.edge.cache.layout import AnswerLayout, picked
from lkd.edge.cache.loss import apart, lost
from lkd.edge.cache.reduced import AnswerReduction
from lkd.edge.cache.samples import BatchedCall
from lkd.edge.cache.store import Store
from lkd.edge.cache.written import read, written
from lkd.taps import Call

log = logging.getLogger(__name__)

APART = 1e-2
"""Relative distance up to which an answer equals the kept one, which may be from another machine."""
Ask = Callable[[Call], dict[str, Any]]


class Form(NamedTuple):
    """Form in which a layer of the teacher answers.

    Args:
        shape: Shape of the samples.
        layer: Layer of the teacher.
        precision: Precision that the teacher runs in.
    """

    shape: str
    layer: str
    precision: str


class CachedAnswers:
    """Answers of one teacher, kept in a store.

    Args:
        store: The store.

    Attributes:
        forms: Layout of every form of answers, and how such answers are kept.
        asked: Number of samples that were asked about.
        found: Number of these whose answers were kept.
        check: Function that picks, from the places of samples with kept answers, those to ask about again;
            None for none.
        checked: Number of samples that were asked about again.
        wrong: Distances of answers that differ from the kept ones, one number for each sample.
        new: Keys written since the teacher was last seen to be the same in every part.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.forms: dict[Form, tuple[AnswerLayout, AnswerReduction]] = {}
        self.asked = self.found = 0
        self.check: Callable[[Sequence[int]], list[int]] | None = None
        self.checked, self.wrong = 0, list[float]()
        self.new: list[bytes] = []

    def of(
        self,
        samples: BatchedCall,
        forms: Sequence[Form],
        mark: str,
        title: str,
        ask: Ask,
        fresh: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Returns the answers to a batch, by layer.

        Args:
            samples: The batch.
            forms: Forms that are asked for.
            mark: Fingerprint of the teacher.
            title: Name of the teacher, for messages.
            ask: Function that asks the teacher.
            fresh: What the teacher has just answered to this batch, if it has been asked.

        Raises:
            ValueError: If the new answers are not the kept ones, or cannot be kept as the user wants.
        """
        contents = samples.digests(b"")
        keys = {form.layer: self._keys(form, mark, contents) for form in forms}
        found = self.store.get([key for each in keys.values() for key in each], mark)
        there = [
            place for place in range(samples.count) if all(each[place] in found for each in keys.values())
        ]
        gone = sorted(set(range(samples.count)) - set(there))
        self.asked, self.found = self.asked + samples.count, self.found + len(there)
        if fresh is not None:
            self._compare(fresh, range(samples.count), there, forms, keys, found, refuse=title)
            fresh = (
                fresh
                if len(gone) == samples.count
                else _picked(fresh, gone, samples.count, forms, self.forms)
            )
        elif gone:
            fresh = ask(samples.call if len(gone) == samples.count else samples.pick(gone))
        if self.check is not None and (again := self.check(there)):
            self._compare(ask(samples.pick(again)), again, again, forms, keys, found)
        if gone and fresh is not None:
            found |= self._write(fresh, gone, forms, keys, mark, title)
        given = {}
        for form in forms:
            layout, reduction = self.forms[form]
            rows = read([found[key] for key in keys[form.layer]], layout)
            if rows is None:  # rows of several lengths, if the form depends on the contents of the samples
                return ask(samples.call)
            given[form.layer] = layout.filled(reduction.back(rows, layout))
        return given

    def learn(
        self, form: Form, layout: AnswerLayout, reduction: AnswerReduction, said: Any, count: int
    ) -> None:
        """Records the layout of a form, and reports what is lost of its first answers.

        Raises:
            ValueError: If they cannot be kept as the user wants.
        """
        rows = layout.rows(said, count)
        if not reduction.lossless:
            back = reduction.back(reduction.kept(rows, layout), layout)
            if form.layer not in {known.layer for known in self.forms}:
                log.info("cache, %s, %r: %s", form.layer or "output", reduction, lost(rows, back))
        self.forms[form] = layout, reduction

    def _keys(self, form: Form, mark: str, contents: Sequence[bytes]) -> list[bytes]:
        asked = f"{mark}|{form.layer}|{form.precision}|{self.forms[form][1]!r}|".encode()
        return [xxhash.xxh3_128_digest(asked + content) for content in contents]

    def _write(
        self,
        fresh: dict[str, Any],
        places: Sequence[int],
        forms: Sequence[Form],
        keys: dict[str, list[bytes]],
        mark: str,
        title: str,
    ) -> dict[bytes, bytes]:
        new: dict[bytes, bytes] = {}
        for form in forms:
            layout, reduction = self.forms[form]
            rows = layout.rows(fresh[form.layer], len(places))
            data = written(reduction.kept(rows, layout), len(places), layout)
            new |= {keys[form.layer][place]: each for place, each in zip(places, data, strict=True)}
        if self.check is None:  # a test of the store leaves it as it is
            self.store.put(new, mark, title)
            self.new += new
        return new

    def take_back(self) -> int:
        """Drops what was written since the teacher was last seen to be the same.

        Returns the number of answers.
        """
        dropped = self.store.drop(self.new)
        self.new.clear()
        return dropped

    def _compare(
        self,
        fresh: dict[str, Any],
        places: Sequence[int],
        kept: Sequence[int],
        forms: Sequence[Form],
        keys: dict[str, list[bytes]],
        found: dict[bytes, bytes],
        refuse: str | None = None,
    ) -> None:
        """Compares a teacher's new answers with those that are kept."""
        where = [list(places).index(place) for place in kept]
        for form in forms if kept else ():
            layout, reduction = self.forms[form]
            stored = read([found[keys[form.layer][place]] for place in kept], layout)
            live = reduction.kept(picked(layout.rows(fresh[form.layer], len(places)), where), layout)
            tolerance = max(APART, layout.tolerance)
            off = (
                [1.0] * len(kept)
                if stored is None
                else apart(reduction.back(live, layout), reduction.back(stored, layout), tolerance).tolist()
            )
            wrong = [each for each in off if each > tolerance]
            self.checked += len(kept)
            self.wrong += wrong
            if wrong and refuse is not None:
                raise ValueError(
                    f"The cache in {self.store.folder} holds other answers of the teacher {refuse} than it gives now to the same samples "
                    f"({len(wrong)} of {len(kept)}, up to {max(wrong):.2g} of their norm apart), though its weights and code look the same: "
                    "something that they do not show has changed. Prune it (cache prune --teacher), or give another folder as cache."
                )


def _picked(
    fresh: dict[str, Any],
    places: Sequence[int],
    count: int,
    forms: Sequence[Form],
    known: dict[Form, tuple[AnswerLayout, AnswerReduction]],
) -> dict[str, Any]:
    return {
        form.layer: layout.filled(picked(layout.rows(fresh[form.layer], count), places))
        for form in forms
        for layout in [known[form][0]]
    }
