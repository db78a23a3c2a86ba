"""Running the model piece by piece over all samples.

A stream is one version of the network (the dense one, or the one pruned so far) on its way
through the graph.  It holds the tensors that are still needed, batch by batch.  Beyond a budget
of memory, which all forks of a stream share, they wait in a temporary file.  The file has no name
and disappears with the process.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import DiskFailed, EngineFailed
from nettrim_cli.graph.layer import Runnable

Array = NDArray[Any]
Kinds = Mapping[str, tuple[Any, int | None]]
Build = Callable[[Kinds, bool], Runnable]
"""A model for inputs of these kinds; the flag asks for tensors of subgraphs with their shapes."""

MEMORY_BYTES = 256 << 20
CACHE_BYTES = 1 << 30


class SpillFile:
    """A temporary file without a name; it closes when nobody holds a tensor in it any more."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="nettrim-", buffering=0)  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


@dataclass(frozen=True)
class SpilledTensor:
    """A tensor of one batch that waits on disk."""

    spill: SpillFile
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that the tensor takes of the disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def load(self) -> Array:
        """Read the tensor.

        Raises
        ------
        DiskFailed
            The file ends before the tensor does.
        """
        raw = np.empty(self.nbytes, np.uint8)
        self.spill.file.seek(self.offset)
        remaining = raw.data
        while remaining.nbytes:  # one read gives 2 GB at most
            read = self.spill.file.readinto(remaining)  # type: ignore[attr-defined]
            if not read:
                raise DiskFailed("a temporary file ended early; the disk may be failing")
            remaining = remaining[read:]
        return raw.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class LiveBatch:
    """The tensors alive in one batch.

    Attributes
    ----------
    tensors
        By name: arrays, or what a ``TensorStore`` holds in their place.
    count
        Number of samples.
    holdout
        Whether the samples are held out.
    weights
        As in ``Batch``.
    """

    tensors: Mapping[str, Any]
    count: int
    holdout: bool
    weights: Mapping[str, Array] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        """A tensor's value, wherever it waits."""
        return load(self.tensors[name])


@dataclass(frozen=True)
class Iterations:
    """A tensor of a subgraph in each iteration; its shape may change between them.

    Attributes
    ----------
    values
        (V,) all values, one iteration after the other.
    shapes
        (S,) integers: for each iteration the rank, and then the sizes.
    """

    values: Any
    shapes: Array

    @property
    def nbytes(self) -> int:
        """Bytes of the values, in memory or on disk."""
        return int(getattr(self.values, "nbytes", 0))

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The tensor's shape in each iteration."""
        sizes, start = [], 0
        while start < len(self.shapes):
            end = start + 1 + int(self.shapes[start])
            sizes.append(tuple(int(size) for size in self.shapes[start + 1 : end]))
            start = end
        return sizes

    def load(self) -> list[Array]:
        """The tensor of each iteration."""
        sizes = self.sizes
        ends = np.cumsum([math.prod(size) for size in sizes])
        parts = np.split(load(self.values), ends[:-1])
        return (
            [array.reshape(size) for array, size in zip(parts, sizes, strict=True)] if sizes else []
        )


def load(stored: Any) -> Any:
    """The value that a ``TensorStore`` holds, read from disk where it waits there."""
    return stored.load() if isinstance(stored, (SpilledTensor, Iterations)) else stored


def size_of(stored: Any) -> int:
    """Bytes of a value that a ``TensorStore`` holds; a list's bytes are those of its items."""
    if isinstance(stored, list):
        return sum(map(size_of, stored))
    return int(getattr(stored, "nbytes", 0))


