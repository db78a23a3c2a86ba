"""Two models on the same samples: how far apart their answers are, how large their files."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.answers import (
    NO_ANSWER,
    Interval,
    Margins,
    drop_bound,
    drop_interval,
    exact_interval,
    top1,
)
from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.engine import Engine, is_array
from nettrim_cli.data.labels import IGNORED
from nettrim_cli.data.recorder import MEMORY_BYTES, Budget, Shelf, load
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.report.result import Comparison, ModelFacts, OutputFacts, largest

Array = NDArray[Any]
LARGE_BYTES = 1 << 28
PIECE_BYTES = 1 << 24


@dataclass
class Tally:
    """Running sums for one output.

    Attributes
    ----------
    fixed
        Axes whose size the data may not decide; None for all of them.
    """

    difference: float = 0.0
    reference: float = 0.0
    agreed: int = 0
    margins: Margins = field(default_factory=Margins)
    changed: list[Array] = field(default_factory=list)
    scores: int = 0
    fixed: frozenset[int] | None = None

    def add(self, expected: Array, found: Array) -> None:
        """Take in one batch."""
        if expected.shape != found.shape:
            self._add_other_shape(expected, found)
            return
        if np.issubdtype(expected.dtype, np.number) or expected.dtype == bool:
            exact, other = expected.astype(np.float64), found.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                # Masks hold equal infinities, and some models NaN, which would differ by NaN.
                same = (exact == other) | (np.isnan(exact) & np.isnan(other))
                moved = np.where(same, 0.0, other - exact)
                self.difference += float(np.square(moved).sum())
            self.reference += squared_size(expected)
        else:  # each string that differs is all wrong
            self.difference += float(np.count_nonzero(expected != found))
            self.reference += float(expected.size)
        wanted, given = top1(expected), top1(found)
        if wanted is not None and given is not None:
            same = (wanted == given) & (wanted != NO_ANSWER)
            self.agreed += int(np.count_nonzero(same))
            self.changed.append(~same.reshape(-1))
            self.margins.add(expected, found, wanted)
            self.scores += expected.size

    @property
    def error(self) -> float:
        """||found - expected||_F / ||expected||_F."""
        if self.difference == 0:
            return 0.0
        return math.sqrt(self.difference / self.reference) if self.reference else math.inf

    def _add_other_shape(self, expected: Array, found: Array) -> None:
        """Where the data decide the shape, as how many objects are found: nothing is the same."""
        pairs = enumerate(zip(expected.shape, found.shape))
        differing = {at for at, (one, two) in pairs if one != two}
        if expected.ndim != found.ndim or self.fixed is None or differing & self.fixed:
            raise BadInput(
                f"the models' outputs differ in shape, {expected.shape} and {found.shape}: "
                "they do not answer the same question."
            )
        if np.issubdtype(expected.dtype, np.number) or expected.dtype == bool:
            sizes = [squared_size(each) for each in (expected, found)]
            self.difference += max(sizes)
            self.reference += sizes[0]
        else:
            self.difference += float(max(expected.size, found.size))
            self.reference += float(expected.size)
        wanted = top1(expected)
        if wanted is not None:
            self.changed.append(np.ones(wanted.size, bool))
            self.margins.add(expected, None, wanted)

    def facts(self, name: str) -> OutputFacts:
        """What the sums say."""
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
            median(before[np.isfinite(before)]),
            median(close),
        )


class Reference:
    """A model's outputs on some samples, for others to be held against.

    It runs when the first of them comes.

    Parameters
    ----------
    batches
        Gives the same samples each time.
    """

    def __init__(
        self, model: Model, batches: Callable[[], Iterable[Batch]], *, threads: int
    ) -> None:
        self.model, self.batches, self.threads = model, batches, threads
        self._kept: tuple[Sequence[str], list[list[Any]]] | None = None

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(batch.count for batch in self.batches())

    @property
    def outputs(self) -> tuple[Sequence[str], list[list[Any]]]:
        """Their names, and batch by batch where they wait."""
        if self._kept is None:
            model = self.model.runnable()
            engine = Engine(model, threads=self.threads, optimise=True, arena=False)
            shelf = Shelf(Budget(MEMORY_BYTES // 4))  # a search runs on beside them
            self._kept = (
                engine.outputs,
                [
                    [
                        shelf.keep(each) if is_array(each) else None
                        for each in engine.run(batch.feeds)
                    ]
                    for batch in self.batches()
                ],
            )
        return self._kept

    def against(self, candidate: Model) -> Findings:
        """Run another model on the same samples.

        Raises
        ------
        BadInput
            The models' outputs do not match in number or shape, or there are no samples.
        """
        names, waiting = self.outputs
        engine = Engine(candidate.runnable(), threads=self.threads, optimise=True)
        pairs = list(_pairs(names, engine.outputs))
        found = Findings(
            {names[0]: Tally(fixed=_fixed(self.model, candidate, *names)) for names in pairs}
        )
        for batch, kept in zip(self.batches(), waiting):
            first = [load(kept[names.index(one)]) for one, _ in pairs]
            found.add(batch, first, engine.run(batch.feeds, [other for _, other in pairs]))
        if not found.samples:
            raise BadInput("there are no samples to compare the models on.")
        return found


class Findings:
    """What two models answered on the same samples."""

    def __init__(self, tallies: dict[str, Tally]) -> None:
        self.tallies, self.samples = tallies, 0
        self.labelled = Margins()  # of the labels' classes, where there are labels
        self._right: list[Array] = [np.empty((2, 0), bool)]  # in each model

    def add(self, batch: Batch, first: Sequence[Any], second: Sequence[Any]) -> None:
        """Take in a batch's outputs of both."""
        self.samples += batch.count
        for tally, expected, found in zip(self.tallies.values(), first, second):
            if is_array(expected) and is_array(found):
                tally.add(expected, found)
        at, labels = scored(first, batch.labels), batch.labels
        if at is None or labels is None:
            return
        same = is_array(second[at]) and first[at].shape == second[at].shape
        known = labels != IGNORED
        expected, labels = first[at][known], labels[known]
        found = second[at][known] if same else None
        right = top1(expected) == labels
        # Answers that are not there, or of other samples, are wrong.
        still = np.zeros_like(right) if found is None else top1(found) == labels
        self._right.append(np.stack([right, still]))
        self.labelled.add(expected, found, labels)

    @property
    def error(self) -> float:
        """Largest relative error over the outputs; nan if one of them is."""
        return largest([tally.error for tally in self.tallies.values()])

    @property
    def drop(self) -> float:
        """Accuracy lost, or without labels the largest share of changed answers."""
        one, two = np.concatenate(self._right, axis=1)
        if len(one):
            return (int(one.sum()) - int(two.sum())) / len(one)  # to the last digit
        counted = [each for each in self.tallies.values() if each.changed]
        return max((float(np.mean(np.concatenate(each.changed))) for each in counted), default=1.0)

    @property
    def score_size(self) -> float:
        """Root mean square of a score."""
        squares = sum(each.reference for each in self.tallies.values() if each.changed)
        return math.sqrt(squares / max(1, sum(each.scores for each in self.tallies.values())))

    @property
    def bound(self) -> float | None:
        """What new samples lose at most, with 95 %; None where no answers are told."""
        found = [drop_bound(each, Margins())[1] for each in self.drops]
        return max(found) if found else None

    @property
    def drops(self) -> list[Margins]:
        """The margins that a drop is about: the labels', or every scored output's own answers."""
        if self.labelled.counts:
            return [self.labelled]
        return [each.margins for each in self.tallies.values() if each.changed]

    def compared(self, reference: Model, candidate: Model) -> Comparison:
        """The figures of both, with those of their files."""
        one, two = np.concatenate(self._right, axis=1)
        shares: list[tuple[Any, Any]] = [(None, None)] * 2
        changes = None
        if count := len(one):
            hits = [int(np.count_nonzero(each)) for each in (one, two)]
            shares = [(hit / count, interval(hit, self.labelled)) for hit in hits]
            lost, gained = (int(np.count_nonzero(each)) for each in (one & ~two, two & ~one))
            changes = drop_interval(lost, gained, count)
        return Comparison(
            facts(reference, *shares[0]),
            facts(candidate, *shares[1]),
            tuple(tally.facts(name) for name, tally in self.tallies.items()),
            self.samples,
            changes,
        )


