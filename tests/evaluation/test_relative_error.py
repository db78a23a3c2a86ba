"""Bounds on relative errors: they hold as often as they say, and narrow with the samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.evaluation.relative_error import RelativeError
from tests.support.effort import thinned

SEED = 3


def gamma(random, count):
    """Squared distances with a tail, unlike sizes."""
    return random.gamma(0.5, size=count), random.gamma(3, size=count)


def related(random, count):
    """Samples that are large and move much."""
    sizes = np.exp(0.7 * random.standard_normal(count))
    return sizes * random.gamma(2, size=count), sizes


@pytest.mark.parametrize("draw", [gamma, related])
@pytest.mark.parametrize("samples", thinned([30, 200], 2))
def test_bounds_hold_as_often_as_they_say(draw, samples) -> None:
    random, trials = np.random.default_rng(SEED), 200
    moved, sizes = draw(random, 1_000_000)
    true = math.sqrt(moved.mean() / sizes.mean())
    found = [RelativeError(*draw(random, samples)) for _ in range(trials)]
    # Three deviations of a share of 95 % in so many trials, for a fixed seed.
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)
    uppers = np.array([each.upper() for each in found])
    assert np.mean(uppers >= true) >= least
    assert np.mean([each.lower() <= true for each in found]) >= least
    assert np.median(uppers) < 1.4 * true


def test_more_samples_and_less_confidence_narrow_them() -> None:
    found = RelativeError(*gamma(np.random.default_rng(SEED), 100))
    error = found.estimate
    highs = [found.upper(samples=count) for count in (50, 100, 1000, 100_000)]
    lows = [found.lower(samples=count) for count in (50, 100, 1000, 100_000)]
    assert highs == sorted(highs, reverse=True)
    assert lows == sorted(lows)
    assert lows[-1] < error < highs[-1] < 1.1 * error
    assert found.upper() == highs[1]
    assert found.upper(0.9) < found.upper(0.99)
    assert found.lower(0.9) > found.lower(0.99)


def test_the_ends() -> None:
    one = RelativeError(np.ones(1), np.ones(1))
    assert (one.lower(), one.estimate, one.upper()) == (0, 1, math.inf)
    equal = RelativeError(np.full(50, 4.0), np.ones(50))
    assert equal.upper() == pytest.approx(2) == equal.lower()
    still = RelativeError(np.zeros(5), np.ones(5))
    assert (still.lower(), still.estimate, still.upper()) == (0, 0, 0)
    silent = RelativeError(np.ones(5), np.zeros(5))
    assert (silent.lower(), silent.upper()) == (math.inf, math.inf)
    lost = RelativeError(np.array([1.0, np.nan]), np.ones(2))
    assert (lost.lower(), lost.upper()) == (math.inf, math.inf)
