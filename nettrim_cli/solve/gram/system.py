"""The linear response in Gram space: all of the samples in C and B, whatever their number.

A bias is eliminated rather than solved for: with the ones row of X free, the best bias is
``(sum z - sum x' U) / P`` and what is left is the same problem with centred C and B.  Inputs are
then scaled to unit root-mean-square, so that an entry of ``V = d U`` is its typical
contribution, and damped towards the dense weights:

    minimise over V   ||V'X/d - Z||^2 / P + delta ||V - d W||^2

``low_rank`` has the same system for layers whose N x N matrices are not formed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import scipy.linalg

from nettrim_cli.solve.matrices import Matrix

DEAD = 1e-6  # root mean square of an input, relative to the largest, below which it is dead
FLOOR = 1e-3  # smallest scale of an input, relative to the largest
INVERSES_BYTES = 256 << 20  # of inverses that a system keeps
BLOCK_BYTES = 32 << 20  # of the float64 rows that are worked on at once


class Operator(Protocol):
    """A matrix, or what multiplies as one."""

    def __matmul__(self, V: Matrix, /) -> Matrix:
        """The product with V (N, M)."""


class System(Protocol):
    """What depends on the inputs alone, shared by all targets and sparsities of a layer.

    Attributes
    ----------
    A
        (N, N), scaled and centred ``C / P`` plus delta on the diagonal.
    d
        (N,) scale of each input.
    alive
        (N,) inputs that carry a signal; the others' weights are zero.
    """

    @property
    def A(self) -> Operator: ...
    @property
    def d(self) -> Matrix: ...
    @property
    def alive(self) -> Matrix: ...
    @property
    def delta(self) -> float: ...

    def right_hand_side(self, target: Matrix, W: Matrix) -> Matrix:
        """Scaled, centred and damped ``X Z' / P`` for dense weights W (N, M); float32.

        The target comes from ``LayerSamples.target`` and ``LayerSamples.target_of``.
        """

    def bias(self, target: Matrix, U: Matrix) -> Matrix:
        """Best bias of weights U, (M,) float64."""

    def solve(self, rhs: Matrix, rho: float) -> Matrix:
        """``(A + rho I)^-1 rhs``, both (N, M) float32."""


@dataclass
class GramSystem:
    """The system with its (N, N) matrix, float32; targets are B, (N+1, M)."""

    A: Matrix
    d: Matrix
    alive: Matrix
    delta: float
    columns: float
    sums: Matrix | None
    _inverses: dict[np.float32, Matrix] = field(default_factory=dict)

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
        sums = C[-1, :-1].copy() if free_bias else None
        raw = np.diag(inner) / P
        power = raw if sums is None else raw - np.square(sums) / P**2
        d, alive = scales(power, raw)
        delta = damping(P, len(d)) if delta is None else delta
        A = np.empty(inner.shape, np.float32)
        for rows in blocks(*inner.shape):
            part = inner[rows] if sums is None else inner[rows] - np.outer(sums[rows], sums) / P
            A[rows] = part / (P * np.outer(d[rows], d))
        A[~alive] = 0
        A[:, ~alive] = 0
        A[np.diag_indices_from(A)] += np.float32(delta)
        return cls(A, d, alive, delta, P, sums)

    def damped(self, delta: float) -> GramSystem:
        """The same sums with another damping; equal ``delta + rho`` share their inverse."""
        A = self.A.copy()
        A[np.diag_indices_from(A)] += np.float32(delta - self.delta)
        return replace(self, A=A, delta=delta)

    def right_hand_side(self, target: Matrix, W: Matrix) -> Matrix:
        """Scaled, centred and damped ``B`` (N+1, M) for dense weights W (N, M); float32."""
        inner = target[:-1]
        if self.sums is not None:
            inner = inner - np.outer(self.sums, target[-1]) / self.columns
        scaled = inner / (self.columns * self.d[:, None])
        scaled += self.delta * W * self.d[:, None]
        scaled[~self.alive] = 0
        return scaled.astype(np.float32)

    def bias(self, target: Matrix, U: Matrix) -> Matrix:
        """Best bias of weights U, (M,) float64."""
        if self.sums is None:
            raise ValueError("the layer has no bias")
        return np.asarray((target[-1] - self.sums @ U) / self.columns)

    def solve(self, rhs: Matrix, rho: float) -> Matrix:
        """``(A + rho I)^-1 rhs``, one product with a stored inverse."""
        return np.asarray(self.inverse(rho) @ rhs)

    def inverse(self, rho: float) -> Matrix:
        """``(A + rho I)^-1`` in float32, computed once where INVERSES_BYTES allow.

        Beyond, the newest gives way: schedules come again from their beginning.
        """
        gamma = np.float32(self.delta + rho)
        if gamma not in self._inverses:
            most = max(1, INVERSES_BYTES // max(1, self.A.nbytes))
            if len(self._inverses) >= most:
                self._inverses.popitem()
            self._inverses[gamma] = inverse_of(self.A, rho)
        return self._inverses[gamma]


@dataclass(frozen=True)
class GramResponse:
    """``||V'X - Z||^2 / 2`` as ADMM wants it."""

    system: System
    rhs: Matrix

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin of the response plus ``rho/2 ||V - target||_F^2``."""
        return self.system.solve(self.rhs + np.float32(rho) * target, rho)


def scales(power: Matrix, raw: Matrix) -> tuple[Matrix, Matrix]:
    """Scale of each input, and whether it carries a signal.

    Parameters
    ----------
    power, raw
        (N,) float64 mean squares of the inputs as the system sees them, and before centring.
    """
    size, whole = np.sqrt(np.maximum(power, 0)), np.sqrt(np.maximum(raw, 0))
    top = float(size.max(initial=0.0))
    alive = size > DEAD * np.maximum(whole, top)
    return np.maximum(size, FLOOR * top) if top > 0 else np.ones_like(size), alive


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
    damped = A.astype(np.float64, order="C").T  # symmetric; in LAPACK's order without a copy
    damped[np.diag_indices_from(damped)] += rho
    factor, failed = scipy.linalg.lapack.dpotrf(damped, lower=1, overwrite_a=1, clean=0)
    if failed or not np.isfinite(np.diag(factor)).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix is not positive definite")
    lower, failed = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.empty(A.shape, np.float32)
    for rows in blocks(*A.shape):
        inverse[rows, : rows.stop] = lower[rows, : rows.stop]
        inverse[: rows.start, rows] = inverse[rows, : rows.start].T
        square = inverse[rows, rows]
        square[...] = np.tril(square) + np.tril(square, -1).T
    if failed or not np.isfinite(inverse).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix has no finite inverse")
    return inverse


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows whose float64 copies take BLOCK_BYTES at most."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    return (slice(at, min(at + step, rows)) for at in range(0, rows, step))
