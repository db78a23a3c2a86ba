"""Whole inputs removed: every choice against enumeration, every refit against normal equations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve.gram.row_groups import METHODS, refit_rows, removal_order, remove_groups
from nettrim_cli.solve.gram.system import GramSystem
from tests.support.effort import examples
from tests.support.small_layers import correlated

QUICK = examples(12)
each_method = pytest.mark.parametrize("method", METHODS)


def problem(seed, inputs=8, outputs=3, weights=None):
    """A damped Gram matrix with unit diagonal, in float64, and the right-hand side of weights."""
    random = np.random.default_rng(seed)
    x = correlated(random, inputs, 20 * inputs)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True))
    A = x @ x.T / x.shape[1] + 0.01 * np.eye(inputs)
    W = random.normal(size=(inputs, outputs)) if weights is None else weights
    return A, A @ W


def objective(A, rhs, V):
    V = V.astype(np.float64)
    return 0.5 * np.sum(V * (A @ V)) - np.sum(rhs * V)


def least(A, rhs, rows):
    """The optimum on some rows, from the definition."""
    V = np.zeros_like(rhs)
    V[rows] = np.linalg.solve(A[np.ix_(rows, rows)], rhs[rows])
    return objective(A, rhs, V)


def rows_of(kept, size):
    return np.flatnonzero(np.repeat(kept, size))


def slowly(A, rhs, keep, size):
    """Backward elimination with every candidate solved anew."""
    left, rises = list(range(len(A) // size)), []
    now = least(A, rhs, np.arange(len(A)))
    while len(left) > keep:
        costs = []
        for at in left:
            others = [i * size + j for i in left if i != at for j in range(size)]
            costs.append(least(A, rhs, others) if others else 0.0)
        rises.append(min(costs) - now)
        now = min(costs)
        left.pop(int(np.argmin(costs)))
    return left, rises


@given(
    st.integers(0, 10**6),
    st.sampled_from([(8, 1), (24, 1), (12, 3), (36, 2)]),
    st.sampled_from([1, 3, 50]),
)
@QUICK
def test_each_removal_is_the_cheapest(seed, sizes, outputs) -> None:
    inputs, size = sizes
    A, rhs = problem(seed, inputs, outputs)
    order, rises = removal_order(A, rhs, groups=size)
    _, expected = slowly(A, rhs, 0, size)
    scale = -objective(A, rhs, np.linalg.solve(A, rhs))
    np.testing.assert_allclose(rises, expected, rtol=1e-3, atol=2e-5 * scale)
    assert sorted(order) == list(range(inputs // size))
    gone = np.isin(np.arange(inputs // size), order[:2])
    V, kept = remove_groups(A, rhs, len(gone) - 2, groups=size)
    assert np.array_equal(kept, ~gone)
    rise = objective(A, rhs, V) + scale
    assert rise == pytest.approx(rises[:2].sum(), rel=1e-3, abs=2e-5 * scale)


@each_method
@given(seed=st.integers(0, 10**6), keep=st.integers(1, 7), size=st.sampled_from([1, 2]))
@QUICK
def test_weights_are_the_best_on_what_is_kept(method, seed, keep, size) -> None:
    A, rhs = problem(seed, 8 * size, 3)
    V, kept = remove_groups(A, rhs, keep, groups=size, method=method)
    assert kept.sum() == keep
    rows = rows_of(kept, size)
    assert not np.any(np.delete(V, rows, axis=0))
    np.testing.assert_allclose((A @ V - rhs)[rows], 0, atol=1e-9 * np.abs(rhs).max())


def test_against_every_subset() -> None:
    """The mean error over that of the best of all subsets; never below it."""
    ratios = {method: [] for method in METHODS}
    for seed in range(30):
        A, rhs = problem(seed, 8, 3)
        dense = least(A, rhs, np.arange(8))
        best = min(least(A, rhs, list(rows)) for rows in itertools.combinations(range(8), 4))
        for method, found in ratios.items():
            V, _ = remove_groups(A, rhs, 4, method=method)
            found.append(np.sqrt((objective(A, rhs, V) - dense) / (best - dense)))
    assert min(map(min, ratios.values())) >= 1 - 1e-9
    assert np.mean(ratios["greedy"]) <= 1.03
    assert np.mean(ratios["admm"]) <= 1.05
    assert np.mean(ratios["convex"]) <= 1.3


@each_method
@pytest.mark.parametrize(("inputs", "size", "keep", "outputs"), [(60, 1, 12, 20), (90, 9, 3, 200)])
def test_planted_groups_are_found(method, inputs, size, keep, outputs) -> None:
    for seed in range(3):
        random = np.random.default_rng(seed)
        planted = np.isin(np.arange(inputs // size), random.permutation(inputs // size)[:keep])
        W = random.normal(size=(inputs, outputs)) * np.repeat(planted, size)[:, None]
        A, rhs = problem(seed, inputs, weights=W)
        V, kept = remove_groups(A, rhs, keep, groups=size, method=method)
        assert np.array_equal(kept, planted)
        np.testing.assert_allclose(V, W, atol=1e-8)


@each_method
def test_without_correlations_the_longest_stay(method) -> None:
    rhs = np.random.default_rng(3).normal(size=(30, 4))
    lengths = np.linalg.norm(rhs.reshape(10, 12), axis=1)
    _, kept = remove_groups(np.eye(30), rhs, 4, groups=3, method=method)
    assert set(np.flatnonzero(kept)) == set(np.argsort(-lengths)[:4])


@pytest.mark.parametrize("keep", [3, 9])
def test_the_convex_choice_is_the_group_lassos(keep) -> None:
    """Block coordinate descent at a price that leaves as many groups leaves the same ones."""
    A, rhs = problem(keep, 12, 4)

    def descend(price):
        V = np.zeros_like(rhs)
        for _ in range(500):
            for i in range(len(A)):
                pull = rhs[i] - A[i] @ V + A[i, i] * V[i]
                V[i] = pull * max(0, 1 - price / np.linalg.norm(pull)) / A[i, i]
        return np.any(V, axis=1)

    low, high = 0.0, np.linalg.norm(rhs, axis=1).max()
    assert not descend(high * 1.001).any()
    for _ in range(30):
        found = descend((low + high) / 2)
        if found.sum() == keep:
            break
        low, high = ((low + high) / 2, high) if found.sum() > keep else (low, (low + high) / 2)
    assert found.sum() == keep
    assert np.array_equal(remove_groups(A, rhs, keep, method="convex")[1], found)


@each_method
def test_groups_may_lie_anywhere_and_outputs_may_be_mixed(method) -> None:
    A, rhs = problem(5, 24, 40)
    V, kept = remove_groups(A, rhs, 5, groups=3, method=method)
    random = np.random.default_rng(0)
    shuffle = random.permutation(24)
    groups = np.argsort(shuffle).reshape(8, 3)
    moved, same = remove_groups(
        A[np.ix_(shuffle, shuffle)], rhs[shuffle], 5, groups=groups, method=method
    )
    assert np.array_equal(same, kept)
    np.testing.assert_allclose(moved, V[shuffle], atol=1e-9)
    mixture = np.linalg.qr(random.normal(size=(40, 40)))[0]
    mixed, same = remove_groups(A, rhs @ mixture, 5, groups=3, method=method)
    assert np.array_equal(same, kept)
    np.testing.assert_allclose(mixed, V @ mixture, atol=1e-9)


@each_method
@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_of_the_outputs_do_not_matter(method, scale) -> None:
    A, rhs = problem(7, 20, 6)
    V, kept = remove_groups(A, rhs, 8, method=method)
    other, same = remove_groups(A, rhs * scale, 8, method=method)
    assert np.array_equal(same, kept)
    np.testing.assert_allclose(other / scale, V, rtol=1e-9, atol=1e-12)


@each_method
def test_dead_inputs_go_first(method) -> None:
    random = np.random.default_rng(0)
    x = correlated(random, 12, 300)
    x[[2, 7, 8]] = 0
    rows = np.vstack([x, np.ones(300)])
    system = GramSystem.build(rows @ rows.T, free_bias=True)
    W = random.normal(size=(12, 5))
    rhs = system.right_hand_side(rows @ (x.T @ W), W)
    given = remove_groups(system.A, rhs, 9, method=method, inverse=system.inverse)
    V, kept = remove_groups(system.A, rhs, 9, method=method)
    assert np.array_equal(np.flatnonzero(~kept), [2, 7, 8])
    assert V.dtype == np.float32
    assert np.array_equal(given[0], V)
    assert np.array_equal(given[1], kept)


@each_method
def test_all_or_nothing(method) -> None:
    A, rhs = problem(0, 6, 2)
    for keep in (6, 60):
        V, kept = remove_groups(A, rhs, keep, method=method)
        assert kept.all()
        np.testing.assert_allclose(V, np.linalg.solve(A, rhs), atol=1e-9)
    for keep in (0, -1):
        V, kept = remove_groups(A, rhs, keep, method=method)
        assert not kept.any()
        assert not V.any()
    V, kept = remove_groups(A, 0 * rhs, 3, method=method)
    assert kept.sum() == 3
    assert not V.any()


@pytest.mark.parametrize("groups", [0, 4, np.arange(6), np.array([[0, 1, 2], [2, 3, 4]])])
def test_groups_that_are_none(groups) -> None:
    with pytest.raises(ValueError, match="groups"):
        remove_groups(np.eye(6), np.ones((6, 2)), 1, groups=groups)


def test_unknown_methods_and_indefinite_matrices() -> None:
    with pytest.raises(ValueError, match="greedy, admm, convex"):
        remove_groups(np.eye(6), np.ones((6, 2)), 1, method="best")
    with pytest.raises(np.linalg.LinAlgError):
        remove_groups(-np.eye(6), np.ones((6, 2)), 1)
    with pytest.raises(np.linalg.LinAlgError):
        refit_rows(-np.eye(6), np.ones((6, 2)), np.arange(3))
