"""The linear response of layers with more inputs than columns: no matrix is N x N.

Scaled, centred columns Xs (N x P) give ``A = Xs Xs' / P + delta I``.  They are rotated once to the
eigenvectors of the P x P matrix ``Xs' Xs = R diag(s) R'``: with ``Y = Xs R``

    A v              = Y (Y'v) / P + delta v
    (A + rho I)^-1 v = (v - Y diag(1 / (P gamma + s)) Y'v) / gamma,     gamma = delta + rho

(Woodbury's identity with ``Y'Y = diag(s)``.)  One factorisation serves every rho, and a product
takes 4NPM flops where the N x N form takes 2N^2 M.  A stored ``(P gamma I + Xs'Xs)^-1`` instead
was up to 200 times less exact in float32: its rounding mixes strong and weak directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg

from nettrim_cli.solve.gram.system import GramSystem, System, blocks, damping, scales
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.samples import LayerSamples

ROUNDED = 1e-8  # squared norm of a column that is noise, relative to the largest
STRONG = 100.0  # squared norm of a strong column, relative to P gamma; see Eigenbasis.solve


@dataclass(frozen=True)
class LowRank:
    """``Y Y' / P + delta I``, multiplied but never formed; Y is (N, P) float32."""

    Y: Matrix
    columns: float
    delta: float

    def __matmul__(self, V: Matrix, /) -> Matrix:
        """The product with V (N, M)."""
        inner = self.Y.T @ V
        inner *= inner.dtype.type(1 / self.columns)
        result = self.Y @ inner
        result += result.dtype.type(self.delta) * V
        return np.asarray(result)


@dataclass(frozen=True)
class Eigenbasis:
    """Columns rotated so that they are orthogonal.

    Attributes
    ----------
    Y
        (N, P) float32, the rotated columns.
    powers
        (P,) float64, their squared norms, ascending.
    R
        (P, P) float32, the rotation: ``Y = X R`` and ``X = Y R'``.
    """

    Y: Matrix
    powers: Matrix
    R: Matrix

    @classmethod
    def of(cls, X: Matrix) -> Eigenbasis:
        """Rotate the columns of X, (N, P) float32, in place.

        Raises
        ------
        numpy.linalg.LinAlgError
            The columns' products are not finite, or LAPACK finds no eigenvectors.
        """
        products = np.zeros((X.shape[1], X.shape[1]))
        for rows in blocks(*X.shape):
            products += X[rows].T @ X[rows]
        if not np.isfinite(products).all():
            raise np.linalg.LinAlgError("the products of the samples are not finite")
        powers, R = scipy.linalg.eigh(products, overwrite_a=True, check_finite=False)
        for rows in blocks(*X.shape):
            X[rows] = X[rows] @ R
        return cls(X, np.maximum(powers, 0), R.astype(np.float32))

    def solve(self, rhs: Matrix, gamma: float, columns: float = 1.0) -> Matrix:
        """``(Y Y' / columns + gamma I)^-1 rhs``, both (N, M) float32.

        Along strong columns the two terms of Woodbury's difference all but cancel.  There the
        identity ``Y'(v - Y w) = P gamma w`` gives the rounding error, which is subtracted.
        """
        weak = columns * gamma
        shares = (1 / (weak + self.powers)).astype(np.float32)[:, None]
        inner = self.Y.T @ rhs
        inner *= shares
        result = rhs - self.Y @ inner
        strong = int(np.searchsorted(self.powers, STRONG * weak))
        if strong < len(self.powers):
            error = self.Y[:, strong:].T @ result
            error -= np.float32(weak) * inner[strong:]
            error *= shares[strong:]
            result -= self.Y[:, strong:] @ error
        result *= np.float32(1 / gamma)
        return np.asarray(result)


