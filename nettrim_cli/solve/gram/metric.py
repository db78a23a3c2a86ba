"""Errors of a layer's outputs in the metric of the network's outputs, where they add up or cancel.

To first order an error E (M, P) of a layer's responses moves the network's outputs by
``tr(E' H E)``, H being the second moments of the outputs' gradients there.  With the second moments
A of the inputs, that of weights V (N, M) is nearly

    minimise over V   <V, A V K> / 2 - <V, B K>

K being H in scaled coordinates: ``A x K`` is the Hessian in the approximation of Martens and Grosse
("Optimizing Neural Networks with Kronecker-factored Approximate Curvature", arXiv 1503.05671).
With all weights free, K cancels; on a support it does not.  As H is of low rank where the network
has few outputs, and never known exactly, K is drawn towards its diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nettrim_cli.solve.gram.system import Operator, System, eigen
from nettrim_cli.solve.matrices import Matrix, norm

RANK = 64  # of K at most, beside a multiple of the identity
EXACT = 1e-9  # squared residual, relative to that of zero, with which a refit ends


@dataclass(frozen=True)
class OutputMetric:
    """``K = floor I + Q diag(excess) Q'``, symmetric positive definite.

    Attributes
    ----------
    floor
        Eigenvalue of all other directions.
    excess
        (r,) float32 of the leading eigenvalues, above the floor.
    vectors
        (M, r) float32, their eigenvectors Q.
    """

    floor: np.float32
    excess: Matrix
    vectors: Matrix

    @classmethod
    def of(cls, K: Matrix) -> OutputMetric:
        """The metric of K (M, M) float32, whose small eigenvalues are replaced by their mean."""
        values, vectors = eigen(K)
        others = max(1, len(K) - RANK)
        floor = values[:others].mean()
        first = others if len(K) > RANK else 0
        return cls(floor, values[first:] - floor, vectors[:, first:])

    def times(self, V: Matrix) -> Matrix:
        """``V K`` of V (N, M)."""
        return np.asarray(self.floor * V + ((V @ self.vectors) * self.excess) @ self.vectors.T)

    def times_power(self, V: Matrix, power: float) -> Matrix:
        """V (N, M) times a power of K."""
        least = self.floor**power
        excess = (self.floor + self.excess) ** power - least
        return np.asarray(least * V + ((V @ self.vectors) * excess) @ self.vectors.T)

    def division(self, powers: Matrix, rho: float) -> Division:
        """By ``powers K + rho I``, row by row with powers (N, 1), or (1, 1) for all rows."""
        others = 1 / (self.floor * powers + np.float32(rho))
        leading = 1 / ((self.floor + self.excess) * powers + np.float32(rho))
        if len(self.excess) == len(self.vectors):
            return Division(self.vectors, leading)
        return Division(self.vectors, leading - others, others)

    def refit(self, A: Operator, B: Matrix, support: Matrix, start: Matrix, steps: int) -> Matrix:
        """Best weights (N, M) on a support, by conjugate gradients for all outputs together.

        Parameters
        ----------
        A
            (N, N), positive definite, its diagonal close to constant.
        B, start
            (N, M) float32.
        support
            (N, M) bool.
        steps
            At most so many.
        """
        unit = np.float32(norm(B) or 1)  # squares of large weights are no numbers
        B, V = B / unit, start * support / unit
        R = self.times(B - A @ V) * support
        D, power = R.copy(), _square(R)
        goal = EXACT * _square(self.times(B))
        for _ in range(steps):
            Q = (A @ self.times(D)) * support
            curvature = float(np.vdot(D, Q))
            if power <= goal or not curvature > 0:
                break
            step = np.float32(power / curvature)
            V += step * D
            R -= step * Q
            last_power, power = power, _square(R)
            D *= np.float32(power / last_power)
            D += R
        return V * unit


class Division(NamedTuple):
    """``V diag(others) + (V Q) o change Q'``; where Q (M, r) has all directions, others is None.

    Attributes
    ----------
    vectors
        (M, r), Q.
    change, others
        (N, r) and (N, 1), or one row for all.
    """

    vectors: Matrix
    change: Matrix
    others: Matrix | None = None

    def of(self, V: Matrix) -> Matrix:
        """The quotient (N, M) of V (N, M)."""
        quotient = ((V @ self.vectors) * self.change) @ self.vectors.T
        if self.others is not None:
            quotient += V * self.others
        return np.asarray(quotient)


def stretched(
    V: Matrix, metric: OutputMetric | None, outputs: Matrix | slice = slice(None)
) -> Matrix:
    """Rows (N, M + r) whose products are those of ``V K V'``, of some outputs of V (N, M)."""
    V = V[..., outputs]
    if metric is None:
        return V
    leading = (V @ metric.vectors[outputs]) * np.sqrt(metric.excess)
    return np.concatenate([np.sqrt(metric.floor) * V, leading], axis=-1)


@dataclass(frozen=True)
class CoupledResponse:
    """``<V, A V K> / 2 - <V, B K>`` as a coupling of ADMM; B is (N, M).

    With eigenvectors of both factors each step divides entries (Lynch, Rice and Thomas, "Direct
    solution of partial difference equations by tensor product methods", 1964).
    """

    system: System
    metric: OutputMetric
    B: Matrix
    divisions: dict[float, tuple[Division, Division]] = field(default_factory=dict)

    @cached_property
    def _constant(self) -> Matrix:
        return self.metric.times(self.B)

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin over V (N, M) of the response plus ``rho/2 ||V - target||_F^2``."""
        rhs = self._constant + np.float32(rho) * target
        along, beside = self._divisions(rho)
        coordinates = self.system.rotate(rhs)
        divided = along.of(coordinates)
        if len(coordinates) == len(rhs):
            return self.system.rotate_back(divided)
        return beside.of(rhs) + self.system.rotate_back(divided - beside.of(coordinates))

    def _divisions(self, rho: float) -> tuple[Division, Division]:
        """Along the system's eigenvectors, and in all other directions; of each rho once."""
        if rho not in self.divisions:
            powers = self.system.powers[:, None], np.full((1, 1), self.system.delta, np.float32)
            along, beside = (self.metric.division(power, rho) for power in powers)
            self.divisions[rho] = along, beside
        return self.divisions[rho]


def _square(V: Matrix) -> float:
    return float(np.vdot(V, V))
