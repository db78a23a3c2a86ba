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
NORMAL = 1.6448536269514722  # quantile of the normal distribution for a bound with that confidence
TIE = float(np.finfo(np.float64).tiny)  # margin of an answer that others equal
TOLD = 5  # times the held-out samples, beyond which others tell nothing new
NEIGHBOURS = 50  # samples of nearly the same margin whose moves are tried, or a fourth of all


def is_answers(output: Array) -> bool:
    """Whether an output's elements are answers: strings, truths, or numbers of classes and tokens.

    Integers of 8 and 16 bits are quantities, as quantised models deliver them.
    """
    kind = output.dtype
    return kind.kind in "OSUb" or (kind.kind in "iu" and kind.itemsize >= 4)


def top1(output: Array) -> Any:
    """Top-1 answers of a batch, or None where the output holds no answers.

    Scores are (batch, classes) or (batch, positions, classes); of outputs that are answers
    already each element is one, and (batch, 1) counts as (batch,).  Scores with a NaN have
    ``NO_ANSWER``, which is never right.
    """
    if is_answers(output):
        return output.reshape(-1) if output.ndim == 0 or output.shape[1:] == (1,) else output
    if not has_scores(output):
        return None
    found = output.argmax(axis=-1)
    if np.issubdtype(output.dtype, np.inexact):
        found[np.isnan(output).any(axis=-1)] = NO_ANSWER
    return found


def has_scores(output: Array) -> bool:
    """Whether an output has a score for each of several classes, last axis."""
    return output.ndim in (2, 3) and output.shape[-1] >= 2 and not is_answers(output)


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

    Attributes
    ----------
    own
        Whether the answers wanted are the reference's, so that none can become right.
    """

    before: list[Array] = field(default_factory=list)
    after: list[Array] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)  # of each sample's answers
    scores: bool = True
    own: bool = False

    def add(
        self, expected: Array, found: Array | None, wanted: Array, samples: int | None = None
    ) -> None:
        """Take in a batch's outputs and the answers wanted; of None all answers are wrong.

        They are of so many samples, by default of as many as there are on the first axis.
        """
        for into, output in ((self.before, expected), (self.after, found)):
            if output is None:
                each = np.full(wanted.shape, -np.inf)
            elif has_scores(output):
                each = margins(output, wanted)
            else:
                self.scores = False
                each = np.where(top1(output) == wanted, 1.0, -1.0)
            into.append(each.reshape(-1))
        samples = len(wanted) if samples is None else samples
        self.counts += [wanted.size // max(1, samples)] * samples

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Both, put together."""
        if not self.before:
            return np.empty(0), np.empty(0)
        return np.concatenate(self.before), np.concatenate(self.after)


def exact_interval(right: float, count: float, confidence: float = CONFIDENCE) -> Interval:
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


@dataclass(frozen=True)
class Drop:
    """What samples tell of the share of right answers lost by a change of the model.

    Attributes
    ----------
    estimate
        Of the share on new samples.
    deviation
        Standard deviation of the estimate.
    samples
        Those that both models ran on.
    told
        How many samples' worth is known of how seldom answers change.
    lost, gained
        Answers of which each is a sample of its own and nothing more is known: their bounds are
        exact.  ``lost`` is None where margins or several answers of a sample are, ``gained`` where
        none can be.
    """

    estimate: float
    deviation: float
    samples: int
    told: float
    lost: int | None = None
    gained: int | None = 0

    def upper(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """A one-sided bound on the share lost on new samples.

        ``samples`` foretells it for another number of samples of the same kind.  Wilson's form
        with Student's quantile; where answers are counted, Clopper's and Pearson's bounds on the
        shares lost and gained, with half the error probability each.
        """
        if self.lost is not None:
            (_, lost), (gained, _) = self._counted(confidence, samples)
            return lost - gained
        centre, width = self._wilson(confidence, samples)
        return min(1.0, centre + width)

    def lower(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """The same from below, mirrored."""
        if self.lost is not None:
            (lost, _), (_, gained) = self._counted(confidence, samples)
            return lost - gained
        centre, width = self._wilson(confidence, samples)
        return max(-1.0, 2 * self.estimate - centre - width)

    def _counted(self, confidence: float, samples: float | None) -> tuple[Interval, Interval]:
        """Shares lost and gained."""
        count = self.samples if samples is None else samples
        lost, gained = ((each or 0) * count / self.samples for each in (self.lost, self.gained))
        if self.gained is None:
            return exact_interval(lost, count, 2 * confidence - 1), (0.0, 0.0)
        return exact_interval(lost, count, confidence), exact_interval(gained, count, confidence)

    def _wilson(self, confidence: float, samples: float | None) -> Interval:
        """Centre and half the width."""
        from scipy.special import ndtri, stdtrit  # quantiles, normal and of Student

        count = self.samples if samples is None else samples
        if count < 2:
            return self.estimate, math.inf  # one move tells nothing of others
        more = count / self.samples
        # Where no answer changes chance has no say; of few moves many samples learn no more.
        least = float(ndtri(confidence)) ** 2 / (2 * self.told * more)
        quantile = float(stdtrit(count - 1, confidence))  # moves were told by so few
        return self.estimate + least, math.hypot(quantile * self.deviation / more**0.5, least)


def measured_drop(found: Margins, others: Margins) -> Drop | None:
    """What is known of the share of right answers lost; None without answers.

    Parameters
    ----------
    found
        Margins on held-out samples in both models; an answer is right above 0.
    others
        Margins on any other samples, of which only those in the dense model count.

    Returns
    -------
    Drop
        Its estimate is the mean over all margins of how often they cross 0 when they move as
        those of their neighbours did, the held-out samples with the nearest margins; its
        deviation that of this U-statistic (Hoeffding's projection on each sample; the answers of
        one sample are not independent).  Without scores it is of what was counted.
    """
    (before, after), more = found.arrays, others.arrays[0]
    n, rows = len(before), np.concatenate([before, more])
    if n == 0:
        return None
    if not found.scores:
        return counted_drop(found, exact=True)
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
    told = min(len(counts), TOLD * len(found.counts))
    return Drop(estimate, deviation, len(found.counts), told)


def counted_drop(found: Margins, *, exact: bool = False) -> Drop:
    """What right and wrong answers alone tell: its estimate is the drop as counted.

    Where no answer can become right its bounds are exact, else only if that is asked for: those
    of the two shares apart are wide.
    """
    before, after = (each > 0 for each in found.arrays)
    lost, gained = before & ~after, ~before & after
    moves = lost.astype(np.float64) - gained
    estimate, counts = float(moves.mean()), found.counts
    if (exact or found.own) and all(each == 1 for each in counts):
        losses = int(np.count_nonzero(lost))
        gains = None if found.own else int(np.count_nonzero(gained))
        return Drop(estimate, 0.0, len(counts), len(counts), losses, gains)
    samples = np.repeat(np.arange(len(counts)), counts)
    deviation = float(np.linalg.norm(np.bincount(samples, (moves - estimate) / len(moves))))
    return Drop(estimate, deviation, len(counts), len(counts))


def drop_bound(found: Margins, others: Margins) -> Interval:
    """Estimate of the drop and the upper bound on it with ``CONFIDENCE``, see ``measured_drop``."""
    drop = measured_drop(found, others)
    return (math.nan, math.inf) if drop is None else (drop.estimate, drop.upper())
