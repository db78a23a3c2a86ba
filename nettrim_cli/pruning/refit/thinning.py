"""Weights that go while all others are fitted.

The passes over the layers leave more weights than were asked for.  Of these the network itself
tells best, along all layers at once, which cost its outputs least: ``u^2 D / 2`` with the diagonal
D of the Gauss-Newton matrix (optimal brain damage, LeCun, Denker and Solla, 1989).  They go a few
at a time, fewer and fewer, as in Zhu and Gupta (arXiv 1710.01878), and the others take over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nettrim_cli.pruning.refit.descent import Descent
from nettrim_cli.pruning.refit.entries import Entries, Vector

RESERVE = 1.25  # weights that the passes leave, for one that was asked for
LAST = 0.6  # share of the steps after which none goes
PERIOD = 10  # steps
LEAST_SPARSITY = 0.97  # below it the passes choose weights as well
LEAST_STEPS = 200  # with which the weights that stay take over what the others did


class Thinning:
    """What goes, and when.

    Parameters
    ----------
    entries
        Weights, and what stays.
    metric
        (E,) curvature along each of them.
    weights
        Number of weights that stay.
    """

    def __init__(self, entries: Entries, metric: Vector, weights: int) -> None:
        self._weights, self._metric = np.flatnonzero(entries.weights), metric.copy()
        self._last = weights

    def after(self, step: int, steps: int, descent: Descent) -> None:
        """Let some go, after a step that is counted from 1."""
        way = min(1.0, step / (LAST * steps))
        if step % PERIOD and step != steps:
            return
        spare = len(self._weights) - self._last
        gone = round(spare * (1 - (1 - way) ** 3))
        cost = np.square(descent.vector[self._weights]) * self._metric[self._weights]
        descent.drop(self._weights[np.argsort(cost, kind="stable")[:gone]])


def with_reserve(zeros: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Zeros of each layer where more weights stay."""
    return {
        name: max(0, sizes[name] - round(RESERVE * (sizes[name] - count)))
        for name, count in zeros.items()
    }
