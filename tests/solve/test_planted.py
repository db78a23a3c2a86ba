"""Layers whose pruned weights are known beforehand: 200 planted ones, and where it is plain."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram.system import GramResponse, GramSystem
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.problem import TOLERANCE, Status
from tests.support.conic import Program
from tests.support.effort import thinned
from tests.support.planted import FORMS, plant
from tests.support.small_layers import make_task, random_task, solve_to

STRAY = 0.01  # a fiftieth of the smallest planted weight


def assert_same_support(U, planted, stray=STRAY):
    """Every planted weight is there with its sign, and no other but next to nothing."""
    assert np.array_equal(np.sign(U)[planted != 0], np.sign(planted)[planted != 0])
    assert np.abs(U[planted == 0]).max() <= stray


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", thinned(range(20), 4))
def test_planted(form, seed) -> None:
    plan = plant(1000 * list(FORMS).index(form) + seed, **FORMS[form])
    program = Program.of(plan.task, one_sided=plan.one_sided)
    found = solve_to(plan.task, one_sided=plan.one_sided)
    value = float(np.abs(found.U).sum())
    assert found.status is Status.SOLVED
    assert found.gap <= TOLERANCE
    assert found.violation <= TOLERANCE
    # the gap and the violation are true of these weights
    assert value * (1 - found.gap) <= plan.optimum * (1 + 1e-5)
    assert value * (1 + found.gap) >= program.bound(plan.multiplier) * (1 - TOLERANCE)
    said = found.violation * program.epsilon
    assert program.violation(found.U) == pytest.approx(said, rel=1e-2, abs=1e-4 * program.epsilon)
    # with no ReLU no constraint is nearly active, so that not even the least stray weight is left
    assert_same_support(found.U, plan.U, stray=STRAY if plan.task.relu else 0)
    assert np.abs(found.U - plan.U).max() <= 0.1


@pytest.mark.parametrize("seed", thinned(range(30), 3))
def test_planted_in_gram_space(seed) -> None:
    """L1 with half the squared residual: ``X (U'X - Z)' = -price S`` makes U the optimum."""
    plan = plant(seed, bias=False, exact=False)
    X, price = plan.task.samples.X[:-1].astype(float), 0.05 * X_power(plan)
    Z = plan.U.T @ X - price * plan.multiplier
    C = np.zeros((len(X) + 1, len(X) + 1))
    C[:-1, :-1], C[-1, -1] = X @ X.T, X.shape[1]
    system = GramSystem.build(C, free_bias=False, delta=0.0)
    B = np.vstack([X @ Z.T, np.zeros((1, len(Z)))])
    rhs = system.right_hand_side(B, np.zeros(plan.U.shape))
    penalty = WeightedL1(price / X.shape[1] / system.d[:, None])  # of V = d U, squares over P
    V, _, _ = admm(
        GramResponse(system, rhs), penalty, start=np.zeros_like(rhs), schedule=(0.3,) * 400
    )
    U = V / system.d[:, None]
    assert_same_support(U, plan.U, stray=0)
    assert np.allclose(U, plan.U, atol=1e-3)

    def objective(weights):
        return 0.5 * ((weights.T @ X - Z) ** 2).sum() + price * np.abs(weights).sum()

    assert objective(U) == pytest.approx(objective(plan.U), rel=1e-5)


def X_power(plan):
    """Smallest column of C on the diagonal: prices are of its size."""
    return float((plan.task.samples.X.astype(float) ** 2).sum(axis=1).min())


def zero_layer(seed, form):
    """A layer to which U = 0 is as near as epsilon allows, V being at least 0."""
    random = np.random.default_rng(seed)
    options = {key: form[key] for key in form.keys() & {"relu"}}
    bias = form.get("bias", True)
    return random_task(seed, bias=bias, epsilon=float(random.uniform(1, 3)), **options)


@pytest.mark.parametrize("form", ["strict", "strict, no bias", "one-sided", "linear"])
@pytest.mark.parametrize("seed", range(5))
def test_an_epsilon_of_all_needs_no_weights(form, seed) -> None:
    found = solve_to(zero_layer(seed, FORMS[form]), one_sided="one_sided" in FORMS[form])
    assert found.status is Status.SOLVED
    assert found.gap == found.violation == 0
    assert not found.U.any()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("seed", thinned(range(3), 3))
def test_weights_that_fit_exactly_are_feasible_without_any_epsilon(form, seed) -> None:
    random = np.random.default_rng(seed)
    x, W = np.maximum(random.normal(size=(9, 70)), 0), random.normal(size=(9, 4))
    task = make_task(x, W, bias=random.normal(size=4), relu=form.get("relu", False), epsilon=0.0)
    program = Program.of(task, one_sided=form.get("one_sided", False))
    assert program.epsilon == 0
    assert program.violation(task.W) <= 1e-6 * np.linalg.norm(task.samples.Z)
    # the only feasible weights where the results on Omega determine them
    found = solve_to(task, one_sided=form.get("one_sided", False))
    assert found.status is not Status.SOLVED or np.allclose(found.U, task.W, atol=1e-4)
    assert task.error(found.U, holdout=False) < 0.05
