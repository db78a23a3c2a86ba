"""Weights of few bits: rounded on their support so that the layer's results change least.

Each output has a scale s, and its weights are ``q s`` with integers q.  In the scaled coordinates
of ``system``, a change D (N, M) of the weights changes the results by ``d' A d`` in each output.
Coordinate descent minimises it over the integers: weight after weight goes to the integer nearest
to its best value, given all the others (COMQ, arXiv 2403.07134).  So the errors of those rounded
before are made up for.  Scales are fitted in between: ``s = q' A u / q' A q``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from nettrim_cli.solve.gram.low_rank import LowRank
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.system import System
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem, Solution

MANTISSA = 11  # bits of a scale, so that its products with integers are exact in float32
CLIPPED = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # of the largest weight, as the largest integer
FINE = 100  # integers from which on clipping does not pay
ROUNDS, SWEEPS = 3, 2  # of fitting scales; of the descent in each
BLOCK = 64  # inputs whose changes are passed on together


def round_solution(problem: LayerProblem, solution: Solution, bits: int | None) -> Solution:
    """The solution with weights of so many bits, unless all are kept or the layer stays dense."""
    if bits is None or solution.status.leaves_dense:
        return solution
    return replace(solution, U=few_bits(problem, solution.U, bits))


def to_nearest(weight: Matrix, bits: int | None) -> Matrix:
    """Weights (N, M) of so many bits, each rounded alone: as many bytes, but larger errors."""
    if bits is None:
        return weight
    if bits == 16:
        return weight.astype(np.float16).astype(weight.dtype)
    largest = 2 ** (bits - 1) - 1
    scale = _short(np.abs(weight).max(axis=0, initial=0.0) / largest)
    return np.asarray(np.rint(weight / _divisor(scale)).clip(-largest, largest) * scale)


def few_bits(problem: LayerProblem, U: Matrix, bits: int) -> Matrix:
    """Weights of so many bits on the support of U (N, M).

    Parameters
    ----------
    problem
        The layer's problem.
    U
        Shape of the problem's W: weights whose results are to be kept.  The bias may be any number;
        it makes up for the change of the mean result.
    bits
        16 for half precision; 8, 6, 4 or 3 for integers of these bits and a scale for each output.

    Returns
    -------
    Matrix
        U itself where its weights are not finite, or out of the range of half precision.
    """
    weight = (U[:-1] if problem.has_bias else U).astype(np.float64)
    with np.errstate(over="ignore"):
        rounded = weight.astype(np.float16).astype(np.float64)
    if not np.isfinite(weight if bits < 16 else rounded).all():
        return U
    if bits < 16:
        system = ScaledProblem.of(problem).system
        rounded = _Grid(weight, system, 2 ** (bits - 1) - 1).rounded()
    if not problem.has_bias:
        return rounded
    samples = problem.samples
    mean = samples.X[:-1].mean(axis=1, dtype=np.float64)
    if samples.C is not None:
        mean = samples.C[-1, :-1] / samples.C[-1, -1]
    return np.vstack([rounded, U[-1] + mean @ (weight - rounded)])


@dataclass
class _Grid:
    """The weights (N, M) of a layer, which are to be integers up to the largest times scales."""

    weight: Matrix
    system: System
    largest: int
    results: Results = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what tells how the results change."""
        A = self.system.A
        self.results = LowRankResults(A) if isinstance(A, LowRank) else GramResults(np.asarray(A))

    def rounded(self) -> Matrix:
        """The best of some rounds in each output."""
        peak = np.abs(self.weight).max(axis=0, initial=0.0)
        scale, best = np.zeros_like(peak), np.zeros_like(self.weight)
        least_cost = np.full(len(peak), np.inf)
        for share in CLIPPED if self.largest < FINE else CLIPPED[:1]:
            tried = _short(share * peak / self.largest)
            integers = self._integers(self.weight / _divisor(tried))
            least_cost, scale = self._choose(integers, tried, best, least_cost, scale)
        for _ in range(ROUNDS):
            integers = self._descend(scale)
            least_cost, _ = self._choose(integers, scale, best, least_cost, scale)
            scale = self._fitted(integers, scale)
        return best

    def _choose(
        self, integers: Matrix, tried: Matrix, best: Matrix, least_cost: Matrix, scale: Matrix
    ) -> tuple[Matrix, Matrix]:
        """Put integers into the best (N, M) where they cost less; the new costs and scales (M,)."""
        weights = integers * tried
        cost = self._cost(weights - self.weight)
        better = cost < least_cost
        best[:, better] = weights[:, better]
        return np.minimum(cost, least_cost), np.where(better, tried, scale)

    def _descend(self, scale: Matrix) -> Matrix:
        """Integers (N, M) by coordinate descent, in the order of the inputs."""
        d, support, unit = self.system.d, self.weight != 0, _divisor(scale)
        current = self.weight.copy()  # rounded as far as the first sweep has come
        self.results.begin(self.weight.shape)
        for _ in range(SWEEPS):
            for start in range(0, len(d), BLOCK):
                rows = slice(start, start + BLOCK)
                local, gradient = self.results.local(rows), self.results.gradient(rows)
                before = current[rows].copy()
                for i in range(len(local)):
                    row = start + i
                    best = current[row] - gradient[i] / (local[i, i] * d[row])
                    rounded = np.where(support[row], self._integers(best / unit) * scale, 0.0)
                    gradient += np.outer(local[:, i], (rounded - current[row]) * d[row])
                    current[row] = rounded
                self.results.add(rows, (current[rows] - before) * d[rows, None])
        return np.rint(current / unit)

    def _fitted(self, integers: Matrix, scale: Matrix) -> Matrix:
        """Scales (M,) with which the integers come nearest to the weights."""
        scaled = (integers * self.system.d[:, None]).astype(np.float32)
        products = self.system.A @ scaled
        power = np.einsum("ij,ij->j", scaled, products, dtype=np.float64)
        dense = (self.weight * self.system.d[:, None]).astype(np.float32)
        shared = np.einsum("ij,ij->j", dense, products, dtype=np.float64)
        usable = (power > 0) & (shared > 0)
        return np.where(usable, _short(shared / np.where(usable, power, 1)), scale)

    def _cost(self, D: Matrix) -> Matrix:
        scaled = (D * self.system.d[:, None]).astype(np.float32)
        products = self.system.A @ scaled
        return np.asarray(np.einsum("ij,ij->j", scaled, products, dtype=np.float64))

    def _integers(self, quotients: Matrix) -> Matrix:
        return np.asarray(np.clip(np.rint(quotients), -self.largest, self.largest))


