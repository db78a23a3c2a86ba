"""What a user may want of the whole network: an error, an accuracy, a size.

A goal says what its figure is to be at each sparsity, by the layers' curves, and measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput, NothingToDo
from nettrim_cli.evaluation.accuracy import NORMAL, TIE, Margins, drop_bound
from nettrim_cli.evaluation.comparison import ReferenceOutputs, own_answers, packed, stored_bytes
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.measure import BRIEF, latency_ratio
from nettrim_cli.latency.timing import Patience
from nettrim_cli.pruning.compression import Compression
from nettrim_cli.pruning.context import Context
from nettrim_cli.report.formatting import size

GRID = np.array([1 / (1 + math.exp(-odds)) for odds in np.linspace(-6.0, 5.0, 56)])
ALIKE, STEEPER = 0.005, 0.45  # drop from noise that is as measured; how much faster those grow
LEAST = 0.002  # zeros that hardly change a file's size
PREVIEWS, NEAR = 6, 0.005  # networks timed before any is fitted, and how near guesses may be
GLANCE = Patience(seconds=0.5, precision=0.02)
STEADIER = 0.6  # of the raw share's deviation: that of the bound on a drop


class Goal(Protocol):
    """A figure of the pruned network that has a limit.

    Attributes
    ----------
    falls
        Whether it falls as zeros grow in number.
    margin, tolerance, memory, unsure
        Of the search, see ``root_search.MonotoneSearch``.
    """

    falls: bool
    margin: float
    tolerance: float
    memory: float
    unsure: float

    def expected(self, compression: Compression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Some sparsities, ascending, and what the figure is to be at them."""

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """The figure, and an upper bound on it for new samples where there is one."""


@dataclass
class SearchContext:
    """What the goals know of a search.

    Attributes
    ----------
    limit
        Of the figure.
    samples
        Those to fit and to judge by.
    reference
        The dense network on the held-out samples.
    """

    context: Context
    limit: float
    samples: SampleSet
    reference: ReferenceOutputs

    def errors(self, compression: Compression) -> NDArray[np.float64]:
        """The network's error expected at each of GRID."""
        return np.array([compression.error(sparsity) for sparsity in GRID])


