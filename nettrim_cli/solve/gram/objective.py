"""What weights of the linear response cost, with each output for itself or all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.admm import Coupling
from nettrim_cli.solve.gram.metric import CoupledResponse, OutputMetric
from nettrim_cli.solve.gram.output_weights import linear_correlation
from nettrim_cli.solve.gram.refit import refit
from nettrim_cli.solve.gram.system import GramResponse, GramSystem, System
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import Penalty
from nettrim_cli.solve.problem import LayerProblem

MOST_INPUTS = 3072  # of layers whose outputs count together: eigenvectors of more take too long


@dataclass(frozen=True)
class Objective:
    """``<V, A V K> / 2 - <V, rhs K>`` of scaled weights V (N, M) and right-hand sides (N, M).

    Attributes
    ----------
    system
        Has A.
    metric
        K; None for the identity.
    """

    system: System
    metric: OutputMetric | None = None

    @classmethod
    def of(cls, problem: LayerProblem, system: System) -> Objective:
        """That of a layer, with all outputs together where it is known what they do together."""
        wide = isinstance(system, GramSystem) and len(system.d) > MOST_INPUTS
        correlation = None if wide or problem.W.shape[1] < 2 else linear_correlation(problem)
        return cls(system, None if correlation is None else OutputMetric.of(correlation))

    def value(self, rhs: Matrix, V: Matrix) -> float:
        """The objective of V (N, M)."""
        return float(np.vdot(V, self._weighed(self.system.A @ V / 2 - rhs)))

    def residual(self, rhs: Matrix, V: Matrix) -> Matrix:
        """``(rhs - A V) K`` (N, M), against which V goes down."""
        return self._weighed(rhs - self.system.A @ V)

    def response(self, rhs: Matrix) -> Coupling:
        """The objective as ADMM takes it, of right-hand sides (N, M)."""
        if self.metric is None:
            return GramResponse(self.system, rhs)
        return CoupledResponse(self.system, self.metric, rhs)

    def refit(self, rhs: Matrix, support: Matrix, start: Matrix, steps: int) -> Matrix:
        """Best weights (N, M) on a support.  Where all weights are free, K cancels.

        Parameters
        ----------
        rhs, start
            (N, M) float32.
        support
            (N, M) bool.
        steps
            Of conjugate gradients at most.
        """
        if self.metric is None or support.all():
            return refit(self.system.A, rhs, support, start, steps)
        return self.metric.refit(self.system.A, rhs, support, start, steps)

    def improve_support(self, rhs: Matrix, penalty: Penalty, V: Matrix) -> Matrix:
        """V (N, M) refitted, or after a step of hard thresholding pursuit where that is better.

        The step is Newton's where the inputs are uncorrelated (Foucart, "Hard Thresholding
        Pursuit", 2011); there ADMM alone stops .1 to 1 % above the best.
        """
        support = penalty.prox(V + self.residual(rhs, V), 1.0) != 0
        if np.array_equal(support, V != 0):
            return self.refit(rhs, V != 0, V, steps=8)
        pursued = self.refit(rhs, support, V, steps=12)
        V = self.refit(rhs, V != 0, V, steps=8)
        return min(V, pursued, key=lambda weights: self.value(rhs, weights))

    def _weighed(self, R: Matrix) -> Matrix:
        return R if self.metric is None else self.metric.times(R)
