"""Statistics from one pass over the samples of a run, with answers of the dense network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.data.engine import Engine, is_array
from nettrim_cli.data.formats.base import Indices
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.analysis.input_scaling import first_normalization, with_outputs
from nettrim_cli.graph.model import Model
from nettrim_cli.report.diagnostic import Diagnostic

Array = NDArray[Any]
FEWEST = 20  # samples from which on it is strange that all are alike
ANSWERED = 256  # samples that the network answers, evenly drawn


@dataclass
class InputStatistics:
    """Statistics of a floating-point input over all samples.

    Attributes
    ----------
    energies, peaks
        Sum of squares and largest absolute value of each sample.
    whole_numbers
        Whether all values are whole numbers.
    """

    energies: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf
    whole_numbers: bool = True

    def add(self, rows: Array) -> None:
        """Take in some samples (N, values)."""
        exact = rows.astype(np.float64)
        self.energies += np.square(exact).sum(axis=1).tolist()
        self.peaks += np.abs(exact).max(axis=1, initial=0).tolist()
        if rows.size:
            self.low, self.high = min(self.low, exact.min()), max(self.high, exact.max())
        self.whole_numbers = self.whole_numbers and bool((exact == np.rint(exact)).all())


@dataclass
class SampleStatistics:
    """Statistics of all samples, and answers of the dense network on some of them.

    Attributes
    ----------
    indices
        Numbers of the samples in the file, ascending; those whose batch is not cut off.
    inputs
        Statistics by model input, for floating-point inputs whose samples can be told apart.
    digests
        Digest of each sample's inputs; samples with equal digests are equal.
    labels
        Class numbers of all samples, ``labels.IGNORED`` where there is none; None without.
    answered
        Places in ``indices`` of the samples that the network ran on.
    outputs
        Arrays of each output by name, batch by batch, and of the first normalisation's input.
    scaled
        The same with all floating-point inputs divided by 255; empty where that means nothing.
    """

    indices: NDArray[np.int64]
    inputs: dict[str, InputStatistics]
    digests: list[bytes]
    labels: NDArray[np.int64] | None
    answered: NDArray[np.int64]
    outputs: dict[str, list[Array]]
    scaled: dict[str, list[Array]]


@dataclass(frozen=True)
class Case:
    """Context of the checks: a model, its samples, and whether accuracy decides (``strict``)."""

    model: Model
    samples: Calibration
    holdout: Indices
    statistics: SampleStatistics
    strict: bool

    def refuse_or(self, code: str, text: str) -> Diagnostic:
        """Give a warning, or refuse where accuracy decides.

        Raises
        ------
        BadInput
            Accuracy decides.
        """
        if self.strict:
            raise BadInput(f"{text}.")
        return Diagnostic(code, f"{text}.", text.split(":")[0])


def sample_statistics(
    dense: Model, samples: Calibration, indices: Indices, size: int, threads: int
) -> SampleStatistics:
    """Read samples in batches, and run the dense network on some of them.

    Parameters
    ----------
    dense, samples
        The model and the open samples.
    indices
        Numbers of the samples to read.
    size
        Samples to a batch.
    threads
        Threads of the engine.

    Raises
    ------
    BadInput
        A value is not finite, or is no label.
    EngineFailed
        The network cannot be run on them.
    """
    ordered = np.sort(np.asarray(indices, dtype=np.int64))
    normalization = first_normalization(dense)
    engine = Engine(
        with_outputs(dense, [normalization.tensor] if normalization else []),
        threads=threads,
        optimise=True,
        arena=False,
    )
    statistics = SampleStatistics(ordered, {}, [], None, np.empty(0, np.int64), {}, {})
    labels: list[Array] = []
    answered_positions: list[Array] = []
    scaled_feeds: list[dict[str, Array]] = []
    stride, position = max(1, len(ordered) // ANSWERED), 0
    for number, batch in enumerate(samples.batches(ordered, size)):
        _take(statistics, batch.feeds, batch.count)
        if batch.labels is not None:
            labels.append(batch.labels)
        if number % stride == 0:
            _answer(statistics.outputs, engine, batch.feeds)
            answered_positions.append(np.arange(position, position + batch.count))
            if samples.labels:
                scaled_feeds.append({name: batch.feeds[name] for name in statistics.inputs})
        position += batch.count
    statistics.indices = ordered[:position]
    statistics.labels = np.concatenate(labels) if labels else None
    if answered_positions:
        statistics.answered = np.concatenate(answered_positions)
    if scaled_feeds and any(map(is_bytes, statistics.inputs.values())):
        all_scaled = {name for feeds in scaled_feeds for name in feeds} == set(engine.inputs)
        for feeds in scaled_feeds if all_scaled else ():
            _answer(statistics.scaled, engine, {k: v / v.dtype.type(255) for k, v in feeds.items()})
    return statistics


def is_bytes(statistics: InputStatistics) -> bool:
    """Whether values look like those of pictures as stored: whole numbers from 0 to 255."""
    return statistics.whole_numbers and statistics.low >= 0 and 100 <= statistics.high <= 255


def rows_of(value: Any, count: int) -> Array | None:
    """A batch's values as (N, values of a sample); None where samples cannot be told apart."""
    if not is_array(value):
        return None
    if value.shape[:1] == (count,):
        return np.asarray(value.reshape(count, -1))
    return value.reshape(1, -1) if count == 1 else None


def _take(statistics: SampleStatistics, feeds: dict[str, Array], count: int) -> None:
    parts: list[list[bytes]] = []
    for name, value in feeds.items():
        rows = rows_of(value, count)
        if rows is None:
            continue
        if rows.dtype.kind == "f":
            statistics.inputs.setdefault(name, InputStatistics()).add(rows)
        texts = rows.dtype == object
        parts.append([repr(row.tolist()).encode() if texts else row.tobytes() for row in rows])
    for row in zip(*parts, strict=True):
        statistics.digests.append(hashlib.blake2b(b"".join(row), digest_size=16).digest())


def _answer(outputs: dict[str, list[Array]], engine: Engine, feeds: dict[str, Array]) -> None:
    for name, value in zip(engine.outputs, engine.run(feeds), strict=True):
        if is_array(value):
            outputs.setdefault(name, []).append(value)
