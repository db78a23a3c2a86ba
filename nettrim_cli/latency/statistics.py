"""Medians of timings, and intervals for them that hold whatever the distribution is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.report.bench_result import Estimate

CONFIDENCE = 0.95
Floats = NDArray[np.float64]


def estimate(values: Sequence[float] | Floats, confidence: float = CONFIDENCE) -> Estimate:
    """The median of values (N,), with an interval for that of their distribution.

    The interval ends at order statistics: the number of values below the true median is binomial
    with p = 1/2 (David and Nagaraja, Order Statistics, 2003, section 7.1).  With fewer than six
    values there is none of 95 %, and its ends are 0 and infinite.
    """
    from scipy.special import bdtr  # the binomial distribution; takes long to import

    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = len(ordered)
    below = bdtr(np.arange(count // 2), count, 0.5)
    rank = int(np.count_nonzero(below <= (1 - confidence) / 2))
    if rank == 0:
        return Estimate(float(np.median(ordered)), 0.0, math.inf)
    return Estimate(float(np.median(ordered)), float(ordered[rank - 1]), float(ordered[-rank]))


def paired_ratios(seconds: Floats) -> Floats:
    """Ratios (models - 1, rounds) of seconds (models, rounds) to those of the first model.

    What slows a whole round down, as a lower clock does, cancels.
    """
    return np.asarray(seconds[1:] / seconds[:1])


def spread(estimated: Estimate) -> float:
    """Half of an interval's width, as a share of the median."""
    return (estimated.high - estimated.low) / 2 / estimated.median