@dataclass(frozen=True)
class LowRankSystem:
    """The system from the columns themselves; targets are results, (M, P).

    Attributes
    ----------
    means
        (N,) float64 of the inputs; None where no bias is free.
    rotated
        The scaled, centred columns.
    """

    d: Matrix
    alive: Matrix
    delta: float
    means: Matrix | None
    rotated: Eigenbasis

    @classmethod
    def build(
        cls,
        X: Matrix,
        *,
        free_bias: bool,
        delta: float | None = None,
        dense_spread: Matrix | None = None,
    ) -> LowRankSystem:
        """Scale, centre, damp and rotate X.

        Parameters
        ----------
        X
            (N+1, P) float32, the row of ones last.
        free_bias, delta, dense_spread
            As for ``GramSystem.build``.
        """
        inner, P = X[:-1], X.shape[1]
        means, power, raw = np.zeros((3, len(inner)))
        for rows in blocks(*inner.shape) if P else ():
            values = inner[rows].astype(np.float64)
            raw[rows] = np.square(values).mean(axis=1)
            if free_bias:
                means[rows] = values.mean(axis=1)
                values -= means[rows, None]
            power[rows] = np.square(values).mean(axis=1)
        d, alive = scales(power, raw, dense_spread)
        scaled = np.empty(inner.shape, np.float32)
        for rows in blocks(*inner.shape):
            scaled[rows] = (inner[rows] - means[rows, None]) / d[rows, None]
        scaled[~alive] = 0
        delta = damping(P, len(inner)) if delta is None else delta
        return cls(d, alive, delta, means if free_bias else None, Eigenbasis.of(scaled))

    def damped(self, delta: float) -> LowRankSystem:
        """The same columns with another damping."""
        return replace(self, delta=delta)

    @property
    def columns(self) -> float:
        """P, at least 1."""
        return float(max(1, len(self.rotated.R)))

    @property
    def A(self) -> LowRank:
        """Scaled, centred ``X X' / P`` plus delta on the diagonal."""
        return LowRank(self.rotated.Y, self.columns, self.delta)

    def right_hand_side(self, target: Matrix, W: Matrix) -> Matrix:
        """Scaled, centred and damped ``X Z' / P`` for dense weights W (N, M); float32."""
        Z = target.astype(np.float64)
        if self.means is not None and Z.size:
            Z -= Z.mean(axis=1, keepdims=True)
        Z /= self.columns
        scaled: Matrix = self.rotated.Y @ (self.rotated.R.T @ Z.T.astype(np.float32))
        for rows in blocks(*W.shape):
            scaled[rows] += self.delta * W[rows] * self.d[rows, None]
        scaled[~self.alive] = 0
        return scaled

    def bias(self, target: Matrix, U: Matrix) -> Matrix:
        """Best bias (M,), float64, of weights U (N, M).

        Raises
        ------
        ValueError
            The layer has no bias.
        """
        if self.means is None:
            raise ValueError("the layer has no bias")
        return np.asarray(target.sum(axis=1, dtype=np.float64) / self.columns - self.means @ U)

    def solve(self, rhs: Matrix, rho: float) -> Matrix:
        """``(A + rho I)^-1 rhs`` for rhs (N, M)."""
        return self.rotated.solve(rhs, self.delta + rho, self.columns)

    @property
    def powers(self) -> Matrix:
        """(P,) eigenvalues of A, float32, in the space of the columns."""
        return np.asarray(self.rotated.powers / self.columns + self.delta, np.float32)

    def rotate(self, V: Matrix) -> Matrix:
        """(P, M) coordinates of V (N, M) along the rotated columns."""
        return np.asarray((self.rotated.Y.T @ V) * self._lengths)

    def rotate_back(self, coordinates: Matrix) -> Matrix:
        """(N, M) of coordinates (P, M)."""
        return np.asarray(self.rotated.Y @ (coordinates * self._lengths))

    @property
    def _lengths(self) -> Matrix:
        """(P, 1) inverse lengths of the rotated columns; 0 for those that rounding has made."""
        powers = self.rotated.powers
        real = powers > ROUNDED * powers.max(initial=0.0)
        lengths = np.divide(1, np.sqrt(powers), out=np.zeros_like(powers), where=real)
        return np.asarray(lengths[:, None], np.float32)


def system_of(samples: LayerSamples, *, free_bias: bool, delta: float | None = None) -> System:
    """The system of a layer: from C where its samples have it, else from the columns.

    C is scaled, or columns are rotated, once for all layers that read them, whatever the damping.
    """

    def build() -> GramSystem | LowRankSystem:
        """The system that no other layer has built yet."""
        spread = samples.dense_spread
        if samples.C is None:
            X = samples.X
            return LowRankSystem.build(X, free_bias=free_bias, delta=delta, dense_spread=spread)
        C = samples.C
        return GramSystem.build(C, free_bias=free_bias, delta=delta, dense_spread=spread)

    system = samples.shared.get(("system", free_bias), build)
    return system if delta is None or delta == system.delta else system.damped(delta)


def damped_gram(X: Matrix, delta: float) -> Matrix | LowRank:
    """``X X' / P + delta I`` of X (N, P), formed only where that makes its products cheaper."""
    N, P = len(X), max(1, X.shape[1])
    if N >= 2 * P:
        return LowRank(X, P, delta)
    A = X @ X.T
    A /= np.float32(P)
    A[np.diag_indices_from(A)] += np.float32(delta)
    return np.asarray(A)