def compare_models(
    reference: Model,
    candidate: Model,
    batches: Callable[[], Iterable[Batch]],
    *,
    threads: int,
) -> Comparison:
    """Run both models, each as its file has it, and compare every output.

    One runs after the other, so that only one is in memory.

    Parameters
    ----------
    batches
        Gives the same samples each time.

    Raises
    ------
    BadInput
        The models' outputs do not match in number or shape, or there are no samples.
    """
    first = Reference(reference, batches, threads=threads)
    return first.against(candidate).compared(reference, candidate)


def facts(
    model: Model, accuracy: float | None = None, interval: Interval | None = None
) -> ModelFacts:
    """A model in numbers, external data counted as part of it."""
    parameters, nonzeros = model.constants()
    plain, packed = sizes(model.files)
    return ModelFacts(str(model.path), plain, packed, parameters, nonzeros, accuracy, interval)


def own_answers(model: Model, batches: Callable[[], Iterable[Batch]], *, threads: int) -> Findings:
    """A model's answers alone: held against itself."""
    engine = Engine(model.runnable(), threads=threads, optimise=True)
    found = Findings({name: Tally() for name in engine.outputs})
    for batch in batches():
        outputs = engine.run(batch.feeds)
        found.add(batch, outputs, outputs)
    return found


