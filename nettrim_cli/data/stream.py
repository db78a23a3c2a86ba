"""Running the model piece by piece over all samples.

A stream is one version of the network (the dense one, or the one pruned so far) on its way
through the graph.  It holds the tensors that are still needed, batch by batch; beyond a budget
of memory, which all forks of a stream share, they wait in a temporary file that has no name and
goes with the process.
"""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
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
"""A model for inputs of these kinds; the flag says whether what subgraphs show is carried."""

MEMORY_BYTES = 256 << 20
TRAIL_BYTES = 1 << 30


class SpillFile:
    """A temporary file without a name, closed when nobody holds a tensor in it any more."""

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
        """Bytes that it takes of the disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def load(self) -> Array:
        """Read it."""
        raw = np.empty(self.nbytes, np.uint8)
        self.spill.file.seek(self.offset)
        left = raw.data
        while left.nbytes:  # one read gives 2 GB at most
            read = self.spill.file.readinto(left)  # type: ignore[attr-defined]
            if not read:
                raise DiskFailed("a temporary file ended early; the disk may be failing")
            left = left[read:]
        return raw.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class LiveBatch:
    """One batch: the tensors alive in it."""

    tensors: Mapping[str, Any]
    count: int
    holdout: bool

    def get(self, name: str) -> Any:
        """A tensor's value, wherever it waits."""
        return load(self.tensors[name])


@dataclass(frozen=True)
class Iterations:
    """A tensor of a subgraph for each time that it was there, in whatever shape.

    Attributes
    ----------
    values
        All values in one axis.
    shapes
        For each time the rank, and then the sizes.
    """

    values: Any
    shapes: Array

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, wherever it waits."""
        return int(getattr(self.values, "nbytes", 0))

    @property
    def sizes(self) -> list[tuple[int, ...]]:
        """The shape that the tensor had each time."""
        found, at = [], 0
        while at < len(self.shapes):
            end = at + 1 + int(self.shapes[at])
            found.append(tuple(int(each) for each in self.shapes[at + 1 : end]))
            at = end
        return found

    def load(self) -> list[Array]:
        """The tensors one by one."""
        sizes = self.sizes
        ends = np.cumsum([math.prod(each) for each in sizes])
        parts = np.split(load(self.values), ends[:-1])
        return [part.reshape(size) for part, size in zip(parts, sizes)] if sizes else []


def load(kept: Any) -> Any:
    """What a ``TensorStore`` kept."""
    return kept.load() if isinstance(kept, (SpilledTensor, Iterations)) else kept


def size_of(kept: Any) -> int:
    """Bytes of what a ``TensorStore`` kept."""
    if isinstance(kept, list):
        return sum(map(size_of, kept))
    return int(getattr(kept, "nbytes", 0))


class Stream:
    """One version of the network on its way through the graph.

    Parameters
    ----------
    places
        The batches with the tensors alive; see ``read``.
    budget
        How much may be held in memory; the rest waits on disk.
    """

    def __init__(self, places: list[LiveBatch], *, threads: int, budget: MemoryBudget) -> None:
        self.places, self.threads, self.budget = places, threads, budget
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
        shelf = TensorStore(stream.budget)
        for batch, holdout in batches:
            kept = {name: shelf.keep(value) for name, value in batch.feeds.items()}
            stream.places.append(LiveBatch(kept, batch.count, holdout))
        return stream

    def fork(self, budget: MemoryBudget | None = None) -> Stream:
        """A stream of its own from here on, which shares what is alive, and the budget if none."""
        other = Stream(list(self.places), threads=self.threads, budget=budget or self.budget)
        other._types.update(self._types)
        return other

    def advance(
        self,
        build: Build,
        inputs: Iterable[str],
        outputs: tuple[str, ...],
        needed: frozenset[str],
        shapes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Run a piece of the graph over every batch and drop what nobody needs any more.

        Parameters
        ----------
        shapes
            Outputs that may change their shape within one run, and the outputs with their shapes
            once they are carried; empty for one that cannot be, which is None from then on.
        """
        wanted = tuple(inputs)
        kinds = {name: self._kind(name) for name in wanted} if outputs and self.places else {}
        piece = _Piece(partial(build, kinds), outputs, shapes, self.threads)
        shelf = TensorStore(self.budget)
        for at, place in enumerate(self.places):
            alive = {k: v for k, v in place.tensors.items() if k in needed}
            if outputs:
                for name, value in piece.run({name: place.get(name) for name in wanted}):
                    alive[name] = shelf.keep(value)
                self._types.update(piece.types)
            self.places[at] = LiveBatch(alive, place.count, place.holdout)

    def results(self, build: Build, inputs: Iterable[str]) -> Iterator[list[Any]]:
        """Outputs of a piece of the graph for every batch; what is alive stays as it is.

        What ``build`` holds is let go before anything runs.
        """
        wanted = tuple(inputs)
        if not self.places:
            return
        kinds = {name: self._kind(name) for name in wanted}
        engine = Engine(build(kinds, False), threads=self.threads, arena=False)
        del build
        for place in self.places:
            yield engine.run({name: place.get(name) for name in wanted})

    def _kind(self, name: str) -> tuple[Any, int | None]:
        """Type and rank of a tensor (None where it changes), else the engine's word for it."""
        values = [place.tensors[name] for place in self.places]
        if not all(isinstance(value, (np.ndarray, SpilledTensor)) for value in values):
            return self._types[name], None
        ranks = {len(value.shape) for value in values}
        return values[0].dtype, ranks.pop() if len(ranks) == 1 else None


