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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.calibration import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.errors import DiskFailed
from nettrim_cli.graph.layer import Runnable

Array = NDArray[Any]
Build = Callable[[Mapping[str, tuple[Any, int | None]]], Runnable]
MEMORY_BYTES = 256 << 20


class Spill:
    """A temporary file without a name, closed when nobody holds a tensor in it any more."""

    def __init__(self) -> None:
        self.file: IO[bytes] = tempfile.TemporaryFile(prefix="nettrim-", buffering=0)  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


@dataclass(frozen=True)
class Parked:
    """A tensor of one batch that waits on disk."""

    spill: Spill
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def load(self) -> Array:
        """Read it."""
        raw = np.empty(math.prod(self.shape) * self.dtype.itemsize, np.uint8)
        self.spill.file.seek(self.offset)
        left = raw.data
        while left.nbytes:  # one read gives 2 GB at most
            read = self.spill.file.readinto(left)  # type: ignore[attr-defined]
            if not read:
                raise DiskFailed("a temporary file ended early; the disk may be failing")
            left = left[read:]
        return raw.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True)
class Place:
    """One batch: the tensors alive in it."""

    tensors: Mapping[str, Any]
    count: int
    held_out: bool

    def get(self, name: str) -> Any:
        """A tensor's value, wherever it waits."""
        return load(self.tensors[name])


def load(kept: Any) -> Any:
    """What a ``Shelf`` kept."""
    return kept.load() if isinstance(kept, Parked) else kept


class Stream:
    """One version of the network on its way through the graph.

    Parameters
    ----------
    places
        The batches with the tensors alive; see ``read``.
    budget
        How much may be held in memory; the rest waits on disk.
    """

    def __init__(self, places: list[Place], *, threads: int, budget: Budget) -> None:
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
        stream = cls([], threads=threads, budget=Budget(memory_bytes))
        shelf = Shelf(stream.budget)
        for batch, held_out in batches:
            kept = {name: shelf.keep(value) for name, value in batch.feeds.items()}
            stream.places.append(Place(kept, batch.count, held_out))
        return stream

    def fork(self) -> Stream:
        """A stream of its own from here on, which shares what is alive, and the budget."""
        other = Stream(list(self.places), threads=self.threads, budget=self.budget)
        other._types.update(self._types)
        return other

    def advance(
        self,
        build: Build,
        inputs: Iterable[str],
        outputs: tuple[str, ...],
        needed: frozenset[str],
    ) -> None:
        """Run a piece of the graph over every batch and drop what nobody needs any more."""
        wanted = tuple(inputs)
        engine: Engine | None = None
        shelf = Shelf(self.budget)
        for at, place in enumerate(self.places):
            alive = {k: v for k, v in place.tensors.items() if k in needed}
            if outputs:
                feeds = {name: place.get(name) for name in wanted}
                if engine is None:
                    kinds = {name: self._kind(name) for name in wanted}
                    engine = Engine(build(kinds), threads=self.threads, arena=False)
                    self._types.update(engine.types)
                for name, value in zip(outputs, engine.run(feeds, outputs)):
                    alive[name] = shelf.keep(value)
            self.places[at] = Place(alive, place.count, place.held_out)

    def _kind(self, name: str) -> tuple[Any, int | None]:
        """Type and rank of a tensor (None where it changes), else the engine's word for it."""
        values = [place.tensors[name] for place in self.places]
        if not all(isinstance(value, (np.ndarray, Parked)) for value in values):
            return self._types[name], None
        ranks = {len(value.shape) for value in values}
        return values[0].dtype, ranks.pop() if len(ranks) == 1 else None


class Budget:
    """Bytes of memory that are left for tensors that wait, whoever holds them."""

    def __init__(self, left: int) -> None:
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


class Shelf:
    """Where tensors wait: in memory up to a budget, then in a temporary file of their own."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spill: Spill | None = None

    def keep(self, value: Any) -> Any:
        """Hold a tensor, or its place on disk."""
        if not isinstance(value, np.ndarray) or value.dtype == object:
            return value
        if self._budget.take(value):
            return value
        if self._spill is None:
            self._spill = Spill()
        offset = self._spill.file.seek(0, 2)
        left = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        while left.nbytes:  # one write takes 2 GB at most, and less where the disk fills up
            left = left[self._spill.file.write(left) :]
        return Parked(self._spill, offset, value.dtype, value.shape)