def packed(model: Model) -> int:
    """Bytes of a model's files, gzipped, as they will be written."""
    return sum(_packed(each, model.bytes_about) for each in model.contents())


def sizes(files: Iterable[Path]) -> tuple[int, int]:
    """Bytes of some files together, as they are and gzipped.

    Over LARGE_BYTES gzip works at its fastest level: the other levels take minutes.
    """
    paths = list(files)
    plain = sum(path.stat().st_size for path in paths)
    return plain, sum(_packed(_pieces(path), plain) for path in paths)


def _pieces(path: Path) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _packed(pieces: Iterable[bytes], plain: int) -> int:
    """Bytes of a gzipped file, one of some that are so many bytes together."""
    pack = zlib.compressobj(6 if plain <= LARGE_BYTES else 1, zlib.DEFLATED, 31)
    return sum(len(pack.compress(each)) for each in pieces) + len(pack.flush())


def scored(outputs: Sequence[Any], labels: Array | None) -> int | None:
    """Which output is the first to give an answer for every label."""
    for at, output in enumerate(outputs):
        found = top1(output) if is_array(output) else None
        if found is not None and labels is not None and found.shape == labels.shape:
            return at
    return None


def interval(right: int, margins: Margins) -> Interval | None:
    """The exact interval of a share of right answers; None where a sample has several."""
    alone = all(each == 1 for each in margins.counts)
    return exact_interval(right, len(margins.counts)) if alone else None


def median(values: Array) -> float | None:
    """The median, or None of nothing."""
    return float(np.median(values)) if len(values) else None


def squared_size(values: Array) -> float:
    """Squared Frobenius norm of the numbers that are finite."""
    exact = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return float(np.square(exact[np.isfinite(exact)]).sum())


def _fixed(reference: Model, candidate: Model, one: str, two: str) -> frozenset[int]:
    """Axes of an output to which both models give a size."""
    first, second = (
        next((each.shape or () for each in model.outputs if each.name == name), ())
        for model, name in ((reference, one), (candidate, two))
    )
    sizes = enumerate(zip(first, second))
    return frozenset(at for at, pair in sizes if all(isinstance(each, int) for each in pair))


def _pairs(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Outputs of equal name, or of equal position where the names differ."""
    if set(first) == set(second):
        yield from ((name, name) for name in first)
    elif len(first) == len(second):
        yield from zip(first, second)
    else:
        raise BadInput(f"one model has {len(first)} outputs, the other {len(second)}.")