class ErrorGoal:
    """The largest relative error of an output."""

    falls, margin, tolerance, memory, unsure = False, 0.02, 0.06, math.inf, 0.25

    def __init__(self, search: SearchContext) -> None:
        self.search = search
        for name, why in search.reference.unmeasured.items():
            raise BadInput(
                f"--max-error cannot be kept: the error of output '{name}' cannot be measured, as "
                f"{why}."
            )

    def expected(self, compression: Compression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By the layers' own errors."""
        return GRID, self.search.errors(compression)

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """On the held-out samples."""
        return self.search.reference.compare(pruned).error, None


class DropGoal:
    """Accuracy lost, or without labels the share of changed answers."""

    falls, margin, tolerance, memory, unsure = False, 0.15, 0.3, 2.0, 0.25

    def __init__(self, search: SearchContext) -> None:
        self.search = search
        self.fitted_answers = own_answers(
            search.context.dense, search.samples.fit_batches, threads=search.context.threads
        )
        if not self.fitted_answers.answer_margins:
            raise BadInput("--max-drop needs an output with a score for each class.")

    def expected(self, compression: Compression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As if scores moved like noise of the error that the layers' own errors predict."""
        errors = self.search.errors(compression)
        holdout_samples = self.fitted_answers.samples * self.search.context.settings.holdout
        typical = self.fitted_answers.score_size
        drops = [
            max(
                _expected_drop(margins, error, typical, holdout_samples)
                for margins in self.fitted_answers.answer_margins.values()
            )
            for error in errors
        ]
        return GRID, ALIKE * (np.array(drops) / ALIKE) ** (1 + STEEPER)

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """On the held-out samples; the bound takes the margins of the fitted samples, too."""
        comparison = self.search.reference.compare(pruned)
        fitted = self.fitted_answers.answer_margins
        bounds = [
            drop_bound(margins, fitted.get(path, Margins()))[1]
            for path, margins in comparison.answer_margins.items()
        ]
        return comparison.drop, max(bounds)


class BytesGoal:
    """Bytes of the gzipped file, or of a compact one as it lies."""

    falls, margin, tolerance, memory, unsure = True, 0.005, 0.02, math.inf, 0.02

    def __init__(self, search: SearchContext) -> None:
        self.search = search
        dense = search.context.dense
        if _bytes(dense) <= search.limit:
            form = "compact" if dense.compact else "gzipped"
            raise NothingToDo(
                f"{dense.path}: the {form} file has at most {size(int(search.limit))} already."
            )

    def expected(self, compression: Compression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sizes of networks that are not refitted, at four shares."""
        sizes = {sparsity: self._size(compression, sparsity) for sparsity in (0.5, 0.95)}
        for _ in range(2):
            points = sorted(sizes.items())
            (low, low_bytes), (high, high_bytes) = points[0], points[-1]
            slope = (low_bytes - high_bytes) / (high - low)
            guess = low + (low_bytes - self.search.limit) / slope if slope > 0 else 0.99
            guess = min(max(guess, LEAST), 0.995)
            sizes.setdefault(guess, self._size(compression, guess))
        sizes.setdefault(LEAST, self._size(compression, LEAST))
        ordered = sorted(sizes)
        return np.array(ordered), np.array([sizes[sparsity] for sparsity in ordered])

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """Of the file as it will be written."""
        return _bytes(pruned), None

    def _size(self, compression: Compression, sparsity: float) -> float:
        return _bytes(compression.preview(sparsity))


class SpeedupGoal:
    """How many times as long the dense network takes for a call, on one thread.

    Its figure is the part of the dense network's time.
    """

    falls, margin, tolerance, memory, unsure = True, 0.03, 0.05, 3.0, 0.1

    def __init__(self, search: SearchContext) -> None:
        self.search = search
        self.batch = search.samples.call(search.context.settings.batch)

    def expected(self, compression: Compression) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of networks that are not refitted, which take as long."""
        low, high = compression.limits()
        figures = {low: 1.0}
        guess = 1 - self.search.limit
        for _ in range(PREVIEWS):
            guess = min(max(guess, low), high)
            if min(abs(guess - sparsity) for sparsity in figures) < NEAR:
                break
            figures[guess] = self._ratio(compression.preview(guess), GLANCE)
            slowest = sorted({**figures, 1.0: 0.0}.items(), reverse=True)
            guess = float(
                np.interp(self.search.limit, [y for _, y in slowest], [x for x, _ in slowest])
            )
        ordered = sorted(figures)
        return np.array(ordered), np.array([figures[sparsity] for sparsity in ordered])

    def measured(self, pruned: Model) -> tuple[float, float | None]:
        """Of both networks in turns."""
        return self._ratio(pruned), None

    def _ratio(self, small: Model, patience: Patience = BRIEF) -> float:
        (timing,) = latency_ratio([self.search.context.dense, small], [self.batch], 1, patience)
        return timing.ratios[0].median


GOALS: dict[str, Callable[[SearchContext], Goal]] = {
    "max_error": ErrorGoal,
    "max_drop": DropGoal,
    "max_bytes": BytesGoal,
    "speedup": SpeedupGoal,
}


def _bytes(model: Model) -> int:
    return stored_bytes(model) if model.compact else packed(model)


class NoisyAnswers(NamedTuple):
    """Answers whose scores have noise: the share that is lost, and that changes sides."""

    drop: float
    crossing: float


def noisy_answers(margins: Margins, error: float, typical: float) -> NoisyAnswers:
    """What becomes of answers where scores have noise of an error, relative to a typical score.

    Without scores the share of changed answers is guessed to be the error.
    """
    from scipy.special import ndtr  # the normal distribution

    scores = margins.arrays[0]
    scores = scores[np.isfinite(scores) & (scores != TIE)]  # of a constant output all are ties
    if not len(scores):
        return NoisyAnswers(0.0, 0.0)
    noise = max(math.sqrt(2) * error * typical, 1e-30)
    right = (scores > 0).astype(np.float64)
    changed = ndtr(scores / noise) if margins.scores else np.abs(right - min(error, 1))
    crossing = float(np.mean(np.abs(right - changed)))
    return NoisyAnswers(max(float(np.mean(right - changed)), 0.0), crossing)


def _expected_drop(margins: Margins, error: float, typical: float, holdout_samples: float) -> float:
    """The bound on a drop, on so many held-out samples, where scores have noise of that error."""
    drop, crossing = noisy_answers(margins, error, typical)
    return drop + NORMAL * STEADIER * math.sqrt(crossing / max(holdout_samples, 1))
