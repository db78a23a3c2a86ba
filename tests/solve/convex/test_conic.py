"""The convex optimum against an independent conic solver, and what that solver itself proves."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.solve.convex.net_trim import SLACK
from tests.support.conic import Program, optimum
from tests.support.effort import thinned
from tests.support.planted import FORMS, plant
from tests.support.small_layers import random_task, solve_to

TOLERANCE = 6e-5  # asked of nettrim where float32 can give it
COARSE = 1e-3  # which every layer reaches long before rounding matters
SIZES = [(3, 2, 10), (8, 3, 48), (12, 4, 40), (19, 6, 60)]  # N, M, P; the bias is one more input
RESPONSES = {
    "linear": {},
    "linear, cascade": {"cascade": True, "gamma": 1.1},
    "strict": {"relu": True},
    "strict, ceiling": {"relu": True, "ceiling": 0.8},
    "strict, cascade": {"relu": True, "cascade": True, "gamma": 1.1},
    "strict, ceiling, cascade": {"relu": True, "ceiling": 0.8, "cascade": True, "gamma": 1.2},
    "one-sided": {"relu": True, "one_sided": True},
    "one-sided, ceiling": {"relu": True, "one_sided": True, "ceiling": 0.8},
    "one-sided, cascade": {"relu": True, "one_sided": True, "cascade": True, "gamma": 1.2},
}


def layer(number, response):
    """One of the layers of a response: its size, bias, BatchNormalization and epsilon go round."""
    inputs, outputs, columns = SIZES[number % len(SIZES)]
    random = np.random.default_rng(number)
    options = {key: value for key, value in response.items() if key != "one_sided"}
    if number % 3 == 1:
        options["scale"] = random.choice([-2.0, -0.5, 0.7, 1.5], outputs)
        options["shift"] = 0.2 * random.normal(size=outputs)
    options.setdefault("epsilon", (0.03, 0.1, 0.3)[number % 3])
    return random_task(number, inputs, outputs, columns, bias=number % 2 == 0, **options)


def rounding(task, program, best, one_sided):
    """What float32 leaves of gap and violation, relative.

    A step rounds the results ``scale * U'X`` by about half a unit in the last place of their
    absolute products.  The slower a layer converges, the more steps' roundings are in its state;
    as they are independent, those of k steps add up as the root of k.  Weights are asked to be
    inside of epsilon by a part of the tolerance, to which that is relative.
    """
    steps = solve_to(task, COARSE, one_sided=one_sided).iterations
    products = np.abs(program.scale)[:, None] * (np.abs(best.U).T @ np.abs(program.X))
    spread = math.sqrt(steps) * 2.0**-24 * float(np.linalg.norm(products))
    return spread / (SLACK * program.epsilon)


@pytest.mark.parametrize("number", thinned(range(6), 6))
@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_the_optimum_is_the_conic_solvers(response, number) -> None:
    task, one_sided = layer(number, response), response.get("one_sided", False)
    program = Program.of(task, one_sided=one_sided)
    best = optimum(program)
    assert best.value == pytest.approx(best.bound, rel=1e-6)  # it is sure of it, and so are we
    assert program.violation(best.U) <= 1e-6 * program.epsilon
    tolerance = max(TOLERANCE, rounding(task, program, best, one_sided))
    found = solve_to(task, tolerance, one_sided=one_sided)
    value = float(np.abs(found.U).sum())
    assert found.gap <= tolerance < COARSE / SLACK
    assert found.violation <= tolerance
    assert value == pytest.approx(best.value, rel=2 * tolerance)
    # what is said of the weights is true of these weights
    assert value * (1 - found.gap) <= best.value * (1 + 1e-6)
    said = found.violation * program.epsilon
    assert program.violation(found.U) == pytest.approx(said, abs=2e-5 * program.epsilon)


@pytest.mark.parametrize("seed", thinned(range(3), 3))
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_both_oracles_agree(form, seed) -> None:
    plan = plant(seed, **form)
    program = Program.of(plan.task, one_sided=plan.one_sided)
    assert program.violation(plan.U) <= 1e-6 * program.epsilon
    assert program.violation(plan.task.W) <= 1e-6 * program.epsilon
    assert program.bound(plan.multiplier) == pytest.approx(plan.optimum, rel=1e-6)
    best = optimum(program)
    assert best.value == pytest.approx(plan.optimum, rel=1e-6)
    assert best.bound <= plan.optimum * (1 + 1e-6)
    assert np.allclose(best.U, plan.U, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_one_sided_set_contains_the_strict_one(seed) -> None:
    task = random_task(seed, epsilon=0.1, relu=True)
    strict, one_sided = (optimum(Program.of(task, one_sided=each)) for each in (False, True))
    assert one_sided.value < strict.value * (1 - 1e-3)
    assert task.error(one_sided.U, holdout=False) <= 0.1 * (1 + 1e-4)  # the paper's guarantee
