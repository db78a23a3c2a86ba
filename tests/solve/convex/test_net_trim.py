"""The paper's method on whole tasks: exact oracles, the cascade's rule, the search for a count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nettrim_cli.solve.convex.layer_program import as_program, compressed
from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import TOLERANCE, Limits, Status
from tests.support.small_layers import (
    make_task,
    random_task,
    strict_program,
    strict_violation,
    support_size,
)

FORMS = {
    "linear": {},
    "relu": {"relu": True},
    "relu6": {"relu": True, "ceiling": 1.0},
    "batch norm": {
        "relu": True,
        "scale": np.array([1.5, -0.7, 0.2, -3.0, 1.0]),
        "shift": np.array([0.1, 0.3, -0.05, 0.4, 0.0]),
    },
    "batch norm, linear": {
        "scale": np.array([1.5, -0.7, 0.2, -3.0, 1.0]),
        "shift": np.array([0.1, 0.3, -0.05, 0.4, 0.0]),
    },
}
cases = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def size_of(task):
    return float(np.linalg.norm(task.response(task.samples.Z).astype(float)))


@cases
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_parallel(form, bias, seed) -> None:
    task = random_task(seed, bias=bias, epsilon=0.1, **form)
    found = solve_net_trim(task)
    assert found.status is Status.SOLVED
    epsilon = 0.1 * size_of(task)
    said = found.violation * epsilon
    assert strict_violation(task, found.U, epsilon) == pytest.approx(
        said, rel=0.05, abs=1e-4 * epsilon
    )
    # the paper's guarantee, and W is feasible
    assert task.error(found.U, holdout=False) <= 0.1 * (1 + 2 * TOLERANCE) + 1e-4
    assert np.abs(found.U).sum() <= np.abs(task.W).sum() * (1 + 2 * TOLERANCE)
    assert found.U.shape == task.W.shape


@cases
@pytest.mark.parametrize("seed", range(2))
def test_cascade(form, seed) -> None:
    task = random_task(seed, cascade=True, epsilon=0.9, gamma=1.2, **form)
    _, Z, _, omega, _, _, scale, own = strict_program(task)
    epsilon = 1.2 * np.linalg.norm((own - Z) * omega)
    layer = as_program(task)
    assert layer.dense_error * 1.2 == pytest.approx(epsilon, rel=1e-5)
    # W is inside the set that the layer is given, exactly off Omega
    if task.relu:
        result = (task.W.astype(np.float32).T @ task.samples.X[task.rows]) * scale.astype(
            np.float32
        )[:, None]
        R = layer.intervals.residual(result)
        assert np.all(R[~layer.intervals.active] == 0)
    assert strict_violation(task, task.W.astype(float), epsilon) <= 1e-5 * epsilon
    found = solve_net_trim(task)
    assert found.status is Status.SOLVED
    said = found.violation * epsilon
    assert strict_violation(task, found.U, epsilon) == pytest.approx(
        said, rel=0.05, abs=1e-4 * epsilon
    )
    assert np.abs(found.U).sum() <= np.abs(task.W).sum() * (1 + 2 * TOLERANCE)


@cases
@pytest.mark.parametrize("epsilon", [1.0, 1.5, 50.0])
def test_an_error_of_all_needs_no_weights(form, epsilon) -> None:
    if "shift" in form:  # V = -shift, so zero weights may be outside
        form = {**form, "shift": np.zeros(5)}
    task = random_task(1, epsilon=epsilon, **form)
    found = solve_net_trim(task)
    if "ceiling" not in form:  # saturated results are held to the letter
        assert not found.U.any()
        assert found.gap == 0
        # Two norms of the same numbers: each has half the rounding of a float32 sum of squares.
        assert found.violation <= task.samples.Z.size * 2.0**-24
        assert found.status is Status.SOLVED


def test_a_linear_layer_in_gram_space_is_the_same_program() -> None:
    for cascade in (False, True):
        task = random_task(7, inputs=6, columns=50, cascade=cascade, epsilon=0.2)
        X, Z = task.samples.X, task.samples.Z
        small_X, small_Z = compressed(X, Z)
        assert small_X.shape == (7, 8)
        for seed in range(3):
            U = np.random.default_rng(seed).normal(size=task.W.shape)
            whole, part = U.T @ X - Z, U.T @ small_X - small_Z
            assert np.linalg.norm(part) == pytest.approx(np.linalg.norm(whole), rel=1e-5)
            assert np.allclose(small_X @ part.T, X @ whole.T, rtol=1e-4, atol=1e-3)
        layer = as_program(task)
        assert layer.X.shape == (7, 8)
        assert layer.size == pytest.approx(size_of(task))


def test_outputs_without_influence_are_zero_and_keep_their_bias() -> None:
    scale = np.array([1.0, 0.0, -2.0, 0.0, 1e-42])
    for relu in (True, False):
        task = random_task(2, scale=scale, shift=np.full(5, 0.1), relu=relu, epsilon=0.1)
        found = solve_net_trim(task)
        assert np.isfinite(found.U).all()
        assert not found.U[:-1, [1, 3]].any()
        assert np.array_equal(found.U[-1, [1, 3]], task.W[-1, [1, 3]])
    task = replace(task, scale=np.zeros(5))
    found = solve_net_trim(task)
    assert not found.U[:-1].any()
    assert np.array_equal(found.U[-1], task.W[-1])


@pytest.mark.parametrize("keep", [0, 5, 20, 40, 60])
def test_a_count_is_met(keep) -> None:
    task = random_task(3, relu=True, keep=keep)
    found = solve_net_trim(task)
    assert support_size(task, found.U) <= keep + 2
    if keep == 60:
        assert np.array_equal(found.U, task.W)


def test_the_time_limit_holds_in_the_search_for_a_count() -> None:
    task = replace(random_task(3, relu=True, keep=20), limits=Limits(seconds=-1))
    found = solve_net_trim(task)
    assert (found.status, found.reason) == (Status.DENSE, "limit")
    assert np.array_equal(found.U, task.W)


def test_more_weights_for_less_error() -> None:
    norms = [
        np.abs(solve_net_trim(random_task(4, relu=True, epsilon=each)).U).sum()
        for each in (0.01, 0.05, 0.2, 0.6)
    ]
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e3, 1e8])
def test_units_do_not_matter(scale) -> None:
    random = np.random.default_rng(5)
    x, W = np.maximum(random.normal(size=(8, 50)), 0), random.normal(size=(8, 4))
    expected = np.abs(solve_net_trim(make_task(x, W, relu=True, epsilon=0.1)).U).sum()
    for x_scale, w_scale in ((scale, 1), (1, scale), (scale, scale)):
        task = make_task(x_scale * x, w_scale * W, relu=True, epsilon=0.1)
        found = solve_net_trim(task)
        assert found.status is Status.SOLVED
        assert task.error(found.U, holdout=False) <= 0.102
        assert np.abs(found.U).sum() / w_scale == pytest.approx(expected, rel=0.01)


def test_the_look_is_told_each_step() -> None:
    seen = []
    found = solve_net_trim(
        random_task(6, relu=True, epsilon=0.1), lambda done, total: seen.append((done, total))
    )
    steps = [done for done, _ in seen]
    assert steps == sorted(set(steps))
    assert steps[0] == 1
    assert steps[-1] == found.iterations


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_leave_the_layer_dense(bad) -> None:
    task = random_task(0, epsilon=0.1)
    task.samples.C[0, 1] = bad
    found = solve_net_trim(task)
    assert found.status is Status.DENSE
    assert "not finite" in found.note
    assert np.array_equal(found.U, task.W)


@cases
@pytest.mark.parametrize("cascade", [False, True])
def test_a_larger_set_and_more_rounds_need_fewer_weights(form, cascade) -> None:
    task = random_task(11, inputs=16, columns=200, epsilon=0.2, gamma=1.3, cascade=cascade, **form)
    strict, one_sided, reweighted = (
        METHODS[name](task, None) for name in ("net-trim", "one-sided", "reweighted")
    )
    layer = as_program(task)
    epsilon = 0.2 * layer.size if layer.dense_error == 0 else 1.3 * layer.dense_error
    scale = 1.0 if task.scale is None else task.scale
    for found in (one_sided, reweighted):
        assert found.status is Status.SOLVED
        R = layer.intervals.residual(((found.U * scale).T @ layer.X).astype(np.float32))
        assert np.linalg.norm(R) <= epsilon * (1 + 1.1 * TOLERANCE)
    assert np.abs(one_sided.U).sum() <= np.abs(strict.U).sum() * (1 + 3 * TOLERANCE)
    assert support_size(task, reweighted.U) <= support_size(task, one_sided.U)
