"""Each prox by its definition: nothing has a lower value of g(S) + ||S - V||^2 / (2 step)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nettrim_cli.solve.penalties import KeepLargest, WeightedL1, largest

VALUES = st.floats(-10, 10, width=32).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
STEPS = st.floats(0.01, 10)
QUICK = settings(max_examples=40, deadline=None)


def matrices(dtype=np.float64, most=5):
    sides = st.tuples(st.integers(1, most), st.integers(1, most))
    return sides.flatmap(lambda shape: arrays(dtype, shape, elements=VALUES))


PENALTIES = {
    "l1": WeightedL1(np.array(1.0)),
    "weighted": WeightedL1(np.array(0.3)),
    "free": WeightedL1(np.array(0.0)),
    "keep-0": KeepLargest(0),
    "keep-1": KeepLargest(1),
    "keep-3": KeepLargest(3),
    "keep-all": KeepLargest(10**6),
}


def cost(penalty, S, V, step):
    return penalty.value(S) + ((S - V) ** 2).sum() / (2 * step)


@pytest.mark.parametrize("penalty", PENALTIES.values(), ids=PENALTIES)
@given(V=matrices(), step=STEPS, seed=st.integers(0, 1000))
@QUICK
def test_no_other_point_is_better(penalty, V, step, seed) -> None:
    S = penalty.prox(V, step)
    least = cost(penalty, S, V, step)
    assert np.isfinite(least)
    random = np.random.default_rng(seed)
    others = [np.zeros_like(V), V, -S, 0.5 * S, 1.01 * S, 0.99 * S, S.round(1)]
    for size in (1e-3, 0.1, 1, 5):
        noise = size * random.normal(size=V.shape)
        others += [S + noise, S + noise * (S != 0), noise, np.where(noise > 0, V, 0)]
    slack = 1e-9 * (1 + abs(least))
    assert all(cost(penalty, each, V, step) >= least - slack for each in others)


@given(v=VALUES, price=st.floats(0, 5), step=STEPS)
@QUICK
def test_l1_on_a_grid(v, price, step) -> None:
    penalty, V = WeightedL1(np.array([[price]])), np.array([[v]])
    found = float(penalty.prox(V, step)[0, 0])
    grid = np.linspace(-11, 11, 4001)
    costs = price * np.abs(grid) + (grid - v) ** 2 / (2 * step)
    assert price * abs(found) + (found - v) ** 2 / (2 * step) <= costs.min() + 1e-9


@given(matrices(most=3), st.integers(0, 9))
@QUICK
def test_keep_against_every_support(V, keep) -> None:
    S = KeepLargest(keep).prox(V, 1.0)
    kept = min(keep, V.size)
    best = max(
        (V.ravel()[list(each)] ** 2).sum() for each in itertools.combinations(range(V.size), kept)
    )
    assert (S**2).sum() == pytest.approx(best, rel=1e-12)


@given(matrices(), STEPS, st.integers(0, 1000))
@QUICK
def test_l1_is_firmly_nonexpansive(V, step, seed) -> None:
    other = V + np.random.default_rng(seed).normal(size=V.shape) * 3
    prices = np.random.default_rng(seed).random((1, V.shape[1])) * 2
    penalty = WeightedL1(prices)
    moved = penalty.prox(V, step) - penalty.prox(other, step)
    assert (moved**2).sum() <= (moved * (V - other)).sum() + 1e-9


@given(matrices(), STEPS)
@QUICK
def test_l1_leaves_exact_zeros_and_signs(V, step) -> None:
    S = WeightedL1(np.ones((1, V.shape[1]))).prox(V, step)
    assert np.array_equal(S != 0, np.abs(V) > step)
    assert np.all(S * V >= 0)


@given(matrices(np.float32), st.integers(-1, 30))
@QUICK
def test_the_count_is_exact_and_ties_go_to_the_earlier(V, keep) -> None:
    V = V.round()  # many ties
    mask = largest(np.abs(V), keep)
    assert mask.shape == V.shape
    assert mask.sum() == min(max(keep, 0), V.size)
    order = np.argsort(-np.abs(V.ravel()), kind="stable")
    assert set(np.flatnonzero(mask)) == set(order[: max(keep, 0)])
    S = KeepLargest(keep).prox(V, 1.0)
    assert np.array_equal(S, np.where(mask, V, 0))
    assert S.dtype == V.dtype


def test_prices_beyond_float32_leave_zero() -> None:
    V = np.ones((2, 2), np.float32)
    S = WeightedL1(np.array([[1e45, 0.25]])).prox(V, 1.0)
    assert np.array_equal(S, [[0, 0.75], [0, 0.75]])
    assert S.dtype == np.float32


def test_values() -> None:
    S = np.array([[1.0, -2.0], [0.0, 3.0]])
    assert WeightedL1(np.array([[1.0, 10.0]])).value(S) == 51
    assert KeepLargest(3).value(S) == 0
    assert KeepLargest(2).value(S) == np.inf
