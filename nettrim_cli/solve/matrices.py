"""Norms of matrices, and slices of their columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]

BLOCK_VALUES = 1 << 19  # responses of a block: these fit into a cache


def evenly_spaced(columns: int, count: int) -> slice:
    """At least ``count`` and less than twice as many of the columns, evenly spaced."""
    return slice(None, None, max(1, columns // count))


def column_blocks(columns: int, outputs: int) -> Iterator[slice]:
    """Slices of columns whose responses are BLOCK_VALUES at most."""
    step = max(1, BLOCK_VALUES // max(1, outputs))
    return (slice(start, min(start + step, columns)) for start in range(0, columns, step))


def relative_error(difference: Matrix, reference: Matrix) -> float:
    """||difference||_F / ||reference||_F of arrays (M, P).

    It is 0 where both norms are 0, inf where only the reference's is, nan where one is not finite.
    """
    numerator, denominator = norm(difference), norm(reference)
    if not (math.isfinite(numerator) and math.isfinite(denominator)):
        return math.nan
    if denominator > 0:
        return numerator / denominator
    return math.inf if numerator > 0 else 0.0


def norm(A: Matrix) -> float:
    """Frobenius norm of A (N, M), safe for entries whose squares leave the range of float32."""
    flat = A.ravel(order="K")
    if flat.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        total = float(np.dot(flat, flat))
    if np.isfinite(total) and total > 1e-30:
        return math.sqrt(total)
    return float(np.linalg.norm(flat.astype(np.float64)))


def all_finite(matrices: Iterable[Matrix | None]) -> bool:
    """Whether all matrices that are there, of any shape, hold finite numbers only."""
    return all(np.isfinite(matrix).all() for matrix in matrices if matrix is not None)
