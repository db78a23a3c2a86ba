"""Pairs of an output's numbers in two models, drawn evenly from all samples for a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1_000  # pairs that are kept
DIGITS = 6


class ValueSample:
    """A draw without replacement from arrays that come batch by batch.

    Every number gets a key, uniform from 0 to 1, and those with the least keys are kept.  Of a
    batch no more keys are made than can be kept: the least of so many uniform numbers are sums of
    exponential steps.
    """

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._keys: NDArray[np.float64] = np.empty(0)
        self._pairs: NDArray[np.float64] = np.empty((2, 0))

    def add(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Take in arrays (N, ...) of the same shape."""
        count = min(MOST, first.size)
        if not count:
            return
        places = np.unravel_index(self._random.choice(first.size, count, False), first.shape)
        steps = self._random.exponential(size=count).cumsum()
        keys = steps / (steps[-1] + self._random.gamma(first.size + 1 - count))
        pairs = np.stack([first[places], second[places]]).astype(np.float64)
        self._keys = np.concatenate([self._keys, keys])
        self._pairs = np.concatenate([self._pairs, pairs], axis=1)
        least = np.argsort(self._keys, kind="stable")[:MOST]
        self._keys, self._pairs = self._keys[least], self._pairs[:, least]

    def finite(self, most: int = MOST) -> list[list[float]]:
        """Numbers of the first model and those of the second, in six digits; finite pairs alone."""
        pairs = self._pairs[:, np.isfinite(self._pairs).all(axis=0)][:, :most]
        return [[float(f"{value:.{DIGITS}g}") for value in values] for values in pairs]
