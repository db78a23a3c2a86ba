"""The weight side of the program: each penalty is a value and a prox.

================ ================================= ========= ==================================
in ``PENALTIES`` g(S)                              convex    prox
================ ================================= ========= ==================================
``l1``           weighted sum of magnitudes        yes       soft thresholding
``reweighted``   sum of logarithms                 rounds    closed form; ``tangent`` is an l1
``l0``           at most ``keep`` entries          no        the largest entries
``n:m``          at most n of m inputs in a row    no        the largest of each m
``block``        at most ``keep`` blocks           no        the blocks of largest energy
``group``        weighted sum of blocks' norms     yes       soft thresholding of the norms
================ ================================= ========= ==================================

A block is ``height`` inputs by ``width`` outputs; None is the whole side, so that rows (whole
inputs) are blocks of 1 x None and columns (whole outputs) are blocks of None x 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.top_k import (
    apply_mask,
    block_sums,
    expand_blocks,
    group_top_k_mask,
    top_k_mask,
)

PIECE = 1 << 15  # entries of a piece


class Penalty(Protocol):
    """g(S), with the prox that ADMM calls once an iteration."""

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""

    def prox(self, V: Matrix, step: float) -> Matrix:
        """Argmin over S (N, M) of ``g(S) + ||S - V||_F^2 / (2 * step)``."""


@runtime_checkable
class ConvexPenalty(Penalty, Protocol):
    """A convex penalty with ``g(t S) = t g(S)``, which has a polar."""

    def polar(self, L: Matrix) -> float:
        """The largest ``<L, S>`` over all S (N, M) with ``g(S) <= 1``."""

    def polar_columns(self, L: Matrix) -> Matrix:
        """(M,) divisors of the columns of L, each the least that ensures a polar of 1.

        Where g is no sum over columns they are the polar itself, M times.
        """


@runtime_checkable
class SupportConstraint(Penalty, Protocol):
    """A penalty that is 0 on the supports that it allows and infinite elsewhere."""

    def support(self, V: Matrix) -> Matrix:
        """(N, M) bool: where the prox keeps V, entries that are 0 themselves included."""


@dataclass(frozen=True)
class WeightedL1:
    """``sum(weights * |S|)``; weights broadcast against S and are not negative."""

    weights: Matrix

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        return float((np.abs(S) * self.weights).sum(dtype=np.float64))

    def prox(self, V: Matrix, step: float) -> Matrix:
        """Soft thresholding of V (N, M) by ``step * weights``."""
        with np.errstate(over="ignore"):  # an infinite price leaves zeros
            threshold: Matrix = np.asarray(
                np.multiply(self.weights, step, dtype=V.dtype, casting="same_kind")
            )
        inside = np.minimum(V, threshold)
        np.maximum(inside, np.negative(threshold, out=threshold), out=inside)
        return np.subtract(V, inside, out=inside)

    def polar(self, L: Matrix) -> float:
        """Largest ``|L| / weights`` of L (N, M); infinite where L meets a weight of 0."""
        return float(self.polar_columns(L).max(initial=0.0))

    def polar_columns(self, L: Matrix) -> Matrix:
        """Largest ``|L| / weights`` of each column of L (N, M)."""
        return np.asarray(_ratio(np.abs(L), self.weights).max(axis=0, initial=0.0))


@dataclass(frozen=True)
class LogSum:
    """``delta * sum(log(1 + weights |S| / delta))``, which reweighted l1 brings down.

    Its tangent at a solution is the next round's convex penalty (Candès, Wakin, Boyd,
    "Enhancing sparsity by reweighted l1 minimization", 2008): g of the next solution is never
    larger.  The tangent at 0 is the first round, ``sum(weights |S|)``.

    Parameters
    ----------
    weights
        Not negative, broadcast against S.
    delta
        Positive; the value of ``weights |S|`` at which the price of an entry has halved.
    """

    weights: Matrix
    delta: float

    @classmethod
    def of(cls, S: Matrix, weights: Matrix, delta_rel: float = 0.1) -> LogSum:
        """The penalty with a delta that fits the weights S.

        Parameters
        ----------
        S
            (N, M) weights.
        weights
            See the class.
        delta_rel
            Delta over the root mean square of ``weights |S|`` where S is not 0.
        """
        prices = np.abs(S) * weights
        count, top = np.count_nonzero(prices), float(prices.max(initial=0.0))
        if not count:
            return cls(weights, delta_rel)
        typical = top * math.sqrt(float(((prices / top) ** 2).sum(dtype=np.float64)) / count)
        return cls(weights, delta_rel * typical)

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        prices = np.abs(S) * self.weights / self.delta
        return self.delta * float(np.log1p(prices).sum(dtype=np.float64))

    def tangent(self, S: Matrix) -> WeightedL1:
        """l1 with weights ``weights / (1 + weights |S| / delta)``, in the dtype of S (N, M)."""
        prices = np.abs(S)
        prices *= np.asarray(self.weights / self.delta, S.dtype)
        prices += 1
        return WeightedL1(np.divide(np.asarray(self.weights, S.dtype), prices, out=prices))

    def prox(self, V: Matrix, step: float) -> Matrix:
        """The larger root of the stationarity condition, (N, M), or 0 where that costs less.

        With ``a = |V|`` and ``c = delta / weights`` the condition of a positive s is
        ``(s - a)(s + c) + step delta = 0``.
        """
        with np.errstate(divide="ignore"):
            c = np.asarray(self.delta / np.asarray(self.weights), V.dtype)
        a, pull = np.abs(V), V.dtype.type(step * self.delta)
        reach = a + c
        inner = reach * reach - 4 * pull
        s = a - 2 * pull / (reach + np.sqrt(np.maximum(inner, 0)))
        s[(inner < 0) | (s < 0)] = 0
        s[pull * np.log1p(s / c) > s * (a - s / 2)] = 0
        return np.asarray(np.copysign(s, V))


@dataclass(frozen=True)
class KeepLargest:
    """0 where at most ``keep`` entries of S are not zero, infinite elsewhere (l0 ball)."""

    keep: int

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        return 0.0 if np.count_nonzero(S) <= self.keep else math.inf

    def prox(self, V: Matrix, step: float) -> Matrix:
        """V (N, M) with the ``keep`` entries of largest magnitude, whatever the step."""
        return apply_mask(V, self.support(V))

    def support(self, V: Matrix) -> Matrix:
        """(N, M) bool, exactly ``keep`` entries; ties go to the earlier one."""
        return top_k_mask(np.abs(V), self.keep)


@dataclass(frozen=True)
class KeepNOfM:
    """0 where at most n of every m consecutive inputs of an output are not zero (n:m).

    Groups start at input 0.  Where m does not divide N, the r inputs of the last group keep
    their proportional share rounded up, ``ceil(n r / m)``.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        """Raise ValueError unless ``0 <= n <= m`` and ``m >= 1``."""
        if not 0 <= self.n <= self.m or self.m < 1:
            raise ValueError(f"{self.n}:{self.m} is no pattern: n of m with n at most m")

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        counts = ((np.count_nonzero(groups, axis=1), n) for _, groups, n in self._groups(S))
        return 0.0 if all((count <= n).all() for count, n in counts) else math.inf

    def prox(self, V: Matrix, step: float) -> Matrix:
        """V (N, M) with the n largest magnitudes of each group, whatever the step."""
        return apply_mask(V, self.support(V))

    def support(self, V: Matrix) -> Matrix:
        """(N, M) bool, exactly n entries of each group; ties go to the earlier input."""
        mask = np.empty(V.shape, bool)
        for rows, groups, n in self._groups(V):
            mask[rows] = group_top_k_mask(np.abs(groups), n).reshape(V[rows].shape)
        return mask

    def _groups(self, A: Matrix) -> Iterator[tuple[slice, Matrix, int]]:
        """Rows, these rows as (groups, m, M), and their n, by pieces that fit a cache."""
        full_rows = len(A) - len(A) % self.m
        step = self.m * max(1, PIECE // (self.m * max(1, A.shape[1])))
        for start in range(0, full_rows, step):
            rows = slice(start, min(start + step, full_rows))
            count = (rows.stop - start) // self.m
            yield rows, A[rows].reshape(count, self.m, A.shape[1]), self.n
        if full_rows < len(A):
            yield (
                slice(full_rows, None),
                A[None, full_rows:],
                -(-self.n * (len(A) - full_rows) // self.m),
            )


@dataclass(frozen=True)
class KeepBlocks:
    """0 where at most ``keep`` blocks of S have an entry that is not zero.

    ``1 x b`` is one input by b consecutive outputs: the kernels of sparse matrix products on
    CPUs load an input once and use it for b outputs (Elsen et al., "Fast Sparse ConvNets",
    arXiv 1911.09723; Lin et al., "1xN Pattern", arXiv 2105.14713).  Where a side is no multiple
    of the block's, the last blocks are smaller; each counts as one.
    """

    keep: int
    height: int | None
    width: int | None

    def __post_init__(self) -> None:
        """Raise ValueError unless the sides are positive."""
        _check_sides(self.height, self.width)

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        used = block_sums((S != 0).astype(np.float32), self.height, self.width)
        return 0.0 if np.count_nonzero(used) <= self.keep else math.inf

    def prox(self, V: Matrix, step: float) -> Matrix:
        """V (N, M) with the ``keep`` blocks of largest Frobenius norm, whatever the step."""
        mask = top_k_mask(block_sums(V * V, self.height, self.width), self.keep)
        return apply_mask(V, expand_blocks(mask, V.shape, self.height, self.width))

    def support(self, V: Matrix) -> Matrix:
        """(N, M) bool, exactly ``keep`` blocks; ties go to the earlier one, row by row."""
        mask = top_k_mask(block_sums(V * V, self.height, self.width), self.keep)
        return np.array(expand_blocks(mask, V.shape, self.height, self.width))


@dataclass(frozen=True)
class BlockNorm:
    """``sum(weights * ||block of S||_F)``: l2,1, for rows, columns or blocks.

    Parameters
    ----------
    weights
        Not negative, broadcast against the array of blocks ((N, 1) for rows, (1, M) for columns).
    height, width
        Sides of a block, see the module.
    """

    weights: Matrix
    height: int | None
    width: int | None

    def __post_init__(self) -> None:
        """Raise ValueError unless the sides are positive."""
        _check_sides(self.height, self.width)

    def norms(self, S: Matrix) -> Matrix:
        """Frobenius norm of each block of S (N, M)."""
        return np.sqrt(block_sums(S * S, self.height, self.width))

    def value(self, S: Matrix) -> float:
        """g(S) of S (N, M)."""
        return float((self.norms(S) * self.weights).sum(dtype=np.float64))

    def prox(self, V: Matrix, step: float) -> Matrix:
        """V (N, M) with each block shorter by ``step * weights``, 0 where it is not longer."""
        norms = self.norms(V)
        shrunk = np.maximum(norms - step * self.weights, 0)
        share = np.divide(shrunk, norms, out=np.zeros_like(shrunk), where=norms > 0)
        return V * expand_blocks(share.astype(V.dtype), V.shape, self.height, self.width)

    def polar(self, L: Matrix) -> float:
        """Largest norm of a block of L (N, M) over its weight; infinite over a weight of 0."""
        return float(_ratio(self.norms(L), self.weights).max(initial=0.0))

    def polar_columns(self, L: Matrix) -> Matrix:
        """The polar of each column of L (N, M) where blocks are within columns, else of all."""
        if self.width == 1:
            return np.asarray(_ratio(self.norms(L), self.weights).max(axis=0, initial=0.0))
        return np.full(L.shape[1], self.polar(L))


PENALTIES: dict[str, Callable[..., Penalty]] = {
    "l1": WeightedL1,
    "reweighted": LogSum,
    "l0": KeepLargest,
    "n:m": KeepNOfM,
    "block": KeepBlocks,
    "group": BlockNorm,
}


def _ratio(size: Matrix, weights: Matrix) -> Matrix:
    """``size / weights`` with 0 / 0 = 0 and anything else over 0 infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(size > 0, size / weights, 0))


def _check_sides(height: int | None, width: int | None) -> None:
    if any(side is not None and side < 1 for side in (height, width)):
        raise ValueError(f"blocks of {height} x {width} are none: sides are positive")
