"""Inner dimensions: what two layers make and a product of both sums over, as queries and keys.

Of scores ``S = Q K'`` nothing but the product matters, head by head: for any invertible T, ``Q T``
and ``K T'^-1`` have the same.  So the entries that are summed over may be mixed, and some of them
be deleted in all heads, where nothing but the product reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.channels.delete import delete_found
from nettrim_cli.graph.channels.find import Found, find
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.channel_context import Labels
from nettrim_cli.graph.ops.channel_layout import size_channels
from nettrim_cli.graph.ops.context import AffineContext

Columns = NDArray[np.int64]


@dataclass(frozen=True)
class InnerGroup:
    """Entries of two layers that a product sums over.

    Attributes
    ----------
    name
        Of the first layer, and what it is.
    layers
        Names of both layers.
    columns
        (H, d) of each layer: the columns that meet, head by head.
    """

    name: str
    layers: tuple[str, str]
    columns: tuple[Columns, Columns]

    @property
    def size(self) -> int:
        """Entries of a head, d."""
        return int(self.columns[0].shape[1])


def inner_groups(model: Model) -> tuple[InnerGroup, ...]:
    """The inner dimensions of a model, of which some may be deleted once they are mixed."""
    return tuple(group for group, _ in _groups(find(model, inner=True)))


def delete_inner(model: Model, counts: Mapping[str, int]) -> Model:
    """A model in which each head of a group has so many entries left, the first of its own.

    Its outputs are the same, up to rounding, if the columns of all others are zero in the first
    layer.

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
    walk = found.walk
    layers = {layer.name: layer for layer in walk.model.layers if layer.prunable}
    owners = {
        int(label): (name, column)
        for (name, _), labels in walk.columns.items()
        if len(layers[name].blocks) == 1
        for column, label in enumerate(labels)
    }
    groups = {group.name: group for group in found.groups}
    places = {int(unit): groups[name] for name, units in found.members.items() for unit in units}
    for node, pair in walk.multiplied:
        own, partner = (_columns(labels, owners) for labels in pair)
        units = found.classes[pair[0]].reshape(-1, pair[0].shape[-1])
        group = places.get(int(units[0, 0]))
        if own is None or partner is None or group is None or own[0] == partner[0]:
            continue
        alone = {producer.layer for producer in group.producers} == {own[0], partner[0]}
        alone &= not group.readers and not group.inside
        entries = sum(producer.columns.size for producer in group.producers)
        alone &= entries == own[1].size + partner[1].size
        members = found.members[group.name]
        in_order = members.shape == units.shape[1:] and bool((units == members).all())
        index, names = walk.model.index, (own[0], partner[0])
        if alone and in_order and all(_goes_only_to(index, layers[n], node) for n in names):
            yield InnerGroup(f"{own[0]} inner", names, (own[1], partner[1])), group.name


def _columns(labels: Labels, owners: Mapping[int, tuple[str, int]]) -> tuple[str, Columns] | None:
    """The layer whose columns some labels (..., d) are, and which (H, d); None for others."""
    made = [owners[int(label)] for label in labels.flat if int(label) in owners]
    if len(made) != labels.size or len({name for name, _ in made}) != 1:
        return None
    numbers = np.array([column for _, column in made], np.int64)
    return made[0][0], numbers.reshape(-1, labels.shape[-1])


def _goes_only_to(index: Index, layer: Layer, product: int) -> bool:
    """Whether a layer's result reaches a product as it is, but for a factor and where it lies."""
    tensor = layer.output
    while len(layer.sites) == 1 and tensor not in index.outputs:
        users = index.users(tensor)
        uses = [use for use in users if not _tells_sizes(index, index.nodes[use.node])]
        node = index.nodes[uses[0].node] if len(uses) == 1 else None
        if node is None or uses[0].slot < 0 or node.parent is not None:
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
