"""Second moments of columns, summed part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[Any]
SINGLE_COLUMNS = 8192  # float32 sums of about so many columns are added to the float64 sums


class Moments:
    """C, and B of each layer where it is not C times the weights.

    Summed about the first columns' mean instead of zero, so that what centring leaves of an input
    keeps float32's precision.  B is the weights' product with the sum of ``x y'`` (y: the dense
    network's columns), or where the layers have few outputs the sum of ``x (W'y)'``.

    Parameters
    ----------
    rows
        N, the number of inputs.
    weights
        (N+1, M) of each layer, bias last.
    exact
        Whether the dense network's columns are the same.
    missing
        Outputs of each residual connection that differs between the networks.
    """

    def __init__(
        self, rows: int, weights: Sequence[Array], *, exact: bool, missing: Sequence[int] = ()
    ) -> None:
        self.rows, self.weights, self.exact = rows, weights, exact
        self._missing = [np.zeros((rows + 1, outputs)) for outputs in missing]
        outputs = sum(matrix.shape[1] for matrix in weights)
        few_outputs = 2 * outputs < rows
        self.of_results = few_outputs and not exact
        self.origin: Array | None = None
        self.gram = np.zeros((rows + 1, rows + 1))
        self._squares = np.zeros((rows, rows), np.float32, order="F")
        self._pending = 0
        width = outputs if few_outputs else rows
        self._cross = np.zeros((0 if exact else rows, width))
        self._sums = np.zeros(width)  # of z or y

    def add(self, x: Array, y: Array, *missing: Array, roots: Array | None = None) -> None:
        """Sum up some columns.

        Parameters
        ----------
        x
            (N, P) columns.
        y
            (N, P) the dense network's columns; where ``of_results`` the results of all layers for
            them, one under the other.
        missing
            (M, P) the dense network's residual connections less the pruned network's.
        roots
            (P,) float32 of the columns' weights; None where all are 1.
        """
        if self.origin is None:
            mean = x.mean(axis=1, keepdims=True)
            self.origin = np.where(np.isfinite(mean), mean, 0).astype(np.float32)
        x = np.subtract(x, self.origin, dtype=np.float32)
        ones = np.ones(x.shape[1], np.float32) if roots is None else roots
        if roots is not None:
            x *= roots
        row_major = x.flags.c_contiguous
        self._squares = scipy.linalg.blas.ssyrk(
            1.0,
            x.T if row_major else x,
            beta=1.0,
            c=self._squares,
            trans=row_major,
            lower=1,
            overwrite_c=1,
        )
        self.gram[-1, :-1] += x @ ones
        self.gram[-1, -1] += ones @ ones
        self._pending += len(ones)
        if self._pending >= SINGLE_COLUMNS:
            self._flush()
        for total, lacking in zip(self._missing, missing, strict=True):
            if roots is not None:
                lacking = lacking * roots
            total[:-1] += x @ lacking.T
            total[-1] += lacking @ ones
        if self.exact:
            return
        if not self.of_results:
            y = np.subtract(y, self.origin, dtype=np.float32)
        if roots is not None:
            y = y * roots
        self._cross += x @ y.T
        self._sums += y @ ones

    def _flush(self) -> None:
        """Add the float32 sums to the float64 sums."""
        self.gram[:-1, :-1] += self._squares.T  # the lower triangle by columns: the upper one
        self._squares[...] = 0
        self._pending = 0

    def missing(self) -> list[Array]:
        """``X E'`` about zero (N+1, M), E the dense residual connection less the pruned one."""
        origin = np.zeros((self.rows, 1)) if self.origin is None else self.origin
        for total in self._missing:
            total[:-1] += origin * total[-1]
        return self._missing

    def about_zero(self) -> tuple[Array, list[Array]]:
        """C and B: ``(x + o)(x + o)' = xx' + xo' + ox' + oo'``, summed."""
        self._flush()
        gram, inner = self.gram, self.gram[:-1, :-1]
        for index in range(1, self.rows):  # only one triangle was summed
            inner[index, :index] = inner[:index, index]
        gram[:-1, -1] = gram[-1, :-1]
        cross = self._own_results() if self.exact else self._results()
        if self.origin is not None:
            origin = np.append(self.origin[:, 0].astype(np.float64), 0.0)
            sums = gram[-1].copy()
            sums_about_zero = sums + gram[-1, -1] * origin
            for row, origin_value, total in zip(gram, origin, sums, strict=True):
                row += origin_value * sums_about_zero
                row += total * origin
        return gram, cross

    def _own_results(self) -> list[Array]:
        """B about zero where y = x: ``C W``, a float32 product about the origin."""
        origin = np.zeros(self.rows) if self.origin is None else self.origin[:, 0]
        origin, sums, count = origin.astype(np.float64), self.gram[-1, :-1], self.gram[-1, -1]
        squares, results = self.gram[:-1, :-1].astype(np.float32), []
        for weights in self.weights:
            W = weights.astype(np.float64)
            at_origin = origin @ W[:-1] + W[-1]  # result at the origin
            total = sums @ W[:-1] + count * at_origin
            cross = np.empty(weights.shape)
            cross[:-1] = squares @ weights[:-1]
            cross[:-1] += np.outer(sums, at_origin) + np.outer(origin, total)
            cross[-1] = total
            results.append(cross)
        return results

    def _results(self) -> list[Array]:
        """B about zero, from what was summed about the origin."""
        origin = np.zeros(self.rows) if self.origin is None else self.origin[:, 0]
        origin, sums, count = origin.astype(np.float64), self.gram[-1, :-1], self.gram[-1, -1]
        cross = np.empty((self.rows + 1, len(self._sums)))
        cross[:-1], cross[-1] = self._cross, self._sums
        if self.of_results:
            cross[:-1] += np.outer(origin, self._sums)
            ends = np.cumsum([weights.shape[1] for weights in self.weights])
            return np.split(cross, ends[:-1], axis=1)
        dense_sums = self._sums + count * origin  # of the dense columns about zero
        cross[:-1] += np.outer(sums, origin)
        cross[:-1] += np.outer(origin, dense_sums)
        cross[-1] = dense_sums
        ones = np.append(sums + count * origin, count)
        return [cross @ weights[:-1] + np.outer(ones, weights[-1]) for weights in self.weights]


