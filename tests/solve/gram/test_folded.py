"""Ranks over a part of the rows: against normal equations, alternating solves, and planting."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve.gram.folded import Fold, FoldedSystem
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.shrunk import ShrunkSystem, rank_errors, solve_shrunk
from tests.support.small_layers import correlated, random_task

INPUTS, FOLD, OUTPUTS = 12, 3, 5


def system(seed):
    random = np.random.default_rng(seed)
    x = correlated(random, INPUTS, 20 * INPUTS)
    A = x @ x.T / x.shape[1] + 0.01 * np.eye(INPUTS)
    return A, A @ random.normal(size=(INPUTS, OUTPUTS)), random.uniform(0.5, 2, INPUTS)


def objective(A, rhs, V):
    return 0.5 * np.sum(V * (A @ V)) - np.sum(rhs * V)


def beside(V, scale):
    """The weights without the scale, with rows beside each other."""
    return (V / scale[:, None]).reshape(INPUTS // FOLD, -1)


def alternating(A, rhs, scale, rank, start):
    """Least squares for one factor and the other in turns, by the whole normal equations."""
    A, rhs = A * scale * scale[:, None], rhs * scale[:, None]
    B = start
    for _ in range(80):
        E = np.kron(B, np.eye(FOLD))
        C = np.linalg.solve(E.T @ A @ E, E.T @ rhs).reshape(rank, FOLD, OUTPUTS)
        # V[a f + j, m] = sum_r B[a, r] C[r, j, m], linear in B
        size = INPUTS // FOLD
        D = np.einsum("ab,rjm->ajmbr", np.eye(size), C).reshape(-1, size * rank)
        metric = np.kron(A, np.eye(OUTPUTS))
        B = np.linalg.lstsq(D.T @ metric @ D, D.T @ rhs.ravel(), rcond=None)[0].reshape(size, rank)
    E = np.kron(B, np.eye(FOLD))
    return objective(A, rhs, E @ np.linalg.solve(E.T @ A @ E, E.T @ rhs))


@pytest.mark.parametrize("rank", [1, 2])
def test_weights_have_the_rank_and_are_near_the_best(rank) -> None:
    ratios = []
    for seed in range(3):
        A, rhs, scale = system(seed)
        V = FoldedSystem(A, Fold(FOLD, scale)).solve(rhs, rank)
        assert np.linalg.matrix_rank(beside(V, scale), tol=1e-8) <= rank
        whole = objective(A, rhs, np.linalg.solve(A, rhs))
        random = np.random.default_rng(seed)
        starts = random.normal(size=(2, INPUTS // FOLD, rank))
        least = min(alternating(A, rhs, scale, rank, start) for start in starts)
        excess = objective(A, rhs, V) - whole
        ratios.append((excess + 1e-9) / (least - whole + 1e-9))
    assert min(ratios) > 1 - 1e-6
    assert np.mean(ratios) < 1.7


def test_the_second_factor_is_the_best_for_the_first() -> None:
    A, rhs, scale = system(5)
    V = FoldedSystem(A, Fold(FOLD, scale)).solve(rhs, 2)
    P = np.linalg.svd(beside(V, scale))[0][:, :2]
    E = scale[:, None] * np.kron(P, np.eye(FOLD))
    best = E @ np.linalg.solve(E.T @ A @ E, E.T @ rhs)
    np.testing.assert_allclose(V, best, atol=1e-6 * np.abs(best).max())


def test_errors_of_all_ranks() -> None:
    A, rhs, scale = system(1)
    folded = FoldedSystem(A, Fold(FOLD, scale))
    errors = folded.errors(rhs)
    whole = objective(A, rhs, np.linalg.solve(A, rhs))
    assert len(errors) == INPUTS // FOLD + 1
    assert (np.diff(errors) <= 0).all()
    for rank, error in enumerate(errors):
        actual = 2 * (objective(A, rhs, folded.solve(rhs, rank)) - whole)
        assert error == pytest.approx(actual, rel=1e-4, abs=1e-6 * errors[0])


def test_planted_weights_are_found() -> None:
    A, _, scale = system(2)
    random = np.random.default_rng(3)
    U = random.normal(size=(INPUTS // FOLD, 2)) @ random.normal(size=(2, FOLD * OUTPUTS))
    V = scale[:, None] * U.reshape(INPUTS, OUTPUTS)
    rhs = A @ V
    folded = ShrunkSystem.of(A, np.arange(INPUTS), 2, Fold(FOLD, scale))
    np.testing.assert_allclose(folded.solve(rhs), V, atol=1e-5)
    plain = ShrunkSystem.of(A, np.arange(INPUTS))
    assert rank_errors(plain.whitened(rhs))[2] > 1e-2  # of ordinary rank 2 it is not


def test_layers_are_solved_on_rows_that_stay() -> None:
    task = random_task(0, inputs=INPUTS, outputs=OUTPUTS, relu=True)
    rows = np.arange(3, INPUTS)
    solution = solve_shrunk(task, rows, 2, FOLD)
    U = solution.U[:INPUTS]
    assert not U[:3].any()
    assert np.linalg.matrix_rank(U[3:].reshape(3, -1), tol=1e-5) == 2
    whole = solve_shrunk(task, rows)
    assert task.error(whole.U, holdout=False) <= task.error(solution.U, holdout=False) < 1
    assert ScaledProblem.of(task).system.d.shape == (INPUTS,)
