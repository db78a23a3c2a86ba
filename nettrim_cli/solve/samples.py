"""What is recorded of the samples of one layer: plain picklable values (letters: see `problem`)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.solve.matrices import Matrix, all_finite
from nettrim_cli.solve.transport import Portable, SharedCache

UNREACHED = Reason("unreached", "none of the calibration samples reaches it")


@dataclass(frozen=True)
class SkipConnection(Portable):
    """The residual connection r that is added to a layer's scaled results before its activation.

    Attributes
    ----------
    pruned, holdout_pruned
        (M, P') float32: r in the network pruned so far, on the sampled calibration columns and on
        the held-out ones.
    dense, holdout_dense
        The same in the dense network; the same arrays where nothing before r was pruned.
    missing
        (N+1, M) float64 ``X @ (dense - pruned).T`` over all calibration columns; None where
        nothing was pruned, or without C.
    """

    pruned: Matrix
    holdout_pruned: Matrix
    dense: Matrix
    holdout_dense: Matrix
    missing: Matrix | None = None

    @property
    def exact(self) -> bool:
        """Whether r is the same in both networks."""
        return self.pruned is self.dense


@dataclass(frozen=True)
class LayerSamples(Portable):
    """What is recorded of the samples of one layer.

    Every matrix over inputs carries the row of ones last, whether or not the layer has a bias.

    Attributes
    ----------
    C
        (N+1, N+1) float64, ``X @ X.T`` over all calibration columns; None where the inputs are
        too many for such a matrix or twice the columns.  The solver then fits to X and Z alone.
    B
        (N+1, M) float64, ``X @ Z.T`` with Z the dense model's results (bias included); None
        with C.
    X, Z
        (N+1, P') and (M, P') float32: at most a bounded number of the columns themselves.
    holdout_X, holdout_Z
        The same of the held-out samples.
    inputs_exact
        Whether X is what the dense model delivers, so that W reproduces Z.
    dense_spread
        (N,) standard deviations of the inputs in the dense network; None where X is what that
        delivers.
    shared
        What layers with the same input share (factorisations); the solvers fill it.
    skip
        The residual connection behind the layer; None where there is none or it is not known.
    incomplete_reason
        Why some columns could not be recorded; empty where all were.
    unread
        Which of the layer's places, by number, no column came from.
    recorded
        How many columns the samples that are fitted to have, those that were not drawn included.
    """

    C: Matrix | None
    B: Matrix | None
    X: Matrix
    Z: Matrix
    holdout_X: Matrix
    holdout_Z: Matrix
    inputs_exact: bool
    dense_spread: Matrix | None = None
    shared: SharedCache = field(default_factory=SharedCache, repr=False, compare=False)
    skip: SkipConnection | None = None
    incomplete_reason: Reason = NO_REASON
    unread: tuple[int, ...] = ()
    recorded: int = 0

    @property
    def columns(self) -> int:
        """Number of calibration columns that the solver fits to."""
        if self.C is None:
            return int(self.X.shape[1])
        count = float(self.C[-1, -1])
        return round(count) if math.isfinite(count) else self.X.shape[1]

    @property
    def target(self) -> Matrix:
        """The dense model's results as a system takes them: B, or Z without C."""
        return self.Z if self.B is None else self.B

    def target_of(self, W: Matrix) -> Matrix:
        """The results of weights W (N+1, M), float64, on these inputs in the form of `target`."""
        if self.C is not None:
            return np.asarray(self.C @ W)
        Z = np.zeros((W.shape[1], self.X.shape[1]))
        for start in range(0, len(W), 512):
            Z += W[start : start + 512].T @ self.X[start : start + 512]
        return Z

    @property
    def unusable_reason(self) -> Reason:
        """Why a solver cannot use these samples; empty where it can."""
        if self.incomplete_reason:
            return self.incomplete_reason
        if self.X.shape[1] == 0:
            return UNREACHED
        skip = self.skip
        calibration, holdout = [self.X, self.Z], [self.holdout_X, self.holdout_Z]
        if skip is not None:
            calibration += [skip.pruned, skip.dense]
            holdout += [skip.holdout_pruned, skip.holdout_dense]
        for matrices, name in ((calibration, "calibration"), (holdout, "held-out")):
            if not all_finite(matrices):
                text = f"its signals are not finite on the {name} samples"
                return Reason("signals-not-finite", text)
        if not all_finite((self.C, self.B, None if skip is None else skip.missing)):
            size = f"up to {np.abs(self.X).max():.3g}"
            text = f"its signals, {size}, are too large: sums of their squares are not finite"
            return Reason("signals-not-finite", text)
        return NO_REASON
