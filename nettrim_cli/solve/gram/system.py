"""The linear response in Gram space: C and B stand for all samples, whatever their number.

A bias is eliminated rather than solved for: with the ones row of X free, the best bias is
``(sum z - sum x' U) / P``, which leaves the same problem with centred C and B.  Inputs are
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
IDLE = 0.3  # scale of an input, relative to that in the dense network, below which it is idle
INVERSES_BYTES = 256 << 20  # of the inverses that a system stores
BLOCK_BYTES = 32 << 20  # of the float64 rows in a block


class Operator(Protocol):
    """A matrix, or an object that multiplies like one."""

    def __matmul__(self, V: Matrix, /) -> Matrix:
        """The product with V (N, M)."""


class System(Protocol):
    """The part of a linear problem that depends on the inputs alone, whatever the target.

    Attributes
    ----------
    A
        (N, N), scaled and centred ``C / P`` plus delta on the diagonal.
    d
        (N,) scale of each input.
    alive
        (N,) inputs that carry a signal; the others' weights are zero.
    delta
        Damping.
    """

    @property
    def A(self) -> Operator:
        """(N, N), see the class."""

    @property
    def d(self) -> Matrix:
        """(N,), see the class."""

    @property
    def alive(self) -> Matrix:
        """(N,), see the class."""

    @property
    def delta(self) -> float:
        """Damping, relative to the mean power of an input."""

    def right_hand_side(self, target: Matrix, W: Matrix) -> Matrix:
        """Scaled, centred and damped ``X Z' / P`` for dense weights W (N, M); float32.

        The target comes from ``LayerSamples.target`` and ``LayerSamples.target_of``.
        """

    def bias(self, target: Matrix, U: Matrix) -> Matrix:
        """Best bias (M,), float64, of weights U (N, M)."""

    def solve(self, rhs: Matrix, rho: float) -> Matrix:
        """``(A + rho I)^-1 rhs``, both (N, M) float32."""

    @property
    def powers(self) -> Matrix:
        """(n,) eigenvalues of A, float32; delta is that of all other directions."""

    def rotate(self, V: Matrix) -> Matrix:
        """(n, M) coordinates of V (N, M) along the eigenvectors of these."""

    def rotate_back(self, coordinates: Matrix) -> Matrix:
        """(N, M) of coordinates (n, M)."""


@dataclass
class GramSystem:
    """The system with its (N, N) matrix, float32; targets are B, (N+1, M).

    Attributes
    ----------
    columns
        P.
    sums
        (N,) float64 sum of each input; None where no bias is free.
    inverses
        (N, N) inverses that are kept, by the damping they were made with.
    undamped
        Eigenvalues (N,) and eigenvectors (N, N) without damping, where they are kept.
    """

    A: Matrix
    d: Matrix
    alive: Matrix
    delta: float
    columns: float
    sums: Matrix | None
    inverses: dict[np.float32, Matrix] = field(default_factory=dict)
    undamped: list[Matrix] = field(default_factory=list)

    @classmethod
    def build(
        cls,
        C: Matrix,
        *,
        free_bias: bool,
        delta: float | None = None,
        dense_spread: Matrix | None = None,
    ) -> GramSystem:
        """Scale, centre and damp the sums.

        Parameters
        ----------
        C
            (N+1, N+1) float64, the row of ones last.
        free_bias
            Whether the layer has a bias that may be refitted.
        delta
            Damping; None chooses it by the number of columns to an input.
        dense_spread
            See ``scales``.
        """
        P, inner = float(C[-1, -1]), C[:-1, :-1]
        sums = C[-1, :-1].copy() if free_bias else None
        raw = np.diag(inner) / P
        power = raw if sums is None else raw - np.square(sums) / P**2
        d, alive = scales(power, raw, dense_spread)
        delta = damping(P, len(d)) if delta is None else delta
        A = np.empty(inner.shape, np.float32)
        for rows in blocks(*inner.shape):
            centred = inner[rows] if sums is None else inner[rows] - np.outer(sums[rows], sums) / P
            A[rows] = centred / (P * np.outer(d[rows], d))
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
        """Best bias (M,), float64, of weights U (N, M).

        Raises
        ------
        ValueError
            The layer has no bias.
        """
        if self.sums is None:
            raise ValueError("the layer has no bias")
        return np.asarray((target[-1] - self.sums @ U) / self.columns)

    @property
    def powers(self) -> Matrix:
        """(N,) eigenvalues of A, float32."""
        return np.asarray(np.maximum(self._eigen()[0], 0) + np.float32(self.delta))

    def rotate(self, V: Matrix) -> Matrix:
        """Coordinates of V, both (N, M), along the eigenvectors."""
        return np.asarray(self._eigen()[1].T @ V)

    def rotate_back(self, coordinates: Matrix) -> Matrix:
        """V (N, M) of coordinates (N, M)."""
        return np.asarray(self._eigen()[1] @ coordinates)

    def _eigen(self) -> list[Matrix]:
        """Eigenvalues (N,) without damping and eigenvectors (N, N), computed once."""
        if not self.undamped:
            values, vectors = eigen(self.A)
            self.undamped.extend((values - np.float32(self.delta), vectors))
        return self.undamped

    def solve(self, rhs: Matrix, rho: float) -> Matrix:
        """``(A + rho I)^-1 rhs`` for rhs (N, M), one product with a stored inverse."""
        return np.asarray(self.inverse(rho) @ rhs)

    def inverse(self, rho: float) -> Matrix:
        """``(A + rho I)^-1`` in float32, computed once where INVERSES_BYTES allow.

        Where they do not, a new inverse replaces the newest: schedules start over again.
        """
        gamma = np.float32(self.delta + rho)
        if gamma not in self.inverses:
            capacity = max(1, INVERSES_BYTES // max(1, self.A.nbytes))
            if len(self.inverses) >= capacity:
                self.inverses.popitem()
            self.inverses[gamma] = inverse_of(self.A, rho)
        return self.inverses[gamma]


@dataclass(frozen=True)
class GramResponse:
    """``||V'X - Z||^2 / 2`` as a coupling of ADMM; rhs is (N, M)."""

    system: System
    rhs: Matrix

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin over V (N, M) of the response plus ``rho/2 ||V - target||_F^2``."""
        return self.system.solve(self.rhs + np.float32(rho) * target, rho)


def scales(power: Matrix, raw: Matrix, dense_spread: Matrix | None = None) -> tuple[Matrix, Matrix]:
    """Scale of each input, and whether it carries a signal.

    An input that has become idle has the scale that it had in the dense network.  Otherwise it
    would get large weights for the few signals that it still has, which others may exceed.

    Parameters
    ----------
    power, raw
        (N,) float64 mean squares of the inputs as the system sees them, and before centring.
    dense_spread
        (N,) their standard deviations in the dense network; None where the inputs are the same.
    """
    size, raw_size = np.sqrt(np.maximum(power, 0)), np.sqrt(np.maximum(raw, 0))
    largest = float(size.max(initial=0.0))
    alive = size > DEAD * np.maximum(raw_size, largest)
    d = np.maximum(size, FLOOR * largest) if largest > 0 else np.ones_like(size)
    if dense_spread is not None:
        d = np.where(size < IDLE * dense_spread, np.maximum(d, dense_spread), d)
    return d, alive


def damping(columns: float, inputs: int) -> float:
    """Damping relative to the mean power of an input: more where samples are few."""
    ratio = columns / max(1, inputs)
    return 1e-3 if ratio >= 8 else 1e-2 if ratio >= 2 else 1e-1


def eigen(A: Matrix) -> tuple[Matrix, Matrix]:
    """Eigenvalues (N,) and eigenvectors (N, N) of a symmetric A (N, N), in its dtype.

    Raises
    ------
    numpy.linalg.LinAlgError
        The matrix is not finite, or LAPACK finds no eigenvectors.
    """
    if not np.isfinite(A).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix is not finite")
    values, vectors = scipy.linalg.eigh(A, driver="evd", check_finite=False)
    return values, vectors


def inverse_of(A: Matrix, rho: float) -> Matrix:
    """``(A + rho I)^-1`` of a symmetric positive semidefinite A (N, N), in float32.

    Raises
    ------
    numpy.linalg.LinAlgError
        The matrix is not positive definite or not finite.
    """
    damped = A.astype(np.float64, order="C").T  # symmetric; in LAPACK's order without a copy
    damped[np.diag_indices_from(damped)] += rho
    factor, info = scipy.linalg.lapack.dpotrf(damped, lower=1, overwrite_a=1, clean=0)
    if info or not np.isfinite(np.diag(factor)).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix is not positive definite")
    lower, info = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    inverse = np.empty(A.shape, np.float32)
    for rows in blocks(*A.shape):
        inverse[rows, : rows.stop] = lower[rows, : rows.stop]
        inverse[: rows.start, rows] = inverse[rows, : rows.start].T
        square = inverse[rows, rows]
        square[...] = np.tril(square) + np.tril(square, -1).T
    if info or not np.isfinite(inverse).all():
        raise np.linalg.LinAlgError("the samples' Gram matrix has no finite inverse")
    return inverse


def blocks(rows: int, width: int) -> Iterator[slice]:
    """Slices of rows whose float64 copies take BLOCK_BYTES at most."""
    step = max(1, BLOCK_BYTES // (8 * max(1, width)))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
