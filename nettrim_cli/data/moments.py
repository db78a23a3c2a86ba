"""Second moments of columns, summed part by part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[Any]
SINGLE_COLUMNS = 8192  # summed in float32 before they go to the float64 sums


class Moments:
    """C, and B of each layer where it is not C times the weights.

    Summed about the first columns' mean instead of zero, so that what centring leaves of an input
    keeps float32's precision.  B is the weights' product with the sum of ``x y'`` (y: the dense
    network's columns), or where the layers have few outputs the sum of ``x (W'y)'``.
    """

    def __init__(
        self, rows: int, weights: Sequence[Array], *, exact: bool, missing: Sequence[int] = ()
    ) -> None:
        self.rows, self.weights, self.exact = rows, weights, exact
        self._missing = [np.zeros((rows + 1, each)) for each in missing]
        few = 2 * sum(each.shape[1] for each in weights) < rows
        self.of_results = few and not exact
        self.origin: Array | None = None
        self.gram = np.zeros((rows + 1, rows + 1))
        self._squares = np.zeros((rows, rows), np.float32, order="F")
        self._waiting = 0
        wide = sum(each.shape[1] for each in weights) if few else rows
        self._cross = np.zeros((0 if exact else rows, wide))
        self._sums = np.zeros(wide)  # of z or y

    def add(self, x: Array, y: Array, *missing: Array) -> None:
        """Sum up some columns (rows, P), and what offsets (M, P) lack of the dense ones.

        Parameters
        ----------
        y
            The dense network's columns; where ``of_results`` what all layers make of them, one
            under the other.
        """
        if self.origin is None:
            mean = x.mean(axis=1, keepdims=True)
            self.origin = np.where(np.isfinite(mean), mean, 0).astype(np.float32)
        x = np.subtract(x, self.origin, dtype=np.float32)
        ones = np.ones(x.shape[1], np.float32)
        turned = x.flags.c_contiguous
        self._squares = scipy.linalg.blas.ssyrk(
            1.0,
            x.T if turned else x,
            beta=1.0,
            c=self._squares,
            trans=turned,
            lower=1,
            overwrite_c=1,
        )
        self.gram[-1, :-1] += x @ ones
        self.gram[-1, -1] += len(ones)
        self._waiting += len(ones)
        if self._waiting >= SINGLE_COLUMNS:
            self._settle()
        for total, each in zip(self._missing, missing, strict=True):
            total[:-1] += x @ each.T
            total[-1] += each.sum(axis=1)
        if self.exact:
            return
        if not self.of_results:
            y = np.subtract(y, self.origin, dtype=np.float32)
        self._cross += x @ y.T
        self._sums += y @ ones

    def _settle(self) -> None:
        """Hand the float32 sums over."""
        self.gram[:-1, :-1] += self._squares.T  # the lower triangle by columns: the upper one
        self._squares[...] = 0
        self._waiting = 0

    def missing(self) -> list[Array]:
        """``X E'`` about zero, E what an offset lacks."""
        origin = np.zeros((self.rows, 1)) if self.origin is None else self.origin
        for total in self._missing:
            total[:-1] += origin * total[-1]
        return self._missing

    def about_zero(self) -> tuple[Array, list[Array]]:
        """C and B: ``(x + o)(x + o)' = xx' + xo' + ox' + oo'``, summed."""
        self._settle()
        gram, inner = self.gram, self.gram[:-1, :-1]
        for at in range(1, self.rows):  # only one triangle was summed
            inner[at, :at] = inner[:at, at]
        gram[:-1, -1] = gram[-1, :-1]
        cross = self._own_results() if self.exact else self._results()
        if self.origin is not None:
            origin = np.append(self.origin[:, 0].astype(np.float64), 0.0)
            sums = gram[-1].copy()
            there = sums + gram[-1, -1] * origin
            for row, offset, total in zip(gram, origin, sums, strict=True):
                row += offset * there
                row += total * origin
        return gram, cross

    def _own_results(self) -> list[Array]:
        """B about zero where y = x: ``C W``, a float32 product about the origin."""
        origin = np.zeros(self.rows) if self.origin is None else self.origin[:, 0]
        origin, sums, count = origin.astype(np.float64), self.gram[-1, :-1], self.gram[-1, -1]
        squares, found = self.gram[:-1, :-1].astype(np.float32), []
        for each in self.weights:
            W = each.astype(np.float64)
            there = origin @ W[:-1] + W[-1]  # result at the origin
            total = sums @ W[:-1] + count * there
            whole = np.empty(each.shape)
            whole[:-1] = squares @ each[:-1]
            whole[:-1] += np.outer(sums, there) + np.outer(origin, total)
            whole[-1] = total
            found.append(whole)
        return found

    def _results(self) -> list[Array]:
        """B about zero, from what was summed about the origin."""
        origin = np.zeros(self.rows) if self.origin is None else self.origin[:, 0]
        origin, sums, count = origin.astype(np.float64), self.gram[-1, :-1], self.gram[-1, -1]
        whole = np.empty((self.rows + 1, len(self._sums)))
        whole[:-1], whole[-1] = self._cross, self._sums
        if self.of_results:
            whole[:-1] += np.outer(origin, self._sums)
            ends = np.cumsum([each.shape[1] for each in self.weights])
            return np.split(whole, ends[:-1], axis=1)
        there = self._sums + count * origin  # of the dense columns about zero
        whole[:-1] += np.outer(sums, origin)
        whole[:-1] += np.outer(origin, there)
        whole[-1] = there
        ones = np.append(sums + count * origin, count)
        return [whole @ each[:-1] + np.outer(ones, each[-1]) for each in self.weights]


def results(weights: Array, columns: Array) -> Array:
    """(M, P) results of weights (N+1, M), bias last, on columns (N, P)."""
    found: Array = weights[:-1].T @ columns
    found += weights[-1][:, None]
    return found
