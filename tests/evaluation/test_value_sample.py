"""Numbers of outputs that are drawn for a picture."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nettrim_cli.evaluation.value_sample import MOST, ValueSample


def test_few_numbers_are_all_kept_in_pairs() -> None:
    sample = ValueSample()
    for start in (0, 6):
        first = np.arange(start, start + 6, dtype=np.float32).reshape(2, 3)
        sample.add(first, first + 100)
    sample.add(np.empty((0, 3)), np.empty((0, 3)))
    one, two = sample.finite()
    assert sorted(one) == list(range(12))
    assert [b - a for a, b in zip(one, two, strict=True)] == [100] * 12


def test_batches_are_drawn_from_as_they_are_large() -> None:
    sample = ValueSample()
    sizes = (100, 50_000, 700, 49_200)
    for number, size in enumerate(sizes):
        values = np.full(size, float(number))
        sample.add(values, values)
    one, _ = sample.finite()
    assert len(one) == MOST
    for number, size in enumerate(sizes):
        share = size / sum(sizes)
        deviation = math.sqrt(MOST * share * (1 - share))
        assert abs(one.count(float(number)) - MOST * share) <= 5 * deviation + 1


def test_places_are_drawn_evenly_and_without_repetition() -> None:
    sample = ValueSample()
    values = np.arange(40_000.0)
    for part in values.reshape(8, 50, 100)[:, :, ::-1]:  # which no copy is made of
        sample.add(part, part)
    one, two = sample.finite()
    assert one == two
    assert len(set(one)) == MOST
    counts, _ = np.histogram(one, 8, (0, 40_000))
    assert counts.min() > MOST / 8 - 5 * math.sqrt(MOST / 8)


def test_pairs_that_are_not_finite_are_left_out_and_digits_are_few() -> None:
    sample = ValueSample()
    sample.add(np.array([np.nan, 1 / 3, 2.0, 3.0]), np.array([1.0, 1e-9 / 3, -np.inf, 7.0]))
    one, two = sample.finite()
    assert dict(zip(one, two, strict=True)) == pytest.approx({0.333333: 3.33333e-10, 3.0: 7.0})
    assert [len(values) for values in sample.finite(1)] == [1, 1]
