"""A relative error on new samples, from those that it was measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.evaluation.accuracy import CONFIDENCE

Array = NDArray[Any]
LARGEST = 1e8  # times the measured one, above which no bound is told
STEPS = 40  # of bisection


@dataclass(frozen=True)
class RelativeError:
    """Root of a ratio of two means: of what has moved and of what there is, sample by sample.

    Its bounds are one-sided.  An error L is refuted by the samples where the mean of
    ``moved - L**2 sizes`` is not 0 (Fieller), by Student's quantile and with the skewness of these
    differences taken out (Hall, J. R. Stat. Soc. B 54, 1992); for the upper bound the worst sample
    counts twice, as few samples show too little of a long tail.  Assumed is that samples are
    independent and like the new ones, and that their third moments exist; what happens on none of
    them, such as a rare object, is not foretold.

    Attributes
    ----------
    moved, sizes
        Squared distance and squared size of each sample, of shape (samples,).
    """

    moved: Array
    sizes: Array

    @property
    def samples(self) -> int:
        """Number of samples, or of batches where no axis is that of the samples."""
        return len(self.moved)

    @property
    def estimate(self) -> float:
        """The error on these samples."""
        return math.sqrt(self._ratio)

    def upper(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """The error on new samples is at most this.

        ``samples`` foretells the bound for another number of samples of the same kind.
        """
        ratio = self._ratio
        if ratio == 0 or not math.isfinite(ratio):
            return 0.0 if ratio == 0 and self.samples else math.inf
        low, high = 0.0, math.log(LARGEST)
        if self._end(ratio * LARGEST, confidence, samples) > 0:
            return math.inf
        for _ in range(STEPS):
            middle = (low + high) / 2
            inside = self._end(ratio * math.exp(middle), confidence, samples) > 0
            low, high = (middle, high) if inside else (low, middle)
        return math.sqrt(ratio * math.exp(high))

    def lower(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """The error on new samples is at least this."""
        ratio = self._ratio
        if ratio == 0 or not math.isfinite(ratio):
            return 0.0 if ratio == 0 else math.inf
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            inside = self._end(ratio * middle, 1 - confidence, samples) < 0
            low, high = (low, middle) if inside else (middle, high)
        return math.sqrt(ratio * low)

    @property
    def _ratio(self) -> float:
        moved, size = float(np.mean(self.moved)), float(np.mean(self.sizes))
        if moved == 0:
            return 0.0
        return moved / size if size else math.inf

    def _end(self, ratio: float, confidence: float, samples: float | None) -> float:
        """The bound of that confidence on the mean of ``moved - ratio * sizes``."""
        from scipy.special import stdtrit  # quantile of Student's distribution

        count = self.samples if samples is None else samples
        if count < 2:
            return math.inf if confidence > 0.5 else -math.inf
        worst = self.samples / count if confidence > 0.5 else 0.0
        mean, deviation, skewness = self._moments(ratio, worst)
        if deviation == 0:
            return mean
        at = -float(stdtrit(count - 1, confidence)) / math.sqrt(count)
        if abs(skewness) > 1e-6:
            inner = 1 + skewness * (at - skewness / (6 * count))
            at = 3 * (math.copysign(abs(inner) ** (1 / 3), inner) - 1) / skewness
        return mean - deviation * at

    def _moments(self, ratio: float, worst: float) -> tuple[float, float, float]:
        """Mean, standard deviation and skewness of what samples say against a ratio.

        ``worst`` is the weight of one more sample like the worst.
        """
        values = self.moved - ratio * self.sizes
        values = np.append(values, values.max())
        weights = np.append(np.ones(self.samples), worst)
        whole = self.samples + worst
        mean = float(weights @ values) / whole
        apart = values - mean
        deviation = math.sqrt(float(weights @ apart**2) / (whole - 1))
        if deviation <= 1e-12 * abs(mean):
            return mean, 0.0, 0.0
        return mean, deviation, float(weights @ (apart / deviation) ** 3) / whole
