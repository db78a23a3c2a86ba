"""ADMM on the small programs of some neurons at a time, each a room that stays in cache.

    minimise   prices |u|_1 + lam/2 ||u'X - points||^2 on the neuron's points
               subject to (or, where shared, penalised) the intervals of some entries

over a few candidates u of the neuron's weights; see ``working_set``, which chooses them.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.responses import Intervals

Indices = NDArray[np.intp]

ALPHA = np.float32(1.9)
HOLD, SPARSE = np.float32(10), np.float32(1)  # penalties of both splits, in units of lam
SPREAD = 1e3  # of these penalties, up or down
BALANCED = 8.0  # ratio of the splits' residuals to the multipliers' within which they stay
SLACK = 16  # room for weights and entries to join
HALVED = 48  # size of a triangle that is inverted whole


@dataclass(frozen=True)
class Program:
    """What the small programs are parts of.

    Attributes
    ----------
    X, XT
        (N, P) scaled inputs, and their transpose.
    intervals, shares
        (M, P) response set, and 1 where an entry shares the fit.
    active, points
        (M, P): where an interval is a point, and that point (0 elsewhere).
    drawn
        (M, N), ``points X'``.
    prices
        (M, N) of the weights.
    """

    X: Matrix
    XT: Matrix
    intervals: Intervals
    shares: Matrix
    active: Matrix
    points: Matrix
    drawn: Matrix
    prices: Matrix


@dataclass
class Subproblem:
    """The small program of one neuron.

    Attributes
    ----------
    neuron
        Its number.
    weights, entries
        (K,) candidates, and (Q,) entries that may bind.
    known
        Weights, the first ones, whose Gram matrix is there.
    """

    neuron: int
    weights: Indices
    entries: Indices
    known: int = 0


class SubproblemBatch:
    """Small programs of similar size, n of them, their arrays padded to a common shape.

    Parameters
    ----------
    V, G
        The state of each part; see Attributes.

    Attributes
    ----------
    b, V
        (n, K) right-hand sides, and ADMM's V.
    Y
        (n, Q, K) columns of X of the entries.
    H, inverse
        (n, K, K): Gram matrices of the weights over the neuron's points, and the inverses of
        ``H + hold Y'Y + sparse``.
    lower, upper, give, G
        (n, Q) intervals of the entries, the share of a residual that the prox takes away (1
        where it holds exactly), and the argument of that prox.
    prices
        (n, K).
    hold, sparse
        Penalties of both splits, in units of lam.
    balance
        Of the splits' residual to the multipliers', after the last iteration.

    Raises
    ------
    numpy.linalg.LinAlgError
        A part is too badly scaled for float32; `admit` as well.
    """

    b: Matrix
    V: Matrix
    Y: Matrix
    H: Matrix
    inverse: Matrix
    lower: Matrix
    upper: Matrix
    give: Matrix
    G: Matrix
    prices: Matrix

    def __init__(
        self,
        source: Program,
        parts: list[Subproblem],
        V: list[Matrix],
        G: list[Matrix],
        scratch: Scratch,
    ) -> None:
        self.source, self.parts = source, parts
        self.hold, self.sparse, self.balance = HOLD, SPARSE, 1.0
        self._scratch = scratch
        self._reserve(0, 0)
        for k, part in enumerate(parts):
            self.V[k, : len(part.weights)] = V[k]
            self.G[k, : len(part.entries)] = G[k]
            self._fill(k)

    def residual(self) -> Matrix:
        """What the prox takes away of G."""
        return np.asarray(self.give * (self.G - np.clip(self.G, self.lower, self.upper)))

    def shrunk(self, lam: float) -> Matrix:
        """The sparse weights, (n, K)."""
        ends = self.prices / (self.sparse * np.float32(lam))
        return np.asarray(self.V - np.clip(self.V, -ends, ends))

    def follow(self, before: float, lam: float) -> None:
        """Go on with another lam; the multipliers of single entries and weights stay."""
        ratio = np.float32(before / lam)
        self.G += self.residual() / self.give * (ratio - 1)
        S = self.shrunk(before)
        self.V = S + (self.V - S) * ratio

    @np.errstate(over="ignore", invalid="ignore")  # the verdict tells
    def iterate(self, lam: float, iterations: int) -> tuple[Matrix, Matrix, Matrix]:
        """ADMM, in units of lam; see constrained for the step.

        Returns
        -------
        S, U, L
            (n, K) sparse and smooth weights, (n, Q) multipliers of the entries.
        """
        V, G, Y, hold, sparse = self.V, self.G, self.Y, self.hold, self.sparse
        S, R = self.shrunk(lam), self.residual()
        for _ in range(iterations):
            T, last = G - R, S
            goal = T - R
            rhs = self.b + sparse * (2 * S - V) + hold * np.matmul(goal[:, None], Y)[:, 0]
            U = np.matmul(rhs[:, None], self.inverse)[:, 0]
            Z = np.matmul(Y, U[:, :, None])[:, :, 0]
            G += ALPHA * (Z - T)
            V += ALPHA * (U - S)
            S, R = self.shrunk(lam), self.residual()
        # The dual bound lives on U's stationarity, which a float32 inverse leaves to be refined.
        left = rhs - sparse * U - hold * np.matmul(Z[:, None], Y)[:, 0]
        left -= np.matmul(U[:, None], self.H)[:, 0]
        U = U + np.matmul(left[:, None], self.inverse)[:, 0]
        Z = np.matmul(Y, U[:, :, None])[:, :, 0]
        apart, moved = norm(U - S) * norm(V - S), norm(S - last) * norm(S)
        self.balance = apart / moved if moved > 0 else 1.0
        L = (Z - goal) * (hold * np.float32(lam))
        L[np.isinf(self.lower)] = np.maximum(L, 0)[np.isinf(self.lower)]
        L[np.isinf(self.upper)] = np.minimum(L, 0)[np.isinf(self.upper)]
        return S, U, L

    def admit(
        self, lam: float, fresh: list[Indices], pulls: list[Matrix], more: list[Indices], U: Matrix
    ) -> None:
        """Let weights and entries join, and bring the splits' penalties into balance.

        Parameters
        ----------
        fresh, pulls
            Weights that join each part, and what they pay.
        more
            Entries that join each part.
        U
            (M, N) sparse weights of all neurons.
        """
        factor = self._rebalance(lam)
        grown = [len(a) + len(b) > 0 for a, b in zip(fresh, more, strict=True)]
        before = [(len(part.weights), len(part.entries)) for part in self.parts]
        for part, weights, entries in zip(self.parts, fresh, more, strict=True):
            part.weights = np.concatenate([part.weights, weights])
            part.entries = np.concatenate([part.entries, entries])
        self._reserve(self.V.shape[1], self.G.shape[1])
        unit = self.sparse * np.float32(lam)
        for k, (part, (K, Q)) in enumerate(zip(self.parts, before, strict=True)):
            self.V[k, K : len(part.weights)] = pulls[k] / unit
            at = part.entries[Q:]
            rows = np.take(self.source.XT, at, axis=0)
            self.G[k, Q : len(part.entries)] = rows @ U[part.neuron]
            if grown[k] or factor != 1:
                self._fill(k)

    def _rebalance(self, lam: float) -> float:
        """Change both penalties together where the splits are far from balanced."""
        if 1 / BALANCED < self.balance < BALANCED:
            return 1.0
        factor = math.sqrt(self.balance) * float(self.sparse)
        factor = min(SPREAD, max(1 / SPREAD, factor)) / float(self.sparse)
        factor = min(10.0, max(0.1, factor))
        S, R = self.shrunk(lam), self.residual()
        self.V = S + (self.V - S) / np.float32(factor)
        T = self.G - R
        self.G = T + (self.G - T) / np.float32(factor)
        self.hold, self.sparse = self.hold * np.float32(factor), self.sparse * np.float32(factor)
        return factor

    def _reserve(self, weights: int, entries: int) -> None:
        """Make room for all parts, with some to spare, and keep what is there."""
        K = max(1, *(len(part.weights) for part in self.parts))
        Q = max(1, *(len(part.entries) for part in self.parts))
        if weights >= K and entries >= Q:
            return
        K = K + SLACK if weights < K else weights
        Q = Q + SLACK if entries < Q else entries
        n = len(self.parts)
        for names, shape in (
            (("b", "V", "prices"), (n, K)),
            (("lower", "upper", "give", "G"), (n, Q)),
            (("Y",), (n, Q, K)),
            (("H", "inverse"), (n, K, K)),
        ):
            for name in names:
                array = np.full(shape, name in ("give", "prices"), np.float32)
                if weights:
                    old = getattr(self, name)
                    array[tuple(slice(size) for size in old.shape)] = old
                setattr(self, name, array)

    def _fill(self, k: int) -> None:
        """Everything of a part but its state."""
        part, source = self.parts[k], self.source
        m, weights, entries = part.neuron, part.weights, part.entries
        K, Q = len(weights), len(entries)
        self.b[k, :K], self.prices[k, :K] = source.drawn[m, weights], source.prices[m, weights]
        self.lower[k, :Q] = source.intervals.lower[m, entries]
        self.upper[k, :Q] = source.intervals.upper[m, entries]
        exact = source.shares[m, entries] == 0
        self.give[k, :Q] = np.where(exact, 1, 1 / (1 + self.hold))
        rows = self._scratch.take("rows", source.XT, entries, 0)
        Y = self._scratch.take("columns", rows, weights, 1)
        self.Y[k, :Q, :K] = Y
        A = Y.T @ Y
        A *= self.hold
        H = self.H[k, :K, :K]
        self._gram(part, H)
        A += H
        A[np.diag_indices_from(A)] += self.sparse
        self.inverse[k, :K, :K] = inverse(A)

    def _gram(self, part: Subproblem, H: Matrix) -> None:
        """Fill in the Gram matrix of the part's weights; what it knows of it is kept."""
        active, known = self.source.active[part.neuron], part.known
        part.known = len(part.weights)
        if known == 0:
            rows = self._scratch.take("rows", self.source.XT, np.flatnonzero(active), 0)
            X = self._scratch.take("columns", rows, part.weights, 1)
            H[...] = X.T @ X
        elif known < part.known:
            fresh = np.take(self.source.X, part.weights[known:], axis=0) * active
            rows = self._scratch.take("rows", self.source.X, part.weights, 0)
            H[known:] = fresh @ rows.T
            H[:known, known:] = H[known:, :known].T


