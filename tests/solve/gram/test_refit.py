"""Refits against dense solves, and by the objective that they claim to lower."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve import matrices
from nettrim_cli.solve.gram import refit as module
from nettrim_cli.solve.gram.refit import (
    Damping,
    refit,
    refit_exactly,
    refit_iteratively,
    refit_response,
)
from nettrim_cli.solve.responses import Intervals, ResponseCurve
from tests.support.small_layers import correlated


@pytest.mark.parametrize("seed", range(6))
def test_refit_is_a_solve_on_each_support(seed) -> None:
    random = np.random.default_rng(seed)
    x = correlated(random, 15, 300)
    x /= np.sqrt((x**2).mean(axis=1, keepdims=True))
    A = (x @ x.T / 300 + 0.01 * np.eye(15)).astype(np.float32)
    rhs = random.normal(size=(15, 7)).astype(np.float32)
    support = random.random((15, 7)) < 0.5
    support[:, 0], support[:, 1] = False, True
    start = random.normal(size=(15, 7)).astype(np.float32)
    for V in (
        refit(A, rhs, support, start),
        refit_exactly(A, rhs, support, start),
        refit_iteratively(A.__matmul__, rhs, support, start, steps=200),
    ):
        assert np.all(V[~support] == 0)
        for j in range(7):
            on = support[:, j]
            expected = np.linalg.solve(A[np.ix_(on, on)].astype(float), rhs[on, j].astype(float))
            assert np.allclose(V[on, j], expected, rtol=5e-3, atol=5e-3 * np.abs(rhs).max())


@pytest.mark.parametrize(("kept", "exact"), [(0.05, True), (0.9, False)])
def test_the_cheaper_refit_is_taken(kept, exact, monkeypatch) -> None:
    random, calls = np.random.default_rng(0), []
    for name in ("refit_exactly", "refit_iteratively"):
        monkeypatch.setattr(module, name, lambda *_, name=name: calls.append(name))
    A, rhs = np.eye(600, dtype=np.float32), np.ones((600, 40), np.float32)
    refit(A, rhs, random.random(rhs.shape) < kept, rhs, steps=8)
    assert calls == ["refit_exactly" if exact else "refit_iteratively"]


def test_a_part_that_has_no_factor_stays_as_it_was() -> None:
    A = np.diag(np.array([1, -1, 2], np.float32))
    start = np.array([[3.0, 3.0], [4.0, 4.0], [5.0, 5.0]], np.float32)
    support = np.array([[True, True], [True, False], [False, True]])
    V = refit_exactly(A, np.ones((3, 2), np.float32), support, start)
    assert np.allclose(V, [[3, 1], [4, 0], [0, 0.5]])


def energy(A, rhs, V):
    return float((V * (A @ V)).sum() / 2 - (V * rhs).sum())


@pytest.mark.parametrize("steps", [1, 4, 20])
def test_each_step_lowers_the_energy(steps) -> None:
    random = np.random.default_rng(3)
    x = correlated(random, 20, 30)
    A = (x @ x.T / 30 + 1e-3 * np.eye(20)).astype(np.float32)
    rhs, start = random.normal(size=(2, 20, 6)).astype(np.float32)
    support = random.random((20, 6)) < 0.4
    fewer = refit_iteratively(A.__matmul__, rhs, support, start, steps=steps - 1)
    more = refit_iteratively(A.__matmul__, rhs, support, start, steps=steps)
    assert energy(A, rhs, more) <= energy(A, rhs, fewer) + 1e-4 * abs(energy(A, rhs, fewer))


def one_sided(X, sets, delta, W, V, b):
    Z = V.T.astype(float) @ X + (0 if b is None else b[:, None])
    R = Z - np.clip(Z, sets.lower, sets.upper)
    return float((R**2).sum() / X.shape[1] + delta * ((V - W) ** 2).sum())


@pytest.mark.parametrize("free_bias", [True, False])
@pytest.mark.parametrize("columns", [15, 80, 400])
@pytest.mark.parametrize("ceiling", [np.inf, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_refit_response_beats_its_start(seed, free_bias, columns, ceiling) -> None:
    random = np.random.default_rng(seed)
    inputs, outputs, delta = 12, 5, 1e-2
    x = correlated(random, inputs, columns)
    X = x - x.mean(axis=1, keepdims=True) if free_bias else x
    X = (X / np.sqrt((X**2).mean(axis=1, keepdims=True) + 1e-9)).astype(np.float32)
    W = random.normal(size=(inputs, outputs)).astype(np.float32) / 3
    b = random.normal(size=outputs).astype(np.float32) / 3 if free_bias else None
    Z = W.T @ X + (0 if b is None else b[:, None])
    sets = Intervals.of_response(Z, limits=(0.0, ceiling))
    A = X @ X.T / np.float32(columns) + np.float32(delta) * np.eye(inputs, dtype=np.float32)
    centred = Z - Z.mean(axis=1, keepdims=True) if free_bias else Z
    rhs = X @ centred.T / np.float32(columns) + np.float32(delta) * W
    support = random.random((inputs, outputs)) < 0.5
    linear = refit_iteratively(
        A.__matmul__, rhs, support, W, steps=200
    )  # the best for the linear response
    start_bias = Z.mean(axis=1) if free_bias else None
    for start in (linear, W * support):
        before = one_sided(X, sets, delta, W, start, start_bias)
        V, bias = refit_response(X, sets, Damping(delta, np.float32(delta) * W), start, start_bias)
        after = one_sided(X, sets, delta, W, V, bias)
        assert np.all(V[start == 0] == 0)
        assert (bias is None) == (not free_bias)
        assert after <= before * (1 + 1e-5)
        assert after <= one_sided(X, sets, delta, W, linear, start_bias) * 1.02


@pytest.mark.parametrize("free_bias", [True, False])
def test_kept_factors_and_conjugate_gradients_end_alike(free_bias, monkeypatch) -> None:
    random = np.random.default_rng(5)
    X = correlated(random, 60, 500)
    X = ((X - X.mean(axis=1, keepdims=True)) / X.std(axis=1, keepdims=True)).astype(np.float32)
    W = random.normal(size=(60, 40)).astype(np.float32) / 8
    b = np.zeros(40, np.float32) if free_bias else None
    sets, start = Intervals.of_response(W.T @ X), W * (random.random(W.shape) < 0.3)
    ends = []
    for kept_bytes in (1 << 30, 0):
        monkeypatch.setattr(module, "FACTORS_BYTES", kept_bytes)
        monkeypatch.setattr(module, "CALL", 0)
        monkeypatch.setattr(module, "SOLVE", 0)
        V, bias = refit_response(X, sets, Damping(1e-2, np.float32(1e-2) * W), start, b, rounds=40)
        ends.append(one_sided(X, sets, 1e-2, W, V, bias))
    before = one_sided(X, sets, 1e-2, W, start, b)
    assert ends[0] < 0.9 * before
    assert ends[0] == pytest.approx(ends[1], rel=1e-3)


@pytest.mark.parametrize("curved", [True, False])
def test_a_refit_works_on_some_columns_at_a_time(curved, monkeypatch) -> None:
    random = np.random.default_rng(6)
    X = correlated(random, 20, 500).astype(np.float32)
    W = random.normal(size=(20, 8)).astype(np.float32) / 5
    Z, start = W.T @ X, W * (random.random(W.shape) < 0.5)
    added = random.normal(size=Z.shape).astype(np.float32)
    sets = Intervals.of_response(Z, skip=added)
    target = ResponseCurve.of(np.tanh, Z, added) if curved else sets
    b, widths, found = np.zeros(8, np.float32), [], []

    class Watched:
        def residual(self, Z, columns):
            widths.append(Z.shape[1])
            return target.residual(Z, columns)

    for values in (1 << 20, 8 * 60):
        monkeypatch.setattr(matrices, "BLOCK_VALUES", values)
        found.append(refit_response(X, Watched(), Damping(1e-2, 1e-2 * W), start, b, rounds=3))
    assert widths == [500] * 3 + [*[60] * 8, 20] * 3
    for one, other in zip(*found, strict=True):
        assert np.allclose(one, other, rtol=1e-3, atol=1e-5)
    assert not np.array_equal(found[0][0], start)
