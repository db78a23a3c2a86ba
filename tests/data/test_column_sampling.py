"""Draws are fair, and the same however they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.column_sampling import ColumnSample, ColumnSampler


def asked(draw, sizes):
    """All that is taken, as numbers of columns."""
    found, first = [], 0
    for size in sizes:
        taken = draw.next(size)
        assert taken is None or all(0 <= each < size for each in taken)
        found += list(first + (np.arange(size) if taken is None else taken))
        first += size
    return found


def test_every_column_has_the_same_chance() -> None:
    counts = np.zeros(40)
    for seed in range(300):
        found = asked(ColumnSampler(40, 10, np.random.default_rng(seed)), [8] * 5)
        assert len(set(found)) == 10
        counts[found] += 1
    # 300 draws of probability 1/4 have a standard deviation of 7.5.
    assert np.abs(counts - 75).max() < 5 * 7.5


@pytest.mark.parametrize("sizes", [[1000], [1] * 1000, [0, 3, 990, 7, 0]])
@pytest.mark.parametrize("most", [1, 30, 999, 1000, 2000])
def test_draws_do_not_depend_on_how_they_are_asked_for(sizes, most) -> None:
    draw = ColumnSampler(1000, most, np.random.default_rng(5))
    assert draw.count == min(1000, most)
    found = asked(draw, sizes)
    assert len(found) == draw.count
    assert (
        found == sorted(found) == asked(ColumnSampler(1000, most, np.random.default_rng(5)), [1000])
    )


def test_a_share_of_what_is_formed_is_kept() -> None:
    random = np.random.default_rng(0)
    kept = ColumnSample(ColumnSampler(50, 20, random), 6, [2, 1], random)
    assert kept.matrices()[0].shape == (3, 0)
    expected = []
    for first in range(0, 50, 10):
        formed = first + np.asarray(kept.sampler.next(10))
        rows = np.stack([formed, formed**2], axis=1)
        chosen = kept.pick(len(formed))
        kept.append([rows[chosen], -rows[chosen, :1]])
        expected.extend(rows[chosen])
    inputs, others = kept.matrices()
    assert inputs.shape == (3, 6)
    np.testing.assert_array_equal(inputs, np.column_stack([expected, np.ones(6)]).T)
    np.testing.assert_array_equal(others, -inputs[:1])