class StreamCache:
    """A stream at each of its stops, for more passes of it over the same samples.

    Parameters
    ----------
    most
        Bytes that may be kept of what is new at each stop, in memory and on disk; none of 0.
    """

    def __init__(self, most: int = TRAIL_BYTES) -> None:
        self.left = most
        self.stops: list[Stream] = []

    def follow(
        self, stop: int, run: Callable[[], Stream], names: Iterable[str] | None = None
    ) -> Stream:
        """The stream at a stop: as it was, else as it is run, and kept where there is room.

        Parameters
        ----------
        names
            The tensors that are new there, all by default.
        """
        if stop < len(self.stops):
            return self.stops[stop].fork()
        stream = run()
        fresh = None if names is None else set(names)
        for place in stream.places:
            new = place.tensors if fresh is None else fresh
            self.left -= sum(size_of(place.tensors[name]) for name in new)
        if self.left > 0:  # once it is not, no later stop is kept either
            self.stops.append(stream.fork())
        return stream


class MemoryBudget:
    """Bytes of memory that are left for tensors that wait, whoever holds them."""

    def __init__(self, left: int = MEMORY_BYTES) -> None:
        self.left = left

    def take(self, value: Array) -> bool:
        """Count a tensor as held for as long as anybody does; False where there is no room."""
        if value.nbytes > self.left:
            return False
        self.left -= value.nbytes
        weakref.finalize(value, self._give_back, value.nbytes).atexit = False
        return True

    def _give_back(self, size: int) -> None:
        self.left += size


class _Piece:
    """A piece of the graph that is about to run; where shapes change, built in another way."""

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
            return list(zip(self.outputs, self.engine.run(feeds, self.outputs)))
        found = dict(zip(self.engine.outputs, self.engine.run(feeds)))
        turns = {
            name: Iterations(found[name], found[shapes]) if shapes else None
            for name, shapes in self.shapes.items()
        }
        return [(name, turns[name] if name in turns else found[name]) for name in self.outputs]


class TensorStore:
    """Where tensors wait: in memory up to a budget, then in a temporary file of their own."""

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._spill: SpillFile | None = None

    def keep(self, value: Any) -> Any:
        """Hold a tensor, or its place on disk."""
        if isinstance(value, Iterations):
            return Iterations(self.keep(value.values), value.shapes)
        if not isinstance(value, np.ndarray) or value.dtype == object:
            return value
        if self._budget.take(value):
            return value
        if self._spill is None:
            self._spill = SpillFile()
        offset = self._spill.file.seek(0, 2)
        left = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        while left.nbytes:  # one write takes 2 GB at most, and less where the disk fills up
            left = left[self._spill.file.write(left) :]
        return SpilledTensor(self._spill, offset, value.dtype, value.shape)
