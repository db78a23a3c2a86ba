"""Two models on the same samples: how far apart their answers are, how large their files."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.engine import Engine, is_array
from nettrim_cli.data.recorder import MEMORY_BYTES, Budget, Shelf, load
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.report.result import Comparison, ModelFacts, OutputFacts

Array = NDArray[Any]
NO_ANSWER = -1
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
    answers: int = 0
    agreed: int = 0
    fixed: frozenset[int] | None = None

    def add(self, expected: Array, found: Array) -> None:
        """Take in one batch."""
        if expected.shape != found.shape:
            self._add_other_shape(expected, found)
            return
        if np.issubdtype(expected.dtype, np.number) or expected.dtype == bool:
            exact, other = expected.astype(np.float64), found.astype(np.float64)
            with np.errstate(invalid="ignore", over="ignore"):
                # Masks hold equal infinities, which would differ by NaN.
                moved = np.where(exact == other, 0.0, other - exact)
                self.difference += float(np.square(moved).sum())
            self.reference += squared_size(expected)
        expected_answers, found_answers = answers(expected), answers(found)
        if expected_answers is not None and found_answers is not None:
            same = (expected_answers == found_answers) & (expected_answers != NO_ANSWER)
            self.answers += same.size
            self.agreed += int(np.count_nonzero(same))

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
        asked = answers(expected)
        self.answers += 0 if asked is None else asked.size

    def facts(self, name: str) -> OutputFacts:
        """What the sums say."""
        error = np.sqrt(self.difference / self.reference) if self.reference else np.inf
        error = 0.0 if self.difference == 0 else float(error)
        return OutputFacts(name, error, self.agreed / self.answers if self.answers else None)


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
    engine = Engine(reference.runnable(), threads=threads, optimise=True)
    shelf, names = Shelf(Budget(MEMORY_BYTES)), engine.outputs
    answered = [
        [shelf.keep(value) if is_array(value) else None for value in engine.run(batch.feeds)]
        for batch in batches()
    ]
    del engine
    engine = Engine(candidate.runnable(), threads=threads, optimise=True)
    pairs = list(_pairs(names, engine.outputs))
    tallies = [Tally(fixed=_fixed(reference, candidate, *names)) for names in pairs]
    right, labelled, samples = [0, 0], 0, 0
    for batch, kept in zip(batches(), answered):
        first = [load(kept[names.index(one)]) for one, _ in pairs]
        second = engine.run(batch.feeds, [other for _, other in pairs])
        samples += batch.count
        for tally, expected, found in zip(tallies, first, second):
            if is_array(expected) and is_array(found):
                tally.add(expected, found)
        hits = [count_right(outputs, batch.labels) for outputs in (first, second)]
        if batch.labels is not None and hits[0] is not None and hits[1] is not None:
            right = [total + hit for total, hit in zip(right, hits) if hit is not None]
            labelled += batch.count
    if not samples:
        raise BadInput("there are no samples to compare the models on.")
    shares = [hit / labelled if labelled else None for hit in right]
    return Comparison(
        facts(reference, shares[0]),
        facts(candidate, shares[1]),
        tuple(tally.facts(name) for tally, (name, _) in zip(tallies, pairs)),
        samples,
    )


def facts(model: Model, accuracy: float | None) -> ModelFacts:
    """A model in numbers, external data counted as part of it."""
    parameters, nonzeros = model.constants()
    plain, packed = sizes(model.files)
    return ModelFacts(str(model.path), plain, packed, parameters, nonzeros, accuracy)


def sizes(files: Iterable[Path]) -> tuple[int, int]:
    """Bytes of some files together, as they are and gzipped.

    Over LARGE_BYTES gzip works at its fastest level: the other levels take minutes.
    """
    paths = list(files)
    plain, packed = sum(path.stat().st_size for path in paths), 0
    level = 6 if plain <= LARGE_BYTES else 1
    for path in paths:
        pack = zlib.compressobj(level, zlib.DEFLATED, 31)
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                packed += len(pack.compress(piece))
        packed += len(pack.flush())
    return plain, packed


def answers(output: Array) -> Any:
    """Top-1 answers of a batch, or None where the output is no list of scores.

    Scores are (batch, classes) or (batch, positions, classes); integers of rank 1 are answers
    already.  Scores with a NaN have ``NO_ANSWER``, which is never right.
    """
    if output.ndim == 1 and np.issubdtype(output.dtype, np.integer):
        return output
    if output.ndim not in (2, 3) or output.shape[-1] < 2 or output.dtype == object:
        return None
    found = output.argmax(axis=-1)
    if np.issubdtype(output.dtype, np.inexact):
        found[np.isnan(output).any(axis=-1)] = NO_ANSWER
    return found


def count_right(outputs: Sequence[Any], labels: Array | None) -> int | None:
    """Answers of the first output that can be scored that equal the labels."""
    for output in outputs:
        found = answers(output) if is_array(output) else None
        if found is not None and labels is not None and found.shape == labels.shape:
            return int(np.count_nonzero((found == labels) & (found != NO_ANSWER)))
    return None


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
