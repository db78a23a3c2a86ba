"""Margins by hand, intervals by their definition, and bounds that hold as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.evaluation.accuracy import (
    NEIGHBOURS,
    NORMAL,
    Drop,
    Margins,
    counted_drop,
    drop_bound,
    drop_interval,
    exact_interval,
    margins,
    measured_drop,
    top1,
)
from tests.support.effort import examples

SCORES = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 2], [1, 1, 0]], np.float32)


@pytest.mark.parametrize(("held", "others"), [(1, 99), (2, 98), (5, 95), (10, 90)])
def test_a_bound_from_few_moves_is_wide(held, others) -> None:
    random, holds = np.random.default_rng(0), 0
    for _ in range(100):
        before = np.abs(random.standard_normal(held))
        found = Margins([before], [before - 0.3 * random.standard_normal(held)], [1] * held)
        rest = np.abs(random.standard_normal(others))
        bound = drop_bound(found, Margins([rest], [rest], [1] * others))[1]
        assert bound <= 1
        holds += bound >= 0.092  # what moves of this size change of a large number of answers
    assert holds >= 90


def of(before, after, answers=1):
    """Margins as they are, without the scores they came from."""
    found = Margins([np.asarray(before, float)], [np.asarray(after, float)])
    found.counts = [answers] * (len(before) // answers)
    return found


NONE = of([], [])


def test_margins_are_the_distance_to_the_best_other_class() -> None:
    assert margins(SCORES, np.array([2, 0, 1, 1])).tolist() == [1, 3, 3, 0]
    assert margins(SCORES, np.array([0, 2, 0, 2])).tolist() == [-2, -3, -5, -1]


def test_a_tie_is_won_by_the_first_class_and_lost_by_the_second() -> None:
    assert margins(SCORES[3:], np.array([0]))[0] > 0
    assert margins(SCORES[3:], np.array([1]))[0] == 0


def test_margins_of_what_is_no_class_or_no_number_are_lost() -> None:
    broken = np.array([[1, np.nan], [0, 1], [0, 1], [np.inf, np.inf]])
    assert margins(broken, np.array([0, -1, 2, 0])).tolist() == [-math.inf] * 4


@given(st.integers(0, 10**6), st.booleans())
@examples(50)
def test_an_answer_is_right_where_its_margin_is_above_nought(seed, whole) -> None:
    random = np.random.default_rng(seed)
    scores = random.standard_normal((30, 4, 3)).astype(np.float32)
    if whole:
        scores = scores.round()  # ties
    wanted = random.integers(0, 3, (30, 4))
    assert np.array_equal(margins(scores, wanted) > 0, top1(scores) == wanted)


def test_answers_that_are_no_scores_are_right_or_wrong() -> None:
    found = Margins()
    found.add(np.array([1, 2, 3]), np.array([1, 0, 3]), np.array([1, 2, 0]))
    assert [each.tolist() for each in found.arrays] == [[1, 1, -1], [1, -1, -1]]
    assert found.counts == [1, 1, 1]


def at_most(right, count, share):
    """How likely so many or fewer of the samples are right, with that share: a sum of terms."""
    numbers = np.arange(right + 1)
    logarithms = numbers * math.log(share) + (count - numbers) * math.log1p(-share)
    for each in (numbers, count - numbers):
        logarithms -= [math.lgamma(number + 1) for number in each]
    return np.exp(logarithms + math.lgamma(count + 1)).sum()


def at_least(right, count, share):
    """How likely so many or more are right."""
    return at_most(count - right, count, 1 - share)


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (9759, 10000), (1, 1)])
def test_the_exact_interval_by_its_definition(right, count) -> None:
    low, high = exact_interval(right, count)
    if right:  # so few or more with the lowest share, and so many or fewer with the highest
        assert at_least(right, count, low) == pytest.approx(0.025, rel=1e-6)
    else:
        assert low == 0
    if right < count:
        assert at_most(right, count, high) == pytest.approx(0.025, rel=1e-6)
    else:
        assert high == 1


def test_the_interval_of_a_drop_holds_at_least_as_often_as_it_says() -> None:
    random, count, lost, gained = np.random.default_rng(0), 300, 0.03, 0.01
    drawn = random.multinomial(count, [lost, gained, 1 - lost - gained], 400)
    ends = [drop_interval(int(a), int(b), count) for a, b, _ in drawn]
    held = [low <= lost - gained <= high for low, high in ends]
    assert np.mean(held) >= 0.95
    assert drop_interval(0, 0, 400)[1] == exact_interval(0, 400, 0.975)[1]


def by_hand(before, after, others):
    """The estimate as its docstring has it, in loops."""
    ranked = sorted(range(len(before)), key=lambda i: before[i])
    width = min(len(before), max(NEIGHBOURS, len(before) // 4))
    lost = []
    for margin in [*before, *others]:
        place = sum(each < margin for each in before)
        start = min(max(place - width // 2, 0), len(before) - width)
        near = ranked[start : start + width]
        moved = [margin - (before[i] - after[i]) for i in near]
        lost.append(np.mean([float(margin > 0) - float(each > 0) for each in moved]))
    return np.mean(lost)


@pytest.mark.parametrize("n", [5, 60, 300])
def test_the_estimate_of_a_drop_by_its_definition(n) -> None:
    random = np.random.default_rng(n)
    before, others = random.standard_normal(n) + 1, random.standard_normal(40) + 1
    after = before - 0.4 * random.standard_normal(n)
    estimate, bound = drop_bound(of(before, after), of(others, others))
    assert estimate == pytest.approx(by_hand(before, after, others))
    assert bound > estimate


def test_the_bound_holds_as_often_as_it_says_and_is_nearer_than_the_raw_one() -> None:
    random, held, beside = np.random.default_rng(1), 200, 800

    def draw(count):
        before = 3 * random.standard_normal(count) + 3
        # Moves grow with the margin, as they do in networks.
        return before, before - (0.2 + 0.1 * np.abs(before)) * random.standard_normal(count)

    before, after = draw(10**6)
    truth = np.mean(before > 0) - np.mean(after > 0)
    bounds, raw, estimates = [], [], []
    for _ in range(150):
        before, after = draw(held)
        others = draw(beside)
        estimate, bound = drop_bound(of(before, after), of(*others))
        estimates.append(estimate)
        bounds.append(bound)
        raw.append(np.mean(before > 0) - np.mean(after > 0))
    assert np.mean(estimates) == pytest.approx(truth, abs=2e-3)
    assert np.std(estimates) < 0.7 * np.std(raw)
    assert np.mean(np.array(bounds) >= truth) > 0.91
    assert np.mean(bounds) < truth + 1.3 * NORMAL * np.std(raw)


def test_several_answers_of_a_sample_are_no_independent_samples() -> None:
    random = np.random.default_rng(2)
    before = random.standard_normal(200) + 1
    after = before - 0.5 * random.standard_normal(200)
    alone = drop_bound(of(before, after), NONE)
    repeated = drop_bound(of(np.repeat(before, 3), np.repeat(after, 3), answers=3), NONE)
    assert repeated[0] == pytest.approx(alone[0], abs=0.01)
    assert repeated[1] == pytest.approx(alone[1], abs=0.01)
    apart = drop_bound(of(np.repeat(before, 3), np.repeat(after, 3)), NONE)
    assert apart[1] < repeated[1] - 0.005


def test_where_no_answer_changes_the_bound_is_that_of_the_samples_alone() -> None:
    estimate, bound = drop_bound(of([5.0] * 100, [5.0] * 100), of([5.0] * 300, [5.0] * 300))
    assert estimate == 0
    assert bound == pytest.approx(NORMAL**2 / 400)
    assert drop_bound(NONE, NONE)[1] == math.inf


def test_what_was_wrong_for_good_changes_nothing() -> None:
    before, after = [-math.inf] * 60 + [2.0] * 60, [-math.inf] * 60 + [-math.inf] * 60
    assert drop_bound(of(before, after), NONE)[0] == pytest.approx(0.5)


def test_answers_without_scores_have_the_exact_bound() -> None:
    before, after = [1.0] * 200, [-1.0] * 3 + [1.0] * 197
    found = of(before, after)
    found.scores = False
    estimate, bound = drop_bound(found, of(before, before))
    assert estimate == pytest.approx(3 / 200)
    assert at_most(3, 200, bound) == pytest.approx(0.025, rel=1e-6)


def test_the_models_own_answers_can_only_be_lost() -> None:
    found = of([1.0] * 200, [-1.0] * 3 + [1.0] * 197)
    found.scores, found.from_reference = False, True
    drop = measured_drop(found, NONE)
    assert at_most(3, 200, drop.upper()) == pytest.approx(0.05, rel=1e-6)
    assert at_least(3, 200, drop.lower()) == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize(("lost", "gained"), [(0.02, 0.015), (0.1, 0.05), (0.3, 0.1)])
@pytest.mark.parametrize("count", [50, 300])
def test_bounds_on_what_was_counted_hold_as_often_as_they_say(lost, gained, count) -> None:
    random, trials, above, below = np.random.default_rng(2), 300, 0, 0
    for _ in range(trials):
        drawn = random.random(count)
        after, before = np.where(drawn < lost, -1, 1), np.where(drawn > 1 - gained, -1, 1)
        drop = counted_drop(of(before, after))
        above += drop.upper() >= lost - gained
        below += drop.lower() <= lost - gained
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / trials)  # by chance alone, for a fixed seed
    assert min(above, below) / trials >= least


def test_several_answers_of_a_sample_are_no_independent_ones_without_scores_either() -> None:
    before, after = np.ones(60), np.ones(60)
    after[:9] = -1
    for answers in (1, 3):
        found = of(before, after, answers=answers)
        found.scores = False
        drop = measured_drop(found, NONE)
        assert drop.estimate == pytest.approx(0.15)
        assert drop.samples == 60 // answers
        assert -1 <= drop.lower() < 0.15 < drop.upper() <= 1
        assert drop.upper(0.9) < drop.upper() < drop.upper(samples=10)


def test_a_bound_is_foretold_as_it_would_be_with_so_many_samples() -> None:
    few, more = Drop(0.1, 0.02, 100, 100), Drop(0.1, 0.01, 400, 400)
    assert few.upper(samples=400) == pytest.approx(more.upper())
    assert few.lower(samples=400) == pytest.approx(more.lower())
    one, two = Drop(0.1, 0.0, 50, 50, 7, 2), Drop(0.1, 0.0, 100, 100, 14, 4)
    assert one.upper(samples=100) == pytest.approx(two.upper())
    assert one.upper(samples=100) < one.upper()
