"""How the places in the graph that read a layer's columns find them in the recorded tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.column_sampling import Positions
from nettrim_cli.data.stream import Iterations, LiveBatch
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry

Array = NDArray[Any]


@dataclass(frozen=True)
class SiteReader:
    """How one place in the graph reads a layer's columns.

    Attributes
    ----------
    names
        By role, the recorded tensor and how many of its leading axes count iterations.
    constants
        By role, tensors that no sample changes.
    """

    geometry: Geometry
    names: Mapping[str, tuple[str, int]]
    constants: Mapping[str, Array] = field(default_factory=dict)

    def counts(self, place: LiveBatch, block: int) -> list[int]:
        """Columns of a block in one batch, turn by turn; nothing of them is formed."""
        found = {role: place.tensors[name] for role, (name, _) in self.names.items()}
        fixed = {role: each.shape for role, each in self.constants.items()}
        turns = [{**fixed, **each} for each in self._shapes(found)]
        lengths: Sequence[Array | None] = [self.constants.get("lengths")] * len(turns)
        if "lengths" in found:
            lengths = self._each(place.get(self.names["lengths"][0]))
        return [
            ops.count_columns(shapes, self.geometry, block, some) if _full(shapes) else 0
            for shapes, some in zip(turns, lengths)
        ]

    def parts(
        self, place: LiveBatch, block: int, positions: Sequence[Positions | None], most: int
    ) -> Iterator[Array]:
        """Columns of a block in one batch, some `most` values at a time.

        Parameters
        ----------
        positions
            Which of the columns of each turn are wanted, None for all.
        """
        found = {role: place.get(name) for role, (name, _) in self.names.items()}
        turns = [self._each(each) for each in found.values()]
        for values, some in zip(zip(*turns) if turns else [()], positions):
            arrays = dict(zip(found, values))
            if not _full({role: each.shape for role, each in arrays.items()}):
                continue  # a branch that was not taken
            if "lengths" in arrays:
                arrays["lengths"] = arrays["lengths"].astype(np.int64)
            yield from ops.columns_in_parts(
                {**arrays, **self.constants}, self.geometry, block, most, some
            )

    @property
    def _depth(self) -> int:
        return max((stacked for _, stacked in self.names.values()), default=0)

    def _shapes(self, found: Mapping[str, Any]) -> list[dict[str, tuple[int, ...]]]:
        """Shapes of the tensors each time that they were there."""
        if found and all(isinstance(each, Iterations) for each in found.values()):
            each = [turns.sizes for turns in found.values()]
            return [dict(zip(found, sizes)) for sizes in zip(*each)]
        shapes = {role: getattr(each, "shape", None) for role, each in found.items()}
        whole = {role: shape for role, shape in shapes.items() if shape is not None}
        if len(whole) < len(shapes) or not _full(whole):
            return []  # an empty sequence, or a branch that was not taken
        first = next(iter(whole.values()), ())
        once = {role: shape[self._depth :] for role, shape in whole.items()}
        return [once] * math.prod(first[: self._depth])

    def _each(self, value: Any) -> list[Array]:
        """A tensor's value each time that it was there."""
        if isinstance(value, list):
            return value
        return [value[turn] for turn in np.ndindex(value.shape[: self._depth])]


def _full(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return all(math.prod(shape) for shape in shapes.values())


@dataclass(frozen=True)
class LayerInputs:
    """One version of the network at the places that read a layer's columns.

    Attributes
    ----------
    offsets
        Tensor that is added behind each of the layers, empty for none; only where they are read
        at one place.
    outputs
        Tensor that carries the results of each layer, where these are recorded, too.
    """

    places: Sequence[LiveBatch]
    readings: Sequence[SiteReader]
    offsets: Sequence[str] = ()
    outputs: Sequence[str] = ()

    def counts(self, at: int, block: int) -> list[list[int]]:
        """Columns of a block in batch `at`: at each place, in each iteration."""
        return [reading.counts(self.places[at], block) for reading in self.readings]

    def unread(self, block: int) -> tuple[int, ...]:
        """Which of several places, by number, no column of a block comes from."""
        if len(self.readings) == 1:
            return ()
        counts = [self.counts(at, block) for at in range(len(self.places))]
        return tuple(
            place for place in range(len(self.readings)) if not any(sum(e[place]) for e in counts)
        )

    def parts(self, at: int, block: int, positions: Positions | None, most: int) -> Iterator[Array]:
        """Columns of a block in batch `at`, at all places, some `most` values at a time.

        Parameters
        ----------
        positions
            Which of them all are wanted, ascending; None for all.
        """
        first = 0
        for reading, counts in zip(self.readings, self.counts(at, block)):
            ends = first + np.cumsum([0, *counts])
            first = ends[-1]
            wanted: list[Positions | None] = [None] * len(counts)
            if positions is not None:
                cuts = np.searchsorted(positions, ends)
                wanted = [
                    positions[begin:end] - start for start, begin, end in zip(ends, cuts, cuts[1:])
                ]
            yield from reading.parts(self.places[at], block, wanted, most)

    def results(self, at: int, block: int) -> list[Array] | None:
        """Rows (P, M) of each layer's results in batch `at`, where they were recorded."""
        found = [self.places[at].get(name) for name in self.outputs]
        if not found or any(getattr(each, "dtype", None) != np.float32 for each in found):
            return None
        geometry = self.readings[0].geometry
        try:
            return [ops.outputs_as_columns(each, geometry, block).T for each in found]
        except ops.Unsupported:
            return None

    @property
    def lost(self) -> bool:
        """Whether a tensor could not be handed out of its subgraph."""
        names = {name for reading in self.readings for name, _ in reading.names.values()}
        return any(place.tensors[name] is None for place in self.places for name in names)

    def added(self, at: int) -> list[Array]:
        """Rows (P, M) of each offset in batch `at`; empty ones where there are none."""
        found = []
        for name in filter(None, self.offsets):
            value = self.places[at].get(name)
            whole = isinstance(value, np.ndarray) and value.size > 0
            columns = ops.outputs_as_columns(value, self.readings[0].geometry) if whole else None
            found.append(np.empty((0, 0), np.float32) if columns is None else columns.T)
        return found
