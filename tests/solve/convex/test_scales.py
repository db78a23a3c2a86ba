"""The convex programs at every scale of inputs, and what is promised of epsilon and of the caps."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.convex.program import Convergence, Outcome, solve
from nettrim_cli.solve.convex.sample_space import CheapRow, Residual, SampleResponse
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.problem import TOLERANCE, Limits, Status
from nettrim_cli.solve.responses import Intervals, NormBall
from tests.support.conic import Program, optimum
from tests.support.effort import thinned
from tests.support.small_layers import correlated, make_task

EPSILON = 0.05
CONVEX = ("net-trim", "one-sided", "reweighted")
SCALES = (1e-8, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8)


def scaled_layer(seed, scale, *, relu, cascade=False, epsilon=EPSILON):
    """The same function of inputs in other units."""
    random = np.random.default_rng(seed)
    x = correlated(random, 12, 150)
    W, bias = random.normal(size=(12, 6)), 0.3 * random.normal(size=6)
    pruned = x * (0.9 + 0.2 * random.random((12, 1))) * scale if cascade else None
    return make_task(
        x * scale, W / scale, bias=bias, relu=relu, pruned=pruned, epsilon=epsilon, gamma=1.2
    )


def response_error(task, U):
    """Relative error of the response in float64."""
    X, Z = (np.asarray(each, float) for each in (task.samples.X, task.samples.Z))

    def respond(each):
        return np.maximum(each, 0) if task.relu else each

    return np.linalg.norm(respond(U.T @ X) - respond(Z)) / np.linalg.norm(respond(Z))


@pytest.mark.parametrize("seed", thinned(range(6), 6))
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("method", thinned(CONVEX, 2))
def test_units_of_the_inputs_decide_nothing(method, relu, seed) -> None:
    for scale in SCALES:
        task = scaled_layer(seed, scale, relu=relu)
        found = METHODS[method](task, None)
        assert found.status is Status.SOLVED, scale
        assert response_error(task, found.U) <= EPSILON * (1 + 1e-4), scale
        cost, before = np.abs(found.U).sum(), np.abs(task.W).sum()
        assert cost < 0.95 * before or method == "reweighted", scale


@pytest.mark.parametrize("seed", thinned(range(5), 5))
@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_the_optimum_in_any_unit_is_the_conic_solvers(scale, relu, cascade, seed) -> None:
    # In the first units the weights of inputs cost 1 and the bias as much as the unit: that
    # program is solved by Clarabel, whose weights are feasible, and whose bound is proved.
    program = Program.of(scaled_layer(seed, 1.0, relu=relu, cascade=cascade), one_sided=False)
    prices = np.ones(len(program.X))
    prices[-1] = scale
    prices /= prices.max()
    best = optimum(program, prices)
    assert program.violation(best.U) <= 1e-5 * program.epsilon
    found = solve_net_trim(scaled_layer(seed, scale, relu=relu, cascade=cascade))
    U = found.U.copy()
    U[:-1] *= scale
    value = float((prices[:, None] * np.abs(U)).sum())
    assert found.status is Status.SOLVED
    assert value <= best.value * (1 + TOLERANCE)
    assert value * (1 - found.gap) <= best.value * (1 + 1e-4)  # what is said of the gap is true
    assert best.bound <= value * (1 + 1e-4)


def test_prices_of_small_inputs_are_those_of_the_program() -> None:
    # a weight of an input of a thousandth costs what any weight costs, so the input is not used
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 200))
    x[2] = 1e-3 * x[1]
    found = solve_net_trim(make_task(x, [[1.0], [1.0], [500.0]], epsilon=0.01))
    assert found.status is Status.SOLVED
    assert found.U[2, 0] == 0
    assert found.U[1, 0] == pytest.approx(1.5, rel=0.02)


@pytest.mark.parametrize("tolerance", thinned([5e-3, 5e-4], 2))
@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("method", thinned(CONVEX, 2))
def test_epsilon_holds_literally(method, cascade, tolerance) -> None:
    for seed in range(3):
        task = scaled_layer(seed, 1.0, relu=True, cascade=cascade)
        task = replace(task, limits=Limits(tolerance=tolerance, iterations=20_000))
        program = Program.of(task, one_sided=method != "net-trim")
        found = METHODS[method](task, None)
        assert found.status is Status.SOLVED
        R = program.results(found.U)
        R = R - np.clip(R, program.lower, program.upper)
        assert np.linalg.norm(R) <= program.epsilon * (1 + 2e-5)


@pytest.mark.parametrize("method", CONVEX)
def test_weights_outside_of_epsilon_are_not_written(method) -> None:
    for iterations in (1, 5, 20, 70, 200):
        task = replace(scaled_layer(1, 1.0, relu=True), limits=Limits(iterations=iterations))
        found = METHODS[method](task, None)
        if found.status is Status.DENSE:
            assert found.reason == "limit"
            assert np.array_equal(found.U, task.W)
        else:
            assert response_error(task, found.U) <= EPSILON * (1 + 1e-4)


@pytest.mark.parametrize("iterations", [1, 20, 21, 60, 61, 200, 1000])
def test_iterations_are_a_cap(iterations) -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(12, 150)).astype(np.float32)
    Z = (random.normal(size=(6, 12)) @ X).astype(np.float32)
    ball = NormBall(0.1 * float(np.linalg.norm(np.maximum(Z, 0))))
    response = SampleResponse(X, Intervals.of_response(Z), ball)
    prices = np.full((12, 6), 1 / response.unit)
    limits = Limits(tolerance=1e-9, iterations=iterations)
    found = solve(response, WeightedL1(prices), 1.0, limits=limits)
    assert 0 < found.iterations <= iterations
    assert math.isfinite(found.violation)


@pytest.mark.parametrize(("bound", "gap"), [(2.0, math.inf), (-1.0, 0.0)])
def test_the_gap_of_no_weights_is_that_of_the_bound(bound, gap) -> None:
    response = SampleResponse(np.eye(3), Intervals.of_points(np.ones((2, 3))), NormBall(1.0))
    nothing = np.zeros((3, 2), np.float32)
    convergence = Convergence(response, Limits(), math.inf, None, Outcome(nothing))
    convergence.update_gap(nothing, 0.0, bound, Residual(0.0, 0.0), 1)
    assert convergence.gap == gap


@pytest.mark.parametrize("method", thinned(CONVEX, 3))
@pytest.mark.parametrize("relu", [True, False])
def test_an_epsilon_of_zero_is_the_exact_program(relu, method) -> None:
    # planted: outputs that read two of more inputs than there are samples are found again
    random = np.random.default_rng(5)
    x, W = random.normal(size=(30, 60 if relu else 24)), np.zeros((30, 3))
    for column in W.T:
        column[random.choice(30, 2, replace=False)] = random.choice([-1.0, 1.0], 2)
    limits = Limits(iterations=20_000)
    task = make_task(x, W, bias=np.zeros(3), relu=relu, epsilon=0.0, limits=limits)
    found = METHODS[method](task, None)
    assert found.status in (Status.SOLVED, Status.INACCURATE)
    assert response_error(task, found.U) <= 1e-4
    assert np.allclose(found.U, task.W, atol=1e-3)


def test_a_bound_with_a_cheap_row_is_below_the_optimum_and_near_it() -> None:
    task = scaled_layer(0, 1e-3, relu=True)
    program = Program.of(task, one_sided=False)
    best = optimum(program)
    found = solve_net_trim(task)
    bound = float(np.abs(found.U).sum()) * (1 - found.gap)
    assert best.value * (1 - 2e-2) <= bound <= best.value * (1 + 1e-4)


def test_rows_are_cheap_by_their_prices_and_sizes() -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(4, 50)).astype(np.float32)
    active = np.ones((2, 50), bool)
    assert CheapRow.of(X, active, np.ones((4, 2))) is None
    X[2] *= 1000
    row = CheapRow.of(X, active, np.ones((4, 2)))
    assert row is not None
    assert row.row == 2
    L = random.normal(size=(2, 50))
    pull = X @ L.T
    L -= row.points(slice(None)) * row.settle(pull)[:, None]
    assert np.allclose(X @ L.T, pull, atol=1e-2 * np.abs(X).max())
    assert np.abs(X[2] @ L.T).max() <= 1 + 1e-2
