"""Units that a pruned network can do without: nobody hears them, or they always say the same.

What a unit that never changes adds to its readers goes into their biases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.channels.delete import delete_found, delete_units
from nettrim_cli.graph.channels.editor import Editor
from nettrim_cli.graph.channels.find import Found, find
from nettrim_cli.graph.channels.steady import LayerWeights, Values, Weights, pads, steady_values
from nettrim_cli.graph.channels.units import UnitGroup, UnitRows
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model

BLOCK = 16  # channels that convolutions of engines compute at once: 8 or 16
MOST_ROUNDS = 100  # a chain of as many layers may vanish from its end


def dead_units(model: Model) -> Mapping[str, NDArray[np.intp]]:
    """Units that can be deleted exactly, by name of the group; one of each group stays.

    In all readers their rows are zero, or meet an entry that is the same number in every sample,
    so that a bias does the same.  Channels of convolutions that are whole blocks go in whole ones.
    """
    return _Census(model).dead


def without_dead_units(model: Model) -> tuple[Model, int]:
    """A model without units that it can do without, and how many these were.

    Its outputs are the same up to rounding.  The model itself stays as it is; it is given back
    where there are none.
    """
    count = 0
    for _ in range(MOST_ROUNDS):  # what is left behind may be dead now
        census = _Census(model)
        if not census.dead:
            break
        count += sum(len(units) for units in census.dead.values())
        model = census.smaller()
    return model, count


@dataclass(frozen=True)
class _StoredWeights(Mapping[str, LayerWeights]):
    """Matrices and biases of layers by name: read when they are asked for, and not kept."""

    model: Model
    layers: Mapping[str, Layer]

    def __getitem__(self, name: str) -> LayerWeights:
        return self.model.weight(self.layers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)


@dataclass
class _Census:
    """The dead units of a model.

    Attributes
    ----------
    model
        The model.
    search
        Its units.
    weights
        Matrices and biases of its layers.
    values
        Numbers of entries that do not change.
    dead
        Dead units by name of the group.
    layers
        The layers that can be pruned, by name.
    """

    model: Model
    search: Found = field(init=False)
    weights: Weights = field(init=False)
    values: Mapping[str, Values] = field(init=False)
    dead: dict[str, NDArray[np.intp]] = field(init=False)
    layers: Mapping[str, Layer] = field(init=False)

    def __post_init__(self) -> None:
        self.search = find(self.model)
        self.layers = {layer.name: layer for layer in self.model.layers if layer.prunable}
        used: set[str] = set()
        for group in self.search.groups:
            used.update(producer.layer for producer in group.producers)
            used.update(reader.layer for reader in group.readers)
            used.update(group.inside)
        self.weights = _StoredWeights(self.model, {name: self.layers[name] for name in used})
        matrices = (U for blocks, _ in self.weights.values() for U in blocks)
        empty = any(not U.any(axis=0).all() for U in matrices)
        self.values = steady_values(self.search.walk, self.weights) if empty else {}
        self.dead = {}
        for group in self.search.groups:
            units = self._dead(group)
            step, left = self._step(group), max(1, group.units - len(units))
            count = group.units - step * math.ceil(left / step)
            if count:
                self.dead[group.name] = units[len(units) - count :]

    def _step(self, group: UnitGroup) -> int:
        """How many units go at once, so that engines are not slower without them."""
        makers = (self.layers[producer.layer] for producer in group.producers)
        step = math.gcd(group.units, BLOCK)
        blocks = step >= BLOCK // 2 and group.units >= BLOCK
        return step if blocks and any(len(layer.weight_shape) > 2 for layer in makers) else 1

    def _dead(self, group: UnitGroup) -> NDArray[np.intp]:
        """Units of a group whose rows do nothing that a bias does not do."""
        dead = np.ones(group.units, bool)
        for reader in group.readers:
            matrices, _ = self.weights[reader.layer]
            idle = ~matrices[reader.block].any(axis=1)
            idle |= np.isfinite(self._numbers(reader.layer, reader.block))
            dead &= np.where(reader.rows >= 0, idle[reader.rows], True).all(axis=1)
        return np.flatnonzero(dead)

    def _numbers(self, name: str, block: int) -> Values:
        """(N,): numbers that the rows of a layer always meet; NaN where they change."""
        layer = self.layers[name]
        size = layer.blocks[block][0]
        unknown = np.full(size, np.nan)
        if not self._can_add(layer):
            return unknown
        result = None
        for site in layer.sites:
            tensor = site.reads.get("x", "")
            values = self.values.get(tensor)
            if values is None or size % values.size:
                return unknown
            numbers = np.repeat(values.reshape(-1), size // values.size)
            if pads(site):
                numbers = np.where(numbers == 0, 0.0, np.nan)
            if result is not None:
                numbers = np.where(numbers == result, numbers, np.nan)
            result = numbers
        return unknown if result is None else result

    def _can_add(self, layer: Layer) -> bool:
        """Whether a number for each output can be added to a layer's result."""
        if len(layer.blocks) != 1 or ops.output_axis(layer.geometry) is None:
            return False
        if layer.has_bias:
            return True
        nodes = [self.model.index.nodes[site.node] for site in layer.sites]
        slot = ops.bias_slot(layer.geometry)
        filled = slot is not None and any(slot < len(n.input) and n.input[slot] for n in nodes)
        free = all(not node.function for node in nodes)
        return free and not filled and not ops.applies(layer.geometry)

    def smaller(self) -> Model:
        """The model without its dead units."""
        kept = {}
        sums: dict[str, Values] = {}
        for group in self.search.groups:
            if group.name in self.dead:
                units = self.dead[group.name]
                kept[group.name] = np.setdiff1d(np.arange(group.units), units)
                for reader in group.readers:
                    added = self._added(reader, units)
                    if added.any():
                        sums[reader.layer] = sums.get(reader.layer, 0) + added
        if not sums:
            return delete_found(self.search, kept)
        return delete_units(self._with_sums(sums), kept)

    def _added(self, reader: UnitRows, units: NDArray[np.intp]) -> Values:
        """(M,): what some units add to a reader's results."""
        rows = reader.of(units)
        U = self.weights[reader.layer][0][reader.block][rows].astype(np.float64)
        numbers = self._numbers(reader.layer, reader.block)[rows]
        told = np.isfinite(numbers) & U.any(axis=1)
        result: Values = numbers[told] @ U[told]
        return result

    def _with_sums(self, sums: Mapping[str, Values]) -> Model:
        """The model with numbers (M,) added to the results of layers."""
        model = self.model.clone()
        editor = None
        for name, added in sums.items():
            layer = self.layers[name]
            if layer.has_bias:
                matrices, biases = self.weights[name]
                assert biases is not None
                model.set_weight(layer, matrices, [biases[0] + added])
        for name, added in sums.items():
            layer = self.layers[name]
            if not layer.has_bias:
                editor = editor or Editor(model)
                editor.add_bias(layer, added)
        return model if editor is None else editor.finished(())
