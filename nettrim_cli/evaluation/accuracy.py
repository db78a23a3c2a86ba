"""Answers of classifiers, their margins, and what a few samples say of all samples.

Exact intervals are for shares of independent answers.  The bound on a drop is sharper.  Whether
an answer changes depends on its margin and on how far the margin moves.  The margin is known for
every sample, the moves for the held-out samples, so each move is also tried on other margins.
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
TIE = float(np.finfo(np.float64).tiny)  # margin of an answer whose score another class has, too
MOST_EXTRA = 5  # times the held-out samples, beyond which extra samples tell nothing new
NEIGHBOURS = 50  # samples of nearly the same margin whose moves are tried, or a fourth of all


def is_answers(output: Array) -> bool:
    """Whether an output's elements are answers: strings, truths, or numbers of classes and tokens.

    Integers of 8 and 16 bits are quantities, as quantised models deliver them.
    """
    kind = output.dtype
    return kind.kind in "OSUb" or (kind.kind in "iu" and kind.itemsize >= 4)


def top1(output: Array) -> Any:
    """Top-1 answers of a batch, or None where the output holds no answers.

    Scores have the shape (N, classes) or (N, positions, classes).  Each element of an output that
    holds answers already is one, and (N, 1) counts as (N,).  Scores with a NaN have ``NO_ANSWER``,
    which is never right.
    """
    if is_answers(output):
        return output.reshape(-1) if output.ndim == 0 or output.shape[1:] == (1,) else output
    if not has_scores(output):
        return None
    answers = output.argmax(axis=-1)
    if np.issubdtype(output.dtype, np.inexact):
        answers[np.isnan(output).any(axis=-1)] = NO_ANSWER
    return answers


def has_scores(output: Array) -> bool:
    """Whether an output has a score for each of several classes, last axis."""
    return output.ndim in (2, 3) and output.shape[-1] >= 2 and not is_answers(output)


def margins(output: Array, classes: Array) -> Array:
    """Score of a class less the best score of the other classes, float64, in ``classes``' shape.

    Scores are (N, C) with classes (N,), or (N, positions, C) with classes (N, positions).  The
    margin is minus infinity where the class does not exist or the scores are no numbers: such an
    answer is wrong, whatever happens.  Where several classes have the best score the first is the
    answer, by the least margin there is.
    """
    scores = output.astype(np.float64)
    valid = (classes >= 0) & (classes < scores.shape[-1]) & ~np.isnan(scores).any(axis=-1)
    index = np.where(valid, classes, 0)[..., None]
    score = np.take_along_axis(scores, index, axis=-1)[..., 0]
    np.put_along_axis(scores, index, -np.inf, axis=-1)
    with np.errstate(invalid="ignore"):
        margin = score - scores.max(axis=-1)
    margin[(margin == 0) & (output.argmax(axis=-1) == classes)] = TIE
    return np.where(valid & ~np.isnan(margin), margin, -np.inf)


@dataclass
class Margins:
    """Margins of the same answers in the reference and in the candidate, sample by sample.

    An answer is right where its margin is above 0.  Outputs that are no scores have the margins
    1 and -1.

    Attributes
    ----------
    reference, candidate
        Margins in both models, batch by batch, one-dimensional.
    counts
        Number of answers of each sample.
    from_reference
        Whether the right answers are the reference's own, so that none can become right.
    """

    reference: list[Array] = field(default_factory=list)
    candidate: list[Array] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    scores: bool = True
    from_reference: bool = False

    def add(
        self, reference: Array, candidate: Array | None, answers: Array, samples: int | None = None
    ) -> None:
        """Take in both models' outputs on a batch.

        Parameters
        ----------
        reference, candidate
            Outputs (N, ...); without a candidate's output all of its answers are wrong.
        answers
            The right answers, (N,) or (N, positions).
        samples
            Number of samples that the answers belong to; by default the first axis' size.
        """
        for collected, output in ((self.reference, reference), (self.candidate, candidate)):
            if output is None:
                margin = np.full(answers.shape, -np.inf)
            elif has_scores(output):
                margin = margins(output, answers)
            else:
                self.scores = False
                margin = np.where(top1(output) == answers, 1.0, -1.0)
            collected.append(margin.reshape(-1))
        samples = len(answers) if samples is None else samples
        self.counts += [answers.size // max(1, samples)] * samples

    @property
    def arrays(self) -> tuple[Array, Array]:
        """Margins of the reference and of the candidate, all batches in one array each."""
        if not self.reference:
            return np.empty(0), np.empty(0)
        return np.concatenate(self.reference), np.concatenate(self.candidate)


def exact_interval(right: float, count: float, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's interval for the share of right answers, of ``count`` independent ones.

    It holds with at least this confidence, whatever the share is (Biometrika 26, 1934).
    """
    from scipy.special import betaincinv  # quantile of the beta distribution

    tail = (1 - confidence) / 2
    low = float(betaincinv(right, count - right + 1, tail)) if right else 0.0
    high = float(betaincinv(right + 1, count - right, 1 - tail)) if right < count else 1.0
    return low, high


