"""The constrained program in sample space: ``minimise ||w * U||_1`` with U'X in a response set.

ADMM on the split ``T = U'X``.  T and its scaled dual are both functions of one array G, the
projection's argument, and of one number, the norm of its residual: with R the part of the residual
that the projection takes away, ``T = G - R`` and the dual is ``T - G = -R``.  An iteration is

    U <- argmin ||w * U||_1 / rho + 1/2 ||U'X - (2T - G)||_F^2       (a lasso in Gram space)
    G <- G + alpha (U'X - T)

The lasso needs ``C = X X'`` only and is solved by a few steps of the same ADMM, each some 2P/N
times cheaper than the products with X; solving it nearly exactly, rather than splitting U once
more, was measured to save four fifths of the iterations.  Everything but one norm is separate by
neuron, so an iteration is a single pass over blocks of neurons that stay in cache, blocks shared
out over threads.  Its floor are two matrix products of 2NMP flops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram import inverse_of
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.responses import Intervals
from nettrim_cli.solve.task import Matrix, norm

BLOCK_BYTES = 1 << 20
ALPHA, INNER_ALPHA, INNER_STEPS = 1.8, 1.8, 4
KAPPA = 0.3  # penalty of the lasso's split, relative to the unit diagonal of C


@dataclass(frozen=True)
class Lasso:
    """The lasso's response for unit-norm rows of X: ``1/2 ||U'X - T||_F^2`` by C and ``X T'``."""

    inverse: Matrix
    rhs: Matrix

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """argmin of the response plus ``rho/2 ||U - target||_F^2``."""
        return np.asarray(self.inverse @ (self.rhs + np.float32(rho) * target))


