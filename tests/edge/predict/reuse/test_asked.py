"""What `--reuse` reads."""

import pytest

from lkd.edge.predict.reuse.asked import Reuse, read


def test_values_and_defaults():
    assert read("{distance: 2.0, ttl_s: 60}") == Reuse(distance=2.0, ttl_s=60.0)
    assert read('{"where": "slots", "cells": 32}') == read("where: slots,cells: 32") == Reuse(where="slots", cells=32)  # fmt: skip
    assert read("{}") == Reuse()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{distanc: 2}", "'distanc: 2' is none of distance, .* did you mean distance"),
        ("2", "'2' is none of distance"),
        ("{distance: far}", "distance=far is no number"),
        ("{cells: 6.5}", "cells=6.5 is no whole number"),
        ("{ttl_s: 1, ttl_s: 2}", "ttl_s is given twice"),
        ("{where: sky}", "where='sky' must be 'frame' or 'slots'"),
        ("{step_s: 0}", "step_s=0.0 must be above 0 and finite"),
        ("{agree: 2}", r"agree=2.0 must be in \[0, 1\]"),
        ("{seed: -1}", "seed=-1 must be 0 or more"),
    ],
)
def test_what_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        read(text)
