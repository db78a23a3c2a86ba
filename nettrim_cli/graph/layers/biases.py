"""Biases of layers: inputs of their nodes, of an Add behind them, or of a BatchNormalization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index, Use
from nettrim_cli.graph.layer import Geometry, Site
from nettrim_cli.graph.layers.paths import Outputs, from_end, mean_use
from nettrim_cli.graph.layers.weights import Weight
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.weight_view import WeightView


def find_bias(index: Index, weight: Weight) -> Use | None:
    """Use of the bias of one site, by its own node or by an Add behind it.

    Raises
    ------
    Unsupported
        There is a bias, but not one that can be read.
    """
    number, geometry = weight.use.node, weight.geometry
    node = index.nodes[number]
    slot = ops.bias_slot(geometry)
    if slot is not None and slot < len(node.input) and node.input[slot]:
        if node.input[slot] not in index.constants:
            raise Unsupported("bias is not constant", "not-constant")
        try:
            view = index.weight_view(node.input[slot])
        except Unsupported as refusal:
            raise refusal.about("bias") from None
        ops.biases(view.values(), geometry, weight.view.shape)
        _require_finite(view)
        return Use(number, slot)
    if not ops.weight_op(geometry).bias_follows or len(weight.blocks) != 1:
        return None
    axis = from_end(index, node.output[0], ops.output_axis(geometry))
    return None if axis is None else _added_bias(index, node.output[0], weight.blocks[0][1], axis)


def _added_bias(index: Index, tensor: str, size: int, axis: int) -> Use | None:
    """Use of the constant that an Add behind a product adds, if it is a bias."""
    use = index.only_user(tensor)
    if use is None:
        return None
    node = index.nodes[use.node]
    spec = index.spec(node)
    if not spec.adds or spec.affine is None or len(node.input) != 2:
        return None
    slot = 1 - use.slot
    if node.input[slot] not in index.constants:
        return None
    try:
        view = index.weight_view(node.input[slot])
    except Unsupported:
        return None
    # More axes than the product has would change the rank of what follows.
    if not _fits(view.shape, size, axis) or len(view.shape) > (index.rank(tensor) or 2):
        return None
    _require_finite(view)
    return Use(use.node, slot)


def _require_finite(view: WeightView) -> None:
    if not view.is_finite:
        raise Unsupported("bias has values that are not finite", "weights-not-finite")


def _fits(shape: tuple[int, ...], size: int, axis: int) -> bool:
    """Whether a constant of this shape adds the same vector of `size` to every sample."""
    if math.prod(shape) == 1:
        return True
    return math.prod(shape) == size and len(shape) >= -axis and shape[axis] == size


def common_bias(index: Index, biases: Sequence[Use | None]) -> tuple[Use, ...]:
    """Uses of the one bias of all sites, if they have one and it can be replaced."""
    uses = [use for use in biases if use is not None]
    if not uses or len(uses) != len(biases):
        return ()
    views = [index.view(_name(index, use)) for use in uses]
    if not all(views[0].equals(view) for view in views):
        return ()
    inside = any(index.nodes[use.node].function for use in uses)
    sole = math.prod(views[0].shape) > 1 and index.is_read_only_by(views[0], uses)
    if inside and not sole:
        return ()  # a function's node cannot be given a tensor of its own
    return tuple(uses)


def find_mean(
    index: Index, sites: Sequence[Site], blocks: Sequence[tuple[int, int]]
) -> tuple[Use, NDArray[Any]] | None:
    """Use and values of a mean that alone is subtracted from a layer's results; None for none."""
    site = sites[0]
    axis = ops.output_axis(site.geometry)
    if len(sites) > 1 or len(blocks) > 1 or axis is None:
        return None
    if ops.applies(site.geometry) or summand(site.geometry, index.nodes[site.node]):
        return None
    use = mean_use(index, site.output, Outputs(axis, blocks[0][1]))
    if use is None:
        return None
    try:
        view = index.weight_view(_name(index, use))
    except Unsupported:
        return None
    return (use, view.values()) if view.exact and index.is_read_only_by(view, (use,)) else None


def summand(geometry: Geometry, node: Node) -> str:
    """The tensor that the node itself adds to its weight's results; empty for none."""
    slot = ops.summand_slot(geometry)
    return node.input[slot] if slot is not None and slot < len(node.input) else ""


def _name(index: Index, use: Use) -> str:
    return index.nodes[use.node].input[use.slot]
