"""The problem of one layer and its solution: plain picklable values.

Legend of the letters used in this room (the Net-Trim paper's, arXiv 1806.06457):

======== ===================================================================== =========
``X``    layer inputs, one column a sample; the last row is ones (the bias)     N x P
``W``    trained weights, the bias in the last row                              N x M
``U``    pruned weights                                                         N x M
``Z``    the dense layer's results before the activation                        M x P
``C``    ``X @ X.T``                                                            N x N
``B``    ``X @ Z.T``                                                            N x M
======== ===================================================================== =========
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from nettrim_cli.reasons import Reason
from nettrim_cli.solve.matrices import Matrix, evenly_spaced, norm, relative_error
from nettrim_cli.solve.samples import LayerSamples
from nettrim_cli.solve.transport import Portable

TOLERANCE = 5e-3


class Status(str, Enum):
    """How a solve ended.

    SOLVED
        The weights meet the target, a convex program's within the tolerance of its limits.
    INACCURATE
        They meet it nearly.
    MAX_ITERATIONS
        The iterations ended before the tolerance was met.
    TIME_LIMIT
        The time ended before the tolerance was met.
    INFEASIBLE
        A bound proves that no useful weights meet the constraints.
    NOT_FINITE
        The solver left the range of floating point.
    DENSE
        No sparser weights were found or could be looked for; the note says why.
    """

    SOLVED = "solved"
    INACCURATE = "inaccurate"
    MAX_ITERATIONS = "max-iterations"
    TIME_LIMIT = "time-limit"
    INFEASIBLE = "infeasible"
    NOT_FINITE = "not-finite"
    DENSE = "dense"

    @property
    def leaves_dense(self) -> bool:
        """Whether the layer keeps its dense weights."""
        return self in (Status.INFEASIBLE, Status.NOT_FINITE, Status.DENSE)


@dataclass(frozen=True)
class Limits:
    """When a solve may end.

    Attributes
    ----------
    tolerance
        Of the relative duality gap and of the violation relative to epsilon.
    iterations
        Of a convex program at most, those of its small programs among them.
    seconds
        The first check of the weights after so many is the last.
    """

    tolerance: float = TOLERANCE
    iterations: int = 3000
    seconds: float = math.inf


@dataclass(frozen=True)
class TunedOptions:
    """What held-out samples chose for a layer; it holds for nearly as many weights, too.

    Attributes
    ----------
    feedback
        Shares of the errors of earlier layers that the layer repairs.
    delta
        Damping.
    after_activation
        Whether the refit was for the response after the activation.
    inputs_exact
        Whether no error arrived from earlier layers.
    unpruned
        Whether the layer keeps all of its weights.
    """

    feedback: tuple[float, float]
    delta: float
    after_activation: bool
    inputs_exact: bool
    unpruned: bool = False


@dataclass(frozen=True)
class LayerProblem(Portable):
    """One layer to prune.

    Attributes
    ----------
    W
        (N, M), or (N+1, M) with the bias in the last row where ``has_bias``.
    scale, shift
        (M,): the response is ``act(scale * z + shift + r)`` with r the samples' residual
        connection; None for 1 and 0.
    relu, floor, ceiling
        Whether act clips to the range from ``floor`` to ``ceiling``.
    activation
        Any other act, elementwise on (M, P) arrays; None for the identity.
    importance
        (M,) how much an error of each response matters to the network, relative; None for
        alike.  It decides in which outputs the remaining weights do most good.
    correlation
        (M, M) of what errors of two responses do to the network, with ones on the diagonal: such
        errors add up, or make up for one another.  None for not at all.
    epsilon, keep
        The target: relative error allowed, or the number of weights to keep; one is None.
    gamma
        Slack over the unpruned layer's own error, in the paper's cascade.
    risk
        Share of that epsilon that is tried first, the paper's risk coefficient.
    fixed_bias
        Whether a convex method leaves the bias as it is.
    threads
        Threads that a solver may start.
    limits
        When a convex solve may end.
    tuned
        Options that held-out samples chose for nearly the same problem.
    delta
        Damping that they chose for nearly the same inputs.
    start
        Shape of W: weights for nearly the same problem, from which fewer steps lead to these.
    holdout_fitted
        Whether the held-out samples are among those that the solver fits to.
    """

    W: Matrix
    has_bias: bool
    samples: LayerSamples
    scale: Matrix | None = None
    shift: Matrix | None = None
    relu: bool = False
    floor: float = 0.0
    ceiling: float = math.inf
    activation: Callable[[Matrix], Matrix] | None = None
    importance: Matrix | None = None
    correlation: Matrix | None = None
    epsilon: float | None = None
    keep: int | None = None
    gamma: float = math.sqrt(1.1)
    risk: float = 1.0
    fixed_bias: bool = False
    threads: int = 1
    limits: Limits = Limits()
    tuned: TunedOptions | None = None
    delta: float | None = None
    start: Matrix | None = None
    holdout_fitted: bool = False

    @property
    def tuned_sparse(self) -> TunedOptions | None:
        """The tuned options of a pruned layer, where errors still arrive or still do not."""
        tuned = self.tuned
        if tuned is None or tuned.unpruned or tuned.inputs_exact != self.samples.inputs_exact:
            return None
        return tuned

    @property
    def tuned_unpruned(self) -> TunedOptions | None:
        """The tuned options of a layer with all weights, where held-out samples tell no more."""
        tuned = self.tuned
        return tuned if self.holdout_fitted and tuned is not None and tuned.unpruned else None

    @property
    def rows(self) -> slice:
        """The rows of the samples' matrices that belong to this layer."""
        return slice(None) if self.has_bias else slice(None, -1)

    @property
    def weight_count(self) -> int:
        """Number of weights, bias not counted."""
        return self.W.size - (self.W.shape[1] if self.has_bias else 0)

    @property
    def nonzeros(self) -> int:
        """Weights that are no zeros, bias not counted."""
        return int(np.count_nonzero(self.W[:-1] if self.has_bias else self.W))

    def pre_activation(self, Z: Matrix, skip: Matrix | None = None) -> Matrix:
        """The argument of act, ``scale * z + shift + skip``, as a new float32 array.

        Z and skip are (M, P); skip may be None for 0.
        """
        A = np.array(Z, np.float32)
        if self.scale is not None:
            A *= self.scale.astype(np.float32)[:, None]
        if self.shift is not None:
            A += self.shift.astype(np.float32)[:, None]
        if skip is not None:
            A += skip
        return A

    def response(self, Z: Matrix, skip: Matrix | None = None) -> Matrix:
        """``act(scale * z + shift + skip)`` in float32, (M, P) like Z and skip."""
        A = self.pre_activation(Z, skip)
        if self.relu:
            return np.clip(A, self.floor, self.ceiling, out=A)
        return A if self.activation is None else self.activation(A)

    def error(
        self,
        U: Matrix,
        *,
        holdout: bool,
        max_columns: int | None = None,
        at_outputs: bool = False,
    ) -> float:
        """Relative response error of weights on the sampled columns, nan where there are none.

        Parameters
        ----------
        U
            (N, M) or (N+1, M), as W.
        holdout
            Whether to measure on the held-out columns rather than the calibration columns.
        max_columns
            About so many columns are measured, evenly spaced; all by default.
        at_outputs
            Whether errors are weighed by what they do to the network, where that is known.
        """
        samples, skip = self.samples, None
        X = samples.holdout_X if holdout else samples.X
        if X.shape[1] == 0:
            return math.nan
        columns = evenly_spaced(X.shape[1], max_columns or X.shape[1])
        if (connection := samples.skip) is not None:
            skip = (connection.holdout_pruned if holdout else connection.pruned)[:, columns]
        Y = self.dense_response(holdout=holdout)[:, columns]
        # Transposed twice: in the order of what is recorded, so that it is read as it lies.
        response = self.response((X[self.rows, columns].T @ U.astype(np.float32)).T, skip)
        if at_outputs and self.correlation is not None:
            return self._error_at_outputs(response - Y, Y)
        return relative_error(response - Y, Y)

    def _error_at_outputs(self, E: Matrix, Y: Matrix) -> float:
        """What errors E do to the network, relative to responses Y; both are (M, P')."""
        assert self.correlation is not None
        weights = np.ones(len(Y)) if self.importance is None else self.importance
        H = (self.correlation * np.outer(weights, weights)).astype(np.float32)
        unit = np.float32(norm(Y) or 1)  # squares of large responses are no numbers
        error, size = (float(np.vdot(values, H @ values)) for values in (E / unit, Y / unit))
        if not math.isfinite(error + size):
            return math.nan
        return math.sqrt(max(0.0, error) / max(size, 1e-30))

    def dense_response(self, *, holdout: bool) -> Matrix:
        """The dense layer's response Y (M, P') on the sampled columns; do not change it."""
        return self._holdout_response if holdout else self._calibration_response

    @functools.cached_property
    def _calibration_response(self) -> Matrix:
        skip = self.samples.skip
        return self.response(self.samples.Z, None if skip is None else skip.dense)

    @functools.cached_property
    def _holdout_response(self) -> Matrix:
        skip = self.samples.skip
        return self.response(self.samples.holdout_Z, None if skip is None else skip.holdout_dense)


@dataclass(frozen=True)
class Solution:
    """Weights for a problem, with the bias in the last row where the problem has one.

    Attributes
    ----------
    U
        Shape of the problem's W.
    gap, violation
        Relative duality gap and constraint violation of a convex program; None otherwise.
    note
        What held-out samples chose, or why the layer stays dense.
    tuned
        The same as options for a next solve.
    reason
        Code of the note where it says why the layer is not pruned as asked, else empty.
    """

    U: Matrix
    status: Status
    iterations: int = 0
    gap: float | None = None
    violation: float | None = None
    note: str = ""
    tuned: TunedOptions | None = None
    reason: str = ""

    @classmethod
    def dense(cls, problem: LayerProblem, reason: Reason) -> Solution:
        """The problem's dense weights, and the reason why they stay."""
        return cls(problem.W, Status.DENSE, note=reason.text, reason=reason.code)
