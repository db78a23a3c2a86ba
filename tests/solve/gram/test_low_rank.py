"""The system of wide layers against the dense formulas in float64, and its memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.reasons import NO_REASON
from nettrim_cli.solve.convex import sample_space
from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.convex.sample_space import inverse_with_one
from nettrim_cli.solve.gram.feedback import holdout_error
from nettrim_cli.solve.gram.l0 import error_curve, solve_l0
from nettrim_cli.solve.gram.low_rank import (
    Eigenbasis,
    LowRank,
    LowRankSystem,
    damped_gram,
    system_of,
)
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.system import GramSystem, damping, inverse_of
from nettrim_cli.solve.problem import Status
from nettrim_cli.solve.samples import LayerSamples
from nettrim_cli.solve.transport import SharedCache
from tests.support.effort import examples
from tests.support.small_layers import correlated, make_task, random_task, support_size, with_ones


def by_columns(task):
    """The same task with its columns in place of C and B."""
    return replace(task, samples=replace(task.samples, C=None, B=None, shared=SharedCache()))


def dense(x, free_bias, delta):
    """A, d, alive and the centred inputs from their definitions, in float64."""
    x = x.astype(np.float64)
    rows = x - x.mean(axis=1, keepdims=True) if free_bias else x
    power, raw = np.sqrt((rows**2).mean(axis=1)), np.sqrt((x**2).mean(axis=1))
    top = power.max()
    alive = power > 1e-6 * np.maximum(raw, top)
    d = np.maximum(power, 1e-3 * top) if top > 0 else np.ones(len(x))
    scaled = np.where(alive[:, None], rows / d[:, None], 0)
    return scaled @ scaled.T / x.shape[1] + delta * np.eye(len(x)), d, alive, scaled


def inputs(kind, random):
    x = correlated(random, 60, {"one column": 1, "two columns": 2}.get(kind, 20))
    if kind == "dead and constant":
        x[3], x[7], x[9] = 0, 7.7, 1e-9 * x[9]
    if kind == "duplicated":
        x[20:40], x[:, 10:] = x[:20], x[:, :10]
    if kind == "scales":
        x *= 10 ** random.uniform(-2, 2, size=(60, 1))
    if kind == "offset":
        x += 50
    if kind == "nothing":
        x[:] = 0
    return (x * {"tiny": 1e-8, "huge": 1e8}.get(kind, 1)).astype(np.float32)


KINDS = ("plain", "one column", "two columns", "dead and constant", "duplicated", "scales")
KINDS += ("offset", "nothing", "tiny", "huge")


@pytest.mark.parametrize("free_bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_dense_formula(kind, free_bias) -> None:
    random = np.random.default_rng(3)
    x = inputs(kind, random)
    N, P = x.shape
    Z, W = random.normal(size=(5, P)) + 0.5, random.normal(size=(N, 5)) / max(1e-8, x.max())
    system = LowRankSystem.build(with_ones(x), free_bias=free_bias)
    A, d, alive, scaled = dense(x, free_bias, system.delta)
    assert system.delta == damping(P, N)
    assert system.alive.tolist() == alive.tolist()
    assert np.allclose(system.d, d, rtol=1e-6)
    V = random.normal(size=(N, 7)).astype(np.float32)
    np.testing.assert_allclose(system.A @ V, A @ V, rtol=1e-4, atol=1e-5 * np.abs(A @ V).max())
    goal = Z - Z.mean(axis=1, keepdims=True) if free_bias else Z
    rhs = np.where(alive[:, None], scaled @ goal.T / P + system.delta * W * d[:, None], 0)
    found = system.right_hand_side(Z, W)
    np.testing.assert_allclose(found, rhs, rtol=1e-4, atol=1e-5 * np.abs(rhs).max(initial=1e-9))
    for rho in (0.1, 0.4, 2.0):
        exact = np.linalg.solve(A + rho * np.eye(N), V.astype(np.float64))
        got = system.solve(V, rho)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, exact, rtol=1e-4, atol=2e-6 * np.abs(exact).max())
    if free_bias:
        expected = (Z - W.T @ x).mean(axis=1)
        np.testing.assert_allclose(system.bias(Z, W), expected, rtol=1e-5, atol=1e-5)
    else:
        with pytest.raises(ValueError, match="no bias"):
            system.bias(Z, W)


@pytest.mark.parametrize("free_bias", [True, False])
def test_strong_directions_keep_their_precision(free_bias) -> None:
    random = np.random.default_rng(0)
    x = correlated(random, 1000, 150, rank=3).astype(np.float32)
    system = LowRankSystem.build(with_ones(x), free_bias=free_bias)
    A = dense(x, free_bias, system.delta)[0]
    assert np.linalg.norm(A, 2) > 200
    V = A[:, :4].astype(np.float32)
    exact = np.linalg.solve(A + 0.1 * np.eye(1000), V.astype(np.float64))
    narrow = GramSystem.build(with_ones(x).astype(float) @ with_ones(x).T, free_bias=free_bias)
    errors = [np.linalg.norm(each.solve(V, 0.1) - exact) for each in (system, narrow)]
    assert errors[0] < 2e-4 * np.linalg.norm(exact)
    assert errors[0] < 4 * errors[1]


@given(
    seed=st.integers(0, 2**32 - 1),
    N=st.integers(1, 40),
    P=st.integers(1, 40),
    repeats=st.integers(1, 3),
    free_bias=st.booleans(),
)
@examples(60)
def test_both_forms_are_one_system(seed, N, P, repeats, free_bias) -> None:
    random = np.random.default_rng(seed)
    X = with_ones(np.tile(np.maximum(random.normal(size=(N, P)), 0), repeats))
    wide = LowRankSystem.build(X, free_bias=free_bias)
    narrow = GramSystem.build(X.astype(float) @ X.T.astype(float), free_bias=free_bias)
    Z, W = random.normal(size=(3, P * repeats)), random.normal(size=(N, 3))
    B = X.astype(float) @ Z.T
    assert np.array_equal(wide.alive, narrow.alive)
    one, other = wide.right_hand_side(Z, W), narrow.right_hand_side(B, W)
    np.testing.assert_allclose(one, other, atol=1e-4)
    np.testing.assert_allclose(wide.A @ one, narrow.A @ one, atol=1e-3)
    np.testing.assert_allclose(wide.solve(one, 0.1), narrow.solve(one, 0.1), atol=1e-3)
    if free_bias:
        np.testing.assert_allclose(wide.bias(Z, W), narrow.bias(B, W), atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 3), (50, 50), (1, 4), (5, 0), (40, 11)])
@pytest.mark.parametrize("rank", [1, 2, 100])
def test_rotation(shape, rank, monkeypatch) -> None:
    monkeypatch.setattr("nettrim_cli.solve.gram.system.BLOCK_BYTES", 500)  # several blocks of rows
    random = np.random.default_rng(1)
    rank = min(rank, *shape)
    X = (random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, shape[1]))).astype("f")
    kept = X.copy()
    found = Eigenbasis.of(X)
    assert found.Y is X
    assert np.allclose(found.Y @ found.R.T, kept, atol=1e-5)
    assert np.allclose(found.R.T @ found.R, np.eye(shape[1]), atol=1e-5)
    strongest = np.linalg.norm(kept, 2) ** 2 if kept.size else 0
    assert np.allclose(X.T @ X, np.diag(found.powers), atol=3e-6 * strongest)
    assert np.all(found.powers >= 0)


def test_what_is_not_finite_is_refused() -> None:
    for bad in (np.nan, np.inf, 1e30):
        X = np.ones((6, 3), np.float32)
        X[2, 1] = bad
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(np.linalg.LinAlgError):
            Eigenbasis.of(X)


@pytest.mark.parametrize("shape", [(30, 15), (30, 16), (4, 90), (5, 0)])
def test_the_cheaper_product(shape) -> None:
    X = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    V = np.random.default_rng(3).normal(size=(shape[0], 4)).astype(np.float32)
    A = damped_gram(X, 0.3)
    assert isinstance(A, LowRank) is (2 * shape[1] <= shape[0])
    expected = X.astype(float) @ X.T / max(1, shape[1]) + 0.3 * np.eye(shape[0])
    assert np.allclose(A @ V, expected @ V, atol=1e-5)
    step = inverse_with_one(X)
    assert np.allclose(
        step(V), np.linalg.solve(X.astype(float) @ X.T + np.eye(len(X)), V), atol=1e-5
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("cascade", [True, False])
@pytest.mark.parametrize("relu", [True, False])
def test_the_default_method_is_the_same_on_columns(bias, cascade, relu) -> None:
    options = {"inputs": 40, "outputs": 6, "columns": 18, "bias": bias, "cascade": cascade}
    task = random_task(5, **options, relu=relu, keep=60)
    wide = by_columns(task)
    assert isinstance(ScaledProblem.of(wide).system, LowRankSystem)
    assert isinstance(ScaledProblem.of(task).system, GramSystem)
    found, expected = solve_l0(wide), solve_l0(task)
    assert found.status is expected.status is Status.SOLVED
    assert found.note == expected.note
    assert support_size(wide, found.U) == 60
    differing = ~np.isclose(found.U, expected.U, atol=1e-3).all(axis=0)
    assert differing.sum() <= 2  # rounding may break one tie, between two outputs
    assert holdout_error(task, found.U) == pytest.approx(holdout_error(task, expected.U), rel=0.02)
    assert np.allclose(error_curve(wide, [30, 90])[0], error_curve(task, [30, 90])[0], rtol=1e-3)


def test_the_fewest_weights_within_epsilon_hold_on_columns() -> None:
    task = by_columns(random_task(6, 50, 5, 24, relu=True, epsilon=0.3))
    found = solve_l0(task)
    assert found.status is Status.SOLVED
    assert support_size(task, found.U) < 200
    assert max(task.error(found.U, holdout=held) for held in (False, True)) <= 0.3


def test_the_papers_program_on_columns(monkeypatch) -> None:
    task = by_columns(random_task(7, 50, 6, 20, relu=True, epsilon=0.1))
    found = solve_net_trim(task)

    def formed(X):
        return partial(np.matmul, inverse_of(X @ X.T, 1.0))

    monkeypatch.setattr(sample_space, "inverse_with_one", formed)
    expected = solve_net_trim(task)
    assert found.status is expected.status is Status.SOLVED
    assert task.error(found.U, holdout=False) <= 0.1 * 1.01
    assert np.abs(found.U).sum() == pytest.approx(np.abs(expected.U).sum(), rel=5e-3)


def test_samples_without_sums() -> None:
    task = random_task(8, 30, 4, 12, cascade=True)
    wide = by_columns(task).samples
    W = np.random.default_rng(0).normal(size=(31, 4))
    assert wide.columns == task.samples.columns == 12
    assert wide.unusable_reason == NO_REASON
    assert wide.target is wide.Z
    assert task.samples.target is task.samples.B
    assert np.allclose(wide.target_of(W), W.T @ wide.X)
    assert np.allclose(task.samples.target_of(W), task.samples.C @ W)
    one, other = system_of(wide, free_bias=True), system_of(wide, free_bias=True, delta=0.02)
    assert isinstance(one, LowRankSystem)
    assert one.rotated is other.rotated
    assert (one.delta, other.delta) == (0.1, 0.02)
    V = np.ones((30, 2), np.float32)
    assert np.allclose(one.A @ V - other.A @ V, 0.08, atol=1e-5)
    assert "not finite" in replace(wide, Z=wide.Z * np.nan).unusable_reason.text


def test_without_columns_the_layer_stays_dense() -> None:
    task = by_columns(random_task(9, 30, 4, 12, relu=True, keep=20))
    samples = replace(task.samples, X=task.samples.X[:, :0], Z=task.samples.Z[:, :0])
    for solve in (solve_l0, solve_net_trim):
        found = solve(replace(task, samples=samples))
        assert found.status is Status.DENSE
        assert "none of the calibration samples" in found.note
    system = LowRankSystem.build(samples.X, free_bias=True)
    V = np.ones((30, 4), np.float32)
    assert not system.alive.any()
    assert np.allclose(system.A @ V, system.delta)
    assert np.allclose(system.solve(V, 0.3), 1 / (system.delta + 0.3))
    assert not system.right_hand_side(samples.Z, V).any()
    assert not system.bias(samples.Z, V).any()


@pytest.mark.slow
def test_memory_of_a_wide_layer_is_that_of_its_columns_and_weights() -> None:
    N, M, P = 20_000, 8, 64
    random = np.random.default_rng(0)
    X = with_ones(correlated(random, N, P + 16, rank=8))
    W = (random.normal(size=(N + 1, M)) / 100).astype(np.float32)
    Z = W.T @ X
    samples = LayerSamples(None, None, X[:, :P].copy(), Z[:, :P], X[:, P:].copy(), Z[:, P:], True)
    task = make_task(np.ones((1, 2)), np.ones((1, M)), bias=np.zeros(M), relu=True, keep=N)
    task = replace(task, W=W, samples=samples)
    tracemalloc.start()
    try:
        found = solve_l0(task)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.status is Status.SOLVED
    assert task.error(found.U, holdout=False) < 0.01  # seen: .0014
    assert task.error(found.U, holdout=True) < 0.4  # seen: .22
    assert peak < 15 * 4 * N * (M + P) < N * N * 4 / 15
