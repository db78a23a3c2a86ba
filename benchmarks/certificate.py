"""Judging answers to Net-Trim's program, whoever found them: independent of nettrim's solver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Program:
    """``minimise ||U||_1`` with ``||(U'X - Y) on Omega||_F <= epsilon``, ``U'X <= V`` off Omega.

    Omega is where Y > 0; everything in float64.

    Attributes
    ----------
    X, Y, V
        (N, P), (M, P) and (M, P).
    epsilon
        Absolute.
    """

    X: Matrix
    Y: Matrix
    V: Matrix
    epsilon: float

    @classmethod
    def parallel(cls, X: Matrix, W: Matrix, epsilon_rel: float) -> Program:
        """The program of the parallel scheme, epsilon being a share of ||Y||_F."""
        X = np.asarray(X, np.float64)
        Y = np.maximum(np.asarray(W, np.float64).T @ X, 0)
        return cls(X, Y, np.zeros_like(Y), epsilon_rel * float(np.linalg.norm(Y)))

    def value(self, U: Matrix) -> float:
        """||U||_1."""
        return float(np.abs(U).sum(dtype=np.float64))

    def violation(self, U: Matrix) -> float:
        """Distance of ``U'X`` from the constraints, as a share of epsilon."""
        omega = self.Y > 0
        Z = np.asarray(U, np.float64).T @ self.X
        inside = float(np.linalg.norm((Z - self.Y)[omega]))
        outside = float(np.linalg.norm(np.maximum(Z - self.V, 0)[~omega]))
        return math.hypot(max(0.0, inside - self.epsilon), outside) / self.epsilon

    def lower_bound(self, multiplier: Matrix) -> float:
        """A lower bound on the optimum from any (M, P) multiplier L of ``U'X = T``.

        With L >= 0 off Omega and ``|X L'| <= 1``, weak duality gives

            ||U||_1 >= -<L, Y on Omega, V off it> - epsilon ||L on Omega||_F

        for every feasible U.  L is clipped and then scaled neuron by neuron to the best bound
        that ``|X L'| <= 1`` allows: with a_j the neuron's linear part and b_j its norm on Omega,
        ``sum s_j a_j - epsilon ||s b||`` over ``0 <= s_j <= 1 / max|X L_j'|``.
        """
        omega = self.Y > 0
        L = np.where(omega, multiplier, np.maximum(multiplier, 0))
        peaks = np.abs(self.X @ L.T).max(axis=0)
        linear = -np.where(omega, L * self.Y, L * self.V).sum(axis=1)
        squares = np.where(omega, L * L, 0).sum(axis=1)
        most = 1 / np.maximum(peaks, 1e-300)
        scales = np.minimum(1.0, most)
        best = self._bound(scales, linear, squares)
        for _ in range(50):
            # Stationary in s_j for the present norm; any s is valid, so stopping early is safe.
            norm = math.sqrt(float(scales**2 @ squares))
            free = np.maximum(self.epsilon * squares, 1e-300)
            wanted = np.where(squares > 0, linear * norm / free, scales)
            scales = np.clip(wanted, 0, most)
            best = max(best, self._bound(scales, linear, squares))
        return max(0.0, best)

    def _bound(self, scales: Matrix, linear: Matrix, squares: Matrix) -> float:
        return float(scales @ linear - self.epsilon * math.sqrt(float(scales**2 @ squares)))
