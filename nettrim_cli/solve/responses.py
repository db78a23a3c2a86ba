"""The data side of the program: which results of a layer count as preserved.

A response set is given entry by entry as an interval ``[lower, upper]`` of the layer's result
z: a point where the ReLU is active (``lower == upper``, the set Omega), ``(-inf, v]`` where it
is not, ``[ceiling, inf)`` where it saturates.  The residual is the distance to the interval,

    R(z) = z - clip(z, lower, upper).

``strict`` (the paper's set): ``||R on Omega||_F <= epsilon`` and R = 0 off Omega.
``one-sided``: ``||R||_F <= epsilon`` over all entries; with v = 0 this already implies the
paper's guarantee ``||relu(U'X) - Y||_F <= epsilon`` and contains the strict set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.task import Matrix


@dataclass(frozen=True)
class Intervals:
    """Targets of a response set, both (M, P) float32."""

    lower: Matrix
    upper: Matrix

    @classmethod
    def of_response(
        cls,
        Z: Matrix,
        scale: Matrix | None = None,
        shift: Matrix | None = None,
        ceiling: float = math.inf,
        bound: Matrix | None = None,
    ) -> Intervals:
        """Intervals of ``scale * z`` that keep ``clip(scale * z + shift, 0, ceiling)``.

        Parameters
        ----------
        Z
            (M, P) results of the dense layer.
        bound
            (M, P) results that are allowed where the dense unit is inactive (the paper's V) or
            saturated; 0 and the ceiling by default.
        """
        factor = np.float32(1) if scale is None else scale.astype(np.float32)[:, None]
        offset = np.float32(0) if shift is None else shift.astype(np.float32)[:, None]
        point = (Z * factor).astype(np.float32)
        inactive, saturated = point + offset <= 0, point + offset >= ceiling
        low: Matrix | np.floating = np.float32(0) - offset
        high: Matrix | np.floating = np.float32(ceiling) - offset
        if bound is not None:
            low = high = (bound * factor).astype(np.float32)
            high = np.minimum(high, np.float32(ceiling) - offset)
        lower = np.where(saturated, high, np.where(inactive, np.float32(-np.inf), point))
        upper = np.where(inactive, low, np.where(saturated, np.float32(np.inf), point))
        return cls(lower, upper)

    @classmethod
    def of_points(cls, Z: Matrix) -> Intervals:
        """Every entry is to be reproduced: a linear response."""
        Z = np.asarray(Z, np.float32)
        return cls(Z, Z)

    @property
    def active(self) -> Matrix:
        """Omega: the entries whose interval is a point."""
        return np.asarray(self.lower == self.upper)

    def residual(self, Z: Matrix) -> Matrix:
        """R(z), entry by entry."""
        return np.asarray(Z - np.clip(Z, self.lower, self.upper))
