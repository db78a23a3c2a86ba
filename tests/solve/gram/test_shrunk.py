"""Layers with fewer inputs and lower ranks: against normal equations, brute force and planting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve.gram.feedback import ErrorFeedback
from nettrim_cli.solve.gram.low_rank import LowRank
from nettrim_cli.solve.gram.row_groups import Reader, joint_removal_order
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.shrunk import ShrunkSystem, rank_errors, solve_shrunk, submatrix
from nettrim_cli.solve.problem import Status
from tests.support.effort import examples
from tests.support.small_layers import correlated, random_task

QUICK = examples(20)
SEEDS = st.integers(0, 10**6)


def system(seed, inputs=8, outputs=5):
    random = np.random.default_rng(seed)
    x = correlated(random, inputs, 20 * inputs)
    A = x @ x.T / x.shape[1] + 0.01 * np.eye(inputs)
    return A, A @ random.normal(size=(inputs, outputs))


def objective(A, rhs, V):
    return 0.5 * np.sum(V * (A @ V)) - np.sum(rhs * V)


@given(SEEDS, st.integers(1, 8), st.integers(0, 5))
@QUICK
def test_the_best_weights_of_a_rank(seed, count, rank) -> None:
    """Alternating least squares from many starts finds no better, and reaches it."""
    A, rhs = system(seed)
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(8, count, replace=False))
    V = ShrunkSystem.of(A, rows, rank).solve(rhs)
    assert np.linalg.matrix_rank(V, tol=1e-8) <= rank
    assert not np.delete(V, rows, axis=0).any()
    best = objective(A, rhs, V)
    inner, right = A[np.ix_(rows, rows)], rhs[rows]
    least = 0.0
    if rank:
        L = random.normal(size=(6, count, rank))
        for _ in range(200):
            T = L.transpose(0, 2, 1)
            R = np.linalg.pinv(T @ inner @ L) @ T @ right
            T = R.transpose(0, 2, 1)
            L = np.linalg.solve(inner, right @ T) @ np.linalg.pinv(R @ T)
        least = min(objective(inner, right, product) for product in L @ R)
    assert best <= least + 1e-9 * abs(least)
    assert best == pytest.approx(least, rel=1e-3, abs=1e-9)


@given(SEEDS, st.sampled_from([(8, 5), (5, 8)]))
@QUICK
def test_errors_of_all_ranks(seed, shape) -> None:
    A, rhs = system(seed, *shape)
    everything = ShrunkSystem.of(A, np.arange(len(A)))
    errors = rank_errors(everything.whitened(rhs))
    whole = objective(A, rhs, everything.solve(rhs))
    for rank, error in enumerate(errors):
        rise = objective(A, rhs, everything.with_rank(rank).solve(rhs)) - whole
        assert 2 * rise == pytest.approx(error, rel=1e-6, abs=1e-9 * abs(whole))


def test_rows_of_a_system_that_is_not_formed() -> None:
    Y = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    rows = np.array([1, 4, 8])
    whole = Y.astype(np.float64) @ Y.T / 3 + 0.5 * np.eye(9)
    np.testing.assert_allclose(
        submatrix(LowRank(Y, 3.0, 0.5), rows), whole[np.ix_(rows, rows)], rtol=1e-6
    )


@given(SEEDS, st.sampled_from([1, 2]))
@QUICK
def test_units_of_several_readers_go_by_what_all_of_them_lose(seed, size) -> None:
    """Each removal is the cheapest of the weighted sum, with every candidate solved anew."""
    random = np.random.default_rng(seed)
    weights, units = (1.0, 3.0), 4
    systems, readers, rows = [], [], []
    for reader in range(2):
        A, rhs = system(seed + reader, units * size + 2 * reader, 3)
        order = random.permutation(len(A))[: units * size].reshape(units, size)
        H = np.linalg.inv(A)
        systems.append((A, rhs))
        rows.append(order)
        readers.append(Reader.of_rows(H, H @ rhs, order))
    removed, rises = joint_removal_order(readers, weights)

    def least(gone):
        values = []
        for (A, rhs), order in zip(systems, rows, strict=True):
            rest = np.setdiff1d(np.arange(len(A)), order[list(gone)])
            values.append(
                objective(A, rhs, ShrunkSystem.of(A, rest).solve(rhs)) if len(rest) else 0
            )
        return np.array(values)

    gone: list[int] = []
    for step in range(units):
        now = least(gone)
        costs = {
            unit: weights @ (least([*gone, unit]) - now)
            for unit in range(units)
            if unit not in gone
        }
        assert costs[removed[step]] == pytest.approx(min(costs.values()), rel=1e-6, abs=1e-9)
        gone.append(int(removed[step]))
        np.testing.assert_allclose(rises[:, step], least(gone) - now, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("cascade", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_of_a_planted_rank_is_found_again(bias, cascade) -> None:
    random = np.random.default_rng(3)
    planted = random.normal(size=(12, 2)) @ random.normal(size=(2, 6))
    planted[[0, 5]] = 0
    task = with_weights(random_task(1, 12, 6, 600, bias=bias, cascade=cascade), planted)
    solution = solve_shrunk(task, np.setdiff1d(np.arange(12), [0, 5]), 2)
    assert solution.status is Status.SOLVED
    U = solution.U[:12]
    assert not U[[0, 5]].any()
    assert np.linalg.matrix_rank(U, tol=1e-4 * np.abs(U).max()) <= 2
    assert task.error(solution.U, holdout=True) <= 0.01  # damping alone moves the weights, by 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_held_out_samples_choose_the_refit(seed) -> None:
    task = random_task(seed, 16, 8, 400, relu=True)
    rows, everything = np.arange(3, 16), ErrorFeedback()
    scaled = ScaledProblem.of(task)
    V = ShrunkSystem.of(scaled.system.A, rows, 3).solve(scaled.rhs(everything))
    linear = task.error(scaled.linear_weights(V, everything), holdout=True)
    assert task.error(solve_shrunk(task, rows, 3).U, holdout=True) <= linear


def with_weights(task, weights):
    """The same inputs, in a cascade those of the pruned network, with other dense weights."""
    samples, W = task.samples, np.array(task.W)
    W[:12] = weights
    whole = W if task.has_bias else np.vstack([W, np.zeros((1, W.shape[1]))])
    Z, holdout_Z = (whole.T @ samples.X).astype(np.float32), whole.T @ samples.holdout_X
    B = samples.X.astype(np.float64) @ Z.T.astype(np.float64)
    return replace(
        task, W=W, samples=replace(samples, B=B, Z=Z, holdout_Z=holdout_Z.astype(np.float32))
    )
