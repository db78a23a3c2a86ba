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

    def counts(self, batch: LiveBatch, block: int) -> list[int]:
        """Number of columns of a block in one batch, by iteration; no column is formed."""
        tensors = {role: batch.tensors[name] for role, (name, _) in self.names.items()}
        fixed = {role: array.shape for role, array in self.constants.items()}
        iterations = [{**fixed, **shapes} for shapes in self._shapes(tensors)]
        if not iterations:
            return []  # lengths may be there all the same: of sequences without steps, say
        lengths: Sequence[Array | None] = [self.constants.get("lengths")] * len(iterations)
        if "lengths" in tensors:
            lengths = self._iterations(batch.get(self.names["lengths"][0]))
        return [
            ops.count_columns(shapes, self.geometry, block, own_lengths) if _full(shapes) else 0
            for shapes, own_lengths in zip(iterations, lengths, strict=True)
        ]

    def parts(
        self, batch: LiveBatch, block: int, positions: Sequence[Positions | None], max_values: int
    ) -> Iterator[Array]:
        """Columns (N, P) of a block in one batch, about `max_values` values at a time.

        Parameters
        ----------
        batch
            One of the network's batches.
        block
            Number of the block.
        positions
            For each iteration of `counts` the columns to form, None for all.
        max_values
            About so many values are formed at once.
        """
        if not positions:
            return
        tensors = {role: batch.get(name) for role, (name, _) in self.names.items()}
        by_role = [self._iterations(array) for array in tensors.values()]
        iterations = zip(*by_role, strict=True) if by_role else [()]
        for values, selected in zip(iterations, positions, strict=True):
            arrays = dict(zip(tensors, values, strict=True))
            if not _full({role: array.shape for role, array in arrays.items()}):
                continue  # a branch that was not taken
            if "lengths" in arrays:
                arrays["lengths"] = arrays["lengths"].astype(np.int64)
            yield from ops.columns_in_parts(
                {**arrays, **self.constants}, self.geometry, block, max_values, selected
            )

    @property
    def _depth(self) -> int:
        """Number of leading axes that count iterations."""
        return max((stacked for _, stacked in self.names.values()), default=0)

    def _shapes(self, tensors: Mapping[str, Any]) -> list[dict[str, tuple[int, ...]]]:
        """Shapes of the tensors by role, in each iteration."""
        if tensors and all(isinstance(tensor, Iterations) for tensor in tensors.values()):
            sizes_by_role = [iterations.sizes for iterations in tensors.values()]
            return [
                dict(zip(tensors, sizes, strict=True)) for sizes in zip(*sizes_by_role, strict=True)
            ]
        shapes = {role: getattr(tensor, "shape", None) for role, tensor in tensors.items()}
        plain = {role: shape for role, shape in shapes.items() if shape is not None}
        if len(plain) < len(shapes) or not _full(plain):
            return []  # an empty sequence, or a branch that was not taken
        first = next(iter(plain.values()), ())
        once = {role: shape[self._depth :] for role, shape in plain.items()}
        return [once] * math.prod(first[: self._depth])

    def _iterations(self, value: Any) -> list[Array]:
        """A tensor's value in each iteration."""
        if isinstance(value, list):
            return value
        return [value[position] for position in np.ndindex(value.shape[: self._depth])]


def _full(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether no tensor is empty."""
    return all(math.prod(shape) for shape in shapes.values())


@dataclass(frozen=True)
class LayerInputs:
    """One version of the network at the places that read a layer's columns.

    Attributes
    ----------
    batches
        The tensors alive in each batch.
    readers
        One for each place that reads the columns.
    skips
        Tensor that is added to the results of each layer, empty for none; only where the layers
        are read at one place.
    outputs
        Tensor that carries the results of each layer, where these are recorded, too.
    exact_skips
        Whether what is added is the same as in the dense network.
    layers
        Names of the layers.
    """

    batches: Sequence[LiveBatch]
    readers: Sequence[SiteReader]
    skips: Sequence[str] = ()
    outputs: Sequence[str] = ()
    exact_skips: bool = True
    layers: Sequence[str] = ()

    def weights(self, number: int, columns: int) -> Array | None:
        """Mean weights (P,) of so many columns in a batch over the layers; None for equal ones."""
        known = self.batches[number].weights
        weights = [known[layer] for layer in self.layers if layer in known]
        if not weights or any(len(layer_weights) != columns for layer_weights in weights):
            return None
        weights += [np.ones(columns, np.float32)] * (len(self.layers) - len(weights))
        return np.asarray(np.mean(weights, axis=0))

    def counts(self, number: int, block: int) -> list[list[int]]:
        """Number of columns of a block in a batch: at each place, in each iteration."""
        return [reader.counts(self.batches[number], block) for reader in self.readers]

    def unread_sites(self, block: int) -> tuple[int, ...]:
        """Numbers of the places from which no column of a block comes; empty where there is one."""
        if len(self.readers) == 1:
            return ()
        counts = [self.counts(number, block) for number in range(len(self.batches))]
        return tuple(
            site
            for site in range(len(self.readers))
            if not any(sum(batch[site]) for batch in counts)
        )

    def parts(
        self, number: int, block: int, positions: Positions | None, max_values: int
    ) -> Iterator[Array]:
        """Columns (N, P) of a block in a batch, at all places, about `max_values` at a time.

        Parameters
        ----------
        number
            Of the batch.
        block
            Number of the block.
        positions
            The columns to form, ascending; None for all.
        max_values
            About so many values are formed at once.
        """
        first = 0
        for reader, counts in zip(self.readers, self.counts(number, block), strict=True):
            ends = first + np.cumsum([0, *counts])
            first = ends[-1]
            selected: list[Positions | None] = [None] * len(counts)
            if positions is not None:
                cuts = np.searchsorted(positions, ends)
                selected = [
                    positions[begin:end] - start
                    for start, begin, end in zip(ends, cuts, cuts[1:], strict=False)
                ]
            yield from reader.parts(self.batches[number], block, selected, max_values)

    def results(self, number: int, block: int) -> list[Array] | None:
        """Rows (P, M) of each layer's results in a batch, where they were recorded."""
        values = [self.batches[number].get(name) for name in self.outputs]
        if not values or any(getattr(value, "dtype", None) != np.float32 for value in values):
            return None
        geometry = self.readers[0].geometry
        try:
            return [ops.outputs_as_columns(value, geometry, block).T for value in values]
        except ops.Unsupported:
            return None

    @property
    def incomplete(self) -> bool:
        """Whether a tensor could not be handed out of its subgraph."""
        names = {name for reader in self.readers for name, _ in reader.names.values()}
        return any(batch.tensors[name] is None for batch in self.batches for name in names)

    def skip_rows(self, number: int) -> list[Array]:
        """Rows (P, M) of each residual connection in a batch; empty ones where there are none."""
        rows = []
        for name in filter(None, self.skips):
            value = self.batches[number].get(name)
            usable = isinstance(value, np.ndarray) and value.size > 0
            columns = ops.outputs_as_columns(value, self.readers[0].geometry) if usable else None
            rows.append(np.empty((0, 0), np.float32) if columns is None else columns.T)
        return rows
