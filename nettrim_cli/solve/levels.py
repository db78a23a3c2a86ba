"""How many weights meet an error, and how many zeros each layer of a network gets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from nettrim_cli.solve.matrices import Matrix

FINE = 6  # refined levels from one level of a curve to the next
TOWARDS_NONE = np.arange(0.25, 4, 0.5)  # refined levels below the first, in logarithms of odds
NOTHING = 1e-12  # cost that counts as 0, relative to a curve's largest


def fewest_weights(
    error_at: Callable[[int], float], allowed: float, total: int, *, max_calls: int = 9
) -> tuple[int, int]:
    """Fewest weights, of ``total``, whose error is within ``allowed``.

    The search bisects the logarithm of the count, guided by the error's own logarithm.  It
    assumes that the error falls as the count grows.

    Parameters
    ----------
    error_at
        Error of the best weights of a count.
    allowed
        Largest error that meets the target.
    total
        Count that meets it in any case.
    max_calls
        Calls of ``error_at`` at most.

    Returns
    -------
    keep, calls
        ``total`` if nothing sparser was found within ``allowed``; calls of ``error_at``.
    """
    low, high, count, calls = 0, total, max(1, total // 5), 0
    low_error, high_error = math.inf, 0.0
    while calls < max_calls and high - low > max(1, high // 50):
        error = error_at(count)
        calls += 1
        if error <= allowed:
            high, high_error = count, error
        else:
            low, low_error = count, error
        count = _between(low, high, low_error, high_error, allowed)
    return high, calls


def smallest_epsilon(
    count_at: Callable[[float], int],
    keep: int,
    slack: int,
    *,
    max_calls: int = 12,
    ends: float = math.inf,
) -> float:
    """The smallest epsilon in (0, 1) with at most ``keep`` weights, by bisection.

    Parameters
    ----------
    count_at
        Number of weights at an epsilon; it should fall as epsilon grows.
    keep
        Largest number of weights.
    slack
        The search ends at a count that is at most so far below ``keep``.
    max_calls
        Calls of ``count_at`` at most.
    ends
        Time on the monotonic clock after which no call begins.

    Returns
    -------
    float
        1 where no smaller one was found.
    """
    low, high, epsilon = 0.0, 1.0, 0.2
    for _ in range(max_calls):
        if time.monotonic() > ends:
            break
        count = count_at(epsilon)
        if count > keep:
            low = epsilon
        else:
            high = epsilon
            if keep - count <= slack:
                break
        epsilon = math.sqrt(low * high) if low else high / 2
    return high


def _between(low: int, high: int, low_error: float, high_error: float, allowed: float) -> int:
    """A count between two ends, by the errors' logarithms; never in the outer eighths."""
    share = 0.5
    if 0 < high_error < allowed < low_error < math.inf:
        share = math.log(low_error / allowed) / math.log(low_error / high_error)
        share = min(0.875, max(0.125, share))
    start = math.log(max(1, low) if low else max(1.0, high / 8))
    count = round(math.exp(start + share * (math.log(high) - start)))
    return min(high - 1, max(low + 1, count))


def allocate(
    curves: Sequence[Matrix],
    sizes: Sequence[int],
    levels: Matrix,
    zeros: int,
    bounds: Sequence[tuple[int, int]] | None = None,
) -> list[int]:
    """Zeros of each layer that minimise the sum of costs at a total number of zeros.

    Parameters
    ----------
    curves
        One array (L,) a layer: its cost (squared error it adds to the network's output) at each
        level; made non-decreasing and taken as piecewise linear in the share of zeros.
    sizes
        Weights of each layer.
    levels
        (L,) shares of zeros, ascending, starting at 0.
    zeros
        Target: zeros over all layers.
    bounds
        Fewest and most zeros of each layer; from none to all by default.

    Returns
    -------
    list of int
        Zeros of each layer, their sum being ``zeros`` as far as bounds and levels allow.

    Notes
    -----
    The convex lower hull of each curve within its bounds is walked by steepest descent of cost
    a zero, which is the optimum of the convexified problem (Lagrange; each step is a segment of
    a hull).
    """
    levels = np.asarray(levels, np.float64)
    steps: list[tuple[float, int, float]] = []
    assigned: list[float] = []
    for layer, (curve, size) in enumerate(zip(curves, sizes, strict=True)):
        low, high = (0, size) if bounds is None else bounds[layer]
        points, costs = _within(levels * size, np.asarray(curve, np.float64), low, high)
        assigned.append(float(points[0]))
        for start, end in _hull(points, costs):
            amount = float(points[end] - points[start])
            steps.append(((costs[end] - costs[start]) / amount, layer, amount))
    remaining = max(0.0, zeros - sum(assigned))
    for _, layer, amount in sorted(steps, key=lambda step: step[:2]):
        amount = min(amount, remaining)
        assigned[layer] += amount
        remaining -= amount
    return _rounded(assigned)


