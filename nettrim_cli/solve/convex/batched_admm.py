"""ADMM on the small programs of some neurons at a time, whose arrays stay in cache.

    minimise   prices |u|_1 + lam/2 ||u'X - points||^2 on the neuron's points
               subject to the intervals of some entries, which are penalties where entries share
               the loss

over a few candidates u of the neuron's weights; ``working_set`` chooses them.
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
ENTRY_RHO, WEIGHT_RHO = np.float32(10), np.float32(1)  # ADMM's rho of both splits, in units of lam
SPREAD = 1e3  # largest factor on both, up or down
BALANCED = 8.0  # largest ratio of the splits' residuals to the multipliers', either way
SLACK = 16  # spare room for new weights and entries
HALVED = 48  # largest triangle that is not inverted by halves


@dataclass(frozen=True)
class Program:
    """The program whose parts the small programs are.

    Attributes
    ----------
    X, XT
        (N, P) scaled inputs, and their transpose.
    intervals, shares
        (M, P) response set, and 1 where an entry shares the loss.
    active, points
        (M, P): where an interval is a point, and that point (0 elsewhere).
    point_products
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
    point_products: Matrix
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
    gram_size
        Number of weights, the first ones, whose Gram matrix is known.
    """

    neuron: int
    weights: Indices
    entries: Indices
    gram_size: int = 0


class SubproblemBatch:
    """Small programs of similar size, n of them, their arrays padded to a common shape.

    Parameters
    ----------
    program
        The program.
    subproblems
        The small programs.
    V, G
        ADMM's first state of each, (K,) and (Q,); see Attributes.
    scratch
        Buffers, which several batches may share.

    Attributes
    ----------
    b, V
        (n, K) right-hand sides, and ADMM's V.
    Y
        (n, Q, K) columns of X of the entries.
    H, inverse
        (n, K, K): Gram matrices of the weights over the neuron's points, and the inverses of
        ``H + entry_rho Y'Y + weight_rho``.
    lower, upper, shrinkage, G
        (n, Q) intervals of the entries, the share of a residual that the prox removes (1 where
        the entry holds exactly), and the argument of that prox.
    prices
        (n, K).
    entry_rho, weight_rho
        ADMM's rho of both splits, in units of lam.
    balance
        Ratio of the splits' residual to the multipliers', after the last iteration.

    Raises
    ------
    numpy.linalg.LinAlgError
        A small program is too badly scaled for float32; `admit` raises it as well.
    """

    b: Matrix
    V: Matrix
    Y: Matrix
    H: Matrix
    inverse: Matrix
    lower: Matrix
    upper: Matrix
    shrinkage: Matrix
    G: Matrix
    prices: Matrix

    def __init__(
        self,
        program: Program,
        subproblems: list[Subproblem],
        V: list[Matrix],
        G: list[Matrix],
        scratch: Scratch,
    ) -> None:
        self.program, self.subproblems = program, subproblems
        self.entry_rho, self.weight_rho, self.balance = ENTRY_RHO, WEIGHT_RHO, 1.0
        self._scratch = scratch
        self._reserve(0, 0)
        for k, subproblem in enumerate(subproblems):
            self.V[k, : len(subproblem.weights)] = V[k]
            self.G[k, : len(subproblem.entries)] = G[k]
            self._fill(k)

    def prox_residual(self) -> Matrix:
        """(n, Q) part of G that the prox removes."""
        return np.asarray(self.shrinkage * (self.G - np.clip(self.G, self.lower, self.upper)))

    def sparse_weights(self, lam: float) -> Matrix:
        """(n, K) sparse weights."""
        thresholds = self.prices / (self.weight_rho * np.float32(lam))
        return np.asarray(self.V - np.clip(self.V, -thresholds, thresholds))

    def set_multiplier(self, last_lam: float, lam: float) -> None:
        """Change lam to another value; the multipliers of single entries and weights stay."""
        ratio = np.float32(last_lam / lam)
        self.G += self.prox_residual() / self.shrinkage * (ratio - 1)
        S = self.sparse_weights(last_lam)
        self.V = S + (self.V - S) * ratio

    @np.errstate(over="ignore", invalid="ignore")  # the gap tells
    def iterate(self, lam: float, iterations: int) -> tuple[Matrix, Matrix, Matrix]:
        """Some iterations of ADMM, in units of lam; see ``sample_space`` for the step.

        Returns
        -------
        S, U, L
            (n, K) sparse and smooth weights, (n, Q) multipliers of the entries.
        """
        V, G, Y, entry_rho, weight_rho = self.V, self.G, self.Y, self.entry_rho, self.weight_rho
        S, R = self.sparse_weights(lam), self.prox_residual()
        for _ in range(iterations):
            T, last_S = G - R, S
            goal = T - R
            rhs = self.b + weight_rho * (2 * S - V) + entry_rho * np.matmul(goal[:, None], Y)[:, 0]
            U = np.matmul(rhs[:, None], self.inverse)[:, 0]
            Z = np.matmul(Y, U[:, :, None])[:, :, 0]
            G += ALPHA * (Z - T)
            V += ALPHA * (U - S)
            S, R = self.sparse_weights(lam), self.prox_residual()
        # The dual bound lives on U's stationarity, which a float32 inverse leaves to be refined.
        error = rhs - weight_rho * U - entry_rho * np.matmul(Z[:, None], Y)[:, 0]
        error -= np.matmul(U[:, None], self.H)[:, 0]
        U = U + np.matmul(error[:, None], self.inverse)[:, 0]
        Z = np.matmul(Y, U[:, :, None])[:, :, 0]
        difference, change = norm(U - S) * norm(V - S), norm(S - last_S) * norm(S)
        self.balance = difference / change if change > 0 else 1.0
        L = (Z - goal) * (entry_rho * np.float32(lam))
        L[np.isinf(self.lower)] = np.maximum(L, 0)[np.isinf(self.lower)]
        L[np.isinf(self.upper)] = np.minimum(L, 0)[np.isinf(self.upper)]
        return S, U, L

    def admit(
        self,
        lam: float,
        new_weights: list[Indices],
        pulls: list[Matrix],
        new_entries: list[Indices],
        U: Matrix,
    ) -> None:
        """Add weights and entries, and bring the splits' rho into balance.

        Parameters
        ----------
        lam
            Multiplier of the shared ball.
        new_weights, pulls
            Weights to add to each small program, and their multipliers.
        new_entries
            Entries to add to each.
        U
            (M, N) sparse weights of all neurons.

        Raises
        ------
        numpy.linalg.LinAlgError
            A small program is too badly scaled for float32.
        """
        factor = self._rebalance(lam)
        changed = [len(a) + len(b) > 0 for a, b in zip(new_weights, new_entries, strict=True)]
        sizes = [
            (len(subproblem.weights), len(subproblem.entries)) for subproblem in self.subproblems
        ]
        for subproblem, weights, entries in zip(
            self.subproblems, new_weights, new_entries, strict=True
        ):
            subproblem.weights = np.concatenate([subproblem.weights, weights])
            subproblem.entries = np.concatenate([subproblem.entries, entries])
        self._reserve(self.V.shape[1], self.G.shape[1])
        unit = self.weight_rho * np.float32(lam)
        for k, (subproblem, (K, Q)) in enumerate(zip(self.subproblems, sizes, strict=True)):
            self.V[k, K : len(subproblem.weights)] = pulls[k] / unit
            added = subproblem.entries[Q:]
            rows = np.take(self.program.XT, added, axis=0)
            self.G[k, Q : len(subproblem.entries)] = rows @ U[subproblem.neuron]
            if changed[k] or factor != 1:
                self._fill(k)

    def _rebalance(self, lam: float) -> float:
        """Change both rho by one factor where the splits are far from balanced."""
        if 1 / BALANCED < self.balance < BALANCED:
            return 1.0
        factor = math.sqrt(self.balance) * float(self.weight_rho)
        factor = min(SPREAD, max(1 / SPREAD, factor)) / float(self.weight_rho)
        factor = min(10.0, max(0.1, factor))
        S, R = self.sparse_weights(lam), self.prox_residual()
        self.V = S + (self.V - S) / np.float32(factor)
        T = self.G - R
        self.G = T + (self.G - T) / np.float32(factor)
        self.entry_rho, self.weight_rho = (
            self.entry_rho * np.float32(factor),
            self.weight_rho * np.float32(factor),
        )
        return factor

    def _reserve(self, weights: int, entries: int) -> None:
        """Make the arrays large enough for all small programs; their contents stay."""
        K = max(1, *(len(subproblem.weights) for subproblem in self.subproblems))
        Q = max(1, *(len(subproblem.entries) for subproblem in self.subproblems))
        if weights >= K and entries >= Q:
            return
        K = K + SLACK if weights < K else weights
        Q = Q + SLACK if entries < Q else entries
        n = len(self.subproblems)
        for names, shape in (
            (("b", "V", "prices"), (n, K)),
            (("lower", "upper", "shrinkage", "G"), (n, Q)),
            (("Y",), (n, Q, K)),
            (("H", "inverse"), (n, K, K)),
        ):
            for name in names:
                array = np.full(shape, name in ("shrinkage", "prices"), np.float32)
                if weights:
                    old = getattr(self, name)
                    array[tuple(slice(size) for size in old.shape)] = old
                setattr(self, name, array)

    def _fill(self, k: int) -> None:
        """Compute the arrays of a small program, but not its state."""
        subproblem, program = self.subproblems[k], self.program
        m, weights, entries = subproblem.neuron, subproblem.weights, subproblem.entries
        K, Q = len(weights), len(entries)
        self.b[k, :K], self.prices[k, :K] = (
            program.point_products[m, weights],
            program.prices[m, weights],
        )
        self.lower[k, :Q] = program.intervals.lower[m, entries]
        self.upper[k, :Q] = program.intervals.upper[m, entries]
        exact = program.shares[m, entries] == 0
        self.shrinkage[k, :Q] = np.where(exact, 1, 1 / (1 + self.entry_rho))
        rows = self._scratch.take("rows", program.XT, entries, 0)
        Y = self._scratch.take("columns", rows, weights, 1)
        self.Y[k, :Q, :K] = Y
        A = Y.T @ Y
        A *= self.entry_rho
        H = self.H[k, :K, :K]
        self._gram(subproblem, H)
        A += H
        A[np.diag_indices_from(A)] += self.weight_rho
        self.inverse[k, :K, :K] = inverse(A)

    def _gram(self, subproblem: Subproblem, H: Matrix) -> None:
        """Complete the Gram matrix H (K, K) of a small program's weights."""
        active, start = self.program.active[subproblem.neuron], subproblem.gram_size
        subproblem.gram_size = len(subproblem.weights)
        if start == 0:
            rows = self._scratch.take("rows", self.program.XT, np.flatnonzero(active), 0)
            X = self._scratch.take("columns", rows, subproblem.weights, 1)
            H[...] = X.T @ X
        elif start < subproblem.gram_size:
            rows_of_new = np.take(self.program.X, subproblem.weights[start:], axis=0) * active
            rows = self._scratch.take("rows", self.program.X, subproblem.weights, 0)
            H[start:] = rows_of_new @ rows.T
            H[:start, start:] = H[start:, :start].T


class Scratch(threading.local):
    """Buffers, a set for each thread: new memory costs more than the gathering into it."""

    def __init__(self) -> None:
        self._buffers: dict[str, Matrix] = {}

    def take(self, name: str, A: Matrix, indices: Indices, axis: int) -> Matrix:
        """``np.take`` of A (N, P) into a named buffer, which the next call for it overwrites.

        Parameters
        ----------
        name
            Of the buffer.
        A
            (N, P) float32.
        indices
            (K,) rows or columns.
        axis
            0 for rows, 1 for columns.
        """
        shape = (len(indices), A.shape[1]) if axis == 0 else (len(A), len(indices))
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size + size // 4, np.float32)
        out = self._buffers[name][:size].reshape(shape)
        return np.take(A, indices, axis=axis, out=out, mode="clip")  # unbuffered, unlike "raise"


def inverse(A: Matrix) -> Matrix:
    """Inverse of a positive definite A (N, N), in its own dtype.

    It is a product of the triangular factor's inverse: numpy lets other threads run meanwhile,
    scipy's LAPACK does not.

    Raises
    ------
    numpy.linalg.LinAlgError
        A is not positive definite.
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
