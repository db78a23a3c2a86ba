"""How a convex solve ends, and the reduced programs that it goes through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.convex import program
from nettrim_cli.solve.convex.batched_admm import (
    WEIGHT_RHO,
    Scratch,
    Subproblem,
    SubproblemBatch,
    inverse,
)
from nettrim_cli.solve.convex.program import solve
from nettrim_cli.solve.convex.sample_space import ALPHA, SampleResponse
from nettrim_cli.solve.convex.working_set import WorkingSet
from nettrim_cli.solve.penalties import BlockNorm, KeepBlocks, KeepLargest, KeepNOfM, WeightedL1
from nettrim_cli.solve.problem import Limits, Status
from nettrim_cli.solve.responses import Intervals, NormBall, SquaredNorm


def layer(seed=0, inputs=12, outputs=20, columns=150, *, strict=True, epsilon=0.1):
    random = np.random.default_rng(seed)
    causes = random.normal(size=(4, columns))
    x = np.maximum(random.normal(size=(inputs, 4)) @ causes + random.normal(size=(1, columns)), 0)
    X = np.vstack([x, np.ones((1, columns))]).astype(np.float32)
    W = random.normal(size=(inputs + 1, outputs))
    Z = (W.T @ X).astype(np.float32)
    size = float(np.linalg.norm(np.maximum(Z, 0)))
    response = SampleResponse(X, Intervals.of_response(Z), NormBall(epsilon * size), strict=strict)
    prices = WeightedL1(np.ones((1, outputs)) / response.unit)
    return response, prices, 68 / (response.unit * size / math.sqrt(outputs)), W


def begun(steps=20, **form):
    """A response after some steps of ADMM, and its reduced programs."""
    response, prices, rho, W = layer(**form)
    _, V, _ = admm(
        response,
        prices,
        start=np.zeros(W.shape, np.float32),
        schedule=(rho,) * steps,
        alpha=ALPHA,
    )
    return WorkingSet(response, prices.weights, V), response, prices


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_reduced_programs_and_steps_over_all_samples_agree(strict, seed, monkeypatch) -> None:
    limits = Limits(tolerance=2e-4, iterations=20_000)
    rounds = []
    inner = WorkingSet.round
    monkeypatch.setattr(WorkingSet, "round", lambda *a: rounds.append(1) or inner(*a))
    response, prices, rho, _ = layer(seed, strict=strict)
    found = solve(response, prices, rho, limits=limits)
    assert rounds
    monkeypatch.setattr(WorkingSet, "worthwhile", False)
    response, prices, rho, _ = layer(seed, strict=strict)
    plain = solve(response, prices, rho, limits=limits)
    assert found.status is plain.status is Status.SOLVED
    values = [prices.value(each.S) for each in (found, plain)]
    assert values[0] == pytest.approx(values[1], rel=6e-4)
    # each one's bound holds for the other
    assert found.bound <= values[1] * (1 + 3e-4)
    assert plain.bound <= values[0] * (1 + 3e-4)


def test_a_rounds_verdict_is_that_of_the_response() -> None:
    working_set, response, _ = begun()
    for _ in range(3):
        found = working_set.round(30)
    R = response.intervals.residual(working_set.U @ response.X)
    shared = response.shares > 0
    left = found.residual
    assert left.shared == pytest.approx(np.linalg.norm(R[shared]), rel=1e-4)
    assert left.exact == pytest.approx(np.linalg.norm(R[~shared]), rel=1e-3, abs=1e-6)
    assert found.value == pytest.approx(np.abs(working_set.U).sum() / response.unit, rel=1e-5)
    again = response.residual(working_set.U.T)
    assert (again.shared, again.exact) == pytest.approx((left.shared, left.exact), rel=1e-3)


def test_the_gram_matrix_grows_as_if_made_anew() -> None:
    working_set, response, _ = begun()
    few, more = np.array([3, 0, 7]), np.array([12, 1])
    none = np.empty(0, np.float32)
    part = Subproblem(5, few, few[:0])
    group = SubproblemBatch(working_set.program(), [part], [np.zeros(3)], [none], Scratch())
    group.admit(working_set.lam, [more], [np.ones(2)], [np.array([8])], working_set.U)
    assert part.weights.tolist() == [3, 0, 7, 12, 1]
    assert part.entries.tolist() == [8]
    active = response.intervals.active[5]
    inside = response.X[part.weights][:, active].astype(float)
    Y = response.X[part.weights][:, [8]].astype(float)
    H = inside @ inside.T
    assert np.allclose(group.H[0, :5, :5], H, rtol=1e-5, atol=1e-6)
    assert np.allclose(group.Y[0, :1, :5], Y.T)
    whole = H + group.entry_rho * (Y @ Y.T) + WEIGHT_RHO * np.eye(5)
    inverses = group.inverses()
    assert np.allclose(inverses[0, :5, :5] @ whole, np.eye(5), atol=1e-4)
    assert not inverses[0, 5:].any()
    assert np.allclose(group.b[0, :5], inside @ response.intervals.lower[5, active])
    assert not group.Y[0, 1:].any()


@pytest.mark.parametrize("size", [1, 5, 49, 130])
def test_inverses_of_positive_definite_matrices(size) -> None:
    A = np.random.default_rng(size).normal(size=(size, 2 * size)).astype(np.float32)
    A = A @ A.T + np.eye(size, dtype=np.float32)
    assert np.allclose(inverse(A) @ A, np.eye(size), atol=1e-3)
    with pytest.raises(np.linalg.LinAlgError):
        inverse(-A)


def test_another_multiplier_leaves_those_of_weights_and_entries() -> None:
    working_set, *_ = begun()
    working_set.round(20)

    def multipliers(group):
        pull = (group.V - group.sparse_weights(working_set.lam)) * WEIGHT_RHO * working_set.lam
        return pull, group.prox_residual() * group.entry_rho * working_set.lam

    before = [multipliers(group) for group in working_set.batches]
    kept = [group.sparse_weights(working_set.lam) for group in working_set.batches]
    working_set.set_multiplier(3 * working_set.lam)
    for group, old, S in zip(working_set.batches, before, kept, strict=True):
        assert np.allclose(group.sparse_weights(working_set.lam), S, rtol=1e-4, atol=1e-5)
        for now, then in zip(multipliers(group), old, strict=True):
            assert np.allclose(now, then, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strict", [True, False])
def test_a_stiffer_penalty_leaves_results_and_multipliers(strict) -> None:
    working_set, *_ = begun(strict=strict)
    working_set.round(20)
    for group in working_set.batches:
        R = group.prox_residual()
        T, multipliers = group.G - R, R * group.entry_rho
        for k in range(len(group.subproblems)):
            group.stiffen(k, 3.0)
        R = group.prox_residual()
        assert np.allclose(group.G - R, T, atol=1e-5)
        assert np.allclose(R * group.entry_rho, multipliers, rtol=1e-4, atol=1e-4)


def test_no_room_is_no_use_for_reduced_programs() -> None:
    assert not begun(epsilon=5.0)[0].worthwhile  # the ball does not bind
    assert not begun(epsilon=0.0)[0].worthwhile
    assert begun()[0].worthwhile


def test_time_is_kept(monkeypatch) -> None:
    response, prices, rho, _ = layer()
    found = solve(response, prices, rho, limits=Limits(tolerance=1e-9, seconds=0))
    assert found.status is Status.TIME_LIMIT
    assert found.iterations == program.WARM + program.INNER[0]  # the first look
    assert np.isfinite(found.S).all()


def test_too_few_iterations_are_said() -> None:
    response, prices, rho, _ = layer()
    found = solve(response, prices, rho, limits=Limits(iterations=3))
    assert found.status is Status.MAX_ITERATIONS
    assert found.iterations == 3
    assert found.worst > 0.05


def test_an_empty_set_is_told_by_a_bound_without_end() -> None:
    # one input that is always 1 cannot be 1 and at most 0 at once
    X = np.ones((1, 6), np.float32)
    Z = np.array([[1, 1, 1, -1, -1, -1]], np.float32)
    response = SampleResponse(X, Intervals.of_response(Z), NormBall(0.1))
    found = solve(response, WeightedL1(np.ones((1, 1))), 1.0, feasible_value=10.0)
    assert found.status is Status.INFEASIBLE
    assert found.bound > 10.0 * program.INFEASIBLE


def test_numbers_out_of_range_are_told() -> None:
    response, prices, rho, _ = layer()
    response.G[0, 0] = np.nan
    found = solve(response, prices, rho)
    assert found.status is Status.NOT_FINITE


def small(seed, kind, inputs=10, outputs=4, columns=80):
    """X, W, and a response set of the kind given."""
    random = np.random.default_rng(seed)
    X = np.vstack([np.maximum(random.normal(size=(inputs, columns)), 0), np.ones(columns)])
    W = random.normal(size=(inputs + 1, outputs))
    Z = (W.T @ X).astype(np.float32)
    sets = Intervals.of_points(Z) if kind == "linear" else Intervals.of_response(Z)
    return X.astype(np.float32), W, sets


def independent(X, sets, U, *, strict):
    """||R|| on shared and other entries in float64, from the definition."""
    Z = U.T @ X.astype(float)
    R = Z - np.clip(Z, sets.lower.astype(float), sets.upper.astype(float))
    on = np.asarray(sets.lower == sets.upper) if strict else np.ones(R.shape, bool)
    return np.linalg.norm(R[on]), np.linalg.norm(R[~on])


KINDS = {"strict": True, "one-sided": False, "linear": True}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gauge", ["l1", "rows", "columns"])
def test_constrained_and_penalised_are_one_problem(kind, seed, gauge) -> None:
    X, W, sets = small(seed, kind)
    limits = Limits(tolerance=5e-4, iterations=8000)
    weights = {"l1": (1, 4), "rows": (11, 1), "columns": (1, 4)}[gauge]
    sides = {"rows": (1, None), "columns": (None, 1)}.get(gauge)

    def penalty(unit):
        prices = np.ones(weights) / unit
        return BlockNorm(prices, *sides) if sides else WeightedL1(prices)

    epsilon = 0.25 * float(np.linalg.norm(sets.lower[sets.active]))
    ball = SampleResponse(X, sets, NormBall(epsilon), strict=KINDS[kind])
    found = solve(ball, penalty(ball.unit), 20.0 / epsilon, limits=limits)
    assert found.status is Status.SOLVED
    U = found.S.astype(float) / ball.unit
    value = penalty(1.0).value(U)
    on, off = independent(X, sets, U, strict=KINDS[kind])
    assert math.hypot(max(0, on - epsilon), off) <= 6e-4 * epsilon
    assert found.bound <= value * (1 + 1e-3)
    assert value <= penalty(1.0).value(W) * (1 + 1e-3)  # W is feasible
    lam = found.multiplier
    square = SampleResponse(X, sets, SquaredNorm(lam), strict=KINDS[kind])
    again = solve(square, penalty(square.unit), 20.0 / epsilon, limits=limits)
    assert again.status is Status.SOLVED
    S = again.S.astype(float) / square.unit
    on, _ = independent(X, sets, S, strict=KINDS[kind])
    both = value + lam / 2 * epsilon**2
    assert penalty(1.0).value(S) + lam / 2 * on**2 == pytest.approx(both, rel=5e-3)
    assert again.bound <= both * (1 + 1e-3)


@kinds
@pytest.mark.parametrize(
    "keeping",
    [KeepLargest(12), KeepNOfM(2, 4), KeepBlocks(4, 1, None)],
    ids=["l0", "2:4", "rows"],
)
def test_supports_that_fit_are_found(kind, keeping) -> None:
    random = np.random.default_rng(3)
    X = random.normal(size=(12, 200)).astype(np.float32)
    U = keeping.prox(random.normal(size=(12, 4)) + np.sign(random.normal(size=(12, 4))), 1.0)
    Z = (U.T @ X).astype(np.float32)
    sets = Intervals.of_points(Z) if kind == "linear" else Intervals.of_response(Z)
    epsilon = 0.02 * float(np.linalg.norm(np.maximum(Z, 0)))
    response = SampleResponse(X, sets, NormBall(epsilon), strict=KINDS[kind])
    found = solve(response, keeping, 1.0, limits=Limits(iterations=3000))
    assert found.status is Status.SOLVED
    assert np.array_equal(found.S != 0, U != 0)
    on, off = independent(X, sets, found.S / response.unit, strict=KINDS[kind])
    assert math.hypot(max(0, on - epsilon), off) <= 6e-3 * epsilon
