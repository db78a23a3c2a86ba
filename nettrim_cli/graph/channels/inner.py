"""Inner dimensions: what two layers have between them and sum over, as queries and keys.

Of scores ``S = Q K'`` nothing but the product matters, head by head: for any invertible T, ``Q T``
and ``K T'^-1`` have the same.  So the entries that are summed over may be mixed, and some of them
be deleted in all heads, where nothing but the product reads them.  So it is with values and the
layer behind them, which reads their means over positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.delete import delete_found
from nettrim_cli.graph.channels.find import Found, find
from nettrim_cli.graph.channels.units import UnitGroup
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.channel_context import Labels
from nettrim_cli.graph.ops.channel_layout import size_channels
from nettrim_cli.graph.ops.context import AffineContext

Places = NDArray[np.int64]


@dataclass(frozen=True)
class InnerGroup:
    """Entries of two layers that are summed over: of queries and keys, or of values.

    Attributes
    ----------
    name
        Of the first layer, and what it is.
    layers
        Names of both layers.
    places
        (H, d) for each layer: the columns that meet, head by head; of `reads` rows of the second.
    reads
        Whether the second layer reads what the first one makes, weighed by probabilities.
    """

    name: str
    layers: tuple[str, str]
    places: tuple[Places, Places]
    reads: bool = False

    @property
    def size(self) -> int:
        """Entries of a head, d."""
        return int(self.places[0].shape[1])


def inner_groups(model: Model) -> tuple[InnerGroup, ...]:
    """The inner dimensions of a model, of which some may be deleted once they are mixed."""
    return tuple(group for group, _ in _groups(find(model, inner=True)))


def delete_inner(model: Model, counts: Mapping[str, int]) -> Model:
    """A model in which each head of a group has so many entries left, the first of its own.

    Its outputs are the same, up to rounding, if the columns of all others are zero in the first
    layer, and what meets them in the second.

    Parameters
    ----------
    counts
        By the group's name.
    """
    found = find(model, inner=True)
    kept = {
        units: np.arange(counts[group.name])
        for group, units in _groups(found)
        if group.name in counts
    }
    return delete_found(found, kept) if kept else model


def _groups(found: Found) -> Iterator[tuple[InnerGroup, str]]:
    """Each group, with its name among the units that were found."""
    walk, index = found.walk, found.walk.model.index
    layers = {layer.name: layer for layer in walk.model.layers if layer.prunable}
    makers = _owners(layers, walk.columns)
    places = {int(unit): name for name, units in found.members.items() for unit in units}
    groups = {group.name: group for group in found.groups}

    def group_of(labels: Labels, entries: int) -> UnitGroup | None:
        """The units of some labels (..., d), which lie in so many columns and rows in all."""
        units = found.classes[labels].reshape(-1, labels.shape[-1])
        name = places.get(int(units[0, 0]), "")
        if name not in groups or found.members[name].shape != units.shape[1:]:
            return None
        parts = [producer.columns for producer in groups[name].producers]
        parts += [reader.rows for reader in groups[name].readers]
        alone = sum(part.size for part in parts) == entries and not groups[name].inside
        return groups[name] if alone and (units == found.members[name]).all() else None

    for node, pair in walk.multiplied:
        own, partner = (_places(labels, makers) for labels in pair)
        if own is None or partner is None or own[0] == partner[0]:
            continue
        group, names = group_of(pair[0], own[1].size + partner[1].size), (own[0], partner[0])
        direct = all(_goes_only_to(index, layers[n].output, layers[n], node) for n in names)
        if group is not None and direct:
            yield InnerGroup(f"{own[0]} inner", names, (own[1], partner[1])), group.name
    for node, labels in walk.weighed:
        own = _places(labels, makers)
        group = None if own is None else group_of(labels, 2 * own[1].size)
        if own is None or group is None or len(group.readers) != 1 or len(own[1]) == 1:
            continue  # of a single head, entries are units like others
        reader = layers[group.readers[0].layer]
        rows = _places(labels, _owners(layers, {(reader.name, 0): walk.rows[reader.name, 0]}))
        result = index.nodes[node].output[0]
        direct = _goes_only_to(index, layers[own[0]].output, layers[own[0]], node)
        direct = direct and _goes_only_to(index, result, reader, reader.sites[0].node)
        if rows is not None and direct:
            names = own[0], reader.name
            yield InnerGroup(f"{own[0]} inner", names, (own[1], rows[1]), reads=True), group.name


def _owners(
    layers: Mapping[str, Layer], labelled: Mapping[tuple[str, int], Labels]
) -> dict[int, tuple[str, int]]:
    """The layer and the place of each label, of layers with one matrix."""
    return {
        int(label): (name, place)
        for (name, _), labels in labelled.items()
        if len(layers[name].blocks) == 1
        for place, label in enumerate(labels)
    }


def _places(labels: Labels, owners: Mapping[int, tuple[str, int]]) -> tuple[str, Places] | None:
    """The layer that has some labels (..., d), and where (H, d); None where it is not one."""
    made = [owners[int(label)] for label in labels.flat if int(label) in owners]
    if len(made) != labels.size or len({name for name, _ in made}) != 1:
        return None
    numbers = np.array([column for _, column in made], np.int64)
    return made[0][0], numbers.reshape(-1, labels.shape[-1])


def _goes_only_to(index: Index, tensor: str, layer: Layer, product: int) -> bool:
    """Whether a tensor of a layer reaches a node as it is, but for a factor and where it lies."""
    while len(layer.sites) == 1 and tensor not in index.outputs:
        users = index.users(tensor)
        uses = [use for use in users if not _tells_sizes(index, index.nodes[use.node])]
        node = index.nodes[uses[0].node] if len(uses) == 1 else None
        if node is None or uses[0].slot < 0 or node.parent is not index.nodes[product].parent:
            return False
        if node.number == product:
            return True
        if len(node.output) != 1 or not _moves(index, node, uses[0].slot):
            return False
        tensor = node.output[0]
    return False


def _tells_sizes(index: Index, node: Node) -> bool:
    return index.spec(node).channels is size_channels


def _moves(index: Index, node: Node, slot: int) -> bool:
    """Whether a node moves entries of one input, or multiplies all of them with one number."""
    spec = index.spec(node)
    if spec.layout is not None:
        return slot == 0
    if spec.affine is None:
        return False
    affine = spec.affine(_OneNumber(index, node, slot, 1))
    return affine is not None and not np.any(affine[1])


class _OneNumber(AffineContext):
    """A node whose other inputs are one number each."""

    def constant(self, slot: int) -> Floats | None:
        """The number as (1,); None for anything else."""
        value = self.stored(slot)
        return None if value is None or value.size != 1 else value.reshape(1).astype(np.float64)

    def channels(self, slot: int) -> Floats | None:
        """None: channels have factors of their own."""
        return None
