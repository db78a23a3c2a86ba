"""The largest x whose figure is within a limit, where every try is costly and a guess is at hand.

The figure rises with x from 0 to 1 (an error with the sparsity, a size with the share of
weights).  What was expected of it gives its shape, each try how far that is off: between
tries the logarithm of the ratio is interpolated, outside them it is the nearest try's or, where
much of it is chance, fades away from it.  The farther from a try, the more is left for surprises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.solve.matrices import Matrix

ENOUGH, MOST = 3, 6  # tries when one is within the limit, and when none is or many were not
LEAST, LARGEST = 1e-9, 1e9  # of a figure, relative to the limit
FAR = 0.3  # odds this much unlike the nearest try's, in logarithms, are as unsure as any
PATIENCE = 3  # misses from which on every try is far below: 1, 2, 4, 8 in the odds' logarithm
FINE = 2000


@dataclass
class MonotoneSearch:
    """Tries values of x until one within the limit is nearly the largest such.

    Parameters
    ----------
    x, expected
        (K,) where the figure was predicted, ascending, and what it is to be there; made
        non-decreasing.
    limit
        What the figure may be.
    margin
        How far below the limit a guess aims, in logarithms; doubled at each miss but the first.
    memory
        How far, in logarithms of odds, what a try was off tells of other x: less where much of it
        is chance.
    unsure
        How much of a figure, in logarithms, is left for surprises where odds are unlike those of
        the nearest try, for each unit of their logarithm up to FAR.
    tolerance
        A try is good enough if it is within the limit and the next guess would move the share
        of zeros' or weights' odds by less, in logarithms: the first, and later ones in proportion.

    Attributes
    ----------
    tries
        x and figure of every try so far.
    """

    x: Matrix
    expected: Matrix
    limit: float
    margin: float
    tolerance: float
    memory: float = math.inf
    unsure: float = 0.25
    tries: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Lay the expectation on a fine grid, in odds and logarithms."""
        scale = np.clip(np.asarray(self.expected, np.float64) / self.limit, LEAST, LARGEST)
        logarithms = np.log(np.maximum.accumulate(np.nan_to_num(scale, nan=LARGEST)))
        ends = log_odds(float(self.x[0])), log_odds(float(self.x[-1]))
        self._grid = np.linspace(*ends, FINE)
        odds = [log_odds(float(value)) for value in self.x]
        self._expected = np.interp(self._grid, odds, logarithms)

    def observe(self, x: float, figure: float) -> None:
        """Take in a try."""
        self.tries.append((x, figure if math.isfinite(figure) else math.inf))

    @property
    def best(self) -> float | None:
        """The largest x that was within the limit."""
        return max((x for x, figure in self.tries if figure <= self.limit), default=None)

    def propose(self) -> float | None:
        """The next x to try; None when the search is over."""
        best = self.best
        missed = [x for x, figure in self.tries if figure > self.limit]
        lost = best is None or len(missed) >= PATIENCE
        if len(self.tries) >= (MOST if lost else ENOUGH):
            return None
        guess = self._aim()
        if missed and guess >= min(missed):
            low = self._grid[0] if best is None else log_odds(best)
            guess = _share((low + log_odds(min(missed))) / 2)
        if best is None and len(missed) >= PATIENCE:  # what was predicted is no guide
            lower = log_odds(min(missed)) - 2.0 ** (len(missed) - PATIENCE)
            guess = min(guess, _share(max(lower, self._grid[0])))
        if best is not None and log_odds(guess) - log_odds(best) < self.tolerance * len(self.tries):
            return None
        if missed and log_odds(min(missed)) - self._grid[0] < 1e-6:
            return None  # not even the least will do
        return guess

    def _aim(self) -> float:
        """The largest x at which the figure, as far as is known now, is below the limit."""
        misses = sum(figure > self.limit for _, figure in self.tries)
        goal, offsets = -self.margin * 2 ** max(0, misses - 1), np.zeros(FINE)
        if self.tries:
            tries = sorted((log_odds(x), figure) for x, figure in self.tries)
            odds = np.array([x_odds for x_odds, _ in tries])
            scale = np.array([figure / self.limit for _, figure in tries])
            ratios = np.log(np.clip(scale, LEAST, LARGEST))
            ratios -= np.interp(odds, self._grid, self._expected)
            outside = np.abs(self._grid - np.clip(self._grid, odds[0], odds[-1]))
            offsets = np.interp(self._grid, odds, ratios) * np.exp(-outside / self.memory)
            apart = np.min(np.abs(self._grid[:, None] - odds), axis=1)
            offsets += self.unsure * np.minimum(apart, FAR)
        figures = self._expected + offsets
        above = np.flatnonzero(figures > goal)
        if not len(above):
            return _share(self._grid[-1])
        end = np.maximum(above[0], 1)
        rise = figures[end] - figures[end - 1]
        share = (goal - figures[end - 1]) / rise if rise > 0 else 0.0
        step = self._grid[end] - self._grid[end - 1]
        return _share(self._grid[end - 1] + min(max(share, 0.0), 1.0) * step)


def log_odds(share: float) -> float:
    """Logarithm of the odds of a share; 0 and 1 count as the nearest that have any."""
    share = min(max(share, 1e-12), 1 - 1e-12)
    return math.log(share / (1 - share))


def _share(odds: float) -> float:
    return 1 / (1 + math.exp(-float(odds)))
