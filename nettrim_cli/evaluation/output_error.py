"""How far apart two models' outputs are, summed up batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.values import OutputPart
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import (
    NO_ANSWER,
    Drop,
    Interval,
    Margins,
    counted_drop,
    exact_interval,
    has_scores,
    is_answers,
    top1,
)
from nettrim_cli.evaluation.relative_error import RelativeError
from nettrim_cli.evaluation.value_sample import ValueSample
from nettrim_cli.report.comparison_result import OutputFacts

Array = NDArray[Any]


@dataclass
class OutputError:
    """Running sums for one output, or for one of the arrays that it holds.

    Attributes
    ----------
    squared_distances, squared_norms
        Squared distance between both models and squared norm of the reference, for each sample, or
        for each batch where no axis belongs to the samples.  For answers, how many differ and how
        many there are.
    agreements
        Number of equal top-1 answers.
    changed
        Whether each top-1 answer differs, batch by batch.
    fixed_axes
        Axes whose size the data may not decide; None for all of them.
    unmeasured
        The kind of value that cannot be measured.
    samples
        Number of samples.
    values
        Some numbers of both models.
    """

    squared_distances: list[Array] = field(default_factory=list)
    squared_norms: list[Array] = field(default_factory=list)
    agreements: int = 0
    margins: Margins = field(default_factory=lambda: Margins(from_reference=True))
    changed: list[Array] = field(default_factory=list)
    elements: int = 0
    answers: bool = False
    fixed_axes: frozenset[int] | None = None
    unmeasured: str = ""
    samples: int = 0
    values: ValueSample = field(default_factory=ValueSample)

    def observe(self, part: OutputPart) -> None:
        """Take note of an output's size or kind, without a candidate."""
        if part.array is None:
            self.unmeasured = part.kind
        else:
            self.elements += math.prod(part.array.shape)

    def add_parts(
        self, reference: OutputPart | None, candidate: OutputPart | None, count: int
    ) -> None:
        """Take in an output of both models on ``count`` samples; None where it is missing.

        Raises
        ------
        BadInput
            The outputs are maps with different keys, or arrays that ``add`` refuses.
        """
        self.samples += count
        reference_array: Any = None if reference is None else reference.array
        candidate_array: Any = None if candidate is None else candidate.array
        if reference_array is None and candidate_array is None:
            self.unmeasured = next(part.kind for part in (reference, candidate) if part is not None)
        elif reference_array is None:
            self._all_wrong(0.0, squared_size(candidate_array), None)
        elif candidate_array is None:
            self._all_wrong(
                squared_size(reference_array), squared_size(reference_array), reference_array
            )
        elif reference is not None and candidate is not None and reference.keys != candidate.keys:
            raise BadInput(
                f"one model's output has the keys {brief(reference.keys)}, the other's "
                f"{brief(candidate.keys)}: they do not answer the same question."
            )
        else:
            self.add(reference_array, candidate_array, count)

    def add(self, reference: Array, candidate: Array, count: int | None = None) -> None:
        """Take in both models' outputs (N, ...) on a batch.

        Parameters
        ----------
        reference, candidate
            Arrays with an axis for the samples, or without one.
        count
            Number of samples; None for an array that is a sample as a whole.

        Raises
        ------
        BadInput
            Only one of the outputs holds answers, or their shapes differ at a fixed axis.
        """
        if reference.size and candidate.size and is_answers(reference) != is_answers(candidate):
            raise BadInput(
                f"one model's output is {reference.dtype}, the other's {candidate.dtype}: they do "
                "not answer the same question."
            )
        if reference.shape != candidate.shape:
            self._add_other_shape(reference, candidate)
            return
        axis = sample_axis(reference.shape, count)
        units = 1 if axis is None else reference.shape[axis]
        if axis:
            reference, candidate = (
                np.moveaxis(output, axis, 0) for output in (reference, candidate)
            )
        self.elements += reference.size
        self.answers = self.answers or is_answers(reference)
        if is_answers(reference):
            self._add_units(reference != candidate, np.ones(reference.shape), units)
        else:
            self.values.add(reference, candidate)
            y, z = reference.astype(np.float64), candidate.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                # Masks hold equal infinities, and some models NaN, which would differ by NaN.
                same = (y == z) | (np.isnan(y) & np.isnan(z))
                squared_distance = np.square(np.where(same, 0.0, z - y))
                squared_norm = np.square(np.where(np.isfinite(y), y, 0.0))
            self._add_units(squared_distance, squared_norm, units)
        reference_answers, candidate_answers = top1(reference), top1(candidate)
        if reference_answers is not None and reference_answers.size:
            same = reference_answers == candidate_answers
            if has_scores(reference):
                same &= reference_answers != NO_ANSWER
            self.agreements += int(np.count_nonzero(same))
            self.changed.append(~same.reshape(-1))
            self.margins.add(reference, candidate, reference_answers, units)

    @property
    def total_distance(self) -> float:
        """Sum of all squared distances."""
        return float(sum(values.sum() for values in self.squared_distances))

    @property
    def total_norm(self) -> float:
        """Sum of all squared norms."""
        return float(sum(values.sum() for values in self.squared_norms))

    @property
    def why_unmeasured(self) -> str:
        """Why the error cannot be measured; empty where it can."""
        if not self.unmeasured and not self.elements:
            return "it is empty on all samples"
        return self.unmeasured and f"it holds {self.unmeasured}"

    @property
    def error(self) -> float:
        """||candidate - reference||_F / ||reference||_F; for answers the share that differs."""
        if self.total_distance == 0:
            return 0.0
        if not self.total_norm:
            return math.inf
        share = self.total_distance / self.total_norm
        return share if self.answers else math.sqrt(share)

    @property
    def spread(self) -> Drop | RelativeError | None:
        """Estimator of the error on new samples; None without samples."""
        if not self.squared_distances:
            return None
        if self.answers and self.changed:
            return counted_drop(self.margins)
        return RelativeError(
            np.concatenate(self.squared_distances), np.concatenate(self.squared_norms)
        )

    @property
    def sample_errors(self) -> Array:
        """(N,) error of each sample, relative to its own size; empty where no axis is theirs."""
        if not self.squared_distances:
            return np.empty(0)
        distances = np.concatenate(self.squared_distances)
        if len(distances) != self.samples:
            return np.empty(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = distances / np.concatenate(self.squared_norms)
        shares = np.where(distances == 0, 0.0, shares)
        return shares if self.answers else np.sqrt(shares)

    @property
    def changed_share(self) -> float:
        """Share of top-1 answers that differ."""
        return float(np.mean(np.concatenate(self.changed)))

    def _add_units(self, squared_distances: Array, squared_norms: Array, units: int) -> None:
        for collected, values in (
            (self.squared_distances, squared_distances),
            (self.squared_norms, squared_norms),
        ):
            collected.append(values.reshape(units, -1).sum(axis=1, dtype=np.float64))

    def _add_other_shape(self, reference: Array, candidate: Array) -> None:
        """Take in arrays whose shape the data decide, as the number of objects: all is wrong."""
        axes = enumerate(zip(reference.shape, candidate.shape, strict=False))
        differing = {axis for axis, sizes in axes if len(set(sizes)) > 1}
        if (
            reference.ndim != candidate.ndim
            or self.fixed_axes is None
            or differing & self.fixed_axes
        ):
            raise BadInput(
                f"the models' outputs differ in shape, {reference.shape} and {candidate.shape}: "
                "they do not answer the same question."
            )
        norm = squared_size(reference)
        self._all_wrong(norm, max(norm, squared_size(candidate)), reference)

    def _all_wrong(
        self, squared_norm: float, squared_distance: float, reference: Array | None
    ) -> None:
        self.squared_distances.append(np.array([squared_distance]))
        self.squared_norms.append(np.array([squared_norm]))
        self.elements += 1
        answers = None if reference is None else top1(reference)
        if reference is not None and answers is not None:
            self.answers = self.answers or is_answers(reference)
            self.changed.append(np.ones(answers.size, bool))
            self.margins.add(reference, None, answers, 1)

    def facts(self, name: str) -> OutputFacts:
        """The figures of the output for a report."""
        if self.why_unmeasured:
            return OutputFacts(name, None, unmeasured=self.why_unmeasured)
        if not self.changed:
            return OutputFacts(name, self.error)
        changed = np.concatenate(self.changed)
        reference_margins = self.margins.arrays[0]
        changed_margins = reference_margins[changed & np.isfinite(reference_margins)]
        return OutputFacts(
            name,
            self.error,
            self.agreements / len(changed),
            interval(self.agreements, self.margins),
            None if self.answers else median(reference_margins[np.isfinite(reference_margins)]),
            None if self.answers else median(changed_margins),
            answers=self.answers,
        )


def sample_axis(shape: tuple[int, ...], count: int | None) -> int | None:
    """First axis of an output with ``count`` entries, one for each sample; None without one.

    The last of several axes holds scores or features, and is left out.
    """
    axes = shape if len(shape) == 1 else shape[:-1]
    return next((axis for axis, size in enumerate(axes) if size == count and size), None)


def interval(right: int, margins: Margins) -> Interval | None:
    """Exact interval of the share of right answers; None where a sample has several answers."""
    independent = all(count == 1 for count in margins.counts)
    return exact_interval(right, len(margins.counts)) if independent else None


def median(values: Array) -> float | None:
    """Median of values (N,); None without values."""
    return float(np.median(values)) if len(values) else None


def squared_size(values: Array) -> float:
    """Squared Frobenius norm of the finite numbers; for answers their count."""
    if is_answers(values):
        return float(values.size)
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.square(exact[np.isfinite(exact)]).sum())


def brief(keys: tuple[Any, ...] | None) -> str:
    """The first keys of a map, for a message."""
    if keys is None:
        return "of no map"
    return ", ".join(map(repr, keys[:4])) + (", ..." if len(keys) > 4 else "")
