"""The weight side of the program: each penalty is a value and a prox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nettrim_cli.solve.task import Matrix


class Penalty(Protocol):
    """g(S), with the prox that ADMM calls once an iteration."""

    def value(self, S: Matrix) -> float:
        """g(S)."""

    def prox(self, V: Matrix, step: float) -> Matrix:
        """Argmin over S of ``g(S) + ||S - V||_F^2 / (2 * step)``."""


@dataclass(frozen=True)
class WeightedL1:
    """``sum(weights * |S|)``; weights broadcast against S and are not negative."""

    weights: Matrix

    def value(self, S: Matrix) -> float:
        """g(S)."""
        return float((np.abs(S) * self.weights).sum(dtype=np.float64))

    def prox(self, V: Matrix, step: float) -> Matrix:
        """Soft thresholding: V minus its part inside ``[-step * weights, step * weights]``."""
        most = np.finfo(V.dtype).max
        threshold = np.minimum(step * self.weights, most).astype(V.dtype)
        return np.asarray(V - np.clip(V, -threshold, threshold))


@dataclass(frozen=True)
class KeepLargest:
    """0 where at most ``keep`` entries of S are not zero, infinite elsewhere (l0 ball)."""

    keep: int

    def value(self, S: Matrix) -> float:
        """g(S)."""
        return 0.0 if np.count_nonzero(S) <= self.keep else float("inf")

    def prox(self, V: Matrix, step: float) -> Matrix:
        """Keep the ``keep`` entries of largest magnitude, whatever the step."""
        return np.where(largest(np.abs(V), self.keep), V, V.dtype.type(0))


def largest(magnitude: Matrix, keep: int) -> Matrix:
    """Mark exactly ``keep`` entries of largest magnitude; ties go to the earlier entry."""
    if keep >= magnitude.size:
        return np.ones(magnitude.shape, bool)
    if keep <= 0:
        return np.zeros(magnitude.shape, bool)
    flat = magnitude.ravel()
    bar = np.partition(flat, flat.size - keep)[flat.size - keep]
    mask = flat > bar
    ties = np.flatnonzero(flat == bar)
    mask[ties[: keep - int(np.count_nonzero(mask))]] = True
    return np.asarray(mask.reshape(magnitude.shape))
