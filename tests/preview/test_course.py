"""What a course says between networks that were measured, against counting and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.values import parts
from nettrim_cli.evaluation.comparison import OutputComparison
from nettrim_cli.preview.course import Course, moved, thinned

SCORES, CLASSES = 8000, 3


def compared(first: np.ndarray, second: np.ndarray, labels: np.ndarray | None) -> OutputComparison:
    """Two models' outputs on a batch."""
    found = OutputComparison({})
    batch = Batch({}, len(first), labels)
    found.add(batch, parts("y", first, len(first)), parts("y", second, len(second)))
    return found


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of a network, the noise that pruning adds to them, and labels."""
    random = np.random.default_rng(0)
    dense = random.standard_normal((SCORES, CLASSES))
    noise = 0.1 * random.standard_normal((SCORES, CLASSES))
    labels = (dense + 0.3 * random.standard_normal(dense.shape)).argmax(axis=1)
    return dense, noise, labels


def counted(dense: np.ndarray, pruned: np.ndarray, labels: np.ndarray) -> float:
    right = (output.argmax(axis=1) == labels for output in (dense, pruned))
    return float(np.mean(next(right)) - np.mean(next(right)))


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow), 4])
@pytest.mark.parametrize("with_labels", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_answers_change_as_margins_moved_so_many_times_as_far(scores, times, with_labels) -> None:
    dense, noise, labels = scores
    given = labels if with_labels else None
    course = Course(lambda share: share, compared(dense, dense, given))
    fitted = compared(dense, dense + 0.5 * noise, given)  # which moved less
    course.add(0.1, compared(dense, dense + noise, given), fitted)
    wanted = counted(dense, dense + times * noise, labels if with_labels else dense.argmax(axis=1))
    drop, bound = course.drop(0.1 * times), course.drop_bound(0.1 * times)
    assert drop == pytest.approx(wanted, rel=0.16, abs=0.003)
    assert bound >= drop


def test_without_a_network_scores_have_noise_of_the_expected_error(scores) -> None:
    dense, noise, labels = scores
    relative = float(np.linalg.norm(noise) / np.linalg.norm(dense))
    course = Course(lambda share: relative, compared(dense, dense, labels))
    assert course.drop_bound(0.5) is None
    assert course.drop(0.5) == pytest.approx(counted(dense, dense + noise, labels), abs=0.004)


def test_the_ratio_to_what_layers_say_is_interpolated_in_logarithms(scores) -> None:
    dense, noise, _ = scores
    size = float(np.linalg.norm(noise) / np.linalg.norm(dense))
    course = Course(lambda share: share, compared(dense, dense, None))
    assert course.error(0.3) == 0.3
    low, high = 0.2, 0.8  # of odds 1/4 and 4, with those of .5 halfway
    for share, times in ((low, 1), (high, 16)):
        found = compared(dense, dense + times * noise, None)
        course.add(share, found, found)
    assert course.error(low) == pytest.approx(size)
    assert course.error(high) == pytest.approx(16 * size)
    halfway = np.sqrt((size / low) * (16 * size / high))
    assert course.error(0.5) == pytest.approx(0.5 * halfway)
    assert course.error(0.1) == pytest.approx(0.1 * size / low)


def test_answers_without_scores_change_in_proportion() -> None:
    answers = np.zeros(1000, np.int64)
    other = answers.copy()
    other[::50] = 1
    course = Course(lambda share: share, compared(answers, answers, None))
    found = compared(answers, other, None)
    course.add(0.1, found, found)
    assert course.error(0.1) == pytest.approx(0.02)
    assert course.drop(0.1) == pytest.approx(0.02)
    assert course.drop(0.3) == pytest.approx(0.06)


def test_outputs_without_answers_have_no_drop() -> None:
    values = np.ones((10, 2, 2, 2))
    course = Course(lambda share: share, compared(values, values, None))
    assert course.drop(0.5) is None
    assert course.drop_bound(0.5) is None


def test_many_answers_are_thinned_by_whole_samples(scores) -> None:
    dense, noise, labels = scores
    few = dense[:2000].reshape(100, 20, CLASSES)
    found = compared(few, few + 0.1, None)
    (margins,) = found.answer_margins.values()
    assert thinned(margins) is margins
    repeated = compared(np.tile(dense, (3, 1)), np.tile(dense + noise, (3, 1)), np.tile(labels, 3))
    (many,) = repeated.answer_margins.values()
    fewer = thinned(many)
    assert sum(fewer.counts) == len(fewer.arrays[0]) <= 4000
    assert np.array_equal(fewer.arrays[0], many.arrays[0][::6])
    same = moved(many, 1.0)
    assert np.allclose(same.arrays[1], many.arrays[1])
