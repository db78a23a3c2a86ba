"""Which of a layer's columns are formed and which of these are kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Positions = NDArray[np.integer[Any]]


class ColumnSampler:
    """`most` of `total` columns, each as likely as any other, asked for in their order.

    A simple random sample without replacement, drawn at once: it depends on nothing but the
    numbers and the seed.
    """

    def __init__(self, total: int, most: int, random: np.random.Generator) -> None:
        self.count = min(total, most)
        self._seen = 0
        self._taken: Positions | None = None
        if most < total:
            self._taken = np.sort(random.choice(total, most, replace=False, shuffle=False))

    def next(self, columns: int) -> Positions | None:
        """Which of the next columns are taken, ascending; None for all."""
        first, self._seen = self._seen, self._seen + columns
        if self._taken is None:
            return None
        begin, end = np.searchsorted(self._taken, [first, self._seen])
        return self._taken[begin:end] - first


class ColumnSample:
    """Columns that are kept themselves, some of those that are formed.

    Held as rows, each with a one at the end: that is how most columns come and how BLAS reads
    them as fast.

    Attributes
    ----------
    formed
        Of all columns, those that are worked with at all; the others are never formed.
    """

    def __init__(
        self, formed: ColumnSampler, most: int, rows: Sequence[int], random: np.random.Generator
    ):
        self.formed = formed
        self._draw = ColumnSampler(formed.count, most, random)
        self._filled = 0
        self._parts = [np.empty((self._draw.count, each + 1), np.float32) for each in rows]

    def pick(self, columns: int) -> Any:
        """Index of those of the next formed columns that are to be kept."""
        taken = self._draw.next(columns)
        return slice(None) if taken is None else taken

    def keep(self, rows: Sequence[Array]) -> None:
        """Put rows behind those that are there."""
        start, self._filled = self._filled, self._filled + len(rows[0])
        for held, each in zip(self._parts, rows, strict=True):
            held[start : self._filled, :-1] = each
            held[start : self._filled, -1] = 1

    def all(self) -> list[Array]:
        """Columns of what was kept, with a row of ones for the first."""
        first, *others = (each[: self._filled].T for each in self._parts)
        return [first, *(each[:-1] for each in others)]
