"""Smaller matrices: some inputs alone are read, and the rank may be low.

In Gram space (see ``system``) with ``A = G G'`` on the rows that stay, and ``Y = G^-1 rhs``, the
best weights on these rows are ``V = G^-T Y``, and the objective is ``-||Y||^2 / 2``.  Among those
of rank r, the best are ``G^-T Y_r`` with Y_r the best approximation of Y of that rank: reduced-rank
regression (Izenman, 1975).  So the singular values of Y are the whole curve of errors over ranks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from nettrim_cli.reasons import Reason
from nettrim_cli.solve.gram.feedback import (
    describe_feedback,
    estimated_error,
    feedback_options,
    holdout_error,
)
from nettrim_cli.solve.gram.folded import Fold, FoldedSystem
from nettrim_cli.solve.gram.low_rank import LowRank
from nettrim_cli.solve.gram.metric import OutputMetric
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.system import Operator
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem, Solution, Status

NO_NUMBER = Reason("errors-not-finite", "the error of smaller weights is no number")


@dataclass(frozen=True)
class ShrunkSystem:
    """The normal equations on some rows, factorised once for all right-hand sides.

    Attributes
    ----------
    G
        (n, n) float64 lower Cholesky factor of A on the rows.
    rows
        (n,) numbers of the rows that stay.
    rank
        Of the weights, at most; None for any.
    folded
        The system where the rank is over a part of the rows alone; None where it is over all.
    metric
        What errors of outputs do together; None where each counts for itself.
    """

    G: Matrix
    rows: Matrix
    rank: int | None = None
    folded: FoldedSystem | None = None
    metric: OutputMetric | None = None

    @classmethod
    def of(
        cls,
        A: Operator,
        rows: Matrix,
        rank: int | None = None,
        fold: Fold | None = None,
        metric: OutputMetric | None = None,
    ) -> ShrunkSystem:
        """Factorise A (N, N) on some rows.

        Parameters
        ----------
        A, rows, rank, metric
            See the attributes.
        fold
            Rows that are put beside each other before the rank is taken; None for none.

        Raises
        ------
        numpy.linalg.LinAlgError
            A is not positive definite there.
        """
        inner = submatrix(A, rows)
        if fold is not None:
            fold = replace(fold, scale=fold.scale[rows])
        folded = None if fold is None else FoldedSystem(inner, fold)
        G = scipy.linalg.cholesky(inner, lower=True, overwrite_a=True, check_finite=False)
        return cls(G, rows, rank, folded, metric)

    def with_rank(self, rank: int) -> ShrunkSystem:
        """The same with another rank."""
        return replace(self, rank=rank)

    def whitened(self, rhs: Matrix) -> Matrix:
        """Y (n, M) float64 of a right-hand side (N, M)."""
        return np.asarray(
            scipy.linalg.solve_triangular(
                self.G, rhs[self.rows].astype(np.float64), lower=True, check_finite=False
            )
        )

    def solve(self, rhs: Matrix, start: Matrix | None = None) -> Matrix:
        """Best weights (N, M) for a right-hand side (N, M), 0 off the rows; `start` is not used."""
        if self.folded is not None and self.rank is not None:
            V = np.zeros_like(rhs)
            inner = rhs[self.rows].astype(np.float64)
            V[self.rows] = self.folded.solve(inner, self.rank, self.metric)
            return V
        Y = self.whitened(rhs)
        if self.rank is not None and self.rank < min(Y.shape):
            Y = of_rank(Y, self.rank, self.metric)
        V = np.zeros_like(rhs)
        V[self.rows] = scipy.linalg.solve_triangular(
            self.G, Y, lower=True, trans="T", check_finite=False
        )
        return V


def of_rank(Y: Matrix, rank: int, metric: OutputMetric | None = None) -> Matrix:
    """The best Y (N, M) of a rank, by eigenvectors of the smaller of ``Y'Y`` and ``YY'``."""
    if rank <= 0:
        return np.zeros_like(Y)
    if metric is not None:
        return metric.times_power(of_rank(metric.times_power(Y, 0.5), rank), -0.5)
    wide = Y.shape[0] < Y.shape[1]
    products = Y @ Y.T if wide else Y.T @ Y
    size = len(products)
    _, vectors = scipy.linalg.eigh(
        products, subset_by_index=(size - rank, size - 1), check_finite=False
    )
    return np.asarray(vectors @ (vectors.T @ Y) if wide else (Y @ vectors) @ vectors.T)


def rank_errors(Y: Matrix) -> Matrix:
    """Squared errors of the best approximations of Y (N, M) of rank 0, 1, ..., min(N, M)."""
    products = Y @ Y.T if Y.shape[0] < Y.shape[1] else Y.T @ Y
    powers = np.maximum(scipy.linalg.eigvalsh(products, check_finite=False), 0)
    return np.concatenate([np.cumsum(powers)[::-1], [0.0]])


def submatrix(A: Operator, rows: Matrix) -> Matrix:
    """A (N, N) on some rows and the same columns, float64."""
    if isinstance(A, LowRank):
        Y = A.Y[rows].astype(np.float64)
        inner = Y @ Y.T / A.columns
        inner[np.diag_indices_from(inner)] += A.delta
        return np.asarray(inner)
    assert isinstance(A, np.ndarray)
    return np.asarray(A[np.ix_(rows, rows)], np.float64)


def solve_shrunk(
    problem: LayerProblem, rows: Matrix, rank: int | None = None, fold: int = 1
) -> Solution:
    """The best weights of a layer that reads some of its inputs and has a rank.

    As for scattered zeros, held-out samples choose how much of earlier layers' errors is repaired,
    and whether the refit is for the response after the activation.

    Parameters
    ----------
    problem
        The layer's problem, of the outputs that stay.
    rows
        (N,) numbers of the inputs that stay.
    rank
        Of the weights, at most; None for any.
    fold
        Rows that are put beside each other before the rank is taken.

    Returns
    -------
    Solution
        With U of the problem's shape, 0 in the rows of the other inputs.

    Raises
    ------
    numpy.linalg.LinAlgError
        The Gram matrix is not positive definite on the rows.
    """
    if problem.samples.unusable_reason:
        return Solution.dense(problem, problem.samples.unusable_reason)
    scaled = ScaledProblem.of(problem)
    best = min(_candidates(scaled, rows, rank, fold), key=lambda candidate: candidate[0])
    if not math.isfinite(best[0]):
        return Solution.dense(problem, NO_NUMBER)
    return Solution(best[1], Status.SOLVED, note=best[2])


def _candidates(
    scaled: ScaledProblem, rows: Matrix, rank: int | None, size: int
) -> Iterator[tuple[float, Matrix, str]]:
    """Held-out error, weights and note of each refit; infinite errors for those that failed."""
    problem = scaled.problem
    fold = Fold(size, scaled.system.d) if size > 1 and rank is not None else None
    system = ShrunkSystem.of(scaled.system.A, rows, rank, fold, scaled.objective.metric)
    options = feedback_options(problem)
    linear = {option: system.solve(scaled.rhs(option)) for option in options}
    errors = {
        option: estimated_error(problem, scaled.linear_weights(V, option))
        for option, V in linear.items()
    }
    feedback = min(options, key=lambda option: errors[option])
    note = describe_feedback(problem, feedback)
    U = scaled.linear_weights(linear[feedback], feedback)
    yield _error(problem, U), U, note
    if problem.relu or problem.activation is not None:
        U = scaled.response_weights(
            linear[feedback], feedback, lambda A: ShrunkSystem.of(A, rows, rank, fold).solve
        )
        refit = "ReLU refit" if problem.relu else "activation's refit"
        yield _error(problem, U), U, f"{note}, {refit}".lstrip(", ")


def _error(problem: LayerProblem, U: Matrix) -> float:
    error = holdout_error(problem, U)
    return error if math.isfinite(error) else math.inf
