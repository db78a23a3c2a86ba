"""How the places in the graph that read a layer's columns find them in the recorded tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.draws import Positions
from nettrim_cli.data.recorder import Place
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry

Array = NDArray[Any]


@dataclass(frozen=True)
class Reading:
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

    def counts(self, place: Place, block: int) -> list[int]:
        """Columns of a block in one batch, iteration by iteration; nothing of them is formed."""
        found = {role: place.tensors[name] for role, (name, _) in self.names.items()}
        turns = self._turns(found)
        if not turns:
            return []
        shapes = {role: each.shape for role, each in self.constants.items()}
        shapes |= {role: each.shape[self._depth :] for role, each in found.items()}
        if "lengths" in found:
            lengths = place.get(self.names["lengths"][0])
            return [ops.count_columns(shapes, self.geometry, block, lengths[t]) for t in turns]
        lengths = self.constants.get("lengths")
        return [ops.count_columns(shapes, self.geometry, block, lengths)] * len(turns)

    def parts(
        self, place: Place, block: int, positions: Sequence[Positions | None], most: int
    ) -> Iterator[Array]:
        """Columns of a block in one batch, some `most` values at a time.

        Parameters
        ----------
        positions
            Which of the columns of each iteration are wanted, None for all.
        """
        found = {role: place.get(name) for role, (name, _) in self.names.items()}
        for turn, some in zip(self._turns(found), positions):
            arrays = {role: each[turn] for role, each in found.items()}
            if "lengths" in arrays:
                arrays["lengths"] = arrays["lengths"].astype(np.int64)
            yield from ops.columns_in_parts(
                {**arrays, **self.constants}, self.geometry, block, most, some
            )

    @property
    def _depth(self) -> int:
        return max((stacked for _, stacked in self.names.values()), default=0)

    def _turns(self, found: Mapping[str, Any]) -> list[tuple[int, ...]]:
        """Each iteration; none of an empty sequence or a branch that was not taken."""
        shapes = [getattr(each, "shape", None) for each in found.values()]
        if any(shape is None or math.prod(shape) == 0 for shape in shapes):
            return []
        return list(np.ndindex(*(shapes[0] or ())[: self._depth] if shapes else ()))


@dataclass(frozen=True)
class Signals:
    """One version of the network at the places that read a layer's columns.

    Attributes
    ----------
    offsets
        Tensor that is added behind each of the layers, empty for none; only where they are read
        at one place.
    outputs
        Tensor that carries the results of each layer, where these are recorded, too.
    """

    places: Sequence[Place]
    readings: Sequence[Reading]
    offsets: Sequence[str] = ()
    outputs: Sequence[str] = ()

    def counts(self, at: int, block: int) -> list[list[int]]:
        """Columns of a block in batch `at`: at each place, in each iteration."""
        return [reading.counts(self.places[at], block) for reading in self.readings]

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
        except ops.Refusal:
            return None

    def added(self, at: int) -> list[Array]:
        """Rows (P, M) of each offset in batch `at`; empty ones where there are none."""
        found = []
        for name in filter(None, self.offsets):
            value = self.places[at].get(name)
            whole = isinstance(value, np.ndarray) and value.size > 0
            columns = ops.outputs_as_columns(value, self.readings[0].geometry) if whole else None
            found.append(np.empty((0, 0), np.float32) if columns is None else columns.T)
        return found
