"""One pass over the samples of a run: what they hold, and what the dense network answers."""

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
    """A floating-point input on all samples.

    Attributes
    ----------
    energies, peaks
        Sum of squares and largest absolute value of each sample.
    whole
        Whether all values are whole numbers.
    """

    energies: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf
    whole: bool = True

    def add(self, rows: Array) -> None:
        """Take in some samples (count, values)."""
        exact = rows.astype(np.float64)
        self.energies += np.square(exact).sum(axis=1).tolist()
        self.peaks += np.abs(exact).max(axis=1, initial=0).tolist()
        if rows.size:
            self.low, self.high = min(self.low, exact.min()), max(self.high, exact.max())
        self.whole = self.whole and bool((exact == np.rint(exact)).all())


@dataclass
class SampleStatistics:
    """What a pass over samples showed.

    Attributes
    ----------
    indices
        Numbers of the samples in the file, ascending; those whose batch is not cut off.
    inputs
        By model input, those of floating-point numbers whose samples can be told apart.
    digests
        Of what each sample feeds; samples with equal digests are equal.
    labels
        Class numbers of all samples, ``labels.IGNORED`` where there is none; None without.
    answered
        Places in ``indices`` of the samples that the network ran on.
    outputs
        By name, what it answered, batch by batch; of float32 tensors asked for, too.
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
    """What is judged: a model, its samples, and whether accuracy is to decide."""

    model: Model
    samples: Calibration
    held: Indices
    seen: SampleStatistics
    strict: bool

    def refuse_or(self, code: str, text: str) -> Diagnostic:
        """Refuse where accuracy decides, else warn."""
        if self.strict:
            raise BadInput(f"{text}.")
        return Diagnostic(code, f"{text}.", text.split(":")[0])


def sample_statistics(
    dense: Model, samples: Calibration, indices: Indices, size: int, threads: int
) -> SampleStatistics:
    """Read samples in batches of ``size``, and run the dense network on some of them.

    Raises
    ------
    BadInput
        A value is not finite, or is no label.
    EngineFailed
        The network cannot be run on them.
    """
    ordered = np.sort(np.asarray(indices, dtype=np.int64))
    trained = first_normalization(dense)
    engine = Engine(
        with_outputs(dense, [trained.tensor] if trained else []),
        threads=threads,
        optimise=True,
        arena=False,
    )
    found = SampleStatistics(ordered, {}, [], None, np.empty(0, np.int64), {}, {})
    labels: list[Array] = []
    answered: list[Array] = []
    kept: list[dict[str, Array]] = []
    every, at = max(1, len(ordered) // ANSWERED), 0
    for number, batch in enumerate(samples.batches(ordered, size)):
        _take(found, batch.feeds, batch.count)
        if batch.labels is not None:
            labels.append(batch.labels)
        if number % every == 0:
            _answer(found.outputs, engine, batch.feeds)
            answered.append(np.arange(at, at + batch.count))
            if samples.labels:
                kept.append({name: batch.feeds[name] for name in found.inputs})
        at += batch.count
    found.indices, found.labels = ordered[:at], np.concatenate(labels) if labels else None
    found.answered = np.concatenate(answered) if answered else found.answered
    if kept and any(is_bytes(each) for each in found.inputs.values()):
        fixed = {k for batch in kept for k in batch} == set(engine.inputs)
        for feeds in kept if fixed else ():
            _answer(found.scaled, engine, {k: v / v.dtype.type(255) for k, v in feeds.items()})
    return found


def is_bytes(seen: InputStatistics) -> bool:
    """Whether values look like those of pictures as stored: whole numbers from 0 to 255."""
    return seen.whole and seen.low >= 0 and 100 <= seen.high <= 255


def rows_of(value: Any, count: int) -> Array | None:
    """A batch's values as (count, values of a sample), None where samples are not told apart."""
    if not is_array(value):
        return None
    if value.shape[:1] == (count,):
        return np.asarray(value.reshape(count, -1))
    return value.reshape(1, -1) if count == 1 else None


def _take(found: SampleStatistics, feeds: dict[str, Array], count: int) -> None:
    parts: list[list[bytes]] = []
    for name, value in feeds.items():
        rows = rows_of(value, count)
        if rows is None:
            continue
        if rows.dtype.kind == "f":
            found.inputs.setdefault(name, InputStatistics()).add(rows)
        texts = rows.dtype == object
        parts.append([repr(row.tolist()).encode() if texts else row.tobytes() for row in rows])
    for row in zip(*parts, strict=True):
        found.digests.append(hashlib.blake2b(b"".join(row), digest_size=16).digest())


def _answer(into: dict[str, list[Array]], engine: Engine, feeds: dict[str, Array]) -> None:
    for name, value in zip(engine.outputs, engine.run(feeds), strict=True):
        if is_array(value):
            into.setdefault(name, []).append(value)
