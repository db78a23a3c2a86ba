"""Answers of classifiers: which class, by what margin, and what a few samples say of all.

Exact intervals are for shares of independent answers.  The bound on a drop is sharper: whether
an answer changes depends on its margin, which is known for every sample, and on how far margins
moved, which the held-out samples tell; so their moves are tried on the margins of others, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Interval = tuple[float, float]

NO_ANSWER = -1
CONFIDENCE = 0.95
NORMAL = 1.645  # quantile of the normal distribution for a bound with that confidence
TIE = float(np.finfo(np.float64).tiny)  # margin of an answer that others equal
TOLD = 5  # times the held-out samples, beyond which others tell nothing new
NEIGHBOURS = 50  # samples of nearly the same margin whose moves are tried, or a fourth of all


def top1(output: Array) -> Any:
    """Top-1 answers of a batch, or None where the output is no list of scores.

    Scores are (batch, classes) or (batch, positions, classes); integers of rank 1 are answers
    already.  Scores with a NaN have ``NO_ANSWER``, which is never right.
    """
    if output.ndim == 1 and np.issubdtype(output.dtype, np.integer):
        return output
    if not has_scores(output):
        return None
    found = output.argmax(axis=-1)
    if np.issubdtype(output.dtype, np.inexact):
        found[np.isnan(output).any(axis=-1)] = NO_ANSWER
    return found


def has_scores(output: Array) -> bool:
    """Whether an output has a score for each of several classes, last axis."""
    return output.ndim in (2, 3) and output.shape[-1] >= 2 and output.dtype != object


def margins(output: Array, wanted: Array) -> Array:
    """Score of the wanted class less the best of the others, float64, in ``wanted``'s shape.

    Minus infinity where the class does not exist or the scores are no numbers: such an answer
    is wrong, whatever happens.  Where several classes have the best score the first is the
    answer, by the least margin there is.
    """
    scores = output.astype(np.float64)
    known = (wanted >= 0) & (wanted < scores.shape[-1]) & ~np.isnan(scores).any(axis=-1)
    at = np.where(known, wanted, 0)[..., None]
    own = np.take_along_axis(scores, at, axis=-1)[..., 0]
    np.put_along_axis(scores, at, -np.inf, axis=-1)
    with np.errstate(invalid="ignore"):
        found = own - scores.max(axis=-1)
    found[(found == 0) & (output.argmax(axis=-1) == wanted)] = TIE
    return np.where(known & ~np.isnan(found), found, -np.inf)


@dataclass
class Margins:
    """Margins of the same answers in the reference and in the candidate, sample by sample.

    An answer is right where its margin is above 0.  Of outputs that are no scores the margins
    are 1 and -1.
    """

    before: list[Array] = field(default_factory=list)
    after: list[Array] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # of each sample's answers
    scores: bool = True

    def add(self, expected: Array, found: Array | None, wanted: Array) -> None:
        """Take in a batch's outputs and the answers wanted; of None all answers are wrong."""
        for into, output in ((self.before, expected), (self.after, found)):
            if output is None:
                each = np.full(wanted.shape, -np.inf)
            elif has_scores(output):
                each = margins(output, wanted)
            else:
                self.scores = False
                each = np.where(output == wanted, 1.0, -1.0)
            into.append(each.reshape(-1))
        self.counts += [wanted.size // max(1, len(wanted))] * len(wanted)

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Both, put together."""
        if not self.before:
            return np.empty(0), np.empty(0)
        return np.concatenate(self.before), np.concatenate(self.after)


def exact_interval(right: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's interval for a share, of ``count`` independent answers.

    It holds with at least that confidence whatever the share (Biometrika 26, 1934).
    """
    from scipy.special import betaincinv  # quantile of the beta distribution

    tail = (1 - confidence) / 2
    low = float(betaincinv(right, count - right + 1, tail)) if right else 0.0
    high = float(betaincinv(right + 1, count - right, 1 - tail)) if right < count else 1.0
    return low, high


def drop_interval(lost: int, gained: int, count: int) -> Interval:
    """An interval for the accuracy lost, from the answers that became wrong and right.

    Exact intervals of both shares with half the error probability each: together they hold at
    least as often as ``CONFIDENCE`` says (Bonferroni).
    """
    each = (1 + CONFIDENCE) / 2
    worse, better = exact_interval(lost, count, each), exact_interval(gained, count, each)
    return worse[0] - better[1], worse[1] - better[0]


def samples_for(width: float, wanted: float, count: int) -> float:
    """About how many held-out samples bring a bound within ``wanted`` of what was measured.

    Parameters
    ----------
    width
        By how much the bound of ``drop_bound`` is above it with ``count`` of them.

    Notes
    -----
    The width is ``l / r + hypot(c / sqrt(r), l / r)`` with r times the samples, l the least that so
    many tell and c their deviation; solved for r.
    """
    least = NORMAL**2 / (2 * TOLD * count)
    squared = max(width**2 - 2 * width * least, 0.0)
    return count * (squared + 2 * wanted * least) / wanted**2


def drop_bound(found: Margins, others: Margins) -> Interval:
    """The share of right answers lost by a change of the model: estimate, and an upper bound.

    Parameters
    ----------
    found
        Margins on held-out samples in both models; an answer is right above 0.
    others
        Margins on any other samples, of which only those in the dense model count.

    Returns
    -------
    estimate
        Mean over all margins of how often they cross 0 when they move as those of their
        neighbours did, the held-out samples with the nearest margins.
    bound
        Upper end of a one-sided interval of confidence ``CONFIDENCE``, of Wilson's form with
        Student's quantile for so many held-out samples and the variance of that U-statistic
        (Hoeffding's projection on each sample; the answers of one sample are not independent).
        Without scores both are those of ``drop_interval``.
    """
    from scipy.special import stdtrit  # quantile of Student's distribution

    (before, after), more = found.arrays, others.arrays[0]
    n, rows = len(before), np.concatenate([before, more])
    if n == 0:
        return math.nan, math.inf
    if not found.scores:
        lost = int(np.count_nonzero((before > 0) & (after <= 0)))
        gained = int(np.count_nonzero((before <= 0) & (after > 0)))
        return (lost - gained) / n, drop_interval(lost, gained, n)[1]
    known = np.flatnonzero(np.isfinite(before))  # the others are wrong, whatever happens
    order = known[np.argsort(before[known], kind="stable")]
    ranked, moved = before[order], before[order] - after[order]
    width = min(len(order), max(NEIGHBOURS, len(order) // 4))
    by_row, by_move = np.zeros(len(rows)), np.zeros(len(order))
    ours = np.flatnonzero(np.isfinite(rows) & (width > 0))
    for at in range(0, len(ours), 4096):  # rows x width at once
        part = ours[at : at + 4096]
        start = np.searchsorted(ranked, rows[part]) - width // 2
        near = np.clip(start, 0, len(order) - width)[:, None] + np.arange(width)
        now = rows[part, None] - moved[near] > 0
        change = (rows[part, None] > 0).astype(np.float64) - now
        by_row[part] = change.mean(axis=1)
        np.add.at(by_move, near, change / width)
    estimate = float(by_row.mean())
    influence = (by_row - estimate) / len(rows)
    influence[order] += by_move / len(rows)
    influence[:n] -= estimate / n
    counts = np.array(found.counts + others.counts)
    samples = np.repeat(np.arange(len(counts)), counts)
    deviation = float(np.linalg.norm(np.bincount(samples, influence)))
    # Where no answer changes chance has no say; of few moves many samples learn no more.
    told = min(len(counts), TOLD * len(found.counts))
    least = NORMAL**2 / (2 * told)
    if len(found.counts) < 2:
        return estimate, 1.0  # one move tells nothing of others
    quantile = float(stdtrit(len(found.counts) - 1, CONFIDENCE))  # moves were told by so few
    return estimate, min(1.0, estimate + least + math.hypot(quantile * deviation, least))
