"""The paper's program on problems built from their optimality conditions, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog, minimize

from nettrim_cli.solve.convex.program import solve
from nettrim_cli.solve.convex.sample_space import SampleResponse, gram
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.problem import Limits
from nettrim_cli.solve.responses import Intervals, NormBall

TOLERANCE = 5e-3


class Planted:
    """A program whose optimum is U, by its optimality conditions.

    With S a subgradient of ||U||_1 and ``X L' = -S``, L living on Omega, the points
    ``Y = U'X - epsilon L / ||L||`` on Omega make U optimal.
    """

    def __init__(self, seed, inputs=8, outputs=4, columns=60):
        random = np.random.default_rng(seed)
        x = np.maximum(random.normal(size=(inputs - 1, columns)) + 0.3, 0)
        self.X = np.vstack([x, np.ones((1, columns))])  # the bias is one of the weights
        self.U = random.normal(size=(inputs, outputs)) * (random.random((inputs, outputs)) < 0.4)
        self.U[-1] = 0.5  # so that Omega is not too small
        result = self.U.T @ self.X
        while np.any((result > 0).sum(axis=1) <= 2 * inputs):
            self.U[-1, (result > 0).sum(axis=1) <= 2 * inputs] += 0.5
            result = self.U.T @ self.X
        omega = result > 0
        S = np.where(self.U != 0, np.sign(self.U), random.uniform(-0.8, 0.8, self.U.shape))
        L = np.zeros_like(result)
        for j, on in enumerate(omega):
            L[j, on] = np.linalg.lstsq(self.X[:, on], -S[:, j], rcond=None)[0]
        assert np.allclose(self.X @ L.T, -S)
        self.epsilon = 0.1 * np.linalg.norm(result[omega])
        Y = result - self.epsilon * L / np.linalg.norm(L)
        self.Y, self.omega = np.where(omega, Y, 0), omega
        lower = np.where(omega, Y, -np.inf).astype(np.float32)
        self.intervals = Intervals(lower, np.where(omega, Y, 0).astype(np.float32))
        self.optimum = float(np.abs(self.U).sum())

    def violation(self, U):
        result = U.T @ self.X
        on = np.linalg.norm((result - self.Y)[self.omega])
        off = np.linalg.norm(np.maximum(result, 0)[~self.omega])
        return float(np.hypot(max(0, on - self.epsilon), off)) / self.epsilon


def solved(X, intervals, epsilon, *, prices=None, threads=1, limits=None):
    response = SampleResponse(X.astype(np.float32), intervals, NormBall(epsilon), threads=threads)
    prices = np.ones((1, len(intervals.lower))) if prices is None else prices
    points = np.where(intervals.active, intervals.lower, 0).astype(float)
    rho = 32 / (response.unit * np.linalg.norm(points) / np.sqrt(len(points)))
    found = solve(response, WeightedL1(prices / response.unit), rho, limits=limits)
    return found.S.astype(np.float64) / response.unit, found.gap, found.violation, response


@pytest.mark.parametrize("seed", range(10))
def test_planted_optimum(seed) -> None:
    plan = Planted(seed)
    U, gap, violation, response = solved(plan.X, plan.intervals, plan.epsilon)
    objective = np.abs(U).sum()
    assert gap <= TOLERANCE
    assert violation <= TOLERANCE
    assert objective == pytest.approx(plan.optimum, rel=2 * TOLERANCE)
    # what is said of the weights is true of these weights
    assert plan.violation(U) == pytest.approx(violation, rel=1e-2, abs=1e-5)
    bound = response.bound(WeightedL1(np.ones((1, len(plan.Y))) / response.unit))
    assert bound <= plan.optimum * (1 + 1e-5)
    assert (1 - gap) * objective <= plan.optimum * (1 + 1e-5)
    clear = np.abs(plan.U) > 0.2
    assert np.all(np.sign(U)[clear] == np.sign(plan.U)[clear])
    assert np.abs(U[plan.U == 0]).max() < 0.2


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_is_below_the_optimum_at_every_step(seed) -> None:
    plan = Planted(seed, columns=40)
    response = SampleResponse(plan.X.astype(np.float32), plan.intervals, NormBall(plan.epsilon))
    prices = np.ones((1, 4)) / response.unit
    random = np.random.default_rng(seed)
    for step in range(60):  # any target, any rho: any multiplier
        rho = float(10 ** random.uniform(-1, 2)) if step % 7 == 0 else response.rho
        response.solve(random.normal(size=plan.U.shape).astype(np.float32), rho)
        assert response.bound(WeightedL1(prices)) <= plan.optimum * (1 + 1e-5)


def split(random, inputs, outputs, columns):
    X = np.vstack([np.maximum(random.normal(size=(inputs - 1, columns)), 0), np.ones(columns)])
    W = random.normal(size=(inputs, outputs))
    return X, W, W.T @ X


@pytest.mark.parametrize("seed", range(4))
def test_against_a_linear_program(seed) -> None:
    # next to no room on Omega: an equation there, an inequality elsewhere
    X, _, Z = split(np.random.default_rng(seed), 6, 3, 20)
    for z in Z:
        on = z > 0
        on[np.flatnonzero(on)[3:]] = False  # fewer equations than weights
        if not on.any():
            continue
        part = on | (z <= 0)
        one, z, on = X[:, part], z[part], on[part]
        rows = np.hstack([one.T, -one.T])
        off = {} if on.all() else {"A_ub": rows[~on], "b_ub": np.zeros((~on).sum())}
        found = linprog(np.ones(12), A_eq=rows[on], b_eq=z[on], **off)
        assert found.status == 0
        epsilon = 2e-3 * np.linalg.norm(z[on])
        U, gap, violation, _ = solved(
            one, Intervals.of_response(z[None]), epsilon, limits=Limits(iterations=4000)
        )
        assert (1 - gap) * np.abs(U).sum() <= found.fun * (1 + 1e-5)
        assert np.abs(U).sum() == pytest.approx(found.fun, rel=0.01)
        assert violation <= 0.1


@pytest.mark.parametrize("seed", range(4))
def test_against_slsqp(seed) -> None:
    X, _, Z = split(np.random.default_rng(100 + seed), 6, 3, 20)
    on = Z > 0
    epsilon = 0.2 * np.linalg.norm(Z[on])

    def result(v):
        return (v[:18] - v[18:]).reshape(6, 3).T @ X

    def jacobian(rows):  # of the results at (output, column) pairs
        J = np.zeros((len(rows), 6, 3))
        for i, (j, p) in enumerate(rows):
            J[i, :, j] = X[:, p]
        return J.reshape(len(rows), 18)

    J_on, J_off = jacobian(np.argwhere(on)), jacobian(np.argwhere(~on))

    def ball(v):
        return epsilon**2 - ((result(v)[on] - Z[on]) ** 2).sum()

    def ball_gradient(v):
        half = -2 * (result(v)[on] - Z[on]) @ J_on
        return np.concatenate([half, -half])

    start = np.linalg.lstsq(X.T, Z.T, rcond=None)[0].ravel()
    found = minimize(
        lambda v: v.sum(),
        np.concatenate([np.maximum(start, 0), np.maximum(-start, 0)]),
        jac=lambda _: np.ones(36),
        bounds=[(0, None)] * 36,
        constraints=[
            {"type": "ineq", "fun": ball, "jac": ball_gradient},
            {
                "type": "ineq",
                "fun": lambda v: -result(v)[~on],
                "jac": lambda _: np.hstack([-J_off, J_off]),
            },
        ],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-9},
    )
    assert found.success
    U, gap, violation, _ = solved(X, Intervals.of_response(Z), epsilon)
    assert max(gap, violation) <= TOLERANCE
    assert np.abs(U).sum() == pytest.approx(found.fun, rel=5e-3)


@pytest.mark.parametrize("scale_X", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("scale_Y", [1e-3, 1.0, 1e3])
def test_units_do_not_matter(scale_X, scale_Y) -> None:
    plan = Planted(3)
    sets = Intervals(*(np.float32(scale_Y) * each for each in _ends(plan)))
    U, gap, violation, _ = solved(scale_X * plan.X, sets, scale_Y * plan.epsilon)
    assert max(gap, violation) <= TOLERANCE
    assert np.abs(U).sum() * scale_X / scale_Y == pytest.approx(plan.optimum, rel=0.01)


def _ends(plan):
    return plan.intervals.lower, plan.intervals.upper


@pytest.mark.parametrize("strict", [True, False])
def test_the_violation_by_its_definition(strict) -> None:
    random = np.random.default_rng(0)
    X, _, Z = split(random, 5, 40, 30)
    sets = Intervals.of_response(Z, limits=(0.0, 1.0))
    response = SampleResponse(X.astype(np.float32), sets, NormBall(2.0), strict=strict)
    U = random.normal(size=(5, 40))
    R = sets.residual(U.T @ X)
    shared = sets.active if strict else np.ones(R.shape, bool)
    expected = np.hypot(max(0, np.linalg.norm(R[shared]) - 2.0), np.linalg.norm(R[~shared]))
    left = response.residual(U * response.unit)
    found = np.hypot(response.loss.violation(left.shared), left.exact)
    assert found == pytest.approx(expected, rel=1e-5)


def test_threads_change_nothing() -> None:
    X, _, Z = split(np.random.default_rng(1), 6, 100, 50)
    sets = Intervals.of_response(Z)
    one, two = (
        solved(X, sets, 0.1 * np.linalg.norm(np.maximum(Z, 0)), threads=threads)[0]
        for threads in (1, 2)
    )
    assert np.array_equal(one, two)


def test_a_price_for_each_output() -> None:
    # prices p for weights U are prices 1 for weights p U of results p z
    plan = Planted(5)
    p = np.array([[0.5, 1, 2, 4]])
    one = solved(plan.X, plan.intervals, plan.epsilon, prices=p)
    objective = (np.abs(one[0]) * p).sum()
    assert one[1] <= TOLERANCE
    assert objective <= (np.abs(plan.U) * p).sum() * (1 + TOLERANCE)


def test_nothing_in_or_nothing_out() -> None:
    response = SampleResponse(
        np.zeros((3, 4), np.float32), Intervals.of_points(np.ones((2, 4))), NormBall(3)
    )
    found = solve(response, WeightedL1(np.ones((1, 2))), 1.0)
    S, gap, violation = found.S, found.gap, found.violation
    assert not S.any()
    assert gap == violation == 0
    none = Intervals.of_points(np.ones((0, 4)))
    response = SampleResponse(np.ones((3, 4), np.float32), none, NormBall(1.0))
    assert solve(response, WeightedL1(np.ones((1, 0))), 1.0).S.shape == (3, 0)


def test_gram_in_parts() -> None:
    X = np.random.default_rng(0).normal(size=(3, 9001)).astype(np.float32)
    assert np.allclose(gram(X), X.astype(float) @ X.T.astype(float), rtol=1e-5)
