"""Bit for bit the same in one process or two, for every kind of job."""

import pytest

from .job import KINDS, run
from .test_exact import assert_same, finish, result, start

ROUNDS = dict.fromkeys(KINDS, 4) | {"two_heads": 5, "fedbn": 2}
"""`two_heads` takes longer until somebody stops; `fedbn` goes on with one rank, below."""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """Where two processes have left a run of each kind, one after the other: to begin a pair takes 20 seconds."""
    folder = tmp_path_factory.mktemp("two_ranks")
    finish(start(folder, 2, **ROUNDS))
    return folder


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "fedbn"])
def test_two_ranks_equal_one(kind, tmp_path, two_ranks):
    """Cohorts of three of five clients: the ranks have unequal numbers of them, sometimes none."""
    run(kind, tmp_path, ROUNDS[kind])
    assert_same(result(tmp_path), result(two_ranks / kind))


def test_a_run_on_two_ranks_goes_on_with_one(tmp_path, two_ranks):
    run("fedbn", tmp_path, 4)
    run("fedbn", two_ranks / "fedbn", 4)
    assert_same(result(tmp_path), result(two_ranks / "fedbn"))
