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
from nettrim_cli.report.result import OutputFacts

Array = NDArray[Any]


@dataclass
class OutputError:
    """Running sums for one output, or for one of the arrays that it holds.

    Attributes
    ----------
    moved, sizes
        Squared distance and squared size of each sample, or of each batch where no axis is that
        of the samples.  Of answers, how many differ and how many there are.
    fixed
        Axes whose size the data may not decide; None for all of them.
    unmeasured
        What there is that cannot be measured.
    """

    moved: list[Array] = field(default_factory=list)
    sizes: list[Array] = field(default_factory=list)
    agreed: int = 0
    margins: Margins = field(default_factory=lambda: Margins(from_reference=True))
    changed: list[Array] = field(default_factory=list)
    elements: int = 0
    answers: bool = False
    fixed: frozenset[int] | None = None
    unmeasured: str = ""

    def see(self, part: OutputPart) -> None:
        """Take note of what there is, without anything to hold it against."""
        if part.array is None:
            self.unmeasured = part.kind
        else:
            self.elements += math.prod(part.array.shape)

    def take(self, expected: OutputPart | None, found: OutputPart | None, count: int) -> None:
        """Take in what both models deliver for a batch; None where that is not there."""
        one: Any = None if expected is None else expected.array
        two: Any = None if found is None else found.array
        if one is None and two is None:
            self.unmeasured = next(each.kind for each in (expected, found) if each is not None)
        elif one is None:
            self._all_wrong(0.0, squared_size(two), None)
        elif two is None:
            self._all_wrong(squared_size(one), squared_size(one), one)
        elif expected is not None and found is not None and expected.keys != found.keys:
            raise BadInput(
                f"one model's output has the keys {brief(expected.keys)}, the other's "
                f"{brief(found.keys)}: they do not answer the same question."
            )
        else:
            self.add(one, two, count)

    def add(self, expected: Array, found: Array, count: int | None = None) -> None:
        """Take in a batch of so many samples, which is one of its own where that is not said."""
        if expected.size and found.size and is_answers(expected) != is_answers(found):
            raise BadInput(
                f"one model's output is {expected.dtype}, the other's {found.dtype}: they do not "
                "answer the same question."
            )
        if expected.shape != found.shape:
            self._add_other_shape(expected, found)
            return
        axis = sample_axis(expected.shape, count)
        units = 1 if axis is None else expected.shape[axis]
        if axis:
            expected, found = (np.moveaxis(each, axis, 0) for each in (expected, found))
        self.elements += expected.size
        self.answers = self.answers or is_answers(expected)
        if is_answers(expected):
            self._add_units(expected != found, np.ones(expected.shape), units)
        else:
            exact, other = expected.astype(np.float64), found.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                # Masks hold equal infinities, and some models NaN, which would differ by NaN.
                same = (exact == other) | (np.isnan(exact) & np.isnan(other))
                moved = np.square(np.where(same, 0.0, other - exact))
                size = np.square(np.where(np.isfinite(exact), exact, 0.0))
            self._add_units(moved, size, units)
        wanted, given = top1(expected), top1(found)
        if wanted is not None and wanted.size:
            same = wanted == given
            if has_scores(expected):
                same &= wanted != NO_ANSWER
            self.agreed += int(np.count_nonzero(same))
            self.changed.append(~same.reshape(-1))
            self.margins.add(expected, found, wanted, units)

    @property
    def difference(self) -> float:
        """Sum of all that has moved."""
        return float(sum(each.sum() for each in self.moved))

    @property
    def reference(self) -> float:
        """Sum of all sizes."""
        return float(sum(each.sum() for each in self.sizes))

    @property
    def why_unmeasured(self) -> str:
        """What is in the way of an error, if anything is."""
        if not self.unmeasured and not self.elements:
            return "it is empty on all samples"
        return self.unmeasured and f"it holds {self.unmeasured}"

    @property
    def error(self) -> float:
        """||found - expected||_F / ||expected||_F, of answers the share that differs."""
        if self.difference == 0:
            return 0.0
        if not self.reference:
            return math.inf
        share = self.difference / self.reference
        return share if self.answers else math.sqrt(share)

    @property
    def spread(self) -> Drop | RelativeError | None:
        """What the samples tell of the error on new ones; None of none."""
        if not self.moved:
            return None
        if self.answers and self.changed:
            return counted_drop(self.margins)
        return RelativeError(np.concatenate(self.moved), np.concatenate(self.sizes))

    def _add_units(self, moved: Array, sizes: Array, units: int) -> None:
        for into, values in ((self.moved, moved), (self.sizes, sizes)):
            into.append(values.reshape(units, -1).sum(axis=1, dtype=np.float64))

    def _add_other_shape(self, expected: Array, found: Array) -> None:
        """Where the data decide the shape, as how many objects are found: nothing is the same."""
        pairs = enumerate(zip(expected.shape, found.shape))
        differing = {at for at, (one, two) in pairs if one != two}
        if expected.ndim != found.ndim or self.fixed is None or differing & self.fixed:
            raise BadInput(
                f"the models' outputs differ in shape, {expected.shape} and {found.shape}: "
                "they do not answer the same question."
            )
        own = squared_size(expected)
        self._all_wrong(own, max(own, squared_size(found)), expected)

    def _all_wrong(self, size: float, moved: float, expected: Array | None) -> None:
        self.moved.append(np.array([moved]))
        self.sizes.append(np.array([size]))
        self.elements += 1
        wanted = None if expected is None else top1(expected)
        if expected is not None and wanted is not None:
            self.answers = self.answers or is_answers(expected)
            self.changed.append(np.ones(wanted.size, bool))
            self.margins.add(expected, None, wanted, 1)

    def facts(self, name: str) -> OutputFacts:
        """What the sums say."""
        if self.why_unmeasured:
            return OutputFacts(name, None, unmeasured=self.why_unmeasured)
        if not self.changed:
            return OutputFacts(name, self.error)
        changed = np.concatenate(self.changed)
        before = self.margins.arrays[0]
        close = before[changed & np.isfinite(before)]
        return OutputFacts(
            name,
            self.error,
            self.agreed / len(changed),
            interval(self.agreed, self.margins),
            None if self.answers else median(before[np.isfinite(before)]),
            None if self.answers else median(close),
            answers=self.answers,
        )


def sample_axis(shape: tuple[int, ...], count: int | None) -> int | None:
    """Which axis of an output has an entry for each of so many samples: the first that does.

    The last is that of scores or features.
    """
    axes = shape if len(shape) == 1 else shape[:-1]
    return next((at for at, size in enumerate(axes) if size == count and size), None)


def interval(right: int, margins: Margins) -> Interval | None:
    """The exact interval of a share of right answers; None where a sample has several."""
    alone = all(each == 1 for each in margins.counts)
    return exact_interval(right, len(margins.counts)) if alone else None


def median(values: Array) -> float | None:
    """The median, or None of nothing."""
    return float(np.median(values)) if len(values) else None


def squared_size(values: Array) -> float:
    """Squared Frobenius norm of the numbers that are finite; of answers their number."""
    if is_answers(values):
        return float(values.size)
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.square(exact[np.isfinite(exact)]).sum())


def brief(keys: tuple[Any, ...] | None) -> str:
    """The first keys of a map."""
    if keys is None:
        return "of no map"
    return ", ".join(map(repr, keys[:4])) + (", ..." if len(keys) > 4 else "")
