"""Latencies of models side by side, as plain numbers; times are seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from nettrim_cli.report.plain import Facts
from nettrim_cli.report.saving import Saved

if TYPE_CHECKING:
    from nettrim_cli.report.document import Document

FASTER, SLOWER = 0.95, 1.05  # ratios beyond which a difference is worth a word
SMALLER = 0.95  # share of the reference's weights or bytes below which a model is smaller


@dataclass(frozen=True)
class Estimate(Facts):
    """A median with the ends of its interval of 95 %.

    Attributes
    ----------
    median
        The median.
    low, high
        Ends of its interval of 95 %; no number where there were too few rounds.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class OpTime(Facts):
    """What nodes of one op take in a call.

    Attributes
    ----------
    op
        Op type, after onnxruntime's optimisations.
    seconds
        Of each model, without what nodes in their subgraphs take.
    calls
        How often each model computes such a node.
    ratios
        For each model but the first: its seconds to those of the first, measured by turns; None
        where one of both takes nothing.
    """

    op: str
    seconds: tuple[float, ...]
    calls: tuple[int, ...]
    ratios: tuple[Estimate | None, ...] = ()


@dataclass(frozen=True)
class BatchTiming(Facts):
    """Models timed on one batch.

    Attributes
    ----------
    size
        Number of samples in the batch.
    latencies
        Seconds of a call, for each model.
    ratios
        For each model but the first: its seconds to those of the first in the same round.
    rounds
        Number of rounds in which each model was timed.
    ops
        Op types, those that take the most first.
    """

    size: int
    latencies: tuple[Estimate, ...]
    ratios: tuple[Estimate, ...]
    rounds: int
    ops: tuple[OpTime, ...] = ()


@dataclass(frozen=True)
class BenchedModel(Facts):
    """A model that was timed.

    Attributes
    ----------
    path
        Its file.
    name
        The last part of the path, as much as tells the models apart.
    bytes_raw
        Size of its files.
    parameters, nonzeros
        Number of parameters, and of those that are not zero.
    load_seconds
        To make a session of it; None where that was not measured.
    memory_bytes
        Peak memory of a process that loads and runs it, beyond one with a model of no size; None
        where that was not measured.
    """

    path: str
    name: str
    bytes_raw: int
    parameters: int
    nonzeros: int
    load_seconds: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True)
class LatencyCheck(Facts):
    """A ratio that was checked against ``--max-latency-ratio``.

    Attributes
    ----------
    name, size
        Of the model, and number of samples in the batch.
    limit
        The largest ratio that is allowed.
    ratio
        The model's seconds to those of the reference.
    """

    derived: ClassVar[tuple[str, ...]] = ("passed",)

    name: str
    size: int
    limit: float
    ratio: Estimate

    @property
    def passed(self) -> bool | None:
        """Whether the limit is kept; None where the interval lies on both sides of it."""
        if self.ratio.high <= self.limit:
            return True
        return False if self.ratio.low > self.limit else None


@dataclass(frozen=True)
class Bench(Saved):
    """Models timed side by side; the first is the reference.

    Attributes
    ----------
    models
        The reference, and those that are compared with it.
    batches
        Timings at each batch size.
    inputs
        Where the samples come from, in words: a sentence for each input that was made.
    threads
        Threads inside an operator.
    runtime
        Name and version of the engine.
    checks
        Of ``--max-latency-ratio``, for each candidate and batch.
    notes
        What a reader should know first.
    """

    kind: ClassVar[str] = "bench"
    derived: ClassVar[tuple[str, ...]] = ("passed",)

    models: tuple[BenchedModel, ...]
    batches: tuple[BatchTiming, ...]
    inputs: tuple[str, ...]
    threads: int
    runtime: str
    checks: tuple[LatencyCheck, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool | None:
        """Whether every limit is kept; None where there are none, or it cannot be told."""
        if any(check.passed is False for check in self.checks):
            return False
        return True if self.checks and all(check.passed for check in self.checks) else None

    def document(self) -> Document:
        """What people read of it, as Markdown or HTML."""
        from nettrim_cli.report.documents.bench import bench_document

        return bench_document(self)

    def rows(self) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
        """A row for each batch size and model; seconds and bytes."""
        from nettrim_cli.report.documents.bench import timing_rows

        return timing_rows(self)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, as many as tell all apart."""
    parts = [PurePath(path).parts for path in paths]
    for count in range(1, max(map(len, parts), default=0)):
        names = [str(PurePath(*path[-count:])) for path in parts]
        if len(set(names)) == len(set(paths)):
            return names
    return list(paths)
