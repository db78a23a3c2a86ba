"""Units that a smaller network has left are found by their answers."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nettrim_cli.evaluation.unit_matching import ascending_matches, matching_units


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_units_are_found_on_any_axis_in_spite_of_errors(axis) -> None:
    random = np.random.default_rng(0)
    dense = np.maximum(random.standard_normal((6, 9, 8, 7)), 0).astype(np.float32)
    left = np.array([0, 2, 3, 6])
    smaller = np.take(dense, left, axis)
    smaller += 0.1 * random.standard_normal(smaller.shape)
    selection = matching_units(dense, smaller)
    assert selection.axis == axis
    assert selection.indices.tolist() == left.tolist()
    np.testing.assert_array_equal(selection.of(dense), np.take(dense, left, axis))


def test_other_differences_are_no_matches() -> None:
    dense = np.zeros((4, 5, 6))
    for shape in ((4, 5), (4, 3, 3), (4, 6, 6)):
        assert matching_units(dense, np.zeros(shape)) is None
    assert matching_units(dense.astype(np.int64), np.zeros((4, 3, 6))) is None


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_the_least_sum_of_all_ascending_choices(rows) -> None:
    for seed in range(20):
        distances = np.random.default_rng(seed).standard_normal((rows, 6))
        found = ascending_matches(distances)
        sums = [distances[np.arange(rows), list(c)].sum() for c in combinations(range(6), rows)]
        assert (np.diff(found) > 0).all()
        assert distances[np.arange(rows), found].sum() == pytest.approx(min(sums))
