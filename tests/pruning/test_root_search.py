"""The search ends within the limit and near it, whatever the guess was worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.pruning.root_search import ENOUGH, FAR, MOST, MonotoneSearch
from tests.support.effort import examples

UNSURE = MonotoneSearch.unsure

GRID = np.linspace(0.02, 0.98, 49)


def odds(share):
    return math.log(share / (1 - share))


def seek(truth, expected, limit, *, margin=0.02, tolerance=0.05, memory=math.inf):
    seeker = MonotoneSearch(
        GRID, np.array([expected(k) for k in GRID]), limit, margin, tolerance, memory
    )
    while (x := seeker.propose()) is not None:
        assert GRID[0] - 1e-9 <= x <= GRID[-1] + 1e-9
        seeker.observe(x, truth(x))
    return seeker


@given(
    st.floats(0.5, 2.5),
    st.floats(0.3, 3.0),
    st.floats(-0.4, 0.4),
    st.floats(0.1, 0.9),
)
@examples(200)
def test_the_largest_x_within_the_limit_is_found(power, factor, tilt, at) -> None:
    def expected(x):
        return (x / (1 - x)) ** power

    def truth(x):
        return factor * expected(x) * math.exp(tilt * odds(x) * min(1, power))

    limit = truth(at)
    seeker = seek(truth, expected, limit)
    assert len(seeker.tries) <= MOST
    assert seeker.best is not None
    assert truth(seeker.best) <= limit
    if len(seeker.tries) < ENOUGH:  # it said itself that the next guess is no farther
        promised = 0.05 * len(seeker.tries)
        assert odds(at) - odds(seeker.best) < promised + 0.1 / (power * (1 - abs(tilt)))


def test_where_the_foretold_is_no_guide_small_x_are_tried() -> None:
    def truth(x):
        return 2.0 if x > 0.3 else 0.1 * x

    seeker = seek(truth, lambda x: 1e-4 * x / (1 - x), 1.0)
    assert len(seeker.tries) <= MOST
    assert seeker.best is not None
    assert 0.02 < seeker.best <= 0.3


def test_a_perfect_guess_takes_one_try_and_is_taken() -> None:
    def truth(x):
        return x / (1 - x) * 0.999

    seeker = seek(truth, truth, 1.0)
    assert len(seeker.tries) == 1
    assert seeker.best == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("figure", [math.nan, math.inf, 2.0])
def test_nothing_is_found_where_nothing_will_do(figure) -> None:
    seeker = seek(lambda _: figure, lambda x: x, 0.5)
    assert seeker.best is None
    assert len(seeker.tries) <= MOST
    tried = [x for x, _ in seeker.tries]
    assert tried == sorted(tried, reverse=True)


def test_the_end_is_taken_where_everything_will_do() -> None:
    seeker = seek(lambda _: 0.0, lambda x: x, 5.0)
    assert seeker.best == pytest.approx(GRID[-1])
    assert len(seeker.tries) == 1


def test_a_guess_that_is_no_number_and_one_that_falls_are_survived() -> None:
    for guess in (lambda _: math.nan, lambda _: 0.0, lambda x: 1 - x):
        seeker = seek(lambda x: x, guess, 0.5)
        assert seeker.best is not None
        assert GRID[0] <= seeker.best + 1e-9 <= 0.5


def test_what_is_chance_is_forgotten_with_the_distance() -> None:
    def expected(x):
        return x / (1 - x)

    guesses = []
    for memory in (math.inf, 2.0):
        seeker = MonotoneSearch(GRID, np.array([expected(k) for k in GRID]), 1.0, 0.0, 0.05, memory)
        seeker.observe(seeker.propose(), 3.0)
        guesses.append(odds(seeker.propose()))
    far = UNSURE * FAR
    assert guesses[0] == pytest.approx(-math.log(3) - far, abs=0.02)
    assert guesses[1] == pytest.approx(-math.log(3) * math.exp(guesses[1] / 2) - far, abs=0.02)
    assert guesses[1] > guesses[0] + 0.2


def test_every_guess_aims_below_the_limit_and_the_lower_the_farther() -> None:
    def expected(x):
        return x / (1 - x)

    def seeker():
        return MonotoneSearch(GRID, np.array([expected(k) for k in GRID]), 1.0, 0.1, 0.05)

    assert odds(seeker().propose()) == pytest.approx(-0.1, abs=0.02)
    near, far = seeker(), seeker()
    for each, at in ((near, -0.2), (far, -0.3)):
        x = 1 / (1 + math.exp(-at))
        each.observe(x, expected(x))  # as foretold
    # a + .1 + UNSURE (a - at) = 0 at the guess a
    for each, at in ((near, -0.2), (far, -0.3)):
        guess = (UNSURE * at - 0.1) / (1 + UNSURE)
        assert odds(each.propose()) == pytest.approx(guess, abs=0.02)


def test_a_second_correction_must_promise_more_than_a_first() -> None:
    def tries(gain):
        """How many there are where the second leaves a gain of so much of the odds."""
        seeker = MonotoneSearch(GRID, np.array([k / (1 - k) for k in GRID]), 1.0, 0.0, 0.1)
        x = 1 / (1 + math.exp(-0.5))
        seeker.observe(x, 2.0)
        below = 1 / (1 + math.exp(0.5))
        seeker.observe(below, math.exp(-gain * 1.25))
        return 2 if seeker.propose() is None else 3

    assert tries(0.1) == 2
    assert tries(0.5) == 3
