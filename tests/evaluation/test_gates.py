"""Limits: kept or missed, by the figure or by its bound, and how many samples would settle it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.values import OutputPart
from nettrim_cli.evaluation.comparison import OutputComparison
from nettrim_cli.evaluation.gates import checks
from nettrim_cli.settings import Gate


def answers(samples: int, wrong: int, times: int = 1) -> OutputComparison:
    """Outputs without scores, of which some differ; all that so many times."""
    expected = np.zeros(samples * times, np.int64)
    found = expected.copy()
    found[: wrong * times] = 1
    made = OutputComparison({})
    made.add(
        Batch({}, samples * times, None), {"y": OutputPart(expected)}, {"y": OutputPart(found)}
    )
    return made


def scores(samples: int, noise: float = 0.1) -> OutputComparison:
    """Scores that have moved by noise."""
    random = np.random.default_rng(1)
    expected = random.standard_normal((samples, 4))
    found = expected + noise * random.standard_normal((samples, 4))
    made = OutputComparison({})
    made.add(Batch({}, samples, None), {"y": OutputPart(expected)}, {"y": OutputPart(found)})
    return made


def test_the_figure_decides_and_the_bound_only_where_it_is_asked_for() -> None:
    found = answers(10, 0)
    (check,) = checks(found, Gate(max_drop=0.01))
    assert check.passed
    assert not check.settled
    assert check.figure == 0
    assert (1 - check.high) ** 10 == pytest.approx(0.05)  # so seldom none of ten would differ
    (check,) = checks(found, Gate(max_drop=0.01, confidence=0.95))
    assert not check.passed
    (check,) = checks(found, Gate(max_drop=0.5, confidence=0.95))
    assert check.passed
    assert check.settled
    assert check.needed is None


@pytest.mark.parametrize("wrong", [0, 2, 8])
def test_as_many_samples_as_are_said_settle_it(wrong) -> None:
    limit = 0.02 if wrong == 0 else 0.05
    (check,) = checks(answers(100, wrong), Gate(max_drop=limit, confidence=0.9))
    assert check.figure == wrong / 100
    assert not check.passed
    assert check.needed > 100
    times = math.ceil(check.needed / 100)
    (more,) = checks(answers(100, wrong, times), Gate(max_drop=limit, confidence=0.9))
    assert more.settled
    assert more.passed == (wrong < 5)
    (fewer,) = checks(answers(100, wrong, max(1, times // 3)), Gate(max_drop=limit, confidence=0.9))
    assert not fewer.settled


def test_a_figure_at_its_limit_is_never_settled() -> None:
    (check,) = checks(answers(100, 5), Gate(max_drop=0.05, confidence=0.95))
    assert not check.passed
    assert check.needed is None


def test_errors_have_a_bound_too() -> None:
    found = scores(40)
    error = found.error
    (check,) = checks(found, Gate(max_error=1.05 * error, confidence=0.95))
    assert (check.passed, check.settled) == (False, False)
    assert check.low < error < check.high
    (more,) = checks(scores(check.needed), Gate(max_error=1.05 * error, confidence=0.95))
    assert more.high - more.figure < (check.high - check.figure) / 1.5
    (check,) = checks(found, Gate(max_error=0.9 * error))
    assert not check.passed
    (check,) = checks(found, Gate(max_error=2 * error, confidence=0.999))
    assert check.passed


def test_limits_are_told_apart() -> None:
    found = list(checks(scores(40, 0.5), Gate(max_error=0.9, max_drop=0.01)))
    assert [each.name for each in found] == ["max_error", "max_drop"]
    assert [each.passed for each in found] == [True, False]
    assert found[1].what == "share of other answers"


def test_the_worst_of_several_outputs_is_held_against_a_limit() -> None:
    found = OutputComparison({})
    one, two = np.ones((30, 1)), np.ones((30, 1)) * 1.5
    found.add(
        Batch({}, 30, None),
        {"good": OutputPart(one), "bad": OutputPart(one)},
        {"good": OutputPart(one), "bad": OutputPart(two)},
    )
    (check,) = checks(found, Gate(max_error=0.4, confidence=0.95))
    assert "'bad'" in check.what
    assert check.figure == 0.5 == pytest.approx(check.high)
