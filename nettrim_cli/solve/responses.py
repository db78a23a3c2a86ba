"""The data side of the program: which results of a layer count as preserved.

A response set is given entry by entry as an interval ``[lower, upper]`` of the layer's result
z: a point where the ReLU is active (``lower == upper``, the set Omega), ``(-inf, v]`` where it
is not, ``[ceiling, inf)`` where it saturates; v is -r where r is added before the ReLU.  The
residual is the distance to the interval,

    R(z) = z - clip(z, lower, upper).

``strict`` (the paper's set): ``||R on Omega||_F <= epsilon`` and R = 0 off Omega.
``one-sided``: ``||R||_F <= epsilon`` over all entries; with v = 0 this already implies the
paper's guarantee ``||relu(U'X) - Y||_F <= epsilon`` and contains the strict set.
``linear``: every entry is a point.

Any other activation is a ``ResponseCurve``, of which only the residual is needed.

Each set comes constrained, as above (``NormBall``), or penalised, with half the squared norm of the
shared residuals in the objective (``SquaredNorm``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nettrim_cli.solve.matrices import Matrix

Function = Callable[[Matrix], Matrix]

ALL = slice(None)
SLOPES = 257  # points between which the slopes of a function are measured


@dataclass(frozen=True)
class Intervals:
    """A response set, entry by entry.

    Attributes
    ----------
    lower, upper
        (M, P) float32 ends of the intervals.
    """

    lower: Matrix
    upper: Matrix

    @classmethod
    def of_response(
        cls,
        Z: Matrix,
        scale: Matrix | None = None,
        shift: Matrix | None = None,
        limits: tuple[float, float] = (0.0, math.inf),
        bound: Matrix | None = None,
        *,
        skip: Matrix | None = None,
        missing: Matrix | None = None,
    ) -> Intervals:
        """Intervals of ``scale * z`` that keep ``clip(scale * z + shift + r, floor, ceiling)``.

        Parameters
        ----------
        Z
            (M, P) results of the dense layer.
        scale, shift
            (M,); 1 and 0 by default.
        limits
            Floor and ceiling of the response.
        bound
            (M, P) results that are allowed where the dense unit is inactive (the paper's V) or
            saturated; floor and ceiling by default.
        skip, missing
            (M, P) r in the pruned network, and the dense network's r less that; 0 by default.
        """
        floor, ceiling = limits
        factor = np.float32(1) if scale is None else scale.astype(np.float32)[:, None]
        added: Matrix | np.float32 = np.float32(0)
        if shift is not None:
            added = shift.astype(np.float32)[:, None]
        if skip is not None:
            added = added + skip
        point = (Z * factor).astype(np.float32)
        if missing is not None:
            point += missing
        inactive, saturated = point + added <= floor, point + added >= ceiling
        low: Matrix | np.floating = np.float32(floor) - added
        high: Matrix | np.floating = np.float32(ceiling) - added
        if bound is not None:
            top = high
            low = high = (bound * factor).astype(np.float32)
            high = np.minimum(high, top)
        lower = np.where(saturated, high, np.where(inactive, np.float32(-np.inf), point))
        upper = np.where(inactive, low, np.where(saturated, np.float32(np.inf), point))
        return cls(lower, upper)

    @classmethod
    def of_points(cls, Z: Matrix) -> Intervals:
        """The points Z (M, P): a linear response, of which every entry counts."""
        Z = np.asarray(Z, np.float32)
        return cls(Z, Z)

    @property
    def active(self) -> Matrix:
        """Omega: the entries whose interval is a point."""
        return np.asarray(self.lower == self.upper)

    def residual(self, Z: Matrix, columns: slice = ALL) -> Matrix:
        """R(z), entry by entry, of results Z (M, P') in some of the columns."""
        return np.asarray(Z - np.clip(Z, self.lower[:, columns], self.upper[:, columns]))


@dataclass(frozen=True)
class ResponseCurve:
    """A response through any elementwise function, for refits.

    Attributes
    ----------
    function
        The activation, on (M, P) arrays.
    point
        (M, P) float32 targets of ``scale * z``.
    added
        (M, 1) or (M, P) shift and residual connection, which the function's argument adds.
    target
        (M, P) the response at the points.
    steepest
        (M, 1) largest squared slope of each output's function between its points.
    """

    function: Function
    point: Matrix
    added: Matrix
    target: Matrix
    steepest: Matrix

    @classmethod
    def of(cls, function: Function, point: Matrix, added: Matrix) -> ResponseCurve:
        """The response whose targets are at the points (M, P); `added` is (M, 1) or (M, P)."""
        A = point + added
        grid = np.linspace(A.min(axis=1), A.max(axis=1), SLOPES, axis=1, dtype=np.float32)
        steps = np.diff(grid)
        rises = np.diff(function(grid))
        slopes = np.divide(rises, steps, out=np.zeros_like(steps), where=steps > 0)
        steepest = np.square(slopes).max(axis=1, keepdims=True)
        return cls(function, point, added, function(A), steepest)

    def residual(self, Z: Matrix, columns: slice = ALL) -> Matrix:
        """The step of a refit from Z (M, P'): ``w (z - point)``, w the secant's squared slope.

        w is relative to the steepest squared slope, at most 1, so that ``w (z - point)^2`` is
        proportional to the squared error of the response itself.
        """
        added = self.added if self.added.shape[1] == 1 else self.added[:, columns]
        step = np.asarray(Z - self.point[:, columns])
        share = self.function(Z + added)
        share -= self.target[:, columns]
        with np.errstate(all="ignore"):
            share /= step
            np.square(share, out=share)
            share *= np.where(self.steepest > 0, 1 / self.steepest, np.float32(0))
        np.fmin(share, np.float32(1), out=share)  # 0 / 0 where Z is at the point
        step *= share
        return step


class Target(Protocol):
    """The target of a refit."""

    def residual(self, Z: Matrix, columns: slice, /) -> Matrix:
        """The step from results Z (M, P') in some of the columns towards the target."""


class Loss(Protocol):
    """Cost of the residuals of the shared entries, as a function h of their norm alone."""

    def cost(self, size: float) -> float:
        """h(size), 0 where it is a constraint."""

    def violation(self, size: float) -> float:
        """By how much the norm exceeds a constraint."""

    def conjugate(self, size: float) -> float:
        """Convex conjugate: the largest ``size * r - h(r)``."""

    def shrink_factor(self, size: float, rho: float) -> float:
        """Share of a residual that the prox of ``h / rho`` leaves."""

    def multiplier(self, size: float, rho: float) -> float:
        """Multiplier of that prox to a residual of one."""


@dataclass(frozen=True)
class NormBall:
    """Constrained: ``||R|| <= epsilon``.

    Attributes
    ----------
    epsilon
        Largest norm.
    slack
        Share of it that weights stay below, so that those near it are inside all the same.
    """

    epsilon: float
    slack: float = 0.0

    @property
    def reach(self) -> float:
        """The norm that weights come to."""
        return self.epsilon * (1 - self.slack)

    def cost(self, size: float) -> float:
        """h(size), 0 where it is a constraint."""
        return 0.0

    def violation(self, size: float) -> float:
        """By how much the norm exceeds what weights come to."""
        return max(0.0, size - self.reach)

    def conjugate(self, size: float) -> float:
        """Convex conjugate: ``epsilon * size``."""
        return self.epsilon * size

    def shrink_factor(self, size: float, rho: float) -> float:
        """Share of a residual that the projection leaves."""
        return min(1.0, self.reach / size) if size > 0 else 1.0

    def multiplier(self, size: float, rho: float) -> float:
        """Multiplier of the projection to a residual of one."""
        return rho * max(0.0, size / self.reach - 1) if self.reach > 0 else math.inf


@dataclass(frozen=True)
class SquaredNorm:
    """Penalised: ``weight / 2 ||R||^2`` is part of the objective."""

    weight: float

    def cost(self, size: float) -> float:
        """h(size), 0 where it is a constraint."""
        return self.weight / 2 * size * size

    def violation(self, size: float) -> float:
        """By how much the norm exceeds a constraint: there is none."""
        return 0.0

    def conjugate(self, size: float) -> float:
        """Convex conjugate: ``size^2 / (2 weight)``."""
        return size * size / (2 * self.weight)

    def shrink_factor(self, size: float, rho: float) -> float:
        """Share of a residual that the prox leaves."""
        return rho / (rho + self.weight) if rho > 0 else 1.0

    def multiplier(self, size: float, rho: float) -> float:
        """Multiplier of the prox to a residual of one."""
        return self.weight
