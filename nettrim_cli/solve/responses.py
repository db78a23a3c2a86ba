"""The data side of the program: which results of a layer count as preserved.

A response set is given entry by entry as an interval ``[lower, upper]`` of the layer's result
z: a point where the ReLU is active (``lower == upper``, the set Omega), ``(-inf, v]`` where it
is not, ``[ceiling, inf)`` where it saturates.  The residual is the distance to the interval,

    R(z) = z - clip(z, lower, upper).

``strict`` (the paper's set): ``||R on Omega||_F <= epsilon`` and R = 0 off Omega.
``one-sided``: ``||R||_F <= epsilon`` over all entries; with v = 0 this already implies the
paper's guarantee ``||relu(U'X) - Y||_F <= epsilon`` and contains the strict set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from nettrim_cli.solve.task import Matrix, norm

BLOCK_BYTES = 1 << 20  # a block of neurons whose results stay in the processor's cache


@dataclass(frozen=True)
class Intervals:
    """Targets of a response set, both (M, P) float32."""

    lower: Matrix
    upper: Matrix

    @classmethod
    def of_relu(cls, Z: Matrix, bound: Matrix | float = 0.0, ceiling: float = math.inf) -> Intervals:
        """Intervals of ``clip(z, 0, ceiling)`` at z = Z, with inactive entries below ``bound``.

        Parameters
        ----------
        Z
            (M, P) results of the dense layer.
        bound
            V of the paper, used off Omega: 0 in the parallel scheme.
        """
        active, saturated = Z > 0, ceiling <= Z
        lower = np.where(active, np.minimum(Z, ceiling), -np.inf).astype(np.float32)
        upper = np.where(active, np.where(saturated, np.inf, Z), bound).astype(np.float32)
        return cls(lower, upper)

    @classmethod
    def of_points(cls, Z: Matrix) -> Intervals:
        """Every entry is to be reproduced: a linear response."""
        Z = np.asarray(Z, np.float32)
        return cls(Z, Z)

    @classmethod
    def of_response(
        cls, Z: Matrix, scale: Matrix | None, shift: Matrix | None, ceiling: float
    ) -> Intervals:
        """Intervals of ``scale * z`` where the response is ``clip(scale * z + shift, 0, ceiling)``."""
        offset = np.float32(0) if shift is None else shift.astype(np.float32)[:, None]
        scaled = Z if scale is None else Z * scale.astype(np.float32)[:, None]
        found = cls.of_relu(scaled + offset, ceiling=ceiling)
        return found if shift is None else cls(found.lower - offset, found.upper - offset)

    @property
    def active(self) -> Matrix:
        """Omega: the entries whose interval is a point."""
        return np.asarray(self.lower == self.upper)

    def residual(self, Z: Matrix) -> Matrix:
        """R(z), entry by entry."""
        return Z - np.clip(Z, self.lower, self.upper)


class SampleResponse:
    """The constrained response in sample space: ``U'X`` within a strict or one-sided set.

    The split ``T = U'X`` and its scaled dual are both functions of one array G (the projection's
    argument) and of one scalar, the shrinkage ``c = min(1, epsilon / ||R(G)||)``:
    ``T = G - R + c R`` on the entries that share epsilon, ``T = G - R`` elsewhere, dual ``T - G``.
    One iteration is a single pass over blocks of neurons that stay in cache:

        U <- (C + I)^-1 (X (2T - G)' + target)        then       G <- G + alpha (U'X - T)

    Two matrix products of 2NMP flops are its floor.

    Parameters
    ----------
    X
        (N, P) inputs, scaled as the caller likes.
    intervals
        Targets.
    epsilon
        Absolute Frobenius error allowed.
    strict
        Whether the inactive entries must be feasible exactly.
    threads
        Blocks worked on at once; BLAS itself is expected to use one thread then.
    """

    def __init__(
        self,
        X: Matrix,
        intervals: Intervals,
        epsilon: float,
        *,
        strict: bool,
        alpha: float,
        threads: int = 1,
    ) -> None:
        self.X = np.ascontiguousarray(X, np.float32)
        self.intervals, self.epsilon, self.strict = intervals, float(epsilon), strict
        self.alpha = np.float32(alpha)
        self.shares = intervals.active if strict else np.True_
        C = _gram(self.X)
        C[np.diag_indices_from(C)] += 1
        factor = scipy.linalg.cho_factor(C, lower=True, overwrite_a=True)
        self._inverse = scipy.linalg.cho_solve(factor, np.eye(len(C))).astype(np.float32)
        self.G = np.zeros(intervals.lower.shape, np.float32)
        outputs, columns = self.G.shape
        step = max(8, min(outputs, BLOCK_BYTES // (4 * max(1, columns))))
        self._blocks = [slice(at, min(at + step, outputs)) for at in range(0, outputs, step)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self._rho = 0.0
        self._norm = math.sqrt(sum(self._each(self._residual_squares)))

    def close(self) -> None:
        """End the worker threads."""
        if self._pool:
            self._pool.shutdown()

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """One step of ADMM on both splits; see the class."""
        if self._rho and rho != self._rho:
            self._rescale(self._rho / rho)
        self._rho = rho
        U = np.empty(target.shape, np.float32)

        def step(block: slice) -> float:
            E = self.G[block].copy()
            R = self._shrunk(block)
            E -= R
            E -= R
            rhs = self.X @ E.T
            rhs += target[:, block]
            U[:, block] = self._inverse @ rhs
            np.matmul(U[:, block].T, self.X, out=E)
            E -= self.G[block]
            E += R
            E *= self.alpha
            self.G[block] += E
            return self._residual_squares(block)

        self._norm = math.sqrt(sum(self._each(step)))
        return U

    def multiplier(self, rho: float) -> Matrix:
        """``rho (G - T)``, the multiplier of ``U'X = T`` (M x P); not negative off Omega."""
        L = np.empty_like(self.G)
        for block in self._blocks:
            L[block] = self._shrunk(block)
        L *= np.float32(rho)
        return L

    def violation(self, U: Matrix) -> float:
        """How far the weights are outside the set, as a Frobenius norm."""
        inside = outside = 0.0
        for block in self._blocks:
            R = self._residual(U[:, block].T @ self.X, block)
            shared = R * self._share(block)
            inside += norm(shared) ** 2
            outside += norm(R - shared) ** 2
        return math.hypot(max(0.0, math.sqrt(inside) - self.epsilon), math.sqrt(outside))

    def _each(self, work: Callable[[slice], float]) -> Iterable[float]:
        return self._pool.map(work, self._blocks) if self._pool else map(work, self._blocks)

    def _share(self, block: slice) -> Any:
        return self.shares[block] if self.strict else np.True_

    def _residual(self, Z: Matrix, block: slice) -> Matrix:
        R = np.maximum(Z, self.intervals.lower[block])
        np.minimum(R, self.intervals.upper[block], out=R)
        return np.subtract(Z, R, out=R)

    def _shrunk(self, block: slice) -> Matrix:
        """G - T: all of the residual off Omega, the part beyond epsilon on it."""
        R = self._residual(self.G[block], block)
        kept = np.float32(1 - min(1.0, self.epsilon / max(self._norm, 1e-30)))
        np.multiply(R, kept, out=R, where=self._share(block))
        return R

    def _residual_squares(self, block: slice) -> float:
        R = self._residual(self.G[block], block)
        if self.strict:
            R *= self.shares[block]
        return float(np.dot(R.ravel(), R.ravel()))

    def _rescale(self, ratio: float) -> None:
        """Keep T and the unscaled dual where rho changes: G = T + (G - T) * ratio."""
        for block in self._blocks:
            self.G[block] += self._shrunk(block) * np.float32(ratio - 1)
        self._norm = math.sqrt(sum(self._each(self._residual_squares)))


def _gram(X: Matrix) -> Matrix:
    """``X X'`` in float64, from float32 products of at most 4096 columns each."""
    C = np.zeros((len(X), len(X)))
    for at in range(0, X.shape[1], 4096):
        part = X[:, at : at + 4096]
        C += part @ part.T
    return C