class Stream:
    """One version of the network on its way through the graph.

    Parameters
    ----------
    batches
        The batches with the tensors alive; see ``read``.
    threads
        Threads of the engine.
    budget
        Memory for tensors; the others wait on disk.
    """

    def __init__(self, batches: list[LiveBatch], *, threads: int, budget: MemoryBudget) -> None:
        self.batches, self.threads, self.budget = batches, threads, budget
        self._types: dict[str, str] = {}

    @classmethod
    def read(
        cls,
        batches: Iterable[tuple[Batch, bool]],
        *,
        threads: int,
        memory_bytes: int = MEMORY_BYTES,
    ) -> Stream:
        """Start at the model's inputs; the flag says whether a batch is held out."""
        stream = cls([], threads=threads, budget=MemoryBudget(memory_bytes))
        store = TensorStore(stream.budget)
        for batch, holdout in batches:
            stored = {name: store.keep(value) for name, value in batch.feeds.items()}
            stream.batches.append(LiveBatch(stored, batch.count, holdout, batch.weights))
        return stream

    def fork(self, budget: MemoryBudget | None = None) -> Stream:
        """A second stream from here on, with the same tensors, and the same budget by default."""
        fork = Stream(list(self.batches), threads=self.threads, budget=budget or self.budget)
        fork._types.update(self._types)
        return fork

    def advance(
        self,
        build: Build,
        inputs: Iterable[str],
        outputs: tuple[str, ...],
        needed: frozenset[str],
        shapes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Run a piece of the graph over every batch and drop tensors that nobody needs any more.

        Parameters
        ----------
        build
            Makes the piece's model.
        inputs, outputs
            Names of the tensors that the piece reads, and of those that it adds.
        needed
            Names of the tensors that later pieces or layers read.
        shapes
            Outputs whose shape may change within one run, each with the output that lists its
            shapes.  That name is empty where none can; the output is None from then on.
        """
        names = tuple(inputs)
        kinds = {name: self._kind(name) for name in names} if outputs and self.batches else {}
        piece = _Piece(partial(build, kinds), outputs, shapes, self.threads)
        store = TensorStore(self.budget)
        for number, batch in enumerate(self.batches):
            alive = {k: v for k, v in batch.tensors.items() if k in needed}
            if outputs:
                for name, value in piece.run({name: batch.get(name) for name in names}):
                    alive[name] = store.keep(value)
                self._types.update(piece.types)
            self.batches[number] = replace(batch, tensors=alive)

    def results(self, build: Build, inputs: Iterable[str]) -> Iterator[list[Any]]:
        """Outputs of a piece of the graph for every batch; the tensors alive stay as they are.

        The piece's model is let go before anything runs.
        """
        names = tuple(inputs)
        if not self.batches:
            return
        kinds = {name: self._kind(name) for name in names}
        engine = Engine(build(kinds, False), threads=self.threads, arena=False)
        del build
        for batch in self.batches:
            yield engine.run({name: batch.get(name) for name in names})

    def _kind(self, name: str) -> tuple[Any, int | None]:
        """Type and rank of a tensor (None where it changes), else the engine's word for it."""
        values = [batch.tensors[name] for batch in self.batches]
        if not all(isinstance(value, (np.ndarray, SpilledTensor)) for value in values):
            return self._types[name], None
        ranks = {len(value.shape) for value in values}
        return values[0].dtype, ranks.pop() if len(ranks) == 1 else None


class StreamCache:
    """A stream at each of its stops, for further passes over the same samples.

    Parameters
    ----------
    max_bytes
        Bytes of new tensors that the cache may hold over all stops, in memory and on disk.
    """

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self.max_bytes = self.free_bytes = max_bytes
        self.names: tuple[str, ...] = ()
        self.stops: list[Stream] = []

    def begin(self, names: tuple[str, ...]) -> None:
        """Keep what is there if it was made for these tensors; else forget it."""
        if names != self.names:
            self.names, self.free_bytes = names, self.max_bytes
            self.stops.clear()

    def follow(
        self, stop: int, run: Callable[[], Stream], names: Iterable[str] | None = None
    ) -> Stream:
        """The stream at a stop: from the cache, else from `run`, and cached where there is room.

        Parameters
        ----------
        stop
            Number of the stop; stops come in ascending order.
        run
            Brings the stream to the stop.
        names
            The tensors that are new there, all by default.
        """
        if stop < len(self.stops):
            return self.stops[stop].fork()
        stream = run()
        fresh = None if names is None else set(names)
        for batch in stream.batches:
            new = batch.tensors if fresh is None else fresh
            self.free_bytes -= sum(size_of(batch.tensors[name]) for name in new)
        if self.free_bytes > 0:  # once it is not, no later stop is kept either
            self.stops.append(stream.fork())
        return stream


class MemoryBudget:
    """Bytes of memory that are free for tensors that wait."""

    def __init__(self, free_bytes: int = MEMORY_BYTES) -> None:
        self.free_bytes = free_bytes

    def take(self, value: Array) -> bool:
        """Count a tensor as long as anybody holds it; False where there is no room."""
        if value.nbytes > self.free_bytes:
            return False
        self.free_bytes -= value.nbytes
        weakref.finalize(value, self._give_back, value.nbytes).atexit = False
        return True

    def _give_back(self, size: int) -> None:
        self.free_bytes += size


class _Piece:
    """A piece of the graph about to run; where shapes change, it is built to carry them."""

    def __init__(
        self,
        build: Callable[[bool], Runnable],
        outputs: tuple[str, ...],
        shapes: Mapping[str, str],
        threads: int,
    ) -> None:
        self.build, self.outputs, self.shapes, self.threads = build, outputs, shapes, threads
        self.carried = False
        self.engine: Engine | None = None
        self.types: Mapping[str, str] = {}

    def run(self, feeds: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Outputs by name for one batch.

        Raises
        ------
        EngineFailed
            The engine cannot run it in any way.
        """
        try:
            return self._run(feeds)
        except EngineFailed as error:
            if self.carried or not self.shapes:
                raise
            self.carried, self.engine = True, None
            try:
                return self._run(feeds)
            except EngineFailed:
                raise error from None  # the shapes were not to blame

    def _run(self, feeds: Mapping[str, Any]) -> list[tuple[str, Any]]:
        if self.engine is None:
            self.engine = Engine(self.build(self.carried), threads=self.threads, arena=False)
            self.types = self.engine.types
        if not self.carried:
            return list(zip(self.outputs, self.engine.run(feeds, self.outputs), strict=True))
        results = dict(zip(self.engine.outputs, self.engine.run(feeds), strict=True))
        iterations = {
            name: Iterations(results[name], results[shapes]) if shapes else None
            for name, shapes in self.shapes.items()
        }
        return [
            (name, iterations[name] if name in iterations else results[name])
            for name in self.outputs
        ]


class TensorStore:
    """Tensors that wait: in memory up to a budget, the others in one temporary file."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._spill: SpillFile | None = None

    def keep(self, value: Any) -> Any:
        """The tensor itself where memory has room, else its place on disk."""
        if isinstance(value, Iterations):
            return Iterations(self.keep(value.values), value.shapes)
        if not isinstance(value, np.ndarray) or value.dtype == object:
            return value
        if self._budget.take(value):
            return value
        if self._spill is None:
            self._spill = SpillFile()
        offset = self._spill.file.seek(0, 2)
        remaining = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        while remaining.nbytes:  # one write takes 2 GB at most, and less where the disk fills up
            remaining = remaining[self._spill.file.write(remaining) :]
        return SpilledTensor(self._spill, offset, value.dtype, value.shape)
