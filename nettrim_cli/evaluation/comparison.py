"""Two models on the same samples: how far apart their answers are, how large their files."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.labels import IGNORED
from nettrim_cli.data.stream import MEMORY_BYTES, MemoryBudget, TensorStore, load
from nettrim_cli.data.values import OutputPart, parts
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import Interval, Margins, drop_bound, drop_interval, top1
from nettrim_cli.evaluation.output_error import OutputError, interval
from nettrim_cli.files.atomic import sha256
from nettrim_cli.graph.model import Model
from nettrim_cli.report.result import Comparison, ModelFacts, largest

Array = NDArray[Any]
LARGE_BYTES = 1 << 28
PIECE_BYTES = 1 << 24


class ReferenceOutputs:
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
        self._kept: tuple[Sequence[str], list[list[dict[str, OutputPart]]]] | None = None

    @property
    def samples(self) -> int:
        """How many there are."""
        return sum(batch.count for batch in self.batches())

    @property
    def outputs(self) -> tuple[Sequence[str], list[list[dict[str, OutputPart]]]]:
        """Their names, and batch by batch what each holds, where its arrays wait."""
        if self._kept is None:
            model = self.model.runnable()
            engine = Engine(model, threads=self.threads, optimise=True, arena=False)
            shelf = TensorStore(MemoryBudget(MEMORY_BYTES // 4))  # a search runs on beside them
            self._kept = (
                engine.outputs,
                [
                    [
                        {
                            path: replace(each, array=shelf.keep(each.array))
                            for path, each in parts(name, value, batch.count).items()
                        }
                        for name, value in zip(engine.outputs, engine.run(batch.feeds))
                    ]
                    for batch in self.batches()
                ],
            )
        return self._kept

    @property
    def unmeasured(self) -> dict[str, str]:
        """Outputs of which no error can be told on these samples, and why."""
        found: dict[str, OutputError] = {}
        for batch in self.outputs[1]:
            for path, part in (pair for output in batch for pair in output.items()):
                found.setdefault(path, OutputError()).see(part)
        return unmeasured(found)

    def compare(self, candidate: Model) -> OutputComparison:
        """Run another model on the same samples.

        Raises
        ------
        BadInput
            The models' outputs do not match in number or shape, or there are no samples.
        """
        names, waiting = self.outputs
        engine = Engine(candidate.runnable(), threads=self.threads, optimise=True)
        pairs = list(_pairs(names, engine.outputs))
        fixed = {one: _fixed(self.model, candidate, one, other) for one, other in pairs}
        found = OutputComparison(fixed)
        for batch, kept in zip(self.batches(), waiting):
            first = {
                path: replace(each, array=load(each.array))
                for one, _ in pairs
                for path, each in kept[names.index(one)].items()
            }
            values = engine.run(batch.feeds, [other for _, other in pairs])
            found.add(batch, first, named(batch, [one for one, _ in pairs], values))
        if not found.samples:
            raise BadInput("there are no samples to compare the models on.")
        return found


class OutputComparison:
    """What two models answered on the same samples.

    Parameters
    ----------
    fixed
        By output, the axes to which both models give a size; of those inside of sequences and
        maps no axis has one.
    """

    def __init__(self, fixed: Mapping[str, frozenset[int]]) -> None:
        self.fixed, self.samples = fixed, 0
        self.tallies: dict[str, OutputError] = {}
        self.labelled = Margins()  # of the labels' classes, where there are labels
        self._right: list[Array] = [np.empty((2, 0), bool)]  # in each model

    def add(
        self, batch: Batch, first: Mapping[str, OutputPart], second: Mapping[str, OutputPart]
    ) -> None:
        """Take in a batch's outputs of both."""
        self.samples += batch.count
        for path in {**first, **second}:
            tally = self.tallies.setdefault(
                path, OutputError(fixed=self.fixed.get(path, frozenset()))
            )
            tally.take(first.get(path), second.get(path), batch.count)
        place, labels = scored(first, batch.labels), batch.labels
        if place is None or labels is None:
            return
        expected: Array = first[place].array
        found: Any = second[place].array if place in second else None
        same = found is not None and expected.shape == found.shape
        known = labels != IGNORED
        expected, labels = expected[known], labels[known]
        found = found[known] if same else None
        right = top1(expected) == labels
        # Answers that are not there, or of other samples, are wrong.
        still = np.zeros_like(right) if found is None else top1(found) == labels
        self._right.append(np.stack([right, still]))
        self.labelled.add(expected, found, labels)

    @property
    def error(self) -> float:
        """Largest relative error over the outputs; nan if one of them is, or none is measured."""
        told = [each.error for each in self.tallies.values() if not each.why_unmeasured]
        return largest(told) if told else math.nan

    @property
    def unmeasured(self) -> dict[str, str]:
        """Outputs whose error cannot be told, and why."""
        return unmeasured(self.tallies)

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
        scores = [each for each in self.tallies.values() if each.changed]
        elements = sum(each.elements for each in scores)
        return math.sqrt(sum(each.reference for each in scores) / max(1, elements))

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

    def compared(self, reference: Model, candidate: Model, *, written: bool = True) -> Comparison:
        """The figures of both, with those of their files; the candidate may not be in one."""
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
            facts(candidate, *shares[1], written=written),
            tuple(tally.facts(name) for name, tally in self.tallies.items()),
            self.samples,
            changes,
        )


def facts(
    model: Model,
    accuracy: float | None = None,
    interval: Interval | None = None,
    *,
    written: bool = True,
) -> ModelFacts:
    """A model in numbers, external data counted as part of it."""
    parameters, nonzeros = model.constants()
    if written:
        path, (plain, gzipped) = str(model.path), sizes(model.files)
        digest = sha256(model.path)
    else:
        path, gzipped, digest = "", packed(model), ""
        plain = sum(len(piece) for content in model.contents() for piece in content)
    return ModelFacts(path, plain, gzipped, parameters, nonzeros, accuracy, interval, digest)


def unmeasured(tallies: Mapping[str, OutputError]) -> dict[str, str]:
    """Outputs whose error cannot be told, and why."""
    return {name: each.why_unmeasured for name, each in tallies.items() if each.why_unmeasured}


def own_answers(
    model: Model, batches: Callable[[], Iterable[Batch]], *, threads: int
) -> OutputComparison:
    """A model's answers alone: held against itself."""
    engine = Engine(model.runnable(), threads=threads, optimise=True)
    found = OutputComparison({})
    for batch in batches():
        outputs = named(batch, engine.outputs, engine.run(batch.feeds))
        found.add(batch, outputs, outputs)
    return found


def named(batch: Batch, names: Iterable[str], values: Iterable[Any]) -> dict[str, OutputPart]:
    """What the outputs of a batch hold, by name."""
    return {
        path: part
        for name, value in zip(names, values, strict=True)
        for path, part in parts(name, value, batch.count).items()
    }


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


def scored(outputs: Mapping[str, OutputPart], labels: Array | None) -> str | None:
    """Which output is the first to give an answer for every label, by the number of its class."""
    for path, part in outputs.items():
        if part.array is None or labels is None or part.array.dtype.kind in "OSU":
            continue
        found = top1(part.array)
        numbered = part.keys is None or part.keys == tuple(range(len(part.keys)))
        if numbered and found is not None and found.shape == labels.shape:
            return path
    return None


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
