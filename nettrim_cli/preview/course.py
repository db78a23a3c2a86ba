"""How error and answers of a network go with its sparsity: from its layers, and networks measured.

The layers' own errors give the shape of the course.  Each measured network says how far that is
off at its sparsity; in between the logarithm of the ratio is interpolated.  Answers change as the
margins of a measured network moved, by as much more or less as its error is another.  So do those
of the samples that were fitted to, whose margins moved less: by as much as their error is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.evaluation.accuracy import Margins, drop_bound
from nettrim_cli.evaluation.comparison import OutputComparison
from nettrim_cli.pruning.goals import noisy_answers
from nettrim_cli.pruning.root_search import log_odds

MOST_ANSWERS = 4_000  # that tell a bound
LEAST = 1e-9  # an error, below which errors are alike

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network that was pruned and measured.

    Attributes
    ----------
    expected
        Its error by the layers' own.
    answers, fitted
        Its outputs beside the dense ones, on the held-out samples and on those fitted to.
    """

    sparsity: float
    expected: float
    answers: OutputComparison
    fitted: OutputComparison

    @property
    def ratio(self) -> float:
        """The measured error relative to the expected one."""
        return max(self.answers.error, LEAST) / max(self.expected, LEAST)


@dataclass
class Course:
    """Error and drop at any sparsity.

    Attributes
    ----------
    layers_error
        The network's error at a sparsity by its layers' own.
    fitted
        The dense network's own answers on the samples that are fitted to.
    measured
        Networks, by sparsity.
    """

    layers_error: Callable[[float], float]
    fitted: OutputComparison
    measured: list[MeasuredNetwork] = field(default_factory=list)

    def add(self, sparsity: float, answers: OutputComparison, fitted: OutputComparison) -> None:
        """Take in a network that was measured on held-out samples, and on those fitted to."""
        expected = self.layers_error(sparsity)
        self.measured.append(MeasuredNetwork(sparsity, expected, answers, fitted))
        self.measured.sort(key=lambda network: network.sparsity)

    def error(self, sparsity: float) -> float:
        """The largest relative error of an output."""
        ratio = 1.0
        if self.measured:
            ratios = [math.log(network.ratio) for network in self.measured]
            places = [log_odds(network.sparsity) for network in self.measured]
            ratio = math.exp(float(np.interp(log_odds(sparsity), places, ratios)))
        return self.layers_error(sparsity) * ratio

    def drop(self, sparsity: float) -> float | None:
        """Estimate of the drop on new samples, told by all samples; None where there are none."""
        if not self.fitted.answer_margins:
            return None
        error = self.error(sparsity)
        if not self.measured:
            size = self.fitted.score_size
            margins = self.fitted.answer_margins.values()
            return max(noisy_answers(each, error, size).drop for each in margins)
        return self._between(sparsity, [_drop(network, error) for network in self.measured])

    def drop_bound(self, sparsity: float) -> float | None:
        """Upper bound on it by the held-out samples; None where no network was measured."""
        if not self.fitted.answer_margins or not self.measured:
            return None
        error = self.error(sparsity)
        bound = self._between(sparsity, [_bound(network, error) for network in self.measured])
        return max(bound, self.drop(sparsity) or 0.0)

    def _between(self, sparsity: float, values: Sequence[float]) -> float:
        """A value between those of the measured networks."""
        places = [log_odds(network.sparsity) for network in self.measured]
        return float(np.interp(log_odds(sparsity), places, values))


def _drop(network: MeasuredNetwork, error: float) -> float:
    """The drop of a network whose margins moved as far as errors differ, by all samples."""
    margins = [
        (
            moved(held, error / max(network.answers.error, LEAST)),
            moved(
                network.fitted.answer_margins.get(path, Margins()),
                error / max(network.fitted.error, LEAST),
            ),
        )
        for path, held in network.answers.answer_margins.items()
    ]
    return max(lost(*pair) for pair in margins)


def _bound(network: MeasuredNetwork, error: float) -> float:
    """The bound on that drop."""
    ratio = error / max(network.answers.error, LEAST)
    bounds = []
    for path, held in network.answers.answer_margins.items():
        fitted = network.fitted.answer_margins.get(path, Margins())
        _, bound = drop_bound(thinned(moved(held, ratio)), thinned(fitted))
        bounds.append(bound)
    return max(bounds)


def lost(*margins: Margins) -> float:
    """Share of all answers that the candidate loses, those that it gains taken off."""
    reference, candidate = (
        np.concatenate(arrays) for arrays in zip(*(each.arrays for each in margins), strict=True)
    )
    return float(np.mean((reference > 0).astype(np.float64) - (candidate > 0)))


def moved(margins: Margins, ratio: float) -> Margins:
    """Margins whose candidate moved so many times as far from the reference.

    Answers without scores move or stay: so many times as many have moved, the first ones.
    """
    reference, candidate = margins.arrays
    if margins.scores:
        with np.errstate(invalid="ignore"):  # an infinite margin stays
            step = np.where(np.isfinite(reference), ratio * (candidate - reference), 0.0)
        candidate = reference + step
    elif ratio != 1:
        changed = np.flatnonzero(reference != candidate)
        candidate = reference.copy()
        candidate[_spread(changed, round(ratio * len(changed)), len(reference))] *= -1
    return Margins([reference], [candidate], margins.counts, margins.scores, margins.from_reference)


def _spread(changed: Indices, count: int, answers: int) -> Indices:
    """(P,) so many of the answers: the changed ones first, then others in their order."""
    unchanged = np.setdiff1d(np.arange(answers), changed)
    return np.concatenate([changed, unchanged])[: max(0, count)]


def thinned(margins: Margins) -> Margins:
    """Margins of fewer samples, evenly spaced, where there are very many answers."""
    step = -(-sum(margins.counts) // MOST_ANSWERS)
    if step <= 1:
        return margins
    owners = np.repeat(np.arange(len(margins.counts)), margins.counts)
    stays = owners % step == 0
    reference, candidate = (values[stays] for values in margins.arrays)
    counts = margins.counts[::step]
    return Margins([reference], [candidate], counts, margins.scores, margins.from_reference)
