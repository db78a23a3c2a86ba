"""The baselines do what their papers say."""

from __future__ import annotations

import numpy as np
import pytest
from baselines import magnitude, net_trim_admm, net_trim_iterates, sparsegpt, wanda
from certificate import Program


def planted(seed: int) -> tuple[Program, np.ndarray]:
    """A program whose optimum is known: built from its optimality conditions."""
    random = np.random.default_rng(seed)
    inputs, outputs, samples, epsilon = 8, 5, 80, 0.8
    X = random.standard_normal((inputs, samples))
    X[-1] = 1
    U = random.standard_normal((inputs, outputs)) * (random.random((inputs, outputs)) < 0.4)
    U[-1] = 1.5  # a bias that makes every neuron active somewhere
    S = np.where(U != 0, np.sign(U), random.uniform(-0.9, 0.9, U.shape))
    T = U.T @ X
    omega = T > 0.3
    L = np.zeros(T.shape)
    for row, active, sign in zip(L, omega, S.T):
        row[active] = np.linalg.lstsq(X[:, active], -sign, rcond=None)[0]
    Y = np.where(omega, T - epsilon * L / np.linalg.norm(L), 0)
    assert (Y[omega] > 0).all()
    return Program(X, Y, np.maximum(T, 0), epsilon), U


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("normalise", "relaxation"), [(True, 1), (False, 1), (True, 1.7)])
def test_net_trim_reaches_a_planted_optimum(seed: int, normalise: bool, relaxation: float) -> None:
    program, U = planted(seed)
    assert program.violation(U) < 1e-9
    rho, optimum = 20, program.value(U)
    for iterate in net_trim_iterates(
        program.X,
        U,
        program.epsilon,
        rho,
        4000,
        Y=program.Y,
        V=program.V,
        normalise=normalise,
        relaxation=relaxation,
    ):
        assert iterate.number > 5 or program.lower_bound(iterate.multiplier) <= optimum + 1e-9
    assert program.value(iterate.sparse) == pytest.approx(optimum, rel=1e-3)
    assert program.violation(iterate.sparse) < 1e-3
    np.testing.assert_allclose(iterate.sparse, U, atol=0.01)
    bound = program.lower_bound(iterate.multiplier)
    assert optimum * (1 - 1e-3) <= bound <= optimum * (1 + 1e-9)


def test_net_trim_gives_zero_where_zero_is_allowed() -> None:
    random = np.random.default_rng(0)
    X, W = random.standard_normal((6, 40)), random.standard_normal((6, 3))
    allowed = 1.01 * float(np.linalg.norm(np.maximum(W.T @ X, 0)))
    assert not net_trim_admm(X, W, allowed, iterations=500).any()


def test_the_trained_weights_are_feasible() -> None:
    random = np.random.default_rng(0)
    X, W = random.standard_normal((6, 40)), random.standard_normal((6, 3))
    program = Program.parallel(X, W, 0.1)
    assert program.violation(W) == 0
    assert program.violation(2 * W) > 1


def correlated(inputs: int, outputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs that share a few causes, and weights."""
    random = np.random.default_rng(seed)
    causes = random.standard_normal((inputs, inputs // 4)) @ random.standard_normal(
        (inputs // 4, 20 * inputs)
    )
    return causes + random.standard_normal(causes.shape), random.standard_normal((inputs, outputs))


@pytest.mark.parametrize("block", [16, 24, 128])
@pytest.mark.parametrize("kept", [0.7, 0.5, 0.27])
def test_sparsegpt_beats_magnitude_with_the_exact_count(block: int, kept: float) -> None:
    X, W = correlated(100, 30)
    keep = round(kept * W.size)
    found = sparsegpt(W, X @ X.T, keep, block)
    plain = magnitude(W, keep)
    assert np.count_nonzero(found) == np.count_nonzero(plain) == keep
    assert np.linalg.norm((found - W).T @ X) < 0.9 * np.linalg.norm((plain - W).T @ X)


def test_sparsegpt_is_magnitude_in_each_block_where_inputs_are_independent() -> None:
    W = np.random.default_rng(1).standard_normal((60, 10))
    found = sparsegpt(W, np.eye(60), 180, block=20)
    for at in range(0, 60, 20):
        part = slice(at, at + 20)
        np.testing.assert_allclose(found[part], magnitude(W[part], 60), rtol=1e-6)


def test_sparsegpt_corrects_exactly_what_one_input_can() -> None:
    # Two equal inputs, one weight each to keep: the kept one takes over the other's part.
    C = np.array([[2.0, 2.0], [2.0, 2.0]])
    found = sparsegpt(np.array([[1.0], [3.0]]), C, 1, damp=1e-4)
    np.testing.assert_allclose(found, [[0], [4]], atol=1e-3)


def test_sparsegpt_clears_dead_inputs() -> None:
    X, W = correlated(20, 4)
    X[3] = 0
    found = sparsegpt(W, X @ X.T, 40)
    assert np.isfinite(found).all()
    assert not found[3].any()


def test_sparsegpt_keeps_all_when_asked_to() -> None:
    X, W = correlated(20, 4)
    np.testing.assert_allclose(sparsegpt(W, X @ X.T, W.size), W, rtol=1e-6)


def test_wanda_is_magnitude_where_inputs_are_alike() -> None:
    W = np.random.default_rng(2).standard_normal((12, 5))
    found = wanda(W, 7 * np.eye(12), 20, groups="layer")
    np.testing.assert_array_equal(found, magnitude(W, 20))
    per_output = wanda(W, 7 * np.eye(12), 20)
    for output in range(5):
        column = W[:, [output]]
        np.testing.assert_array_equal(per_output[:, [output]], magnitude(column, 4))


def test_wanda_prefers_strong_inputs_and_counts_exactly() -> None:
    W = np.array([[1.0, 1.0], [2.0, 2.0], [0.5, 3.0]])
    C = np.diag([100.0, 1.0, 1.0])
    np.testing.assert_array_equal(wanda(W, C, 2) != 0, [[1, 1], [0, 0], [0, 0]])
    W = np.random.default_rng(3).standard_normal((13, 7))
    for keep in (0, 1, 40, 91):
        for groups in ("output", "layer"):
            assert np.count_nonzero(wanda(W, np.eye(13), keep, groups=groups)) == keep
