"""Medians and their intervals: as sure as they say, whatever the distribution is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.latency.statistics import estimate, paired_ratios, spread
from tests.support.effort import thinned


@pytest.mark.parametrize("count", thinned([6, 20, 31, 200], 2))
@pytest.mark.parametrize("draw", ["normal", "heavy", "two machines"])
def test_intervals_hold_the_true_median_as_often_as_they_say(count, draw) -> None:
    random = np.random.default_rng(count)
    samples = {
        "normal": lambda: random.standard_normal(count) + 5,
        "heavy": lambda: 5 + random.standard_cauchy(count),
        "two machines": lambda: (
            np.where(random.random(count) < 0.5, 4, 6) + random.uniform(-1, 1, count)
        ),
    }[draw]
    hits = 0
    for _ in range(2000):
        interval = estimate(samples())
        hits += interval.low <= 5 <= interval.high
    assert hits / 2000 > 0.94


def test_ends_are_order_statistics() -> None:
    assert estimate(range(1, 7)).low == 1  # 2 / 2**6 < 5 %
    assert estimate(range(1, 7)).high == 6
    twenty = estimate(np.arange(20.0)[::-1])
    assert (twenty.median, twenty.low, twenty.high) == (9.5, 5, 14)  # Table of the sign test


def test_few_values_have_no_interval() -> None:
    few = estimate([3, 1, 2, 5, 4])
    assert (few.median, few.low, few.high) == (3, 0, math.inf)
    assert spread(few) == math.inf


def test_what_slows_a_whole_round_down_cancels() -> None:
    random = np.random.default_rng(0)
    slow = random.uniform(1, 30, 50)
    ratios = paired_ratios(np.array([2 * slow, 3 * slow, slow]))
    assert np.allclose(ratios, [[1.5] * 50, [0.5] * 50])
