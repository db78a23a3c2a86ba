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

from nettrim_cli.solve.convex.newton import SmallProgram
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.responses import Intervals

Indices = NDArray[np.intp]

ALPHA = 1.9
ENTRY_RHO, WEIGHT_RHO = 10.0, 1.0  # ADMM's rho of both splits, in units of lam
MAX_RHO = 3000.0  # of the entries
STIFFER, FEW = 3.0, 3  # factor on that rho of a small program, after so few of Newton's steps
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
    prices
        (M, N) of the weights.
    """

    X: Matrix
    XT: Matrix
    intervals: Intervals
    shares: Matrix
    active: Matrix
    points: Matrix
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
    b, U, V
        (n, K) right-hand sides, smooth weights, and ADMM's V, in float64.
    Y
        (n, Q, K) columns of X of the entries.
    H
        (n, K, K) Gram matrices of the weights over the neuron's points, in float64: in float32
        their products would leave a stationarity error that bounds do not forgive.
    lower, upper, shrinkage, G
        (n, Q) intervals of the entries, the share of a residual that the prox removes (1 where
        the entry holds exactly), and the argument of that prox.
    prices
        (n, K).
    entry_rho
        (n, 1) ADMM's rho of the entries, in units of lam.
    """

    b: Matrix
    U: Matrix
    V: Matrix
    Y: Matrix
    H: Matrix
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
        self.entry_rho = np.full((len(subproblems), 1), ENTRY_RHO)
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
        thresholds = self.prices / (WEIGHT_RHO * lam)
        return np.asarray(self.V - np.clip(self.V, -thresholds, thresholds))

    def set_multiplier(self, last_lam: float, lam: float) -> None:
        """Change lam to another value; the multipliers of single entries and weights stay."""
        ratio = last_lam / lam
        self.G += self.prox_residual() / self.shrinkage * (ratio - 1)
        S = self.sparse_weights(last_lam)
        self.V = S + (self.V - S) * ratio

    @np.errstate(over="ignore", invalid="ignore")  # the gap tells
    def iterate(self, lam: float, iterations: int) -> tuple[Matrix, Matrix, Matrix]:
        """Some iterations of ADMM in float32, in units of lam; see ``sample_space`` for the step.

        Returns
        -------
        S, U, L
            (n, K) sparse and smooth weights, (n, Q) multipliers of the entries.

        Raises
        ------
        numpy.linalg.LinAlgError
            A small program is too badly scaled for float32.
        """
        V, G, b = (each.astype(np.float32) for each in (self.V, self.G, self.b))
        Y, thresholds = self.Y, self.prices / np.float32(WEIGHT_RHO * lam)
        entry_rho, inverses = self.entry_rho.astype(np.float32), self.inverses()
        for _ in range(iterations):
            S = V - np.clip(V, -thresholds, thresholds)
            R = self.shrinkage * (G - np.clip(G, self.lower, self.upper))
            T = G - R
            goal = T - R
            rhs = b + np.float32(WEIGHT_RHO) * (2 * S - V)
            rhs += entry_rho * np.matmul(goal[:, None], Y)[:, 0]
            U = np.matmul(rhs[:, None], inverses)[:, 0]
            Z = np.matmul(Y, U[:, :, None])[:, :, 0]
            G += np.float32(ALPHA) * (Z - T)
            V += np.float32(ALPHA) * (U - S)
        self.V[...], self.G[...] = V, G
        # The dual bound lives on U's stationarity, which a float32 inverse leaves to be refined.
        error = rhs - WEIGHT_RHO * U - entry_rho * np.matmul(Z[:, None], Y)[:, 0]
        error -= np.matmul(U[:, None], self.H)[:, 0]
        self.U[...] = U + np.matmul(error[:, None], inverses)[:, 0]
        L = (np.matmul(Y, self.U[:, :, None])[:, :, 0] - goal) * (entry_rho * lam)
        L[np.isinf(self.lower)] = np.maximum(L, 0)[np.isinf(self.lower)]
        L[np.isinf(self.upper)] = np.minimum(L, 0)[np.isinf(self.upper)]
        return self.sparse_weights(lam), self.U, L

    @np.errstate(over="ignore", invalid="ignore")  # the gap tells
    def polish(self, lam: float) -> tuple[Matrix, Matrix, Matrix, int]:
        """Newton's steps from the last smooth weights and ADMM's state, which go along.

        Returns
        -------
        S, U, L, steps
            As those of ``iterate``, and the largest number of steps of a small program.

        Raises
        ------
        numpy.linalg.LinAlgError
            A small program is too badly scaled.
        """
        most = 0
        for k, subproblem in enumerate(self.subproblems):
            K, Q = slice(len(subproblem.weights)), slice(len(subproblem.entries))
            small = SmallProgram(
                H=self.H[k, K, K],
                b=self.b[k, K],
                Y=self.Y[k, Q, K].astype(np.float64),
                lower=self.lower[k, Q],
                upper=self.upper[k, Q],
                shrinkage=self.shrinkage[k, Q].astype(np.float64),
                thresholds=self.prices[k, K] / (WEIGHT_RHO * lam),
                entry_rho=float(self.entry_rho[k, 0]),
                weight_rho=WEIGHT_RHO,
            )
            found = small.solve(self.U[k, K], self.V[k, K], self.G[k, Q])
            self.U[k, K], self.V[k, K], self.G[k, Q], steps = found
            most = max(most, steps)
            if steps <= FEW and small.entry_rho < MAX_RHO:
                self.stiffen(k, STIFFER)
        S, L = self.sparse_weights(lam), self.prox_residual() * (self.entry_rho * lam)
        return S, self.U, L, most

    def stiffen(self, k: int, factor: float) -> None:
        """Raise a small program's rho of the entries; their multipliers stay."""
        G, shrinkage = self.G[k], self.shrinkage[k]
        G += shrinkage * (G - np.clip(G, self.lower[k], self.upper[k])) * (1 / factor - 1)
        self.entry_rho[k] *= factor
        shrinkage[shrinkage < 1] = 1 / (1 + self.entry_rho[k])

    def admit(
        self,
        lam: float,
        new_weights: list[Indices],
        pulls: list[Matrix],
        new_entries: list[Indices],
        U: Matrix,
    ) -> None:
        """Add weights and entries.

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
        """
        sizes = [
            (len(subproblem.weights), len(subproblem.entries)) for subproblem in self.subproblems
        ]
        for subproblem, weights, entries in zip(
            self.subproblems, new_weights, new_entries, strict=True
        ):
            subproblem.weights = np.concatenate([subproblem.weights, weights])
            subproblem.entries = np.concatenate([subproblem.entries, entries])
        self._reserve(self.V.shape[1], self.G.shape[1])
        for k, (subproblem, (K, Q)) in enumerate(zip(self.subproblems, sizes, strict=True)):
            self.V[k, K : len(subproblem.weights)] = pulls[k] / (WEIGHT_RHO * lam)
            added = subproblem.entries[Q:]
            rows = np.take(self.program.XT, added, axis=0)
            self.G[k, Q : len(subproblem.entries)] = rows @ U[subproblem.neuron]
            if (len(subproblem.weights), len(subproblem.entries)) != (K, Q):
                self._fill(k)

    def _reserve(self, weights: int, entries: int) -> None:
        """Make the arrays large enough for all small programs; their contents stay."""
        K = max(1, *(len(subproblem.weights) for subproblem in self.subproblems))
        Q = max(1, *(len(subproblem.entries) for subproblem in self.subproblems))
        if weights >= K and entries >= Q:
            return
        K = K + SLACK if weights < K else weights
        Q = Q + SLACK if entries < Q else entries
        n = len(self.subproblems)
        for names, shape, dtype in (
            (("b", "U", "V"), (n, K), np.float64),
            (("prices",), (n, K), np.float32),
            (("G",), (n, Q), np.float64),
            (("lower", "upper", "shrinkage"), (n, Q), np.float32),
            (("Y",), (n, Q, K), np.float32),
            (("H",), (n, K, K), np.float64),
        ):
            for name in names:
                array = np.full(shape, name in ("shrinkage", "prices"), dtype)
                if weights:
                    old = getattr(self, name)
                    array[tuple(slice(size) for size in old.shape)] = old
                setattr(self, name, array)

    def _fill(self, k: int) -> None:
        """Compute the arrays of a small program, but not its state."""
        subproblem, program = self.subproblems[k], self.program
        m, weights, entries = subproblem.neuron, subproblem.weights, subproblem.entries
        K, Q = len(weights), len(entries)
        self.prices[k, :K] = program.prices[m, weights]
        self.lower[k, :Q] = program.intervals.lower[m, entries]
        self.upper[k, :Q] = program.intervals.upper[m, entries]
        exact = program.shares[m, entries] == 0
        self.shrinkage[k, :Q] = np.where(exact, 1, 1 / (1 + self.entry_rho[k]))
        rows = self._scratch.take("rows", program.XT, entries, 0)
        self.Y[k, :Q, :K] = self._scratch.take("columns", rows, weights, 1)
        if subproblem.gram_size < K:
            self._gram(subproblem, self.H[k, :K, :K], self.b[k, :K])

    def _gram(self, subproblem: Subproblem, H: Matrix, b: Matrix) -> None:
        """Complete the Gram matrix H (K, K) of a small program's weights, and b (K,)."""
        program, m, start = self.program, subproblem.neuron, subproblem.gram_size
        points = np.flatnonzero(program.active[m])
        rows = self._scratch.take("rows", program.XT, points, 0)
        X = self._scratch.take("columns", rows, subproblem.weights, 1).astype(np.float64)
        b[...] = program.points[m, points] @ X
        H[start:] = X[:, start:].T @ X
        H[:start, start:] = H[start:, :start].T
        subproblem.gram_size = len(subproblem.weights)

    def inverses(self) -> Matrix:
        """(n, K, K) float32 inverses of ``H + entry_rho Y'Y + weight_rho``, padded with zeros."""
        inverses = np.zeros(self.H.shape, np.float32)
        for k, subproblem in enumerate(self.subproblems):
            K = len(subproblem.weights)
            Y = self.Y[k, :, :K]
            A = np.asarray(self.entry_rho[k] * (Y.T @ Y), np.float32)
            A += self.H[k, :K, :K]
            A[np.diag_indices_from(A)] += np.float32(WEIGHT_RHO)
            inverses[k, :K, :K] = inverse(A)
        return inverses


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
