"""Sample counts against their definitions, and against what linear programs recover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog, minimize_scalar
from scipy.stats import norm

from nettrim_cli.solve.recovery import half_success, samples_needed, theorem_samples


def learned(s: int, inputs: int, samples: int, seed: int) -> bool:
    """Whether a linear program finds a random ReLU neuron with s weights."""
    rng = np.random.default_rng(seed)
    w = np.zeros(inputs)
    w[rng.choice(inputs, s, replace=False)] = rng.standard_normal(s)
    X = rng.standard_normal((samples, inputs))
    z, both = X @ w, np.hstack([X, -X])
    found = linprog(
        np.ones(2 * inputs),
        A_eq=both[z > 0],
        b_eq=z[z > 0],
        A_ub=both[z <= 0],
        b_ub=np.zeros(int((z <= 0).sum())),
    )
    return bool(np.allclose(found.x[:inputs] - found.x[inputs:], w, atol=1e-6))


def test_samples_asked() -> None:
    assert samples_needed(0, 100, relu=True) == 0
    assert samples_needed(10, 100, relu=False) == math.ceil(20 * math.log(10) + 13.5)
    assert samples_needed(10, 100, relu=True) == 2 * samples_needed(10, 100, relu=False)
    assert samples_needed(90, 100, relu=False) == samples_needed(100, 100, relu=False) == 100
    asked = [samples_needed(s, 300, relu=True) for s in range(301)]
    assert asked == sorted(asked)


@pytest.mark.parametrize("s", [2, 5])
def test_a_sparse_relu_neuron_is_learned_from_the_samples_asked_and_not_from_a_third(s) -> None:
    asked = samples_needed(s, 40, relu=True)
    assert sum(learned(s, 40, asked, seed) for seed in range(20)) >= 19
    assert sum(learned(s, 40, asked // 3, seed) for seed in range(20)) <= 10


@pytest.mark.parametrize(("s", "inputs", "failure"), [(1, 20, 0.05), (7, 300, 0.01)])
def test_the_theorem_counts_samples_by_the_failure_that_is_allowed(s, inputs, failure) -> None:
    mu = 1 - math.log(failure) / math.log(inputs)
    assert mu > 1
    assert inputs ** (1 - mu) == pytest.approx(failure)
    assert theorem_samples(s, inputs, failure) == math.ceil((11 * s + 7) * mu * math.log(inputs))
    assert theorem_samples(0, inputs) == 0


def test_the_theorem_asks_for_more_than_the_width_and_its_samples_suffice() -> None:
    for s in (1, 5, 20):
        assert theorem_samples(s, 200) > samples_needed(s, 200, relu=True)
    assert all(learned(2, 30, theorem_samples(2, 30), seed) for seed in range(10))


@pytest.mark.parametrize(("s", "inputs"), [(1, 10), (5, 100), (40, 60)])
def test_half_success_is_at_the_statistical_dimension(s, inputs) -> None:
    def distance(t: float) -> float:
        square = quad(lambda g: (g - t) ** 2 * norm.pdf(g), t, np.inf)[0]
        return s * (1 + t**2) + (inputs - s) * 2 * square

    expected = minimize_scalar(distance, bounds=(0, 10), method="bounded").fun
    assert half_success(s, inputs, relu=False) == pytest.approx(expected, rel=1e-4)
    assert half_success(s, inputs, relu=True) == 2 * half_success(s, inputs, relu=False)
    assert half_success(s, inputs, relu=False) <= samples_needed(s, inputs, relu=False)
    assert (half_success(0, 9, relu=True), half_success(9, 9, relu=True)) == (0, 18)


def test_linear_programs_change_from_failure_to_success_there() -> None:
    middle = half_success(4, 50, relu=True)
    rates = [
        sum(learned(4, 50, round(share * middle), seed) for seed in range(20))
        for share in (0.6, 1.5)
    ]
    assert rates[0] <= 5
    assert rates[1] >= 17
