"""How a convex solve ends, and the reduced programs that it goes through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.solve import program
from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.constrained import ALPHA, SampleResponse
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.program import solve
from nettrim_cli.solve.reduced import Part, Reduced
from nettrim_cli.solve.responses import Intervals
from nettrim_cli.solve.task import Limits, Status


def layer(seed=0, inputs=12, outputs=20, columns=150, *, strict=True, epsilon=0.1):
    random = np.random.default_rng(seed)
    causes = random.normal(size=(4, columns))
    x = np.maximum(random.normal(size=(inputs, 4)) @ causes + random.normal(size=(1, columns)), 0)
    X = np.vstack([x, np.ones((1, columns))]).astype(np.float32)
    W = random.normal(size=(inputs + 1, outputs))
    Z = (W.T @ X).astype(np.float32)
    size = float(np.linalg.norm(np.maximum(Z, 0)))
    response = SampleResponse(X, Intervals.of_response(Z), epsilon * size, strict=strict)
    prices = np.ones((1, outputs)) / response.unit
    return response, prices, 68 / (response.unit * size / math.sqrt(outputs)), W


def begun(steps=20, **form):
    """A response after some steps of ADMM, and its reduced programs."""
    response, prices, rho, W = layer(**form)
    _, V, _ = admm(
        response,
        WeightedL1(prices),
        start=np.zeros(W.shape, np.float32),
        schedule=(rho,) * steps,
        alpha=ALPHA,
    )
    return Reduced(response, prices, V, rho), response, prices


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_reduced_programs_and_steps_over_all_samples_agree(strict, seed, monkeypatch) -> None:
    limits = Limits(tolerance=2e-4, iterations=20_000)
    rounds = []
    inner = Reduced.round
    monkeypatch.setattr(Reduced, "round", lambda *a: rounds.append(1) or inner(*a))
    response, prices, rho, _ = layer(seed, strict=strict)
    found = solve(response, prices, rho, limits=limits)
    assert rounds
    monkeypatch.setattr(Reduced, "worthwhile", False)
    response, prices, rho, _ = layer(seed, strict=strict)
    plain = solve(response, prices, rho, limits=limits)
    assert found.status is plain.status is Status.SOLVED
    values = [float((np.abs(each.S) * prices).sum()) for each in (found, plain)]
    assert values[0] == pytest.approx(values[1], rel=6e-4)
    # each one's bound holds for the other
    assert found.bound <= values[1] * (1 + 3e-4)
    assert plain.bound <= values[0] * (1 + 3e-4)


def test_a_rounds_verdict_is_that_of_the_response() -> None:
    reduced, response, _ = begun()
    for _ in range(3):
        found = reduced.round(30)
    R = response.intervals.residual(reduced.U @ response.X)
    shared = response.shares > 0
    assert found.shared == pytest.approx(np.linalg.norm(R[shared]), rel=1e-4)
    assert found.exact == pytest.approx(np.linalg.norm(R[~shared]), rel=1e-3, abs=1e-6)
    assert found.value == pytest.approx(np.abs(reduced.U).sum() / response.unit, rel=1e-5)
    violation = math.hypot(max(0.0, found.shared - response.epsilon), found.exact)
    assert response.violation(reduced.U.T) == pytest.approx(violation, rel=1e-2, abs=1e-5)


def test_the_gram_matrix_grows_as_if_made_anew() -> None:
    reduced, response, _ = begun()
    few, many = np.array([3, 0, 7]), np.array([3, 0, 7, 12, 1])
    none = np.empty(0, np.float32)
    part = Part(5, few, few[:0], none, none, np.empty((0, 0), np.float32))
    part.H = reduced._gram(part)
    part.weights = many
    active = response.intervals.active[5]
    inside = response.X[many][:, active].astype(float)
    assert np.allclose(reduced._gram(part), inside @ inside.T, rtol=1e-5, atol=1e-6)


def test_another_multiplier_leaves_those_of_weights_and_entries() -> None:
    reduced, *_ = begun()
    reduced.round(20)

    def multipliers(group):
        pull = (group.V - group.shrunk(reduced.lam)) * group.sparse * reduced.lam
        return pull, group.residual() * group.hold * reduced.lam

    before = [multipliers(group) for group in reduced.groups]
    kept = [group.shrunk(reduced.lam) for group in reduced.groups]
    reduced.follow(3 * reduced.lam)
    for group, old, S in zip(reduced.groups, before, kept):
        assert np.allclose(group.shrunk(reduced.lam), S, rtol=1e-4, atol=1e-5)
        for now, then in zip(multipliers(group), old):
            assert np.allclose(now, then, rtol=1e-3, atol=1e-4)


def test_no_room_is_no_use_for_reduced_programs() -> None:
    assert not begun(epsilon=5.0)[0].worthwhile  # the ball does not bind
    assert not begun(epsilon=0.0)[0].worthwhile
    assert begun()[0].worthwhile


def test_time_is_kept(monkeypatch) -> None:
    response, prices, rho, _ = layer()
    found = solve(response, prices, rho, limits=Limits(tolerance=1e-9, seconds=0))
    assert found.status is Status.TIME_LIMIT
    assert found.iterations == program.WARM
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
    response = SampleResponse(X, Intervals.of_response(Z), 0.1)
    found = solve(response, np.ones((1, 1)), 1.0, known=10.0)
    assert found.status is Status.INFEASIBLE
    assert found.bound > 10.0 * program.BEYOND


def test_numbers_out_of_range_are_told() -> None:
    response, prices, rho, _ = layer()
    response.G[0, 0] = np.nan
    found = solve(response, prices, rho)
    assert found.status is Status.NOT_FINITE
