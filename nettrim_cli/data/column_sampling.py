"""Random samples of a layer's columns: those to form, and of these the ones to store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Positions = NDArray[np.integer[Any]]


class ColumnSampler:
    """A simple random sample of columns without replacement, handed out in their order.

    It is drawn at once and so depends on nothing but the numbers and the seed.

    Parameters
    ----------
    total
        Number of all columns.
    size
        Number of columns to draw, or all if there are fewer.
    random
        Generator of the draw.
    """

    def __init__(self, total: int, size: int, random: np.random.Generator) -> None:
        self.count = min(total, size)
        self._passed = 0
        self._positions: Positions | None = None
        if size < total:
            self._positions = np.sort(random.choice(total, size, replace=False, shuffle=False))

    def next(self, columns: int) -> Positions | None:
        """Positions of the sampled ones among the next columns, ascending; None for all."""
        first, self._passed = self._passed, self._passed + columns
        if self._positions is None:
            return None
        begin, end = np.searchsorted(self._positions, [first, self._passed])
        return self._positions[begin:end] - first


class ColumnSample:
    """Stored columns, a sample of those that are formed.

    They are stored as rows with a one at the end, the order in which most columns come; BLAS reads
    them as fast.

    Parameters
    ----------
    sampler
        Sample of the columns that are formed.
    size
        Number of these to store, or all if there are fewer.
    rows
        Rows of each matrix: inputs, and results.
    random
        Generator of the second sample.
    """

    def __init__(
        self, sampler: ColumnSampler, size: int, rows: Sequence[int], random: np.random.Generator
    ):
        self.sampler = sampler
        self._second = ColumnSampler(sampler.count, size, random)
        self._filled = 0
        self._parts = [np.empty((self._second.count, width + 1), np.float32) for width in rows]

    def pick(self, columns: int) -> Any:
        """Index of the ones to store among the next formed columns."""
        picked = self._second.next(columns)
        return slice(None) if picked is None else picked

    def append(self, rows: Sequence[Array]) -> None:
        """Store columns, given as rows (P, N) of each matrix."""
        start, self._filled = self._filled, self._filled + len(rows[0])
        for stored, values in zip(self._parts, rows, strict=True):
            stored[start : self._filled, :-1] = values
            stored[start : self._filled, -1] = 1

    def matrices(self) -> list[Array]:
        """The stored columns of each matrix, (N+1, P) with a row of ones for the first."""
        first, *matrices = (stored[: self._filled].T for stored in self._parts)
        return [first, *(stored[:-1] for stored in matrices)]
