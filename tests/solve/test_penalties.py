"""Each prox by its definition: nothing has a lower value of g(S) + ||S - V||^2 / (2 step)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from nettrim_cli.solve.patterns import pattern
from nettrim_cli.solve.penalties import (
    PENALTIES,
    BlockNorm,
    KeepBlocks,
    KeepLargest,
    KeepNOfM,
    LogSum,
    WeightedL1,
)
from nettrim_cli.solve.top_k import top_k_mask
from tests.support.effort import examples

VALUES = st.floats(-10, 10, width=32).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
STEPS = st.floats(0.01, 10)
QUICK = examples(40)
FEW = examples(10)  # for each of many penalties
SCALES = (1e-8, 1e-3, 1.0, 1e4, 1e8)


def matrices(dtype=np.float64, most=5):
    sides = st.tuples(st.integers(1, most), st.integers(1, most))
    return sides.flatmap(lambda shape: arrays(dtype, shape, elements=VALUES))


ONE = np.array(1.0)
CONVEX = {
    "l1": WeightedL1(ONE),
    "weighted": WeightedL1(np.array(0.3)),
    "free": WeightedL1(np.array(0.0)),
    "rows": BlockNorm(np.array(0.7), 1, None),
    "columns": BlockNorm(ONE, None, 1),
    "1x2": BlockNorm(ONE, 1, 2),
    "3x2": BlockNorm(np.array(1.5), 3, 2),
    "whole": BlockNorm(ONE, None, None),
}
KEEPING = {
    "keep-0": KeepLargest(0),
    "keep-1": KeepLargest(1),
    "keep-3": KeepLargest(3),
    "keep-all": KeepLargest(10**6),
    "0:3": KeepNOfM(0, 3),
    "1:2": KeepNOfM(1, 2),
    "2:3": KeepNOfM(2, 3),
    "2:4": KeepNOfM(2, 4),
    "4:4": KeepNOfM(4, 4),
    "4:8": KeepNOfM(4, 8),
    "2-of-1x2": KeepBlocks(2, 1, 2),
    "1-of-2x2": KeepBlocks(1, 2, 2),
    "3-of-2x1": KeepBlocks(3, 2, 1),
    "2-of-4x3": KeepBlocks(2, 4, 3),
    "0-rows": KeepBlocks(0, 1, None),
    "2-rows": KeepBlocks(2, 1, None),
    "1-column": KeepBlocks(1, None, 1),
    "9-columns": KeepBlocks(9, None, 1),
}
ROUNDS = {"log": LogSum(ONE, 0.5), "sharp log": LogSum(np.array(2.0), 0.01)}
ALL = {**CONVEX, **KEEPING, **ROUNDS}

convex = pytest.mark.parametrize("penalty", CONVEX.values(), ids=CONVEX)
keeping = pytest.mark.parametrize("penalty", KEEPING.values(), ids=KEEPING)
every = pytest.mark.parametrize("penalty", ALL.values(), ids=ALL)


def cost(penalty, S, V, step):
    return penalty.value(S) + ((S - V) ** 2).sum() / (2 * step)


def groups_of(penalty, shape):
    """The groups of a penalty as lists of flat indices with the most to keep of each list."""
    at = np.arange(math.prod(shape)).reshape(shape)
    if isinstance(penalty, KeepNOfM):
        for start in range(0, shape[0], penalty.m):
            for column in range(shape[1]):
                group = at[start : start + penalty.m, column]
                yield [[i] for i in group], math.ceil(penalty.n * len(group) / penalty.m)
    elif isinstance(penalty, KeepLargest):
        yield [[i] for i in at.ravel()], penalty.keep
    else:
        h, w = penalty.height or shape[0], penalty.width or shape[1]
        tops, lefts = range(0, shape[0], h), range(0, shape[1], w)
        blocks = [at[i : i + h, j : j + w].ravel() for i in tops for j in lefts]
        yield blocks, getattr(penalty, "keep", len(blocks))


def test_every_penalty_of_the_table_is_tested_here() -> None:
    assert {type(each) for each in ALL.values()} == set(PENALTIES.values())


@every
@given(V=matrices(), step=STEPS, seed=st.integers(0, 1000))
@FEW
def test_no_other_point_is_better(penalty, V, step, seed) -> None:
    before = V.copy()
    S = penalty.prox(V, step)
    assert np.array_equal(V, before)
    least = cost(penalty, S, V, step)
    assert np.isfinite(least)
    random = np.random.default_rng(seed)
    others = [np.zeros_like(V), V, -S, 0.5 * S, 1.01 * S, 0.99 * S, S.round(1)]
    for size in (1e-3, 0.1, 1, 5):
        noise = size * random.normal(size=V.shape)
        others += [S + noise, S + noise * (S != 0), noise, np.where(noise > 0, V, 0)]
    slack = 1e-9 * (1 + abs(least))
    assert all(cost(penalty, each, V, step) >= least - slack for each in others)


@convex
@given(matrices(), STEPS, st.integers(0, 1000))
@FEW
def test_convex_proxes_are_firmly_nonexpansive(penalty, V, step, seed) -> None:
    other = V + np.random.default_rng(seed).normal(size=V.shape) * 3
    moved = penalty.prox(V, step) - penalty.prox(other, step)
    assert (moved**2).sum() <= (moved * (V - other)).sum() + 1e-9


@convex
@given(matrices(), STEPS)
@FEW
def test_what_a_prox_takes_away_is_a_subgradient(penalty, V, step) -> None:
    """Moreau: ``(V - S) / step`` has a polar of at most 1 and prices S at g(S)."""
    S = penalty.prox(V, step)
    taken = (V - S) / step
    if np.any(penalty.weights):
        assert penalty.polar(taken) <= 1 + 1e-9
    assert (taken * S).sum() == pytest.approx(penalty.value(S), rel=1e-9, abs=1e-9)


@convex
@given(matrices(), st.integers(0, 1000))
@FEW
def test_a_polar_bounds_products_and_is_reached(penalty, L, seed) -> None:
    polar = penalty.polar(L)
    if not np.any(penalty.weights):
        assert polar == (np.inf if np.any(L) else 0)
        return
    S = np.random.default_rng(seed).normal(size=L.shape)
    assert (L * S).sum() <= polar * penalty.value(S) * (1 + 1e-12) + 1e-12
    blocks = [[i] for i in range(L.size)]
    if isinstance(penalty, BlockNorm):
        ((blocks, _),) = groups_of(penalty, L.shape)
    reached = [0.0]
    for block in blocks:
        S = np.zeros_like(L)
        S.flat[block] = L.flat[block]
        if S.any():
            reached.append((L * S).sum() / penalty.value(S))
    assert max(reached) == pytest.approx(polar, rel=1e-12)


@given(matrices(most=3), st.integers(0, 1000))
@QUICK
def test_the_polar_of_l1_against_a_linear_program(L, seed) -> None:
    weights = np.random.default_rng(seed).uniform(0.2, 3, size=(1, L.shape[1]))
    penalty = WeightedL1(weights)
    prices = np.tile(np.broadcast_to(weights, L.shape).ravel(), 2)
    found = linprog(np.r_[-L.ravel(), L.ravel()], A_ub=[prices], b_ub=[1])
    assert penalty.polar(L) == pytest.approx(-found.fun, abs=1e-9)


@convex
@given(matrices())
@FEW
def test_divided_by_its_columns_polars_a_matrix_is_feasible(penalty, L) -> None:
    if not np.any(penalty.weights):
        return
    divisors = penalty.polar_columns(L)
    assert divisors.shape == (L.shape[1],)
    inside = np.divide(L, divisors, out=np.zeros_like(L), where=divisors > 0)
    assert penalty.polar(inside) <= 1 + 1e-9
    for j in range(L.shape[1]):
        alone = np.zeros_like(L)
        alone[:, j] = L[:, j]
        if isinstance(penalty, WeightedL1) or penalty.width == 1:
            assert divisors[j] == pytest.approx(penalty.polar(alone), rel=1e-12)
        else:
            assert divisors[j] == penalty.polar(L)


@keeping
@given(V=matrices(most=4))
@FEW
def test_keep_against_every_support(penalty, V) -> None:
    S = penalty.prox(V, 1.0)
    energy, best = V.ravel() ** 2, 0.0
    for blocks, keep in groups_of(penalty, V.shape):
        scores = [energy[list(block)].sum() for block in blocks]
        kept = min(keep, len(blocks))
        if len(blocks) <= 9:
            best += max(map(sum, itertools.combinations(scores, kept)))
        else:
            best += sum(sorted(scores)[len(scores) - kept :])
    assert (S**2).sum() == pytest.approx(best, rel=1e-12)
    assert np.array_equal(S[S != 0], V[S != 0])


@keeping
@given(V=matrices(np.float32, most=9))
@FEW
def test_supports_are_exact_and_ties_go_to_the_earlier(penalty, V) -> None:
    V = V.round()  # many ties, sums of squares are exact
    mask = penalty.support(V)
    assert mask.dtype == bool
    assert np.array_equal(penalty.prox(V, 1.0), np.where(mask, V, 0))
    wanted = np.zeros(V.size, bool)
    for blocks, keep in groups_of(penalty, V.shape):
        scores = np.array([(V.ravel()[list(block)] ** 2).sum() for block in blocks])
        for chosen in np.argsort(-scores, kind="stable")[:keep]:
            wanted[list(blocks[chosen])] = True
    assert np.array_equal(mask.ravel(), wanted)
    assert penalty.value(mask.astype(V.dtype)) == 0


@keeping
def test_one_more_is_too_many(penalty) -> None:
    full = np.ones((8, 9))
    kept = penalty.support(full)
    if not kept.all():
        one_more = kept.copy()
        one_more.flat[np.flatnonzero(~kept)[0]] = True
        assert penalty.value(one_more.astype(float)) == np.inf


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_proxes_keep_dtype_shape_and_units(penalty, dtype) -> None:
    V = np.random.default_rng(0).normal(size=(13, 7)).astype(dtype)
    reference = penalty.prox(V, 0.3)
    for scale in SCALES:
        in_units = penalty
        if isinstance(penalty, LogSum):
            in_units = LogSum(penalty.weights, penalty.delta * scale)
        S = in_units.prox(V * dtype(scale), 0.3 * scale)
        assert S.dtype == dtype
        assert S.shape == V.shape
        np.testing.assert_allclose(S / dtype(scale), reference, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("penalty", list(ALL.values()), ids=list(ALL))
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_empty_and_tiny_matrices(penalty, shape) -> None:
    V = np.zeros(shape, np.float32)
    assert np.array_equal(penalty.prox(V, 1.0), V)
    assert penalty.value(V) == 0


@given(v=VALUES, price=st.floats(0, 5), step=STEPS)
@QUICK
def test_l1_on_a_grid(v, price, step) -> None:
    penalty, V = WeightedL1(np.array([[price]])), np.array([[v]])
    found = float(penalty.prox(V, step)[0, 0])
    grid = np.linspace(-11, 11, 4001)
    costs = price * np.abs(grid) + (grid - v) ** 2 / (2 * step)
    assert price * abs(found) + (found - v) ** 2 / (2 * step) <= costs.min() + 1e-9


@given(matrices(), STEPS)
@QUICK
def test_l1_leaves_exact_zeros_and_signs(V, step) -> None:
    S = WeightedL1(np.ones((1, V.shape[1]))).prox(V, step)
    assert np.array_equal(S != 0, np.abs(V) > step)
    assert np.all(S * V >= 0)


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
    assert KeepNOfM(1, 2).value(S) == np.inf
    assert KeepNOfM(1, 2).value(S.T) == np.inf
    assert KeepNOfM(1, 2).value(np.diag([1.0, 2.0])) == 0
    assert BlockNorm(np.array([[1.0], [10.0]]), 1, None).value(S) == math.sqrt(5) + 30
    assert LogSum(ONE, 2.0).value(S) == pytest.approx(2 * np.log(1.5 * 2 * 2.5))


# Reweighted l1.


@given(matrices(), st.floats(0.01, 5), st.integers(0, 1000))
@QUICK
def test_a_tangent_is_above_the_logarithms(S, delta, seed) -> None:
    random = np.random.default_rng(seed)
    penalty = LogSum(random.uniform(0, 2, size=(1, S.shape[1])), delta)
    tangent = penalty.tangent(S)
    offset = penalty.value(S) - tangent.value(S)
    for size in (0.01, 1, 10):
        other = S + size * random.normal(size=S.shape)
        assert penalty.value(other) <= offset + tangent.value(other) + 1e-9
    assert np.array_equal(penalty.tangent(0 * S).weights, np.broadcast_to(penalty.weights, S.shape))


def test_rounds_of_reweighting_come_down_to_fewer_entries() -> None:
    """Minimise ||S - V||^2 / 2 + log sum: rounds of l1 proxes never raise it."""
    V = np.random.default_rng(1).normal(size=(20, 10)).astype(np.float32)
    penalty, step = LogSum(np.float32(1), 0.1), 0.3
    S = WeightedL1(penalty.weights).prox(V, step)
    first, costs = np.count_nonzero(S), [cost(penalty, S, V, step)]
    for _ in range(6):
        S = penalty.tangent(S).prox(V, step)
        assert S.dtype == np.float32
        costs.append(cost(penalty, S, V, step))
    assert np.all(np.diff(costs) <= 1e-5 * costs[0])
    assert costs[-1] >= cost(penalty, penalty.prox(V, step), V, step) - 1e-5 * costs[0]
    assert 0 < np.count_nonzero(S) <= first


@pytest.mark.parametrize("scale", SCALES)
def test_delta_follows_the_weights_units(scale) -> None:
    S = np.random.default_rng(0).normal(size=(6, 4)) * (np.arange(4) > 0)
    weights = np.array([[1.0, 2.0, 0.5, 4.0]])
    delta = LogSum.of(S, weights, 0.2).delta
    kept = (weights * np.abs(S))[:, 1:]
    assert delta == pytest.approx(0.2 * math.sqrt((kept**2).mean()))
    assert LogSum.of(S * scale, weights, 0.2).delta == pytest.approx(delta * scale)
    assert LogSum.of(0 * S, weights).delta > 0


# Many entries: the threshold of a sample, and of adversaries to it.


@pytest.mark.parametrize("keep", [1, 40, 6000, 50_000, 100_000, 119_999])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "constant", "periodic", "sorted"])
def test_the_largest_of_many(kind, keep) -> None:
    random = np.random.default_rng(keep)
    V = np.abs(random.standard_normal((300, 400), np.float32))
    if kind == "ties":
        V = V.round(1)
    elif kind == "zeros":
        V[random.random(300) < 0.7] = 0
    elif kind == "constant":
        V[:] = 1
    elif kind == "periodic":
        V.ravel()[::7] *= 1000  # what a sample with a stride of 7 would see
    elif kind == "sorted":
        V = np.sort(V, axis=None).reshape(V.shape)
    mask = top_k_mask(V, keep)
    order = np.argsort(-V.ravel(), kind="stable")
    assert np.array_equal(np.flatnonzero(mask), np.sort(order[:keep]))


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (7, 8), (3, 5)])
def test_many_groups(n, m) -> None:
    V = np.random.default_rng(n).standard_normal((1001, 150), np.float32).round(1)
    mask = KeepNOfM(n, m).support(V)
    for start in range(0, 1001, m):
        part = np.abs(V[start : start + m])
        order = np.argsort(-part, axis=0, kind="stable")[: math.ceil(n * len(part) / m)]
        wanted = np.zeros(part.shape, bool)
        np.put_along_axis(wanted, order, True, axis=0)
        assert np.array_equal(mask[start : start + m], wanted)


def test_infinite_entries_leave_zeros_elsewhere() -> None:
    V = np.array([[np.inf, 1.0], [np.nan, -np.inf]], np.float32)
    S = KeepBlocks(0, 1, None).prox(V, 1.0)
    assert np.array_equal(S, np.zeros((2, 2)))


# What a user may ask for.


@pytest.mark.parametrize(
    ("name", "penalty"),
    [
        ("unstructured", KeepLargest(50)),
        ("2:4", KeepNOfM(2, 4)),
        ("4:8", KeepNOfM(4, 8)),
        ("1x4", KeepBlocks(12, 1, 4)),
        ("4x4", KeepBlocks(3, 4, 4)),
        ("rows", KeepBlocks(5, 1, None)),
        ("columns", KeepBlocks(4, None, 1)),
    ],
)
def test_patterns_by_name(name, penalty) -> None:
    assert pattern(name, (12, 10), 50) == penalty


@pytest.mark.parametrize("name", ["", "2:", "5:4", "0x4", "1x0", "2x2x2", "row", "-1:4", "0:0"])
def test_no_pattern(name) -> None:
    with pytest.raises(ValueError, match=r"pattern|sides"):
        pattern(name, (8, 8), 10)


@given(
    st.sampled_from(["unstructured", "1x4", "4x4", "3x2", "rows", "columns"]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.floats(0, 1),
)
@QUICK
def test_a_pattern_stays_within_the_count_and_uses_it_up(name, shape, share) -> None:
    keep = round(share * math.prod(shape))
    penalty = pattern(name, shape, keep)
    ((blocks, allowed),) = groups_of(penalty, shape)
    sizes = sorted(map(len, blocks))[::-1]
    assert sum(sizes[:allowed]) <= keep
    assert allowed >= len(sizes) or sum(sizes[: allowed + 1]) > keep
