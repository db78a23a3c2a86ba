"""Fixed biases and the risk coefficient of the last layer, against the conic solver."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import Limits, Status
from tests.support.conic import Program, optimum
from tests.support.small_layers import make_task, random_task

TOLERANCE = 1e-3


def with_fixed_bias(program: Program, b: np.ndarray) -> Program:
    """The program of the weights alone, whose results lack the bias b (M,)."""
    added = (program.scale * b)[:, None]
    return replace(
        program, X=program.X[:-1], lower=program.lower - added, upper=program.upper - added
    )


@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize(
    ("method", "response"),
    [("net-trim", {"relu": True}), ("one-sided", {"relu": True}), ("net-trim", {})],
)
def test_a_fixed_bias_stays_and_has_no_price(method, response, cascade) -> None:
    options = response | {"cascade": cascade, "gamma": 1.1}
    scale, shift = np.array([1.5, -0.5, 0.7]), np.array([0.1, -0.2, 0.0])
    task = random_task(3, 8, 3, 48, epsilon=0.1, bias=True, scale=scale, shift=shift, **options)
    task = replace(task, fixed_bias=True, limits=Limits(TOLERANCE))
    free = Program.of(task, one_sided=method == "one-sided")
    best = optimum(with_fixed_bias(free, task.W[-1]))
    found = METHODS[method](task, None)
    assert found.status is Status.SOLVED
    assert np.array_equal(found.U[-1], task.W[-1])
    assert float(np.abs(found.U[:-1]).sum()) == pytest.approx(best.value, rel=2 * TOLERANCE)
    assert free.violation(found.U) <= TOLERANCE * free.epsilon


def test_the_last_layer_does_with_a_share_of_its_epsilon_where_it_can() -> None:
    task = random_task(5, 8, 3, 12, epsilon=0.1, cascade=True, gamma=1.1)
    task = replace(task, limits=Limits(TOLERANCE))
    whole = Program.of(task)
    risked = METHODS["net-trim"](replace(task, risk=0.9), None)
    part = replace(whole, epsilon=0.9 * whole.epsilon)
    assert part.violation(risked.U) <= TOLERANCE * part.epsilon
    assert float(np.abs(risked.U).sum()) == pytest.approx(optimum(part).value, rel=2 * TOLERANCE)


def test_a_risk_that_no_weights_bear_leaves_the_layer_its_epsilon() -> None:
    random = np.random.default_rng(0)
    x, noise = random.normal(size=(2, 4, 80))
    task = make_task(x, random.normal(size=(4, 3)), pruned=x + 0.5 * noise, epsilon=0.1, gamma=1.1)
    program = Program.of(task)
    fit = np.linalg.lstsq(program.X.T, program.upper.T, rcond=None)[0]
    least = np.linalg.norm(program.results(fit) - program.upper) / program.epsilon
    assert least > 0.2  # of epsilon is what no weights go below
    found = METHODS["net-trim"](replace(task, risk=0.5 * least), None)
    assert found.status is Status.SOLVED
    assert "so it has all of it" in found.note
    assert program.violation(found.U) <= TOLERANCE * program.epsilon
    assert np.count_nonzero(found.U) <= np.count_nonzero(METHODS["net-trim"](task, None).U)
