"""Distances of outputs against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.output_error import OutputError, sample_axis

SCORES = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 2], [1, 1, 0]], np.float32)


def words(*values: str):
    return np.array(values, object)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        (words("a", "b", "c", "d"), words("a", "b", "x", "d")),
        (np.array([7, 900, -1, 4]), np.array([7, 900, -1, 30_000])),
        (np.array([[7, 900], [-1, 4]]), np.array([[7, 900], [-1, 5]])),
        (np.array([True, False, True, True]), np.array([True, True, True, True])),
    ],
    ids=["strings", "classes", "tokens", "truths"],
)
def test_of_answers_the_share_that_differs_is_the_error(expected, found) -> None:
    output = OutputError()
    output.add(expected, found, len(expected))
    assert output.error == 0.25
    facts = output.facts("y")
    assert (facts.agreement, facts.answers, facts.margin) == (0.75, True, None)
    alone = expected.ndim == 1  # two tokens of a sample are not independent
    assert (facts.agreement_interval is not None) == alone
    assert output.spread.upper() > 0.25 > output.spread.lower()


def test_answers_of_another_shape_are_all_wrong() -> None:
    same = OutputError(fixed_axes=frozenset())
    same.add(words("a"), words("a"))
    assert same.error == 0
    same.add(words("b"), words("b", "c"))  # other than were expected
    assert same.error == 1


def test_quantised_scores_are_quantities_with_answers() -> None:
    output = OutputError()
    output.add(np.uint8([[10, 200], [40, 30]]), np.uint8([[10, 199], [30, 40]]))
    assert output.error == pytest.approx(math.sqrt(201 / (10**2 + 200**2 + 40**2 + 30**2)))
    assert output.facts("y").agreement == 0.5


def test_numbers_and_answers_do_not_answer_the_same_question() -> None:
    with pytest.raises(BadInput, match=r"float32.*int64"):
        OutputError().add(np.zeros(3, np.float32), np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("shape", "axis"), [((4, 3), 0), ((7, 4, 3), 1), ((7, 4), None), ((4,), 0), ((), None)]
)
def test_which_axis_is_that_of_the_samples(shape, axis) -> None:
    assert sample_axis(shape, 4) == axis


def test_samples_on_another_axis_are_told_apart() -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal((7, 4, 3))
    output = OutputError()
    output.add(expected, expected + 1, 4)
    assert np.concatenate(output.squared_distances) == pytest.approx(np.full(4, 21))
    assert output.margins.counts == [7] * 4


def test_equal_models() -> None:
    output = OutputError()
    output.add(SCORES, SCORES.copy())
    assert output.facts("y").error == 0
    assert output.facts("y").agreement == 1


def test_what_is_no_number_in_both_models_is_the_same() -> None:
    output = OutputError()
    output.add(np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf]))
    assert output.error == 0
    output.add(np.array([1.0]), np.array([np.nan]))
    assert math.isnan(output.error)


def test_infinities_that_are_equal_are_no_error() -> None:
    masked = SCORES.copy()
    masked[:, 0] = -np.inf
    output = OutputError()
    output.add(masked, masked.copy())
    assert output.facts("y").error == 0
    output.add(masked, SCORES)
    assert not output.facts("y").error < 1e9


def test_a_silent_reference_makes_any_answer_infinitely_wrong() -> None:
    output = OutputError()
    output.add(np.zeros((2, 3), np.float32), SCORES[:2])
    assert output.facts("y").error == math.inf
