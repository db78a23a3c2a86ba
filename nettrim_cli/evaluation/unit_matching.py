"""Which units of a tensor are left in a smaller network: those that answer most alike.

Units that are left have kept their order, which tells apart those that are hardly ever active.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MOST_ENTRIES = 4096  # of a unit, by which it is recognised


class Selection(NamedTuple):
    """Some entries of one axis of a tensor."""

    axis: int
    indices: NDArray[np.int64]

    def of(self, tensor: Array) -> Array:
        """Only these entries of a tensor (..., N, ...) along the axis."""
        return np.take(tensor, self.indices, self.axis)


def matching_units(dense: Array, smaller: Array) -> Selection | None:
    """The units of a dense tensor that are nearest to those of a smaller network's.

    Parameters
    ----------
    dense, smaller
        (..., N, ...) and (..., M, ...) on the same samples, with M below N.

    Returns
    -------
    Selection
        M indices of units; None where more than one axis differs, or none is shorter.
    """
    if dense.ndim != smaller.ndim or dense.dtype.kind != "f":
        return None
    differing = [n for n in range(dense.ndim) if dense.shape[n] != smaller.shape[n]]
    if len(differing) != 1 or smaller.shape[differing[0]] > dense.shape[differing[0]]:
        return None
    (axis,) = differing
    units, candidates = (
        np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1) for tensor in (smaller, dense)
    )
    step = max(1, units.shape[1] // MOST_ENTRIES)
    units, candidates = (
        np.nan_to_num(values[:, ::step].astype(np.float64)) for values in (units, candidates)
    )
    distances = np.square(candidates).sum(axis=1) - 2 * units @ candidates.T
    return Selection(axis, ascending_matches(distances))


def ascending_matches(distances: Array) -> NDArray[np.int64]:
    """(M,) ascending columns, each for one row, with the least sum of distances (M, N)."""
    rows, columns = distances.shape
    ends = np.empty((rows, columns), np.int32)  # best column of a row among those up to each
    sums = np.zeros(columns)
    for row in range(rows):
        before = np.full(columns, np.inf if row else 0.0)
        if row:
            before[1:] = np.minimum.accumulate(sums)[:-1]
        sums = distances[row] + before
        least = np.minimum.accumulate(sums)
        fresh = np.where(sums <= least, np.arange(columns), 0)
        ends[row] = np.maximum.accumulate(fresh)
    matches = np.empty(rows, np.int64)
    last = columns - 1
    for row in reversed(range(rows)):
        matches[row] = ends[row, last]
        last = matches[row] - 1
    return matches
