"""The Gram system against least squares on the samples themselves."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nettrim_cli.solve.gram import system as module
from nettrim_cli.solve.gram.system import GramResponse, GramSystem, damping, inverse_of
from tests.support.small_layers import correlated, random_task, with_ones


def by_lstsq(x, Z, free_bias):
    rows = np.vstack([x, np.ones((1, x.shape[1]))]) if free_bias else x
    found = np.linalg.lstsq(rows.T, Z.T, rcond=None)[0]
    return (found[:-1], found[-1]) if free_bias else (found, None)


def solved(system, B, W):
    rhs = system.right_hand_side(B, W)
    return np.linalg.solve(system.A.astype(float), rhs.astype(float)) / system.d[:, None]


@pytest.mark.parametrize("free_bias", [True, False])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_without_damping_it_is_least_squares(seed, free_bias, scale) -> None:
    random = np.random.default_rng(seed)
    x = scale * (correlated(random, 8, 200) + 0.3 * random.normal(size=(8, 200)) + 1)
    x *= 10 ** random.uniform(-1, 1, size=(8, 1))
    Z = random.normal(size=(3, 200)) + 0.5
    X = np.vstack([x, np.ones((1, 200))])
    system = GramSystem.build(X @ X.T, free_bias=free_bias, delta=0.0)
    U = solved(system, X @ Z.T, np.zeros((8, 3)))
    weights, bias = by_lstsq(x, Z, free_bias)
    assert np.allclose(U, weights, rtol=2e-3, atol=2e-3 * np.abs(weights).max())
    if free_bias:
        assert np.allclose(system.bias(X @ Z.T, weights), bias)
    else:
        with pytest.raises(ValueError, match="no bias"):
            system.bias(X @ Z.T, U)


@pytest.mark.parametrize("free_bias", [True, False])
def test_damping_pulls_to_the_dense_weights(free_bias) -> None:
    random = np.random.default_rng(0)
    x = correlated(random, 6, 50)
    X = np.vstack([x, np.ones((1, 50))])
    Z, W = random.normal(size=(2, 50)), random.normal(size=(6, 2))
    distances = []
    for delta in (1e-3, 1e-1, 10.0, 1e4):
        system = GramSystem.build(X @ X.T, free_bias=free_bias, delta=delta)
        U = solved(system, X @ Z.T, W)
        distances.append(float(np.linalg.norm(U - W)))
        # the definition: P delta ||d (U - W)||^2 added to the squares
        rows = x - x.mean(axis=1, keepdims=True) if free_bias else x
        goal = Z - Z.mean(axis=1, keepdims=True) if free_bias else Z
        root = np.sqrt(50 * delta) * np.diag(system.d)
        sides = np.vstack([rows.T, root]), np.vstack([goal.T, root @ W])
        expected = np.linalg.lstsq(*sides, rcond=None)[0]
        assert np.allclose(U, expected, rtol=1e-3, atol=1e-3)
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3


@pytest.mark.parametrize("free_bias", [True, False])
def test_dead_and_constant_inputs(free_bias) -> None:
    random = np.random.default_rng(1)
    x = correlated(random, 5, 40)
    x[1], x[3] = 0, 7.7
    X = np.vstack([x, np.ones((1, 40))])
    system = GramSystem.build(X @ X.T, free_bias=free_bias)
    assert system.alive.tolist() == [True, False, True, not free_bias, True]
    rhs = system.right_hand_side(X @ random.normal(size=(40, 2)), np.ones((5, 2)))
    assert np.all(rhs[~system.alive] == 0)
    off = system.A - np.diag(np.diag(system.A))
    assert np.all(off[~system.alive] == 0)
    assert np.allclose(np.diag(system.A)[system.alive], 1 + system.delta)
    assert np.all(system.d > 0)


def test_all_dead_and_a_single_sample() -> None:
    for X in (np.vstack([np.zeros((3, 5)), np.ones((1, 5))]), np.array([[2.0], [3], [0], [1]])):
        system = GramSystem.build(X @ X.T, free_bias=True)
        assert not system.alive.any()
        assert np.isfinite(system.inverse(0.1)).all()
        assert np.allclose(system.A, system.delta * np.eye(3))


def test_the_response_is_the_minimum_of_its_definition() -> None:
    task = random_task(0, inputs=6, outputs=3)
    system = GramSystem.build(task.samples.C, free_bias=True)
    rhs = system.right_hand_side(task.samples.B, task.W[:-1])
    target, rho = np.ones((6, 3), np.float32), 0.4
    U = GramResponse(system, rhs).solve(target, rho)
    gradient = system.A @ U - rhs + rho * (U - target)
    assert np.abs(gradient).max() < 1e-5
    assert system.inverse(rho) is system.inverse(rho)


@pytest.mark.parametrize("size", [1, 2, 17, 60])
def test_inverse(size) -> None:
    A = np.random.default_rng(size).normal(size=(size, size))
    A = A @ A.T
    kept = A.copy()
    found = inverse_of(A, 0.5)
    assert np.allclose(found, np.linalg.inv(A + 0.5 * np.eye(size)), rtol=1e-4, atol=1e-5)
    assert np.array_equal(found, found.T)
    assert np.array_equal(A, kept)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "A", [-np.eye(3), np.full((3, 3), np.nan), np.diag([1, np.inf, 1]), np.array([[1, 5], [5, 1]])]
)
def test_inverse_refuses_what_is_not_positive_definite(A) -> None:
    with pytest.raises(np.linalg.LinAlgError):
        inverse_of(A, 0.1)


def test_damping_falls_with_the_samples() -> None:
    found = [damping(columns, 100) for columns in (1, 150, 300, 900, 10**6)]
    assert found == sorted(found, reverse=True)
    assert all(each > 0 for each in found)


def test_dampings_share_inverses_of_equal_sums() -> None:
    task = random_task(1, inputs=6, outputs=3)
    one = GramSystem.build(task.samples.C, free_bias=True, delta=0.1)
    other, built = (
        one.damped(0.01),
        GramSystem.build(task.samples.C, free_bias=True, delta=0.01),
    )
    assert np.allclose(other.A, built.A, atol=3e-7)
    assert (other.delta, one.delta) == (0.01, 0.1)
    assert other.inverse(0.59) is one.inverse(0.5)
    assert other.inverse(0.5) is not one.inverse(0.5)
    assert np.allclose(other.inverse(0.5), built.inverse(0.5), atol=1e-5)


def test_inverses_beyond_the_budget_are_made_anew(monkeypatch) -> None:
    task = random_task(0, inputs=6, outputs=3)
    system = GramSystem.build(task.samples.C, free_bias=True)
    monkeypatch.setattr(module, "INVERSES_BYTES", 2 * system.A.nbytes)
    first = [system.inverse(rho) for rho in (0.1, 0.4, 2.0)]
    assert system.inverse(0.1) is first[0]
    assert system.inverse(2.0) is first[2]
    assert system.inverse(0.4) is not first[1]
    assert np.array_equal(system.inverse(0.4), first[1])
    assert len(system.inverses) == 2
    monkeypatch.setattr(module, "INVERSES_BYTES", 0)  # the one at work is always kept
    assert system.inverse(0.1) is system.inverse(0.1)


@pytest.mark.parametrize("free_bias", [True, False])
def test_blocks_of_rows_are_one_matrix(free_bias, monkeypatch) -> None:
    X = random_task(3, inputs=23, columns=70).samples.X.astype(float)
    whole = GramSystem.build(X @ X.T, free_bias=free_bias)
    inverse = whole.inverse(0.3)
    monkeypatch.setattr(module, "BLOCK_BYTES", 8 * 23 * 5)
    parts = GramSystem.build(X @ X.T, free_bias=free_bias)
    assert np.array_equal(parts.A, whole.A)
    assert np.array_equal(parts.A, parts.A.T)
    assert np.array_equal(parts.inverse(0.3), inverse)


def test_memory_of_the_system_and_its_inverse(monkeypatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 1 << 18)
    N = 1200
    X = with_ones(np.random.default_rng(0).normal(size=(N, 2000)))
    C = X.astype(float) @ X.T
    tracemalloc.start()
    try:
        system = GramSystem.build(C, free_bias=True)
        assert tracemalloc.get_traced_memory()[1] < 1.4 * system.A.nbytes
        tracemalloc.reset_peak()
        found = system.solve(system.A[:, :3], 0.1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.allclose(found, np.eye(N)[:, :3] - 0.1 * system.inverse(0.1)[:, :3], atol=1e-5)
    assert peak < 4.4 * system.A.nbytes  # itself, its float64 copy, the inverse
