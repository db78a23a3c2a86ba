"""The linear response in Gram space: all of the samples in C and B, whatever their number.

A bias is eliminated rather than solved for: with the ones row of X free, the best bias is
``(sum z - sum x' U) / P`` and what is left is the same problem with centred C and B.  Inputs are
then scaled to unit root-mean-square, so that an entry of ``V = d U`` is its typical
contribution, and damped towards the dense weights:

    minimise over V   ||V'X/d - Z||^2 / P + delta ||V - d W||^2
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.linalg

from nettrim_cli.solve.task import Matrix

DEAD = 1e-6  # root mean square of an input, relative to the largest, below which it is dead
FLOOR = 1e-3  # smallest scale of an input, relative to the largest


@dataclass
class GramSystem:
    """What depends on the inputs alone, shared by all targets and sparsities of a layer.

    Attributes
    ----------
    A
        (N, N) float32, scaled and centred ``C / P`` plus delta on the diagonal.
    d
        (N,) scale of each input.
    alive
        (N,) inputs that carry a signal; the others' weights are zero.
    """

    A: Matrix
    d: Matrix
    alive: Matrix
    delta: float
    columns: float
    sums: Matrix | None
    _inverses: dict[float, Matrix] = field(default_factory=dict)

    @classmethod
    def build(cls, C: Matrix, *, free_bias: bool, delta: float | None = None) -> GramSystem:
        """Scale, centre and damp the sums.

        Parameters
        ----------
        C
            (N+1, N+1) float64, the row of ones last.
        free_bias
            Whether the layer has a bias that may be refitted.
        delta
            Damping; None chooses it by the number of columns to an input.
        """
        P, inner = float(C[-1, -1]), C[:-1, :-1]
        sums = C[-1, :-1] if free_bias else None
        centred = inner - np.outer(sums, sums) / P if sums is not None else inner.copy()
        power = np.sqrt(np.maximum(np.diag(centred), 0) / P)
        raw = np.sqrt(np.maximum(np.diag(inner), 0) / P)
        top = float(power.max(initial=0.0))
        alive = power > DEAD * np.maximum(raw, top)
        d = np.maximum(power, FLOOR * top) if top > 0 else np.ones_like(power)
        A = centred / (P * np.outer(d, d))
        A[~alive] = 0
        A[:, ~alive] = 0
        delta = damping(P, len(d)) if delta is None else delta
        A[np.diag_indices_from(A)] += delta
        return cls(A.astype(np.float32), d, alive, delta, P, sums)

    def right_hand_side(self, B: Matrix, W: Matrix) -> Matrix:
        """Scaled, centred and damped ``B`` (N+1, M) for dense weights W (N, M); float32."""
        inner = B[:-1]
        if self.sums is not None:
            inner = inner - np.outer(self.sums, B[-1]) / self.columns
        scaled = inner / (self.columns * self.d[:, None])
        scaled = scaled + self.delta * W * self.d[:, None]
        scaled[~self.alive] = 0
        return scaled.astype(np.float32)

    def bias(self, B: Matrix, U: Matrix) -> Matrix:
        """Best bias of weights U, (M,) float64."""
        if self.sums is None:
            raise ValueError("the layer has no bias")
        return np.asarray((B[-1] - self.sums @ U) / self.columns)

    def inverse(self, rho: float) -> Matrix:
        """``(A + rho I)^-1`` in float32, computed once."""
        if rho not in self._inverses:
            self._inverses[rho] = inverse_of(self.A, rho)
        return self._inverses[rho]


@dataclass(frozen=True)
class GramResponse:
    """``||V'X - Z||^2 / 2`` as ADMM wants it: one product with a stored inverse."""

    system: GramSystem
    rhs: Matrix

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin of the response plus ``rho/2 ||V - target||_F^2``."""
        return np.asarray(self.system.inverse(rho) @ (self.rhs + np.float32(rho) * target))


def damping(columns: float, inputs: int) -> float:
    """Damping relative to the mean power of an input: more where samples are few."""
    ratio = columns / max(1, inputs)
    return 1e-3 if ratio >= 8 else 1e-2 if ratio >= 2 else 1e-1


def inverse_of(A: Matrix, rho: float) -> Matrix:
    """``(A + rho I)^-1`` of a symmetric positive semidefinite matrix, in float32.

    Raises
    ------
    numpy.linalg.LinAlgError
        The matrix is not positive definite or not finite.
    """
    damped = A.astype(np.float64)
    damped[np.diag_indices_from(damped)] += rho
    factor, failed = scipy.linalg.lapack.dpotrf(damped, lower=1, overwrite_a=1, clean=0)
    if failed or not np.isfinite(np.diag(factor)).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix is not positive definite")
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.tril(lower) + np.tril(lower, -1).T
    return np.asarray(inverse, np.float32)
