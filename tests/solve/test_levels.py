"""The searches find what a full search finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve.levels import (
    allocate,
    fewest_weights,
    interpolate,
    refine_levels,
    smallest_epsilon,
    uniform,
)
from tests.support.effort import examples

QUICK = examples(100)


def falling(seed, total):
    """A random error that falls to 0 with the count, at counts 0 to total."""
    random = np.random.default_rng(seed)
    drops = random.random(total) ** random.integers(1, 20)
    errors = np.append(np.cumsum(drops[::-1])[::-1], 0.0)
    return errors / errors[0]


@given(st.integers(0, 10**6), st.integers(1, 3000), st.floats(0.001, 0.999))
@QUICK
def test_fewest_is_least_up_to_its_tolerance(seed, total, allowed) -> None:
    errors, asked = falling(seed, total), []

    def error(keep):
        assert 0 < keep < total
        asked.append(keep)
        return errors[keep]

    keep, calls = fewest_weights(error, allowed, total, max_calls=200)
    assert calls == len(asked) == len(set(asked)) < 200
    assert keep == total or errors[keep] <= allowed
    least = int(np.flatnonzero(errors[1:] <= allowed)[0]) + 1
    assert least <= keep <= least + max(1, keep // 50)


@given(st.integers(0, 10**6), st.integers(1, 10**5), st.floats(0.001, 0.999))
@QUICK
def test_fewest_within_a_few_tries_is_good_and_true(seed, total, allowed) -> None:
    errors = falling(seed, total)
    keep, calls = fewest_weights(lambda keep: errors[keep], allowed, total)
    assert calls <= 9
    assert keep == total or errors[keep] <= allowed


@pytest.mark.parametrize("found", [math.nan, math.inf, 1.0])
def test_fewest_gives_all_where_nothing_will_do(found) -> None:
    assert fewest_weights(lambda _: found, 0.5, 1000)[0] == 1000


@given(st.integers(0, 10**6), st.integers(10, 2000), st.floats(0.01, 0.95))
@QUICK
def test_smallest_share_keeps_no_more_than_asked(seed, total, density) -> None:
    places = np.sort(np.random.default_rng(seed).random(total))  # a weight dies at each

    def weights(share):
        return int(total - np.searchsorted(places, share, side="right"))

    keep, slack = int(density * total), max(1, total // 100)
    share = smallest_epsilon(weights, keep, slack, max_calls=100)
    assert 0 < share <= 1
    assert weights(share) <= keep
    assert keep - weights(share) <= slack
    assert 0 < smallest_epsilon(weights, keep, slack) <= 1
    assert weights(smallest_epsilon(weights, keep, slack)) <= keep


def test_smallest_share_shrinks_where_anything_will_do() -> None:
    assert smallest_epsilon(lambda _: 0, 100, 1) < 1e-3


def convex_curves(seed, layers, levels):
    random = np.random.default_rng(seed)
    rises = np.sort(random.random((layers, len(levels) - 1)) ** 3, axis=1)
    return [np.append(0, np.cumsum(each * np.diff(levels))) for each in rises]


@pytest.mark.parametrize("seed", range(15))
def test_allocate_matches_every_way_of_sharing(seed) -> None:
    levels, sizes = np.array([0, 0.25, 0.5, 0.75, 1.0]), [4, 8, 12]
    curves = convex_curves(seed, 3, levels)

    def total(counts):
        shares = [count / size for count, size in zip(counts, sizes, strict=True)]
        return sum(np.interp(s, levels, curve) for s, curve in zip(shares, curves, strict=True))

    for zeros in (0, 1, 7, 13, 23, 24):
        found = allocate(curves, sizes, levels, zeros)
        assert sum(found) == zeros
        ways = itertools.product(*(range(size + 1) for size in sizes))
        least = min(total(each) for each in ways if sum(each) == zeros)
        assert total(found) == pytest.approx(least, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 8), st.floats(0, 1))
@QUICK
def test_allocate_sums_up_and_stays_inside(seed, layers, share) -> None:
    random = np.random.default_rng(seed)
    levels = np.append(0, np.sort(random.choice(np.arange(1, 99), 6, replace=False)) / 100)
    sizes = random.integers(1, 10**5, layers).tolist()
    curves = list(random.random((layers, len(levels))) ** 4)  # neither monotone nor convex
    most = sum(levels[-1] * size for size in sizes)
    zeros = round(share * sum(sizes))
    found = allocate(curves, sizes, levels, zeros)
    assert sum(found) == (zeros if zeros <= most else round(most))
    assert all(
        0 <= count <= math.ceil(levels[-1] * s) <= s for count, s in zip(found, sizes, strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_allocate_takes_more_of_each_layer_for_more_zeros(seed) -> None:
    levels, sizes = np.array([0, 0.3, 0.6, 0.9]), [100, 400, 30]
    curves = convex_curves(seed, 3, levels)
    before = [0, 0, 0]
    for zeros in range(0, 478, 9):
        found = allocate(curves, sizes, levels, zeros)
        assert all(one <= two for one, two in zip(before, found, strict=True))
        before = found


def test_a_cheaper_layer_gives_first() -> None:
    levels = np.array([0, 0.5, 1.0])
    found = allocate([np.array([0, 1, 2.0]), np.array([0, 0.1, 0.2])], [10, 10], levels, 10)
    assert found == [0, 10]


LEVELS = np.array([0, 0.3, 0.6, 0.8, 0.95])


@pytest.mark.parametrize("power", [0.5, 1, 2.5])
def test_between_levels_a_power_of_the_odds_is_met_exactly(power) -> None:
    shares = np.array([0.01, 0.1, 0.3, 0.45, 0.7, 0.9, 0.95])
    curve = 3 * np.append(0, (LEVELS[1:] / (1 - LEVELS[1:])) ** power)
    expected = 3 * (shares / (1 - shares)) ** power
    assert interpolate(LEVELS, curve, shares) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 10**6), st.integers(0, 4))
@QUICK
def test_between_levels_costs_rise_from_level_to_level(seed, dead) -> None:
    random = np.random.default_rng(seed)
    curve = 10.0 ** random.uniform(-9, 0, 5)  # not even monotone
    curve[:dead] = 0
    rising, fine = np.maximum.accumulate(curve), refine_levels(LEVELS)
    found = interpolate(LEVELS, curve, fine)
    assert np.all(np.diff(found) >= -1e-12 * rising[-1])
    assert interpolate(LEVELS, curve, LEVELS) == pytest.approx(rising, abs=2e-12 * rising[-1])
    assert found[0] == pytest.approx(rising[0], abs=2e-12 * rising[-1])


def test_between_levels_nothing_costs_nothing_and_one_level_is_a_line() -> None:
    assert not interpolate(LEVELS, np.zeros(5), refine_levels(LEVELS)).any()
    assert interpolate(np.array([0, 0.5]), np.array([0, 2.0]), np.array([0.1, 0.5])).tolist() == [
        0.4,
        2,
    ]


def test_finer_levels_have_the_levels_among_them() -> None:
    fine = refine_levels(LEVELS)
    assert set(LEVELS.tolist()) <= set(fine.tolist())
    assert np.all(np.diff(fine) > 0)
    assert fine[-1] == LEVELS[-1]
    assert 0 < fine[1] < LEVELS[1] / 10


BOUNDED = st.lists(  # sizes at which every level is a whole number
    st.tuples(st.sampled_from([4, 8]), st.integers(0, 8), st.integers(0, 8)),
    min_size=1,
    max_size=3,
)


def within(layers):
    """Sizes, and bounds inside them."""
    bounds = [tuple(sorted((min(low, n), min(high, n)))) for n, low, high in layers]
    return [n for n, _, _ in layers], bounds


@given(st.integers(0, 10**6), BOUNDED, st.floats(0, 1))
@examples(60)
def test_allocate_within_bounds_matches_every_way_of_sharing(seed, layers, share) -> None:
    sizes, bounds = within(layers)
    levels = np.arange(5) / 4
    curves = convex_curves(seed, len(sizes), levels)
    ways = list(itertools.product(*(range(low, high + 1) for low, high in bounds)))
    fewest_zeros, most = (sum(each) for each in zip(*bounds, strict=True))
    zeros = round(fewest_zeros + share * (most - fewest_zeros))

    def total(counts):
        shares = [count / size for count, size in zip(counts, sizes, strict=True)]
        return sum(np.interp(s, levels, curve) for s, curve in zip(shares, curves, strict=True))

    found = allocate(curves, sizes, levels, zeros, bounds)
    assert tuple(found) in ways
    assert sum(found) == zeros
    assert total(found) == pytest.approx(min(total(w) for w in ways if sum(w) == zeros), abs=1e-9)


@given(BOUNDED, st.integers(0, 26))
@QUICK
def test_spread_is_as_even_as_bounds_allow(layers, zeros) -> None:
    sizes, bounds = within(layers)
    found = uniform(sizes, zeros, bounds)
    fewest_zeros, most = (sum(each) for each in zip(*bounds, strict=True))
    assert sum(found) == min(max(zeros, fewest_zeros), most)
    assert all(low <= count <= high for count, (low, high) in zip(found, bounds, strict=True))
    for (a, n, (low, _)), (b, m, (_, high)) in itertools.permutations(
        zip(found, sizes, bounds, strict=True), 2
    ):
        if a > low and b < high:  # nothing whole could go from the larger share to the smaller
            assert (a - 1) / n <= (b + 1) / m + 1e-9


def test_spread_without_bounds_gives_the_same_share() -> None:
    assert uniform([10, 200, 3000], 2889, [(0, 10), (0, 200), (0, 3000)]) == [9, 180, 2700]


def test_bounds_that_ask_for_more_or_less_than_wanted_hold() -> None:
    levels, curves = np.array([0, 0.5, 0.9]), [np.array([0, 1, 3.0])] * 2
    assert allocate(curves, [10, 10], levels, 2, [(4, 6), (0, 10)]) == [4, 0]
    assert allocate(curves, [10, 10], levels, 20, [(0, 3), (0, 10)]) == [3, 9]
    assert allocate(curves, [10, 10], levels, 20, [(10, 10), (0, 0)]) == [10, 0]
