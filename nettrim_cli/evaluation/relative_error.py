"""A relative error on new samples, from those that it was measured on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.evaluation.accuracy import CONFIDENCE

Array = NDArray[Any]
LARGEST = 1e8  # times the measured ratio, above which there is no bound
STEPS = 40  # of bisection


@dataclass(frozen=True)
class RelativeError:
    """Root of the ratio of two means over samples: squared distances and squared norms.

    Its bounds are one-sided.  The samples refute an error L where the mean of
    ``squared_distances - L**2 squared_norms`` is not 0 (Fieller).  The test takes Student's
    quantile and corrects for the skewness of these differences (Hall, J. R. Stat. Soc. B 54, 1992).
    For the upper bound the worst sample counts twice, as few samples show too little of a long
    tail.  It is assumed that samples are independent and like the new ones, and that their third
    moments exist.  What happens on none of them, such as a rare object, is not predicted.

    Attributes
    ----------
    squared_distances, squared_norms
        Squared distance and squared norm of each sample, (N,).
    """

    squared_distances: Array
    squared_norms: Array

    @property
    def samples(self) -> int:
        """Number of samples, or of batches where no axis belongs to the samples."""
        return len(self.squared_distances)

    @property
    def estimate(self) -> float:
        """The error on these samples."""
        return math.sqrt(self._ratio)

    def upper(self, confidence: float = CONFIDENCE, samples: float | None = None) -> float:
        """Upper bound on the error on new samples.

        ``samples`` predicts the bound for another number of samples of the same kind.
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
        """Lower bound on the error on new samples."""
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
        distance, size = float(np.mean(self.squared_distances)), float(np.mean(self.squared_norms))
        if distance == 0:
            return 0.0
        return distance / size if size else math.inf

    def _end(self, ratio: float, confidence: float, samples: float | None) -> float:
        """Bound on the mean of ``squared_distances - ratio * squared_norms`` with a confidence."""
        from scipy.special import stdtrit  # quantile of Student's distribution

        count = self.samples if samples is None else samples
        if count < 2:
            return math.inf if confidence > 0.5 else -math.inf
        worst = self.samples / count if confidence > 0.5 else 0.0
        mean, deviation, skewness = self._moments(ratio, worst)
        if deviation == 0:
            return mean
        quantile = -float(stdtrit(count - 1, confidence)) / math.sqrt(count)
        if abs(skewness) > 1e-6:
            inner = 1 + skewness * (quantile - skewness / (6 * count))
            quantile = 3 * (math.copysign(abs(inner) ** (1 / 3), inner) - 1) / skewness
        return mean - deviation * quantile

    def _moments(self, ratio: float, worst: float) -> tuple[float, float, float]:
        """Mean, standard deviation and skewness of ``squared_distances - ratio * squared_norms``.

        ``worst`` is the weight of one more sample like the worst.
        """
        values = self.squared_distances - ratio * self.squared_norms
        values = np.append(values, values.max())
        weights = np.append(np.ones(self.samples), worst)
        total = self.samples + worst
        mean = float(weights @ values) / total
        differences = values - mean
        deviation = math.sqrt(float(weights @ differences**2) / (total - 1))
        if deviation <= 1e-12 * abs(mean):
            return mean, 0.0, 0.0
        return mean, deviation, float(weights @ (differences / deviation) ** 3) / total