class Program:
    """One constrained program and its iterate.

    Parameters
    ----------
    X
        (N, P) inputs.
    intervals
        (M, P) response set; with ``strict`` the entries that are no points hold exactly, the
        others share epsilon; otherwise all share it.
    prices
        (N, M) or broadcastable: w, not negative.
    epsilon
        Absolute Frobenius error allowed; may be changed between iterations.
    threads
        Blocks worked on at once; BLAS should use a single thread meanwhile.
    """

    def __init__(
        self,
        X: Matrix,
        intervals: Intervals,
        prices: Matrix,
        epsilon: float,
        *,
        strict: bool = True,
        threads: int = 1,
    ) -> None:
        lengths = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
        self.lengths = np.maximum(lengths, 1e-6 * lengths.max(initial=1e-30))[:, None]
        self.X = np.ascontiguousarray(X / self.lengths, np.float32)
        self.intervals, self.strict, self.epsilon = intervals, strict, float(epsilon)
        shape = (len(X), len(intervals.lower))
        self.prices = np.broadcast_to(prices / self.lengths, shape).astype(np.float32)
        self.shares = intervals.active if strict else np.ones(intervals.lower.shape, bool)
        C = self.X.astype(np.float64) @ self.X.T if X.shape[1] < 4096 else _gram(self.X)
        self._inverse = inverse_of(C, KAPPA)
        self.V = np.zeros(shape, np.float32)
        self.U = self.V.copy()
        self.G = np.zeros(intervals.lower.shape, np.float32)
        step = max(16, min(shape[1], BLOCK_BYTES // (4 * max(1, X.shape[1]))))
        self._blocks = [slice(at, min(at + step, shape[1])) for at in range(0, shape[1], step)]
        self._threads = threads
        self.rho = 0.0
        self._settle()

    def iterate(self, rho: float, count: int, look: Callable[[int], None] | None = None) -> None:
        """Run some iterations at one rho."""
        if self.rho and rho != self.rho:
            self._rescale(self.rho / rho)
        self.rho = rho
        with ThreadPoolExecutor(self._threads) as pool:
            for done in range(count):
                sums = list(pool.map(self._step, self._blocks))
                self._norm = math.sqrt(sum(each[0] for each in sums))
                self.moved = tuple(math.sqrt(sum(each[i] for each in sums)) for i in range(1, 4))
                if look:
                    look(done + 1)

    @property
    def solution(self) -> Matrix:
        """U in the units of X as given, float64."""
        return self.U / self.lengths

    @property
    def objective(self) -> float:
        """``||w * U||_1``."""
        return float((np.abs(self.U) * self.prices).sum(dtype=np.float64))

    def violation(self) -> float:
        """How far U is outside the set, as a Frobenius norm."""
        inside = outside = 0.0
        for block in self._blocks:
            R = self._residual(self.U[:, block].T @ self.X, block)
            shared = R * self.shares[block]
            inside += norm(shared) ** 2
            outside += norm(R - shared) ** 2
        return math.hypot(max(0.0, math.sqrt(inside) - self.epsilon), math.sqrt(outside))

    def bound(self) -> float:
        """A lower bound on the optimum, from the multiplier ``L = rho R`` of T.

        Any L that is not negative at upper and not positive at lower ends of intervals, scaled
        neuron by neuron until ``|X L'| <= w``, proves
        ``-<L, ends> - epsilon ||L on the shared entries||_F`` (weak duality).
        """
        value = shared = 0.0
        for block in self._blocks:
            L = self._shrunk(block) * np.float32(self.rho)
            excess = np.abs(self.X @ L.T)
            limit = self.prices[:, block]
            excess = np.divide(excess, limit, out=np.zeros_like(excess), where=limit > 0)
            L /= np.maximum(1, excess.max(axis=0))[:, None]
            ends = np.where(L > 0, self.intervals.upper[block], self.intervals.lower[block])
            ends[L == 0] = 0
            value -= float(np.einsum("ij,ij->", L, ends, dtype=np.float64))
            shared += norm(L * self.shares[block]) ** 2
        return value - self.epsilon * math.sqrt(shared)

    def _step(self, block: slice) -> tuple[float, float, float, float]:
        """One iteration of a block of neurons; squares of residual, movement, T and dual."""
        G, R = self.G[block], self._shrunk(block)
        goal = R * np.float32(-2)
        goal += G
        limit = self.prices[:, block] / np.float32(self.rho)
        self.U[:, block], self.V[:, block], _ = admm(
            Lasso(self._inverse, self.X @ goal.T),
            WeightedL1(limit),
            start=self.V[:, block],
            schedule=(KAPPA,) * INNER_STEPS,
            alpha=INNER_ALPHA,
        )
        Z = np.matmul(self.U[:, block].T, self.X, out=goal)
        Z -= G
        Z += R
        moved = _square(Z)
        Z *= np.float32(ALPHA)
        G += Z
        return self._shared_square(block), moved, _square(G), _square(R)

    def _residual(self, Z: Matrix, block: slice) -> Matrix:
        R = np.maximum(Z, self.intervals.lower[block])
        np.minimum(R, self.intervals.upper[block], out=R)
        return np.subtract(Z, R, out=R)

    def _shrunk(self, block: slice) -> Matrix:
        """R = G - T: the whole residual, or on shared entries the part beyond epsilon."""
        R = self._residual(self.G[block], block)
        kept = np.float32(1 - min(1.0, self.epsilon / max(self._norm, 1e-30)))
        np.multiply(R, kept, out=R, where=self.shares[block])
        return R

    def _shared_square(self, block: slice) -> float:
        R = self._residual(self.G[block], block)
        R *= self.shares[block]
        return _square(R)

    def _settle(self) -> None:
        self._norm = math.sqrt(sum(self._shared_square(block) for block in self._blocks))

    def _rescale(self, ratio: float) -> None:
        """Keep T, U and the unscaled duals where rho changes."""
        for block in self._blocks:
            self.G[block] += self._shrunk(block) * np.float32(ratio - 1)
        self.V = self.U + (self.V - self.U) * np.float32(ratio)
        self._settle()


def _square(A: Matrix) -> float:
    flat = A.ravel()
    return float(np.dot(flat, flat))


def _gram(X: Matrix) -> Matrix:
    """``X X'`` in float64 from float32 products of some thousand columns each."""
    C = np.zeros((len(X), len(X)))
    for at in range(0, X.shape[1], 4096):
        part = X[:, at : at + 4096]
        C += part @ part.T
    return C