class Results(Protocol):
    """How a scaled change D (N, M) of the weights moves the results: the gradient ``A D``."""

    def begin(self, shape: tuple[int, ...]) -> None:
        """Take no change for the present one."""

    def local(self, rows: slice) -> Matrix:
        """A of some inputs, (B, B)."""

    def gradient(self, rows: slice) -> Matrix:
        """``A D`` of some inputs, (B, M), a new array."""

    def add(self, rows: slice, step: Matrix) -> None:
        """Add a step (B, M) to the change of some inputs."""


@dataclass
class GramResults:
    """The change's gradient, with a matrix A (N, N)."""

    A: Matrix
    change: Matrix = field(init=False)

    def begin(self, shape: tuple[int, ...]) -> None:
        """Begin with a gradient of 0."""
        self.change = np.zeros(shape, np.float32)

    def local(self, rows: slice) -> Matrix:
        """A block of A."""
        return self.A[rows, rows]

    def gradient(self, rows: slice) -> Matrix:
        """Rows of the gradient."""
        return self.change[rows].astype(np.float64)

    def add(self, rows: slice, step: Matrix) -> None:
        """Bring the gradient up to date with a step (N, M) in some rows."""
        self.change += self.A[:, rows] @ step.astype(np.float32)


@dataclass
class LowRankResults:
    """The change, and that of the results, with ``A = Y Y' / P + delta I`` that is not formed."""

    A: LowRank
    weights: Matrix = field(init=False)
    change: Matrix = field(init=False)

    def begin(self, shape: tuple[int, ...]) -> None:
        """Begin with changes of 0."""
        self.weights = np.zeros(shape)
        self.change = np.zeros((self.A.Y.shape[1], shape[1]), np.float32)

    def local(self, rows: slice) -> Matrix:
        """A block of A."""
        block: Matrix = self.A.Y[rows] @ self.A.Y[rows].T / self.A.columns
        block[np.diag_indices_from(block)] += self.A.delta
        return block

    def gradient(self, rows: slice) -> Matrix:
        """Rows of the gradient."""
        products = self.A.Y[rows] @ self.change / self.A.columns
        return np.asarray(products + self.A.delta * self.weights[rows])

    def add(self, rows: slice, step: Matrix) -> None:
        """Bring both changes up to date with a step (N, M) in some rows."""
        self.weights[rows] += step
        self.change += self.A.Y[rows].T @ step.astype(np.float32)


def _divisor(scale: Matrix) -> Matrix:
    """Scales, 1 for those of outputs without weights."""
    return np.where(scale > 0, scale, 1.0)


def _short(scale: Matrix) -> Matrix:
    """Scales with a mantissa of few bits."""
    mantissa, exponent = np.frexp(scale)
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**MANTISSA), exponent - MANTISSA))
