"""Finding the knob for a target: how many weights for an error, which shares for a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from nettrim_cli.solve.matrices import Matrix

FINE = 6  # shares of zeros that are looked at from one level of a curve to the next,
TOWARDS_NONE = np.arange(0.25, 4, 0.5)  # and below the first, in logarithms of odds
NOTHING = 1e-12  # of a curve's largest cost


def fewest(
    error: Callable[[int], float], allowed: float, total: int, *, tries: int = 9
) -> tuple[int, int]:
    """Fewest weights, of ``total``, whose error is within ``allowed``.

    A bisection on the logarithm of the count, guided by the error's own logarithm; the error is
    taken to fall as the count grows.

    Returns
    -------
    keep, calls
        ``total`` if nothing sparser was found within ``allowed``; calls of ``error``.
    """
    low, high, guess, calls = 0, total, max(1, total // 5), 0
    low_error, high_error = math.inf, 0.0
    while calls < tries and high - low > max(1, high // 50):
        found = error(guess)
        calls += 1
        if found <= allowed:
            high, high_error = guess, found
        else:
            low, low_error = guess, found
        guess = _between(low, high, low_error, high_error, allowed)
    return high, calls


def smallest_share(
    weights: Callable[[float], int], keep: int, slack: int, *, tries: int = 12
) -> float:
    """The smallest share in (0, 1) at which ``weights`` is at most ``keep``, by bisection.

    ``weights`` is taken to fall as the share grows; the search ends within ``slack`` of ``keep``.
    """
    low, high, guess = 0.0, 1.0, 0.2
    for _ in range(tries):
        found = weights(guess)
        if found > keep:
            low = guess
        else:
            high = guess
            if keep - found <= slack:
                break
        guess = math.sqrt(low * high) if low else high / 2
    return high


def _between(low: int, high: int, low_error: float, high_error: float, allowed: float) -> int:
    """A count between two ends: by the errors' logarithms, never in the outer eighths."""
    share = 0.5
    if 0 < high_error < allowed < low_error < math.inf:
        share = math.log(low_error / allowed) / math.log(low_error / high_error)
        share = min(0.875, max(0.125, share))
    start = math.log(max(1, low) if low else max(1.0, high / 8))
    guess = round(math.exp(start + share * (math.log(high) - start)))
    return min(high - 1, max(low + 1, guess))


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
        One array a layer: its cost (squared error it adds to the network's output) at each
        level; made non-decreasing and taken as piecewise linear in the share of zeros.
    sizes
        Weights of each layer.
    levels
        Shares of zeros, ascending, starting at 0.
    zeros
        Zeros wanted over all layers.
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
    shares: list[float] = []
    for layer, (curve, size) in enumerate(zip(curves, sizes)):
        low, high = (0, size) if bounds is None else bounds[layer]
        points, costs = _within(levels * size, np.asarray(curve, np.float64), low, high)
        shares.append(float(points[0]))
        for left, right in _hull(points, costs):
            amount = float(points[right] - points[left])
            steps.append(((costs[right] - costs[left]) / amount, layer, amount))
    left_over = max(0.0, zeros - sum(shares))
    for _, layer, amount in sorted(steps, key=lambda each: each[:2]):
        taken = min(amount, left_over)
        shares[layer] += taken
        left_over -= taken
    return _whole(shares)


def between(levels: Matrix, curve: Matrix, shares: Matrix) -> Matrix:
    """A curve's costs at any shares of zeros, read as powers of the odds of a zero.

    Costs rise by orders of magnitude from level to level: straight lines between these would be
    far above them.  Below the lowest level that is not 0 the power goes on, down to the cost at 0.

    Parameters
    ----------
    levels
        Shares of zeros, ascending, starting at 0.
    curve
        Cost at each level, made non-decreasing.
    shares
        Any, up to the last level.
    """
    curve = np.maximum.accumulate(np.asarray(curve, np.float64))
    top = curve[-1]
    if len(levels) < 3 or top <= 0:
        return np.interp(shares, levels, curve)
    with np.errstate(divide="ignore"):
        at, wanted = (np.log(each / (1 - each)) for each in (levels[1:], np.asarray(shares)))
        logs = np.log(np.maximum(curve[1:], NOTHING * top))
    found = np.interp(wanted, at, logs)
    steep = (logs[1] - logs[0]) / (at[1] - at[0])
    below = wanted < at[0]
    found[below] = logs[0] + steep * (wanted[below] - at[0]) if steep > 0 else logs[0]
    found[wanted == -np.inf] = -np.inf  # no zeros
    return np.asarray(np.maximum(np.exp(found), curve[0]))


def finer(levels: Matrix) -> Matrix:
    """The levels, with more between them and towards 0, evenly in the logarithms of their odds."""
    odds = np.log(levels[1:] / (1 - levels[1:]))
    among = np.interp(np.arange(0, len(odds) - 1, 1 / FINE), np.arange(len(odds)), odds)
    found = np.concatenate([odds[0] - TOWARDS_NONE, among])
    return np.unique(np.concatenate([levels, 1 / (1 + np.exp(-found))]))


def spread(sizes: Sequence[int], zeros: int, bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Zeros of each layer, the same share of each as far as its bounds allow.

    Parameters
    ----------
    bounds
        Fewest and most zeros of each layer.

    Returns
    -------
    list of int
        Their sum is ``zeros``, or as near as the bounds allow.
    """

    def at(share: float) -> list[float]:
        pairs = zip(sizes, bounds)
        return [min(max(share * size, low), high) for size, (low, high) in pairs]

    below, above = 0.0, 1.0
    for _ in range(64):  # halvings until floating point has nothing left
        middle = (below + above) / 2
        below, above = (middle, above) if sum(at(middle)) < zeros else (below, middle)
    return _whole(at(above))


def _within(at: Matrix, curve: Matrix, low: int, high: int) -> tuple[Matrix, Matrix]:
    """Points of a non-decreasing curve between two counts, both ends among them."""
    curve = np.maximum.accumulate(curve)
    high = min(high, at[-1])
    inner = at[(at > low) & (at < high)]
    points = np.concatenate([[low], inner, [high] if high > low else []])
    return points, np.interp(points, at, curve)


def _whole(shares: Sequence[float]) -> list[int]:
    """Round to whole numbers with the same sum, those next to the whole number above first."""
    counts = [math.floor(each) for each in shares]
    room = sorted(range(len(shares)), key=lambda i: counts[i] - shares[i])
    for layer in room[: max(0, round(sum(shares)) - sum(counts))]:
        counts[layer] += 1
    return counts


def _hull(x: Matrix, y: Matrix) -> list[tuple[int, int]]:
    """Segments of the lower convex hull of points sorted by x, as pairs of their indices."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) >= 2:
            a, b = kept[-2], kept[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return list(pairwise(kept))