def interpolate(levels: Matrix, curve: Matrix, shares: Matrix) -> Matrix:
    """A curve's costs (K,) at any shares of zeros, interpolated as powers of the odds of a zero.

    Costs rise by orders of magnitude from level to level, and straight lines between levels would
    be far above them.  Below the lowest level that is not 0 the power goes on, down to the cost
    at 0.

    Parameters
    ----------
    levels
        (L,) shares of zeros, ascending, starting at 0.
    curve
        (L,) cost at each level, made non-decreasing.
    shares
        (K,) shares of zeros, up to the last level.
    """
    curve = np.maximum.accumulate(np.asarray(curve, np.float64))
    top = curve[-1]
    if len(levels) < 3 or top <= 0:
        return np.interp(shares, levels, curve)
    with np.errstate(divide="ignore"):
        level_odds, odds = _log_odds(levels[1:]), _log_odds(np.asarray(shares))
        level_logs = np.log(np.maximum(curve[1:], NOTHING * top))
    logs = np.interp(odds, level_odds, level_logs)
    slope = (level_logs[1] - level_logs[0]) / (level_odds[1] - level_odds[0])
    below = odds < level_odds[0]
    logs[below] = level_logs[0]
    if slope > 0:
        logs[below] += slope * (odds[below] - level_odds[0])
    logs[odds == -np.inf] = -np.inf  # no zeros
    return np.asarray(np.maximum(np.exp(logs), curve[0]))


def refine_levels(levels: Matrix) -> Matrix:
    """The levels (L,) with more between them and towards 0, evenly in the logarithms of odds."""
    odds = _log_odds(levels[1:])
    inner = np.interp(np.arange(0, len(odds) - 1, 1 / FINE), np.arange(len(odds)), odds)
    added = np.concatenate([odds[0] - TOWARDS_NONE, inner])
    return np.unique(np.concatenate([levels, 1 / (1 + np.exp(-added))]))


def uniform(sizes: Sequence[int], zeros: int, bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Zeros of each layer, the same share of each as far as its bounds allow.

    Parameters
    ----------
    sizes
        Weights of each layer.
    zeros
        Target: zeros over all layers.
    bounds
        Fewest and most zeros of each layer.

    Returns
    -------
    list of int
        Their sum is ``zeros``, or as near as the bounds allow.
    """

    def zeros_at(share: float) -> list[float]:
        """Zeros of each layer at a share of all weights."""
        pairs = zip(sizes, bounds, strict=True)
        return [min(max(share * size, low), high) for size, (low, high) in pairs]

    low_share, high_share = 0.0, 1.0
    for _ in range(64):  # halvings until floating point has nothing left
        share = (low_share + high_share) / 2
        if sum(zeros_at(share)) < zeros:
            low_share = share
        else:
            high_share = share
    return _rounded(zeros_at(high_share))


def _log_odds(shares: Matrix) -> Matrix:
    return np.asarray(np.log(shares / (1 - shares)))


def _within(counts: Matrix, curve: Matrix, low: int, high: int) -> tuple[Matrix, Matrix]:
    """Points of a non-decreasing curve between two counts, both ends among them."""
    curve = np.maximum.accumulate(curve)
    high = min(high, counts[-1])
    inner = counts[(counts > low) & (counts < high)]
    points = np.concatenate([[low], inner, [high] if high > low else []])
    return points, np.interp(points, counts, curve)


def _rounded(zeros: Sequence[float]) -> list[int]:
    """Round to integers with the same sum, those next to the integer above first."""
    counts = [math.floor(number) for number in zeros]
    order = sorted(range(len(zeros)), key=lambda i: counts[i] - zeros[i])
    for layer in order[: max(0, round(sum(zeros)) - sum(counts))]:
        counts[layer] += 1
    return counts


def _hull(x: Matrix, y: Matrix) -> list[tuple[int, int]]:
    """Segments of the lower convex hull of points sorted by x, as pairs of their indices."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) >= 2:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return list(pairwise(hull))
