"""Weights whose low rank is over a part of their rows alone, as of a k x 1 behind a 1 x k window.

A matrix V (n f, M) is seen as (n, f M): f consecutive rows are put beside each other.  As two
factors of rank r it is ``V = (B x I_f) C`` with B (n, r) and C (r f, M).  For a convolution B are
windows of k x 1 and C windows of 1 x f behind them (Jaderberg, Vedaldi and Zisserman, 2014).

The objective of ``system`` has no closed form then.  B is the best basis of the unconstrained
weights in the metric of the n rows, that of A averaged over the f places; C is the least-squares
solution with the inputs that B makes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from nettrim_cli.solve.gram.metric import OutputMetric, stretched
from nettrim_cli.solve.matrices import Matrix

DAMPING = 1e-9  # of the inputs that a basis makes, relative to their mean power
FEW = 12  # ranks of a curve that are computed; others are between them


@dataclass(frozen=True)
class Fold:
    """Which rows are put beside each other.

    Attributes
    ----------
    size
        How many consecutive ones, f.
    scale
        (N,) of the inputs: the rank is that of weights without it (``scaled_problem``).
    """

    size: int
    scale: Matrix


class FoldedSystem:
    """The system on some rows, for any rank of the weights with rows beside each other.

    Parameters
    ----------
    A
        (n f, n f) float64, symmetric positive definite.
    fold
        The rows beside each other, with the scale of these rows.
    """

    def __init__(self, A: Matrix, fold: Fold) -> None:
        size = len(A) // fold.size
        self.scale, self.fold = fold.scale.astype(np.float64), fold.size
        unscaled = A * self.scale * self.scale[:, None]
        self.G = scipy.linalg.cholesky(unscaled, lower=True, check_finite=False)
        self.A = unscaled.reshape(size, self.fold, size, self.fold)
        inner = np.einsum("ajbj->ab", self.A) / self.fold
        self.inner = np.asarray(scipy.linalg.cholesky(inner, lower=True, check_finite=False))

    def bases(self, rhs: Matrix) -> Matrix:
        """B (n, min(n, f M)) float64 for a right-hand side (N, M), N = n f.

        The first r columns are the best of rank r.
        """
        V = scipy.linalg.cho_solve((self.G, True), rhs, check_finite=False)
        Y = self.inner.T @ V.reshape(len(self.inner), -1)
        most = min(Y.shape)
        powers, vectors = scipy.linalg.eigh(Y @ Y.T, check_finite=False)
        best = vectors[:, np.argsort(powers)[::-1][:most]]
        solved = scipy.linalg.solve_triangular(
            self.inner, best, lower=True, trans="T", check_finite=False
        )
        return np.asarray(solved)

    def coefficients(self, B: Matrix, rhs: Matrix) -> tuple[Matrix, Matrix]:
        """C (r f, M) of a basis B (n, r) with the least objective, and ``(B x I)' rhs``."""
        made = np.tensordot(np.tensordot(B.T, self.A, 1), B, ([2], [0]))  # (r, f, f, r)
        width = B.shape[1] * self.fold
        H = made.transpose(0, 1, 3, 2).reshape(width, width)
        H[np.diag_indices_from(H)] += DAMPING * np.trace(H) / width
        read = (B.T @ rhs.reshape(len(B), -1)).reshape(width, -1)
        factor = scipy.linalg.cho_factor(H, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(scipy.linalg.cho_solve(factor, read, check_finite=False)), read

    def solve(self, rhs: Matrix, rank: int, metric: OutputMetric | None = None) -> Matrix:
        """Weights (N, M) of a rank for a right-hand side (N, M), N = n f, both scaled."""
        if rank <= 0:
            return np.zeros_like(rhs)
        rhs = rhs * self.scale[:, None]
        B = self.bases(stretched(rhs, metric))[:, :rank]
        C, _ = self.coefficients(B, rhs)
        return np.asarray(self.scale[:, None] * (B @ C.reshape(B.shape[1], -1)).reshape(rhs.shape))

    def errors(self, rhs: Matrix, metric: OutputMetric | None = None) -> Matrix:
        """Squared errors of weights (N, M) of rank 0, 1, ..., as ``shrunk.rank_errors`` has them.

        They are computed at some ranks up to the last that saves weights.
        """
        weights, rows = rhs.size, len(self.inner)
        saving = weights // (rows + weights // rows)
        rhs = stretched(rhs * self.scale[:, None], metric)
        B, total = self.bases(rhs), float(self._power(rhs))
        most = B.shape[1]
        last = max(1, min(most - 1, saving))
        ranks = np.unique(np.geomspace(1, last, FEW).round().astype(int))
        errors = []
        for rank in ranks:
            C, read = self.coefficients(B[:, :rank], rhs)
            errors.append(max(total - float(np.vdot(C, read)), 1e-15 * total))
        logarithms = np.log([total, *errors, 1e-15 * total])
        curve = np.exp(np.interp(np.arange(most + 1), [0, *ranks, most], logarithms))
        curve[-1] = 0.0
        return np.minimum.accumulate(curve)

    def _power(self, rhs: Matrix) -> float:
        Y = scipy.linalg.solve_triangular(self.G, rhs, lower=True, check_finite=False)
        return float(np.vdot(Y, Y))
