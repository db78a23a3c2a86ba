"""Weights of nodes: what a layer may be made of, and why some are left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.index import Index, Use, attributes
from nettrim_cli.graph.layer import Geometry
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.constant_views import dequantized_view
from nettrim_cli.graph.storage.elements import FLOATS
from nettrim_cli.graph.storage.tensors import elem_type, shape
from nettrim_cli.graph.storage.weight_view import WeightView
from nettrim_cli.reasons import Reason


@dataclass(frozen=True)
class Weight:
    """A node's input that carries a weight which can be read and written.

    Attributes
    ----------
    use
        The node and its input.
    name
        Name of the layer.
    view, geometry
        Where the weight is stored, and how the node reads it.
    """

    use: Use
    name: str
    view: WeightView
    geometry: Geometry

    @property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(N, M) of each matrix in it."""
        return ops.blocks(self.geometry, self.view.shape)


@dataclass(frozen=True)
class RefusedWeight:
    """A node's input that carries a weight which is left alone, and the reason."""

    use: Use
    name: str
    reason: Reason


def find_weights(index: Index) -> list[Weight | RefusedWeight]:
    """The weights of all nodes in dataflow order, under names of their own."""
    weights = list(_weights(index))
    names = _unique_names([weight.name for weight in weights])
    return [replace(weight, name=name) for weight, name in zip(weights, names, strict=True)]


def _weights(index: Index) -> Iterator[Weight | RefusedWeight]:
    for number, node in enumerate(index.nodes):
        for slot in _weight_slots(index, node):
            name = node.title
            op = index.spec(node).weight
            if op is not None and slot in op.slot_names:
                name = f"{name}.{op.slot_names[slot]}"
            use = Use(number, slot)
            try:
                view, geometry = _checked_weight(index, node, slot)
            except Unsupported as refusal:
                yield RefusedWeight(use, name, refusal.reason)
            else:
                yield Weight(use, name, view, geometry)


def _weight_slots(index: Index, node: Node) -> tuple[int, ...]:
    """Inputs that carry the weights of a node; () for a node that is no layer."""
    if node.domain == ENTER:
        return ()
    slots = ops.slots(node.op_type, len(node.input), node.domain)
    if not slots and node.domain not in STANDARD:
        tensors = enumerate(node.input)
        return tuple([slot for slot, name in tensors if _is_float_matrix(index, name)][:1])
    if not ops.is_product(node.op_type, node.domain):
        return tuple(slot for slot in slots if node.input[slot])
    constant = [slot for slot in slots if node.input[slot] in index.constants]
    return tuple(constant if len(constant) < len(slots) else constant[-1:])


def _is_float_matrix(index: Index, name: str) -> bool:
    holder = index.holder(name)
    return holder is not None and len(shape(holder)) >= 2 and elem_type(holder) in FLOATS


def _checked_weight(index: Index, node: Node, slot: int) -> tuple[WeightView, Geometry]:
    """View and geometry of a weight; raises Unsupported where it is left alone."""
    if node.refusal:
        raise Unsupported(node.refusal)
    if not ops.slots(node.op_type, len(node.input), node.domain):
        raise Unsupported(f"{node.op_type} of domain '{node.domain}' is not treated yet")
    if node.input[slot] not in index.constants:
        raise Unsupported("weight is not constant", "not-constant")
    view, geometry = weight_of(index, node, slot)
    kind, read_slot = next(iter(ops.reads(geometry).values()))
    if kind == "input" and node.input[read_slot] in index.constants:
        raise Unsupported("its input is constant", "constant-input")
    if len(_weight_slots(index, node)) > 1 and ops.is_product(node.op_type, node.domain):
        text = "weight is multiplied with another constant by the same node"
        raise Unsupported(text, "constant-input")
    if not view.is_finite:
        raise Unsupported("weight has values that are not finite", "weights-not-finite")
    return view, geometry


def weight_of(index: Index, node: Node, slot: int) -> tuple[WeightView, Geometry]:
    """View and geometry of the weight that a node reads as its input `slot`.

    Raises
    ------
    Unsupported
        It is stored, or read, in a way that is not treated.
    """
    try:
        view = index.view(node.input[slot])
    except Unsupported as refusal:
        raise refusal.about("weight") from None
    if not view.reads_once:
        raise Unsupported("weight reads a stored value twice", "shared-weight")
    geometry = ops.read_geometry(
        node.op_type, slot, attributes(node), view.shape, domain=node.domain
    )
    grid = ops.grid(geometry)
    try:
        if grid is not None:
            return dequantized_view(index, view, node, grid), geometry
        return index.weight_view(node.input[slot]), geometry
    except Unsupported as refusal:
        raise refusal.about("weight") from None


def _unique_names(names: Sequence[str]) -> list[str]:
    """The names, with numbers behind those that are there twice."""
    originals, used, result = set(names), set(), []
    for original in names:
        name, suffix = original, 2
        while name in used or (name != original and name in originals):
            name, suffix = f"{original}_{suffix}", suffix + 1
        used.add(name)
        result.append(name)
    return result