def drop_interval(lost: int, gained: int, count: int) -> Interval:
    """An interval for the accuracy lost, from the numbers of answers that became wrong and right.

    Both shares have exact intervals with half the error probability each, so that together they
    hold at least as often as ``CONFIDENCE`` says (Bonferroni).
    """
    confidence = (1 + CONFIDENCE) / 2
    worse, better = (
        exact_interval(lost, count, confidence),
        exact_interval(gained, count, confidence),
    )
    return worse[0] - better[1], worse[1] - better[0]


def samples_for(width: float, precision: float, count: int) -> float:
    """About how many held-out samples bring a bound within ``precision`` of the measured drop.

    Parameters
    ----------
    width
        By how much the bound of ``drop_bound`` exceeds the drop with ``count`` samples.

    Notes
    -----
    With r times the samples the width is ``l / r + hypot(c / sqrt(r), l / r)``, where l is the
    least width that ``count`` samples allow and c their deviation; this is solved for r.
    """
    least = NORMAL**2 / (2 * MOST_EXTRA * count)
    squared = max(width**2 - 2 * width * least, 0.0)
    return count * (squared + 2 * precision * least) / precision**2


@dataclass(frozen=True)
class Drop:
    """Estimate of the share of right answers that a change of the model loses.

    Attributes
    ----------
    estimate
        Estimate of the share on new samples.
    deviation
        Standard deviation of the estimate.
    samples
        Number of samples that both models ran on.
    effective_samples
        Number of samples whose worth is known of how seldom answers change.
    lost, gained
        Numbers of answers, where each is a sample of its own and no margin is known: their bounds
        are exact.  ``lost`` is None where margins are known or a sample has several answers,
        ``gained`` where no answer can become right.
    """

    estimate: float
    deviation: float
    samples: int
    effective_samples: float
    lost: int | None = None
    gained: int | None = 0

    def upper(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """An upper bound on the share lost on new samples, one-sided.

        ``samples`` predicts it for another number of samples of the same kind.  The bound has
        Wilson's form with Student's quantile.  Where answers are counted it comes from Clopper and
        Pearson's bounds on the shares lost and gained, with half the error probability each.
        """
        if self.lost is not None:
            (_, losses), (gains, _) = self._counted(confidence, samples)
            return losses - gains
        centre, width = self._wilson(confidence, samples)
        return min(1.0, centre + width)

    def lower(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """A lower bound on the share lost on new samples, the mirror image of ``upper``."""
        if self.lost is not None:
            (losses, _), (_, gains) = self._counted(confidence, samples)
            return losses - gains
        centre, width = self._wilson(confidence, samples)
        return max(-1.0, 2 * self.estimate - centre - width)

    def _counted(self, confidence: float, samples: float | None) -> tuple[Interval, Interval]:
        """Intervals of the shares lost and gained."""
        count = self.samples if samples is None else samples
        losses, gains = (
            (number or 0) * count / self.samples for number in (self.lost, self.gained)
        )
        if self.gained is None:
            return exact_interval(losses, count, 2 * confidence - 1), (0.0, 0.0)
        return exact_interval(losses, count, confidence), exact_interval(gains, count, confidence)

    def _wilson(self, confidence: float, samples: float | None) -> Interval:
        """Centre and half width of Wilson's interval."""
        from scipy.special import ndtri, stdtrit  # quantiles, normal and of Student

        count = self.samples if samples is None else samples
        if count < 2:
            return self.estimate, math.inf  # one move says nothing about another
        ratio = count / self.samples
        # Where no answer changes the deviation is 0, but few moves still leave so much open.
        least = float(ndtri(confidence)) ** 2 / (2 * self.effective_samples * ratio)
        quantile = float(stdtrit(count - 1, confidence))  # so few samples told the moves
        return self.estimate + least, math.hypot(quantile * self.deviation / ratio**0.5, least)


def measured_drop(holdout: Margins, extra: Margins) -> Drop | None:
    """Estimate the share of right answers lost; None without answers.

    Parameters
    ----------
    holdout
        Margins on held-out samples in both models; an answer is right above 0.
    extra
        Margins on any other samples, of which only those in the reference count.

    Returns
    -------
    Drop
        Every margin moves as the margins of its neighbours did: the held-out samples with the
        nearest margins.  The estimate is the mean over all margins of how often they cross 0.
        The deviation is that of this U-statistic (Hoeffding's projection on each sample, as the
        answers of one sample are not independent).  Without scores answers are counted.
    """
    (reference, candidate), extra_margins = holdout.arrays, extra.arrays[0]
    n, all_margins = len(reference), np.concatenate([reference, extra_margins])
    if n == 0:
        return None
    if not holdout.scores:
        return counted_drop(holdout, exact=True)
    finite = np.flatnonzero(np.isfinite(reference))  # an infinite margin stays wrong
    order = finite[np.argsort(reference[finite], kind="stable")]
    sorted_margins, moves = reference[order], reference[order] - candidate[order]
    width = min(len(order), max(NEIGHBOURS, len(order) // 4))
    by_row, by_move = np.zeros(len(all_margins)), np.zeros(len(order))
    usable = np.flatnonzero(np.isfinite(all_margins) & (width > 0))
    for first in range(0, len(usable), 4096):  # rows x width at once
        chunk = usable[first : first + 4096]
        start = np.searchsorted(sorted_margins, all_margins[chunk]) - width // 2
        neighbours = np.clip(start, 0, len(order) - width)[:, None] + np.arange(width)
        remains_right = all_margins[chunk, None] - moves[neighbours] > 0
        change = (all_margins[chunk, None] > 0).astype(np.float64) - remains_right
        by_row[chunk] = change.mean(axis=1)
        np.add.at(by_move, neighbours, change / width)
    estimate = float(by_row.mean())
    influence = (by_row - estimate) / len(all_margins)
    influence[order] += by_move / len(all_margins)
    influence[:n] -= estimate / n
    counts = np.array(holdout.counts + extra.counts)
    samples = np.repeat(np.arange(len(counts)), counts)
    deviation = float(np.linalg.norm(np.bincount(samples, influence)))
    effective_samples = min(len(counts), MOST_EXTRA * len(holdout.counts))
    return Drop(estimate, deviation, len(holdout.counts), effective_samples)


def counted_drop(margins: Margins, *, exact: bool = False) -> Drop:
    """Estimate the drop from right and wrong answers alone: the estimate is the drop as counted.

    The bounds are exact where no answer can become right.  Elsewhere they are so only with
    ``exact``, as the bounds of two separate shares are wide.
    """
    reference, candidate = (values > 0 for values in margins.arrays)
    lost, gained = reference & ~candidate, ~reference & candidate
    moves = lost.astype(np.float64) - gained
    estimate, counts = float(moves.mean()), margins.counts
    if (exact or margins.from_reference) and all(count == 1 for count in counts):
        losses = int(np.count_nonzero(lost))
        gains = None if margins.from_reference else int(np.count_nonzero(gained))
        return Drop(estimate, 0.0, len(counts), len(counts), losses, gains)
    samples = np.repeat(np.arange(len(counts)), counts)
    deviation = float(np.linalg.norm(np.bincount(samples, (moves - estimate) / len(moves))))
    return Drop(estimate, deviation, len(counts), len(counts))


def drop_bound(holdout: Margins, extra: Margins) -> Interval:
    """Estimate of the drop and its upper bound with ``CONFIDENCE``, see ``measured_drop``."""
    drop = measured_drop(holdout, extra)
    return (math.nan, math.inf) if drop is None else (drop.estimate, drop.upper())
