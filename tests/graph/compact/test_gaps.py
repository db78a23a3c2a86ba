"""Gaps in words: whatever the positions, the running sum of the digits gives them again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph.compact.gaps import (
    CODES,
    WORD_VALUES,
    best_code,
    gap_words,
    stored_positions,
)
from tests.support.effort import examples


def positions(words: np.ndarray, base: int, per_word: int) -> np.ndarray:
    """By Python's own numbers."""
    digits = [int(word) // base**place % base for word in words for place in range(per_word)]
    return np.cumsum(digits)


@st.composite
def masks(draw) -> np.ndarray:
    """Sparse or dense, even or in runs, with gaps of any length."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, 3000))
    mask = random.random(size) < draw(st.sampled_from([0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 1]))
    if draw(st.booleans()):
        start = draw(st.integers(0, size - 1))
        mask[start : start + draw(st.integers(0, size))] = False
    return mask


@examples(150)
@given(masks(), st.sampled_from(CODES), st.sampled_from([1, 2, 5]))
def test_the_digits_sum_to_all_positions(mask: np.ndarray, code, group: int) -> None:
    filled = np.flatnonzero(mask)
    count = code.count(np.diff(filled, prepend=0), group)
    if count > len(mask):
        return
    stored = stored_positions(filled, len(mask), code, group)
    assert len(stored) == count
    assert count % code.per_word == count % group == 0
    assert np.all(np.diff(stored) > 0)
    assert set(filled) <= set(stored)
    words = gap_words(stored, code)
    assert words.dtype == np.int32
    assert words.min() >= 0
    np.testing.assert_array_equal(positions(words, code.base, code.per_word), stored)


@examples(60)
@given(masks(), st.sampled_from([0.5, 1, 2, 4, 8]))
def test_the_best_code_takes_the_fewest_bytes(mask: np.ndarray, element_bytes: float) -> None:
    filled = np.flatnonzero(mask)
    counts = [code.count(np.diff(filled, prepend=0)) for code in CODES]
    sizes = [
        count * element_bytes + 4 * count / code.per_word
        for code, count in zip(CODES, counts, strict=True)
        if count <= len(mask)
    ]
    best = best_code(filled, len(mask), element_bytes)
    if best is None:
        assert not sizes
    else:
        size, code = best
        count = code.count(np.diff(filled, prepend=0))
        assert count * element_bytes + 4 * count / code.per_word == size == min(sizes)
        grouped = best_code(filled, len(mask), element_bytes, 5)
        assert grouped is None or grouped[0] >= size


@pytest.mark.parametrize("code", CODES, ids=str)
def test_words_are_full(code) -> None:
    assert code.base**code.per_word <= WORD_VALUES < (code.base + 1) ** code.per_word


def test_a_long_gap_is_bridged() -> None:
    code = next(code for code in CODES if code.per_word == 4)
    filled = np.array([0, 10**6])
    stored = stored_positions(filled, 10**6 + 1, code)
    assert np.diff(stored).max() < code.base
    assert best_code(filled, 10**6 + 1, 4)[1].per_word == 1