class Spread:
    """Standard deviation of each input over columns, summed part by part about the first mean."""

    def __init__(self) -> None:
        self._origin: Array | None = None
        self._sums: Array = np.zeros((2, 1))
        self._count = 0.0

    def add(self, x: Array, roots: Array | None = None) -> None:
        """Sum up some columns, (N, P); roots as for ``Moments.add``."""
        if self._origin is None:
            mean = x.mean(axis=1, keepdims=True)
            self._origin = np.where(np.isfinite(mean), mean, 0).astype(np.float32)
        centred = np.subtract(x, self._origin, dtype=np.float32)
        sums = centred.sum(axis=1, dtype=np.float64)
        if roots is not None:
            centred *= roots
            sums = (centred @ roots).astype(np.float64)
        squares = np.einsum("ij,ij->i", centred, centred, dtype=np.float64)
        self._sums = self._sums + np.array([sums, squares])
        self._count += x.shape[1] if roots is None else float(roots @ roots)

    def of_inputs(self) -> Array:
        """(N,) float64; 0 without columns."""
        mean, square = self._sums / (self._count or 1)
        return np.asarray(np.sqrt(np.maximum(square - np.square(mean), 0)))


def results(weights: Array, columns: Array) -> Array:
    """(M, P) results of weights (N+1, M), bias last, on columns (N, P)."""
    outputs: Array = weights[:-1].T @ columns
    outputs += weights[-1][:, None]
    return outputs
