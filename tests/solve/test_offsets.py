"""Residual connections and activations behind a layer, by their definitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.gram.feedback import (
    ErrorFeedback,
    feedback_options,
    holdout_error,
    middle_feedback,
)
from nettrim_cli.solve.gram.l0 import candidates, solve_l0
from nettrim_cli.solve.gram.output_weights import output_weights
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.penalties import KeepLargest
from nettrim_cli.solve.samples import SkipConnection
from tests.support.small_layers import correlated, make_task, support_size


def gelu(A):
    return A * (1 + erf(A / np.sqrt(2))) / 2


def leaky(A):
    return np.where(A < 0, 0.1 * A, A)


def residual_task(seed, *, exact=False, noise=0.2, columns=600, held=300, **options):
    """A layer with a residual connection; `exact`: nothing before either was pruned."""
    random = np.random.default_rng(seed)
    x = correlated(random, 16, columns + held)
    moved = x if exact else x * (0.9 + 0.2 * random.random((16, 1)))
    W, b = random.normal(size=(16, 6)) / 4, 0.2 * random.normal(size=6)
    task = make_task(
        x[:, :columns],
        W,
        bias=b,
        holdout=x[:, columns:],
        pruned=None if exact else moved[:, :columns],
        holdout_pruned=None if exact else moved[:, columns:],
        **options,
    )
    r = random.normal(size=(6, x.shape[1])).astype(np.float32)
    mix = random.normal(size=(16, 6)) * noise  # the skip's error is a function of x
    late = r if exact else (r - mix.T @ moved).astype(np.float32)
    reached, dense = late[:, :columns], r[:, :columns]
    missing = None if exact else task.samples.X.astype(float) @ (dense - reached).T.astype(float)
    offset = SkipConnection(
        reached,
        late[:, columns:],
        reached if exact else dense,
        late[:, columns:] if exact else r[:, columns:],
        missing,
    )
    return replace(task, samples=replace(task.samples, skip=offset))


@pytest.mark.parametrize("options", [{}, {"relu": True}, {"activation": gelu}])
def test_error_by_its_definition(options) -> None:
    scale, shift = np.array([1, -2, 0.5, 1, 1, 2.0]), np.linspace(-1, 1, 6)
    task = residual_task(0, scale=scale, shift=shift, **options)
    act = options.get("activation", (lambda A: np.maximum(A, 0)) if options else lambda A: A)
    samples, offset, U = task.samples, task.samples.skip, 0.7 * task.W
    for held, X, Z, r, d in (
        (False, samples.X, samples.Z, offset.pruned, offset.dense),
        (True, samples.holdout_X, samples.holdout_Z, offset.holdout_pruned, offset.holdout_dense),
    ):
        found = act(scale[:, None] * (U.T @ X) + shift[:, None] + r)
        wanted = act(scale[:, None] * Z + shift[:, None] + d)
        expected = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert task.error(U, holdout=held) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [None, np.array([1, -2, 0.5, 1, 3, 0.0])])
def test_a_target_with_the_skips_error_is_the_sum_over_columns(scale) -> None:
    task = residual_task(1, scale=scale)
    samples, offset = task.samples, task.samples.skip
    X, Z = samples.X.astype(float), samples.Z.astype(float)
    live = np.ones(6, bool) if scale is None else scale != 0
    factor = np.ones(6) if scale is None else scale
    for repair in feedback_options(task):
        own = task.W.T @ X
        mixed = own + repair.own * (Z - own)
        mixed[live] += repair.skip * (offset.dense - offset.pruned)[live] / factor[live, None]
        found = ScaledProblem.of(task).target(repair)
        assert np.allclose(found, X @ mixed.T, rtol=1e-3, atol=1e-3 * np.abs(found).max())
    assert len(feedback_options(task)) == 6


def test_a_layer_repairs_what_the_skip_lacks_where_it_can() -> None:
    task = residual_task(2, keep=80, noise=0.3)
    found = solve_l0(task)
    assert "100% of the skip" in found.note
    without = ScaledProblem.of(task)
    V = without.find_support(without.rhs(ErrorFeedback(1.0, 0.0)), KeepLargest(80))
    ignoring = holdout_error(task, without.linear_weights(V, ErrorFeedback(1.0, 0.0)))
    assert holdout_error(task, found.U) < 0.5 * ignoring


@pytest.mark.parametrize("exact", [True, False])
def test_refits_for_several_targets_are_those_of_each(exact) -> None:
    task = residual_task(7, exact=exact, keep=40)
    problem, tried = ScaledProblem.of(task), feedback_options(task)
    V = problem.find_support(problem.rhs(middle_feedback(task)), KeepLargest(40))
    A, found = problem.system.A.astype(float), dict(problem.refits(V, tried))
    assert set(found) == set(tried)
    for repair, weights in found.items():
        rhs = problem.rhs(repair).astype(float)
        for j, on in enumerate((V != 0).T):
            expected = np.linalg.solve(A[np.ix_(on, on)], rhs[on, j])
            assert np.allclose(weights[on, j], expected, rtol=2e-3, atol=2e-3 * abs(rhs).max())
        assert not weights[V == 0].any()


@pytest.mark.slow
def test_the_chosen_target_is_never_far_from_the_best() -> None:
    """Every target with a support of its own is what the choice saves."""
    for seed in range(8):
        task = residual_task(seed, keep=30, noise=0.1 * (seed % 3), columns=80 + 40 * seed)
        problem, penalty = ScaledProblem.of(task), KeepLargest(30)
        every = []
        for repair in feedback_options(task):
            V = problem.find_support(problem.rhs(repair), penalty)
            every.append(holdout_error(task, problem.linear_weights(V, repair)))
        assert holdout_error(task, solve_l0(task).U) < 1.05 * min(every)


def test_a_layer_that_is_kept_whole_repairs_too() -> None:
    task = residual_task(3, keep=10**6, noise=0.3)
    found = solve_l0(task)
    assert "kept whole, repairs" in found.note
    assert found.tuned is not None
    fewer = replace(task, keep=10, tuned=found.tuned)
    assert fewer.tuned_sparse is None  # with fewer weights it may repair and be refitted otherwise
    assert holdout_error(task, found.U) < 0.7 * holdout_error(task, task.W)
    first = residual_task(3, exact=True, keep=10**6)
    assert np.array_equal(solve_l0(first).U, first.W)


def test_a_residual_connection_frees_inactive_units() -> None:
    """relu(z + r): z may be anything below -r, which a linear fit does not know."""
    better = 0
    for seed in range(5):
        task = residual_task(seed, exact=True, relu=True, columns=3000, shift=np.full(6, -1.0))
        problem = ScaledProblem.of(task)
        V = problem.find_support(problem.rhs(ErrorFeedback()), KeepLargest(50))
        linear = task.error(problem.linear_weights(V, ErrorFeedback()), holdout=True)
        better += (
            task.error(problem.response_weights(V, ErrorFeedback()), holdout=True) < 0.99 * linear
        )
    assert better >= 4


@pytest.mark.parametrize("act", [gelu, leaky, np.tanh], ids=["gelu", "leaky", "tanh"])
def test_a_refit_lowers_the_error_behind_the_activation(act) -> None:
    for seed in range(3):
        task = residual_task(seed, exact=True, columns=2000)
        samples = replace(task.samples, skip=None)
        task = replace(task, activation=act, samples=samples)
        problem = ScaledProblem.of(task)
        V = problem.find_support(problem.rhs(ErrorFeedback()), KeepLargest(40))
        linear = problem.linear_weights(V, ErrorFeedback())
        fitted = problem.response_weights(V, ErrorFeedback())
        assert np.array_equal(fitted[:-1] != 0, linear[:-1] != 0)
        assert task.error(fitted, holdout=False) < task.error(linear, holdout=False)
        assert task.error(fitted, holdout=True) < 1.005 * task.error(linear, holdout=True)


def test_outputs_are_worth_what_passes_on() -> None:
    task = residual_task(4, exact=True, activation=leaky, shift=np.array([-9, 9, 0, 0, 0, 0.0]))
    assert output_weights(task)[0] == pytest.approx(0.1**0.75, rel=0.05)
    assert output_weights(task)[1] == pytest.approx(1, rel=0.05)
    assert np.all(output_weights(replace(task, activation=None)) == 1)
    relu = output_weights(replace(task, activation=None, relu=True))
    assert relu[0] < 0.1 < 0.9 < relu[1]


@pytest.mark.parametrize("options", [{"relu": True}, {"activation": gelu}, {}])
@pytest.mark.parametrize("exact", [True, False])
def test_every_candidate_keeps_the_count(options, exact) -> None:
    task = residual_task(5, exact=exact, keep=24, **options)
    found = list(candidates(ScaledProblem.of(task), KeepLargest(24)))
    assert len(found) == (2 if options else 1) + (1 if exact else 2)
    assert all(support_size(task, U) <= 24 for _, U, *_ in found)
    assert holdout_error(task, solve_l0(task).U) <= min(error for error, *_ in found) * 1.0001


def test_the_papers_program_has_minus_the_residual_as_bound() -> None:
    task = residual_task(6, exact=True, relu=True, epsilon=0.1)
    samples, offset = task.samples, task.samples.skip
    found = solve_net_trim(task)
    result, Z = found.U.T @ samples.X, samples.Z
    active = Z + offset.dense > 0
    size = np.linalg.norm(np.maximum(Z + offset.dense, 0))
    assert np.linalg.norm((result - Z)[active]) <= 0.1 * size * 1.01
    over = np.maximum(result + offset.pruned, 0)[~active]
    assert np.linalg.norm(over) <= 0.1 * size * 0.01
    plain = replace(task, samples=replace(samples, skip=None), relu=False)
    linear = solve_net_trim(replace(plain, epsilon=0.1 * size / np.linalg.norm(Z)))
    assert np.abs(found.U).sum() < np.abs(linear.U).sum()


def test_a_layer_that_is_kept_whole_keeps_the_weights_of_silent_inputs() -> None:
    task = residual_task(3, keep=10**6, noise=0.3)
    samples = task.samples
    for each in (samples.X, samples.holdout_X, samples.C, samples.B):
        each[0] = 0
    samples.C[:, 0] = 0
    found = solve_l0(task)
    assert "kept whole, repairs" in found.note
    np.testing.assert_allclose(found.U[0], task.W[0], rtol=1e-6)
