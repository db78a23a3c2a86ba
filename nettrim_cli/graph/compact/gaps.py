"""Positions of the elements that are not zero, as gaps of which a word holds several.

A gap leads from one stored element to the next.  Gaps that are too long are bridged by stored
zeros, and zeros fill the last word.  So the words are digits of one base, and the running sum of
the digits gives all positions::

    gap[i * n + j] = words[i] // base**j % base,   position = cumsum(gap)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 4
WORD_VALUES = 1 << 31  # of a non-negative int32, which every runtime divides exactly

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class GapCode:
    """A way to write gaps: so many to a word, each less than the base."""

    per_word: int
    base: int

    @property
    def powers(self) -> NDArray[np.int32]:
        """The places of the digits, ``(per_word,)``."""
        return np.array([self.base**place for place in range(self.per_word)], np.int32)

    def bridges(self, gaps: Positions) -> Positions:
        """Number of stored zeros within each gap."""
        longest: int = self.base - 1
        result: Positions = np.maximum((gaps - 1) // longest, 0)
        return result

    def count(self, gaps: Positions, group: int = 1) -> int:
        """Number of stored elements in groups of so many, zeros included."""
        stored, step = len(gaps) + int(self.bridges(gaps).sum()), math.lcm(self.per_word, group)
        return max(1, -(-stored // step)) * step


def _code(per_word: int) -> GapCode:
    base = int(WORD_VALUES ** (1 / per_word)) + 1
    while base**per_word > WORD_VALUES:
        base -= 1
    return GapCode(per_word, base)


CODES = tuple(_code(per_word) for per_word in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 19))
"""All codes, from long gaps to short ones; others have no larger base."""


def best_code(
    filled: Positions, size: int, element_bytes: float, group: int = 1
) -> tuple[float, GapCode] | None:
    """The code that takes the fewest bytes, and these.

    Parameters
    ----------
    filled
        Positions of the elements that are not zero, ascending.
    size
        Number of all elements.
    element_bytes
        Bytes of a stored element.
    group
        Elements come in groups of so many.

    Returns
    -------
    tuple or None
        None where there are not enough zeros for any code.
    """
    gaps = np.diff(filled, prepend=0)
    costs = [
        (count * element_bytes + count // code.per_word * WORD_BYTES, code.per_word, code)
        for code in CODES
        if (count := code.count(gaps, group)) <= size
    ]
    if not costs:
        return None
    cost, _, code = min(costs, key=lambda cost: cost[:2])
    return cost, code


def stored_positions(filled: Positions, size: int, code: GapCode, group: int = 1) -> Positions:
    """Positions of all stored elements, ascending: what is not zero, bridges, and filling zeros.

    Parameters
    ----------
    filled
        Positions of the elements that are not zero, ascending.
    size
        Number of all elements, at least ``code.count`` of the gaps.
    group
        Elements come in groups of so many.
    """
    gaps = np.diff(filled, prepend=0)
    bridges = code.bridges(gaps)
    place = np.arange(bridges.sum()) - np.repeat(np.cumsum(bridges) - bridges, bridges)
    starts = np.repeat(filled - gaps, bridges)
    stored = np.sort(np.concatenate([filled, starts + (place + 1) * (code.base - 1)]))
    missing = code.count(gaps, group) - len(stored)
    if missing:
        free = np.ones(size, bool)
        free[stored] = False
        stored = np.sort(np.concatenate([stored, np.flatnonzero(free)[:missing]]))
    return stored


def gap_words(stored: Positions, code: GapCode) -> NDArray[np.int32]:
    """Words ``(N / per_word,)`` of N stored positions."""
    digits: NDArray[Any] = np.diff(stored, prepend=0).reshape(-1, code.per_word)
    words: NDArray[np.int32] = (digits @ code.powers.astype(np.int64)).astype(np.int32)
    return words