class Scratch(threading.local):
    """Buffers of each thread's own: fresh memory costs more than what is gathered into it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Matrix] = {}

    def take(self, name: str, A: Matrix, indices: Indices, axis: int) -> Matrix:
        """``np.take`` into the buffer of that name, which the next such call overwrites."""
        shape = (len(indices), A.shape[1]) if axis == 0 else (len(A), len(indices))
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size + size // 4, np.float32)
        out = self._buffers[name][:size].reshape(shape)
        return np.take(A, indices, axis=axis, out=out, mode="clip")  # unbuffered, unlike "raise"


def inverse(A: Matrix) -> Matrix:
    """Inverse of a positive definite matrix, in its own dtype; raises LinAlgError if it is none.

    Products of the triangular factor's inverse; numpy lets other threads run meanwhile, scipy's
    LAPACK does not.
    """
    if A.size == 0:
        return A
    lower = _lower_inverse(np.linalg.cholesky(A))
    return np.asarray(lower.T @ lower)


def _lower_inverse(L: Matrix) -> Matrix:
    """Inverse of a lower triangular matrix, by halves."""
    if len(L) <= HALVED:
        return np.linalg.inv(L)
    half = len(L) // 2
    result = np.zeros_like(L)
    result[:half, :half] = _lower_inverse(L[:half, :half])
    result[half:, half:] = _lower_inverse(L[half:, half:])
    edge = L[half:, :half] @ result[:half, :half]
    result[half:, :half] = -result[half:, half:] @ edge
    return result
