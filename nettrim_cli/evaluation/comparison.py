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
from nettrim_cli.data.labels import IGNORED, LABELS
from nettrim_cli.data.stream import MEMORY_BYTES, MemoryBudget, TensorStore, load
from nettrim_cli.data.values import OutputPart, parts
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import Interval, Margins, drop_bound, drop_interval, top1
from nettrim_cli.evaluation.output_error import OutputError, interval
from nettrim_cli.evaluation.value_sample import MOST
from nettrim_cli.files.atomic import sha256
from nettrim_cli.graph.model import Model
from nettrim_cli.report.comparison_result import Comparison, ModelFacts, OutputValues, largest_error

Array = NDArray[Any]
LARGE_BYTES = 1 << 28
MOST_VALUES = 8_000  # pairs of all outputs together
PIECE_BYTES = 1 << 24


class ReferenceOutputs:
    """A model's outputs on some samples, with which other models are compared.

    The model runs when its outputs are first used.

    Parameters
    ----------
    model
        The reference.
    batches
        Gives the same samples each time.
    threads
        Threads of the engine.
    """

    def __init__(
        self, model: Model, batches: Callable[[], Iterable[Batch]], *, threads: int
    ) -> None:
        self.model, self.batches, self.threads = model, batches, threads
        self._outputs: tuple[Sequence[str], list[list[dict[str, OutputPart]]]] | None = None

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(batch.count for batch in self.batches())

    @property
    def outputs(self) -> tuple[Sequence[str], list[list[dict[str, OutputPart]]]]:
        """Names of the outputs; and for each batch and output its stored parts, by path."""
        if self._outputs is None:
            model = self.model.runnable()
            engine = Engine(model, threads=self.threads, optimise=True, arena=False)
            store = TensorStore(MemoryBudget(MEMORY_BYTES // 4))  # a search runs on beside them
            self._outputs = (
                engine.outputs,
                [
                    [
                        {
                            path: replace(output_part, array=store.keep(output_part.array))
                            for path, output_part in parts(name, value, batch.count).items()
                        }
                        for name, value in zip(engine.outputs, engine.run(batch.feeds), strict=True)
                    ]
                    for batch in self.batches()
                ],
            )
        return self._outputs

    @property
    def unmeasured(self) -> dict[str, str]:
        """Outputs whose error cannot be measured on these samples, and why."""
        errors: dict[str, OutputError] = {}
        for batch in self.outputs[1]:
            for path, output_part in (pair for output in batch for pair in output.items()):
                errors.setdefault(path, OutputError()).observe(output_part)
        return unmeasured(errors)

    def compare(self, candidate: Model) -> OutputComparison:
        """Run another model on the same samples.

        Raises
        ------
        BadInput
            The models' outputs do not match in number or shape, or there are no samples.
        """
        names, stored = self.outputs
        engine = Engine(candidate.runnable(), threads=self.threads, optimise=True)
        pairs = list(_pairs(names, engine.outputs))
        comparison = OutputComparison(
            {name: _fixed_axes(self.model, candidate, name, partner) for name, partner in pairs}
        )
        for batch, stored_outputs in zip(self.batches(), stored, strict=True):
            first = {
                path: replace(output_part, array=load(output_part.array))
                for name, _ in pairs
                for path, output_part in stored_outputs[names.index(name)].items()
            }
            values = engine.run(batch.feeds, [partner for _, partner in pairs])
            comparison.add(batch, first, named(batch, [name for name, _ in pairs], values))
        if not comparison.samples:
            raise BadInput("there are no samples to compare the models on.")
        return comparison


class OutputComparison:
    """The outputs of two models on the same samples, compared batch by batch.

    Parameters
    ----------
    fixed_axes
        By output, the axes to which both models give a size; arrays inside of sequences and maps
        have none.
    """

    def __init__(self, fixed_axes: Mapping[str, frozenset[int]]) -> None:
        self.fixed_axes, self.samples = fixed_axes, 0
        self.errors: dict[str, OutputError] = {}
        self.label_margins = Margins()  # margins of the labels' classes, where there are labels
        self._hits: list[Array] = [np.empty((2, 0), bool)]  # right answers, by model

    def add(
        self, batch: Batch, first: Mapping[str, OutputPart], second: Mapping[str, OutputPart]
    ) -> None:
        """Take in both models' outputs on a batch."""
        self.samples += batch.count
        for path in {**first, **second}:
            error = self.errors.setdefault(
                path, OutputError(fixed_axes=self.fixed_axes.get(path, frozenset()))
            )
            error.add_parts(first.get(path), second.get(path), batch.count)
        scored_path, labels = scored(first, batch.labels), batch.labels
        if scored_path is None or labels is None:
            return
        reference: Array = first[scored_path].array
        candidate: Any = second[scored_path].array if scored_path in second else None
        same = candidate is not None and reference.shape == candidate.shape
        labelled = labels != IGNORED
        reference, labels = reference[labelled], labels[labelled]
        candidate = candidate[labelled] if same else None
        reference_hits = top1(reference) == labels
        # Answers that are missing, or belong to other samples, are wrong.
        candidate_hits = np.zeros_like(reference_hits)
        if candidate is not None:
            candidate_hits = top1(candidate) == labels
        self._hits.append(np.stack([reference_hits, candidate_hits]))
        self.label_margins.add(reference, candidate, labels)

    @property
    def error(self) -> float:
        """Largest relative error over the outputs, see ``largest_error``."""
        errors = self.errors.values()
        return largest_error([None if error.why_unmeasured else error.error for error in errors])

    @property
    def unmeasured(self) -> dict[str, str]:
        """Outputs whose error cannot be measured, and why."""
        return unmeasured(self.errors)

    @property
    def drop(self) -> float:
        """Accuracy lost, or without labels the largest share of changed answers."""
        reference, candidate = np.concatenate(self._hits, axis=1)
        if len(reference):
            return (int(reference.sum()) - int(candidate.sum())) / len(
                reference
            )  # to the last digit
        return max((error.changed_share for error in self._answered), default=1.0)

    @property
    def score_size(self) -> float:
        """Root mean square of a score."""
        elements = sum(error.elements for error in self._answered)
        return math.sqrt(sum(error.total_norm for error in self._answered) / max(1, elements))

    @property
    def bound(self) -> float | None:
        """Upper bound on the drop on new samples, with 95 %; None where there are no answers."""
        bounds = [drop_bound(margins, Margins())[1] for margins in self.answer_margins.values()]
        return max(bounds) if bounds else None

    @property
    def answer_margins(self) -> dict[str, Margins]:
        """The margins that a drop is about: the labels', or those of scored outputs by path."""
        if self.label_margins.counts:
            return {LABELS: self.label_margins}
        return {path: error.margins for path, error in self.errors.items() if error.changed}

    @property
    def _answered(self) -> list[OutputError]:
        """Errors of the outputs that hold answers."""
        return [error for error in self.errors.values() if error.changed]

    def compared(self, reference: Model, candidate: Model, *, written: bool = True) -> Comparison:
        """Figures of both models; without ``written`` the candidate is in memory alone."""
        reference_hits, candidate_hits = np.concatenate(self._hits, axis=1)
        shares: list[tuple[Any, Any]] = [(None, None)] * 2
        changes = None
        if count := len(reference_hits):
            right = [int(np.count_nonzero(hits)) for hits in (reference_hits, candidate_hits)]
            shares = [(number / count, interval(number, self.label_margins)) for number in right]
            lost = int(np.count_nonzero(reference_hits & ~candidate_hits))
            gained = int(np.count_nonzero(candidate_hits & ~reference_hits))
            changes = drop_interval(lost, gained, count)
        return Comparison(
            facts(reference, *shares[0]),
            facts(candidate, *shares[1], written=written),
            tuple(error.facts(name) for name, error in self.errors.items()),
            self.samples,
            changes,
            values=self._values,
        )

    @property
    def _values(self) -> tuple[OutputValues, ...]:
        """Some numbers of each output."""
        most = min(MOST, MOST_VALUES // max(1, len(self.errors)))
        pairs = ((name, error.values.finite(most)) for name, error in self.errors.items())
        return tuple(OutputValues(name, *map(tuple, values)) for name, values in pairs if values[0])


def facts(
    model: Model,
    accuracy: float | None = None,
    interval: Interval | None = None,
    *,
    written: bool = True,
) -> ModelFacts:
    """A model's sizes and figures, with its external data.

    Parameters
    ----------
    model
        The model, in a file of its own only if ``written``.
    accuracy, interval
        Accuracy and its exact interval, where there are labels.
    written
        Whether the sizes are those of its files, not those that they would have.
    """
    parameters, nonzeros = model.count_parameters()
    if written:
        path, (plain, gzipped) = str(model.path), sizes(model.files)
        digest = sha256(model.path)
    else:
        path, gzipped, digest = "", packed(model), ""
        plain = stored_bytes(model)
    return ModelFacts(path, plain, gzipped, parameters, nonzeros, accuracy, interval, digest)


def unmeasured(errors: Mapping[str, OutputError]) -> dict[str, str]:
    """Outputs whose error cannot be measured, and why."""
    return {name: error.why_unmeasured for name, error in errors.items() if error.why_unmeasured}


def own_answers(
    model: Model, batches: Callable[[], Iterable[Batch]], *, threads: int
) -> OutputComparison:
    """Compare a model with itself, for its answers alone."""
    engine = Engine(model.runnable(), threads=threads, optimise=True)
    comparison = OutputComparison({})
    for batch in batches():
        outputs = named(batch, engine.outputs, engine.run(batch.feeds))
        comparison.add(batch, outputs, outputs)
    return comparison


def named(batch: Batch, names: Iterable[str], values: Iterable[Any]) -> dict[str, OutputPart]:
    """Parts of a batch's outputs, by path."""
    return {
        path: output_part
        for name, value in zip(names, values, strict=True)
        for path, output_part in parts(name, value, batch.count).items()
    }


def stored_bytes(model: Model, *, compact: bool | None = None) -> int:
    """Bytes of a model's files, as they will be written, or in a form."""
    return sum(len(piece) for content in model.contents(compact=compact) for piece in content)


def packed(model: Model) -> int:
    """Bytes of a model's files, gzipped, as they will be written."""
    return sum(_packed(content, model.approximate_bytes) for content in model.contents())


def sizes(files: Iterable[Path]) -> tuple[int, int]:
    """Total bytes of some files, as they are and gzipped.

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
    """Gzipped bytes of one file out of some with ``plain`` bytes together."""
    pack = gzip_compressor(plain)
    return sum(len(pack.compress(piece)) for piece in pieces) + len(pack.flush())


def gzip_compressor(size: int) -> Any:
    """A compressor for a file among some of `size` bytes together, which takes seconds at most."""
    return zlib.compressobj(6 if size <= LARGE_BYTES else 1, zlib.DEFLATED, 31)


def scored(outputs: Mapping[str, OutputPart], labels: Array | None) -> str | None:
    """Path of the first output that has a class number for every label (N,) or (N, positions)."""
    for path, output in outputs.items():
        if output.array is None or labels is None or output.array.dtype.kind in "OSU":
            continue
        answers = top1(output.array)
        numbered = output.keys is None or output.keys == tuple(range(len(output.keys)))
        if numbered and answers is not None and answers.shape == labels.shape:
            return path
    return None


def _fixed_axes(
    reference: Model, candidate: Model, reference_output: str, candidate_output: str
) -> frozenset[int]:
    """Axes of an output to which both models give a size."""
    first, second = (
        next((output.shape or () for output in model.outputs if output.name == name), ())
        for model, name in ((reference, reference_output), (candidate, candidate_output))
    )
    axes = enumerate(zip(first, second, strict=False))
    return frozenset(axis for axis, sizes in axes if all(isinstance(size, int) for size in sizes))


def _pairs(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Outputs of equal name, or of equal position where the names differ."""
    if set(first) == set(second):
        yield from ((name, name) for name in first)
    elif len(first) == len(second):
        yield from zip(first, second, strict=True)
    else:
        raise BadInput(f"one model has {len(first)} outputs, the other {len(second)}.")
