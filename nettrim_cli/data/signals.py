"""How the places in the graph that read a layer's columns find them in the recorded tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.recorder import Place
from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry

Array = NDArray[Any]
PART_VALUES = 4 << 20  # of the columns that are made at once


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

    def parts(self, place: Place, block: int) -> Iterator[Array]:
        """Columns of a block in one batch, a bounded number at a time."""
        found = {role: place.get(name) for role, (name, _) in self.names.items()}
        for arrays in self._turns(found):
            if any(each.size == 0 for each in arrays.values()):
                continue  # a branch that was not taken
            if "lengths" in arrays:
                arrays["lengths"] = arrays["lengths"].astype(np.int64)
            yield from ops.columns_in_parts(
                {**arrays, **self.constants}, self.geometry, block, PART_VALUES
            )

    def _turns(self, found: Mapping[str, Any]) -> Iterator[dict[str, Array]]:
        """The tensors each time that they were there."""
        if all(isinstance(each, np.ndarray) and each.size for each in found.values()):
            depth = max((stacked for _, stacked in self.names.values()), default=0)
            shape = next(iter(found.values())).shape[:depth] if found else ()
            for turn in np.ndindex(shape):
                yield {role: each[turn] for role, each in found.items()}
        elif all(isinstance(each, list) for each in found.values()):
            for values in zip(*found.values()):
                yield dict(zip(found, values))


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

    def results(self, at: int, block: int) -> list[Array] | None:
        """Columns (M, P) of each layer's results in batch `at`, where they were recorded."""
        found = [self.places[at].get(name) for name in self.outputs]
        if not found or any(getattr(each, "dtype", None) != np.float32 for each in found):
            return None
        geometry = self.readings[0].geometry
        try:
            return [ops.outputs_as_columns(each, geometry, block) for each in found]
        except ops.Refusal:
            return None

    @property
    def lost(self) -> bool:
        """Whether a tensor could not be handed out of its subgraph."""
        names = {name for reading in self.readings for name, _ in reading.names.values()}
        return any(place.tensors[name] is None for place in self.places for name in names)

    def added(self, at: int) -> list[Array]:
        """Columns (M, P) of each offset in batch `at`; empty ones where there are none."""
        found = []
        for name in filter(None, self.offsets):
            value = self.places[at].get(name)
            whole = isinstance(value, np.ndarray) and value.size > 0
            columns = ops.outputs_as_columns(value, self.readings[0].geometry) if whole else None
            found.append(np.empty((0, 0), np.float32) if columns is None else columns)
        return found

    def parts(self, at: int, block: int) -> Iterator[Array]:
        """Columns of a block in batch `at`, at all places."""
        for reading in self.readings:
            yield from reading.parts(self.places[at], block)
