"""What a solver is given and what it gives back: plain picklable values.

Legend of the letters used in this wing (the Net-Trim paper's, arXiv 1806.06457):

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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[Any]

TOLERANCE = 5e-3
UNREACHED = "none of the calibration samples reaches it"
BLOCK_VALUES = 1 << 19  # of responses that are worked on at once, which a cache holds


class Status(str, Enum):
    """How a solve ended; the weights stay dense with the last three."""

    SOLVED = "solved"
    INACCURATE = "inaccurate"
    MAX_ITERATIONS = "max-iterations"
    TIME_LIMIT = "time-limit"
    INFEASIBLE = "infeasible"
    NOT_FINITE = "not-finite"
    DENSE = "dense"


@dataclass(frozen=True)
class Limits:
    """When a solve may end.

    Attributes
    ----------
    tolerance
        Of the relative duality gap and of the violation relative to epsilon.
    iterations
        At most so many over all samples; those of reduced programs are few and bounded.
    seconds
        After these the next look at the weights is the last.
    """

    tolerance: float = TOLERANCE
    iterations: int = 600
    seconds: float = math.inf


@dataclass(frozen=True)
class SkipConnection:
    """What is added to a layer's scaled results before its activation: a residual connection.

    Attributes
    ----------
    reached, holdout_reached
        (M, P') float32 on the kept and the held-out columns, as the network pruned so far
        delivers it.
    dense, holdout_dense
        The dense network's; the same arrays where nothing before them was pruned.
    missing
        (N+1, M) float64 ``X @ (dense - reached).T`` over all calibration columns; None where
        nothing was pruned, or without C.
    """

    reached: Matrix
    holdout_reached: Matrix
    dense: Matrix
    holdout_dense: Matrix
    missing: Matrix | None = None

    @property
    def exact(self) -> bool:
        """Whether the pruned network delivers what the dense one does."""
        return self.reached is self.dense


@dataclass(frozen=True)
class LayerSamples:
    """What is kept of the samples of one layer.

    Every matrix over inputs carries the row of ones last, whether or not the layer has a bias.

    Attributes
    ----------
    C
        (N+1, N+1) float64, ``X @ X.T`` over all calibration columns; None where the inputs are
        too many for such a matrix or twice the columns, and X and Z are all that is fitted to.
    B
        (N+1, M) float64, ``X @ Z.T`` with Z the dense model's results (bias included); None
        with C.
    X, Z
        (N+1, P') and (M, P') float32: at most a bounded number of the columns themselves.
    holdout_X, holdout_Z
        The same of the held-out samples.
    exact
        Whether X is what the dense model delivers, so that W reproduces Z.
    shared
        What layers with the same input share (factorisations); filled by the solvers.
    offset
        What is added behind the layer; None where nothing is or where it is not known.
    lost
        Why not all columns could be recorded; empty where they were.
    unread
        Which of the layer's places, by number, no column came from.
    """

    C: Matrix | None
    B: Matrix | None
    X: Matrix
    Z: Matrix
    holdout_X: Matrix
    holdout_Z: Matrix
    exact: bool
    shared: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    offset: SkipConnection | None = None
    lost: str = ""
    unread: tuple[int, ...] = ()

    @property
    def columns(self) -> int:
        """Number of calibration columns that are fitted to."""
        if self.C is None:
            return int(self.X.shape[1])
        count = float(self.C[-1, -1])
        return round(count) if math.isfinite(count) else self.X.shape[1]

    @property
    def target(self) -> Matrix:
        """The dense model's results as a system takes them: B, or Z without C."""
        return self.Z if self.B is None else self.B

    def target_of(self, W: Matrix) -> Matrix:
        """The results of weights W (N+1, M), float64, on these inputs in the same form."""
        if self.C is not None:
            return np.asarray(self.C @ W)
        Z = np.zeros((W.shape[1], self.X.shape[1]))
        for at in range(0, len(W), 512):
            Z += W[at : at + 512].T @ self.X[at : at + 512]
        return Z

    @property
    def trouble(self) -> str:
        """Why nothing can be solved with these samples; empty where all is well."""
        if self.lost:
            return self.lost
        if self.X.shape[1] == 0:
            return UNREACHED
        fitted, held = [self.X, self.Z], [self.holdout_X, self.holdout_Z]
        if self.offset is not None:
            fitted += [self.offset.reached, self.offset.dense]
            held += [self.offset.holdout_reached, self.offset.holdout_dense]
        for columns, where in ((fitted, "calibration"), (held, "held-out")):
            if not all(np.isfinite(each).all() for each in columns if each is not None):
                return f"its signals are not finite on the {where} samples"
        sums = (self.C, self.B, None if self.offset is None else self.offset.missing)
        if not all(np.isfinite(each).all() for each in sums if each is not None):
            return (
                f"its signals, up to {np.abs(self.X).max():.3g}, are too large: sums of their "
                "squares are not finite"
            )
        return ""


@dataclass(frozen=True)
class TunedOptions:
    """What held-out samples chose for a layer; it holds for nearly as many weights, too.

    Attributes
    ----------
    repair
        Shares of the errors of earlier layers that are repaired.
    delta
        Damping.
    behind
        Whether the refit was for the response behind the activation.
    exact
        Whether no error arrived from earlier layers.
    whole
        Whether it is of a layer that keeps all of its weights.
    """

    repair: tuple[float, float]
    delta: float
    behind: bool
    exact: bool
    whole: bool = False


@dataclass(frozen=True)
class LayerProblem:
    """One layer to prune.

    Attributes
    ----------
    W
        (N, M), or (N+1, M) with the bias in the last row where ``has_bias``.
    scale, shift
        (M,): the response is ``act(scale * z + shift + r)`` with r the samples' offset; None for
        1 and 0.
    relu, floor, ceiling
        Whether act clips to the range from ``floor`` to ``ceiling``.
    activation
        Any other act, elementwise on (M, P) arrays; None for the identity.
    influence
        (M,) how much an error of each response matters behind the layer, relative; None for
        alike.  It decides in which outputs the kept weights do most good.
    epsilon, keep
        The target: relative error allowed, or the number of weights to keep; one is None.
    gamma
        Slack over the unpruned layer's own error, in the paper's cascade.
    threads
        Threads that a solver may start.
    limits
        When a convex solve may end.
    choice
        What was chosen for nearly the same task, which is then not chosen anew.
    delta
        Damping that was chosen on nearly the same inputs, likewise.
    start
        Shape of W: weights for nearly the same task, from which fewer steps lead to these.
    seen
        Whether the held-out samples are among those that are fitted to.
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
    epsilon: float | None = None
    keep: int | None = None
    gamma: float = math.sqrt(1.1)
    threads: int = 1
    limits: Limits = Limits()
    choice: TunedOptions | None = None
    delta: float | None = None
    start: Matrix | None = None
    seen: bool = False

    @property
    def settled(self) -> TunedOptions | None:
        """The choice where it still fits: errors arrive from earlier layers, or do not."""
        choice = self.choice
        fits = choice is not None and choice.exact == self.samples.exact
        return choice if choice is not None and fits and not choice.whole else None

    @property
    def settled_whole(self) -> TunedOptions | None:
        """The choice of a layer that keeps all weights, where held-out samples tell nothing new."""
        choice = self.choice
        return choice if self.seen and choice is not None and choice.whole else None

    @property
    def rows(self) -> slice:
        """The rows of the samples' matrices that belong to this layer."""
        return slice(None) if self.has_bias else slice(None, -1)

    @property
    def weights(self) -> int:
        """Number of weights, bias not counted."""
        return self.W.size - (self.W.shape[1] if self.has_bias else 0)

    @property
    def nonzeros(self) -> int:
        """Weights that are no zeros, bias not counted."""
        return int(np.count_nonzero(self.W[:-1] if self.has_bias else self.W))

    def argument(self, Z: Matrix, offset: Matrix | None = None) -> Matrix:
        """What act is applied to: ``scale * z + shift + offset``, a new float32 array."""
        A = np.array(Z, np.float32)
        if self.scale is not None:
            A *= self.scale.astype(np.float32)[:, None]
        if self.shift is not None:
            A += self.shift.astype(np.float32)[:, None]
        if offset is not None:
            A += offset
        return A

    def respond(self, Z: Matrix, offset: Matrix | None = None) -> Matrix:
        """Apply what follows the layer: ``act(scale * z + shift + offset)``, in float32."""
        A = self.argument(Z, offset)
        if self.relu:
            return np.clip(A, self.floor, self.ceiling, out=A)
        return A if self.activation is None else self.activation(A)

    def error(self, U: Matrix, *, held: bool, most: int | None = None) -> float:
        """Relative response error of weights on the kept columns, nan where there are none.

        Parameters
        ----------
        most
            Columns that are looked at, evenly drawn; all by default.
        """
        samples, reached = self.samples, None
        X = samples.holdout_X if held else samples.X
        if X.shape[1] == 0:
            return math.nan
        columns = every(X.shape[1], most or X.shape[1])
        if (offset := samples.offset) is not None:
            reached = (offset.holdout_reached if held else offset.reached)[:, columns]
        Y = self.dense_response(held=held)[:, columns]
        # Transposed twice: in the order of what is recorded, so that it is read as it lies.
        found = self.respond((X[self.rows, columns].T @ U.astype(np.float32)).T, reached)
        return relative(found - Y, Y)

    def dense_response(self, *, held: bool) -> Matrix:
        """The dense layer's response Y on the kept columns; the caller leaves it as it is."""
        return self._held_response if held else self._fitted_response

    @functools.cached_property
    def _fitted_response(self) -> Matrix:
        offset = self.samples.offset
        return self.respond(self.samples.Z, None if offset is None else offset.dense)

    @functools.cached_property
    def _held_response(self) -> Matrix:
        offset = self.samples.offset
        return self.respond(
            self.samples.holdout_Z, None if offset is None else offset.holdout_dense
        )


@dataclass(frozen=True)
class Solution:
    """Weights for a task, bias in the last row where the task has one.

    Attributes
    ----------
    U
        Shape of the task's W.
    gap, violation
        Relative duality gap and constraint violation of a convex program; None otherwise.
    note
        What was chosen on held-out samples, or why the layer stays dense.
    choice
        The same for a solver.
    """

    U: Matrix
    status: Status
    iterations: int = 0
    gap: float | None = None
    violation: float | None = None
    note: str = ""
    choice: TunedOptions | None = None


def every(columns: int, most: int) -> slice:
    """An even choice of at least ``most`` of so many columns, less than twice as many."""
    return slice(None, None, max(1, columns // most))


def column_blocks(columns: int, outputs: int) -> Iterator[slice]:
    """Slices of columns whose responses are BLOCK_VALUES at most."""
    step = max(1, BLOCK_VALUES // max(1, outputs))
    return (slice(at, min(at + step, columns)) for at in range(0, columns, step))


def relative(difference: Matrix, reference: Matrix) -> float:
    """||difference||_F / ||reference||_F; 0 where both are 0 and inf where only the latter is."""
    top, bottom = norm(difference), norm(reference)
    if not (math.isfinite(top) and math.isfinite(bottom)):
        return math.nan
    if bottom > 0:
        return top / bottom
    return math.inf if top > 0 else 0.0


def norm(A: Matrix) -> float:
    """Frobenius norm, safe for entries whose squares leave the range of float32."""
    flat = A.ravel(order="K")
    if flat.size == 0:
        return 0.0
    with np.errstate(over="ignore"):
        total = float(np.dot(flat, flat))
    if np.isfinite(total) and total > 1e-30:
        return math.sqrt(total)
    wide = flat.astype(np.float64)
    return float(np.linalg.norm(wide))
