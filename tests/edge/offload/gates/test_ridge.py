"""Ridge regression against the normal equations, and leave-one-out against leaving one out."""

import numpy as np
import pytest

from lkd.edge.offload.gates.ridge import Ridge


@pytest.fixture
def rows():
    random = np.random.default_rng(0)
    x = random.normal(3, [1, 5, 0.1, 1], (30, 4))
    return x, x @ [1.0, -0.2, 4.0, 0.0] + random.normal(0, 0.5, 30)


def by_hand(x, y, penalty, mean, std):
    z = (x - mean) / std
    w = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y - y.mean()))
    return lambda new: (new - mean) / std @ w + y.mean()


def test_it_solves_the_normal_equations(rows):
    x, y = rows
    for penalty in (0.0, 1.0, 50.0):
        made = Ridge(x, y, np.array([penalty]))
        assert made(x[:5] + 1) == pytest.approx(by_hand(x, y, penalty, x.mean(0), x.std(0))(x[:5] + 1))


def test_the_penalty_is_that_of_the_least_error_of_rows_left_out(rows):
    x, y = rows
    mean, std, z = x.mean(0), x.std(0), np.hstack([np.ones((30, 1)), (x - x.mean(0)) / x.std(0)])
    penalties, errors = np.array([0.01, 1.0, 10.0, 1000.0]), []
    for penalty in penalties:
        ridge = np.diag([0.0, *[penalty] * 4])  # the bias is not penalized
        left = []
        for n in range(30):
            rest = np.arange(30) != n
            w = np.linalg.solve(z[rest].T @ z[rest] + ridge, z[rest].T @ y[rest])
            left.append(y[n] - z[n] @ w)
        errors.append(np.mean(np.square(left)))
    assert Ridge(x, y, penalties).penalty == penalties[np.argmin(errors)]
    assert mean.shape == std.shape


def test_a_constant_column_and_a_constant_target():
    x = np.hstack([np.ones((6, 1)), np.arange(6.0)[:, None]])
    assert np.isfinite(Ridge(x, np.arange(6.0))(x)).all()
    assert Ridge(x, np.full(6, 2.0))(x) == pytest.approx(2.0)
    assert Ridge(np.ones((4, 2)), np.arange(4.0))(np.ones((1, 2))) == pytest.approx(1.5)


def test_two_rows_are_too_few():
    with pytest.raises(ValueError, match="three calibration samples or more, and there are 2"):
        Ridge(np.eye(2), np.ones(2))
