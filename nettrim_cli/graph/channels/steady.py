"""Entries that are the same number in every sample: units whose incoming weights are all zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph import ops
from nettrim_cli.graph.channels.walk import Walk
from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layer import Floats, Layer, Site
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.ops.channel_context import Labels
from nettrim_cli.graph.ops.context import AffineContext, NodeContext

Values = NDArray[np.float64]
"""Numbers of a tensor's entries, in the shape of its labels; NaN for those that change."""
LayerWeights = tuple[Sequence[Floats], Sequence[Floats] | None]
Weights = Mapping[str, LayerWeights]


@dataclass(frozen=True)
class _Channels(AffineContext):
    """A node that scales channels by constants."""

    def constant(self, slot: int) -> Floats | None:
        """None."""
        return None

    def channels(self, slot: int) -> Floats | None:
        """Stored values, one for each channel."""
        values = self.stored(slot)
        return values if values is not None and values.shape == (self.size,) else None


def steady_values(walk: Walk, weights: Weights) -> dict[str, Values]:
    """Numbers of entries that are the same in every sample, by tensor with labels.

    Parameters
    ----------
    weights
        Matrices and biases of layers, by name; of others nothing is known.
    """
    index = walk.model.index
    sites: dict[int, list[tuple[Layer, Site]]] = {}
    for layer in walk.model.layers:
        for site in layer.sites if layer.prunable else ():
            sites.setdefault(site.node, []).append((layer, site))
    values: dict[str, Values] = {}
    with np.errstate(all="ignore"):
        for node in index.nodes:
            labels = [walk.labels.get(name) for name in node.output]
            if all(array is None for array in labels):
                continue
            if node.number in sites:
                results = _of_layer(walk, node, sites[node.number], values, weights)
            else:
                results = _behind(walk, node, values)
            for name, array, result in zip(node.output, labels, results, strict=False):
                if array is not None and result is not None:
                    values[name] = _per_label(result, array)
    return values


def _per_label(result: Values, labels: Labels) -> Values:
    """Values in the shape of the labels; NaN where they change along another axis."""
    result = np.asarray(result, np.float64)
    result = result.reshape((1,) * (labels.ndim - result.ndim) + result.shape)
    for axis, size in enumerate(labels.shape):
        if size == 1 and result.shape[axis] > 1:
            first = result.take([0], axis)
            same = (result == first).all(axis, keepdims=True)
            result = np.where(same, first, np.nan)
    return np.broadcast_to(result, labels.shape)


def _behind(walk: Walk, node: Node, values: Mapping[str, Values]) -> Sequence[Values | None]:
    """What other nodes make of the values of their inputs."""
    index = walk.model.index
    context = NodeContext(index, node)
    spec = context.spec
    if spec.function is not None:
        return [spec.function(context.attributes, *_operands(index, node, values))]
    if spec.affine is not None and node.input[0] in values:
        x = values[node.input[0]]
        if x.ndim < 2 or x.size != x.shape[1]:
            return ()
        factors = spec.affine(_Channels(index, node, 0, x.size))
        if factors is None:
            return ()
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return [x * factors[0].reshape(shape) + factors[1].reshape(shape)]
    if spec.steady is None or not spec.steady(context):
        return ()
    if spec.join_axis is not None:
        labels = walk.labels.get(node.output[0])
        if labels is None or labels.shape[spec.join_axis(context)] == 1:
            return ()  # entries of one unit lie behind each other
    table = np.full(walk.count, np.nan)
    for name in node.input:
        if name in values:
            labels = walk.labels[name]
            table[labels] = values[name]
            table[labels[table[labels] != values[name]]] = np.nan  # entries of a unit that differ
    return [None if name not in walk.labels else table[walk.labels[name]] for name in node.output]


def _operands(index: Index, node: Node, values: Mapping[str, Values]) -> list[Values | None]:
    """Values of inputs, constants as they are; None for one that is left out."""
    operands: list[Values | None] = []
    for name in node.input:
        if not name:
            operands.append(None)
            continue
        operand = values.get(name, np.full((), np.nan))
        if name in index.constants:
            try:
                operand = index.view(name).values().astype(np.float64)
            except (Unsupported, ValueError):
                operand = np.full((), np.nan)
        operands.append(operand)
    return operands


def _of_layer(
    walk: Walk,
    node: Node,
    layers: Sequence[tuple[Layer, Site]],
    values: Mapping[str, Values],
    weights: Weights,
) -> Sequence[Values | None]:
    """Outputs of a layer whose columns are zero, and what a depthwise one makes of its inputs."""
    (layer, site), labels = layers[0], walk.labels.get(node.output[0])
    slot = ops.bias_slot(site.geometry)
    own = slot is not None and slot < len(node.input) and bool(node.input[slot])
    if layer.name not in weights or len(layers) > 1 or labels is None:
        return ()
    if own and not layer.has_bias:
        return ()
    if ops.applies(site.geometry) or ops.summand_slot(site.geometry) is not None:
        return ()
    matrices, stored = weights[layer.name]
    columns = sum(outputs for _, outputs in layer.blocks)
    if labels.size != columns:
        return ()
    biases = np.concatenate(list(stored)) if own and stored is not None else np.zeros(columns)
    x = values.get(site.reads.get("x", ""))
    sums = []
    for block, U in enumerate(matrices):
        zero = ~U.any(axis=0)
        result = np.where(zero, 0.0, np.nan)
        if layer.name in walk.inside and x is not None and x.size % len(matrices) == 0:
            inputs = x.reshape(len(matrices), -1)[block]
            taps = U.reshape(len(inputs), -1, U.shape[1]).sum(axis=1)
            if pads(site) or not U.size:
                inputs = np.where(inputs == 0, 0.0, np.nan)
            result = np.where(zero, 0.0, inputs @ taps)
        sums.append(result)
    return [(np.concatenate(sums) + biases).reshape(labels.shape)]


def pads(site: Site) -> bool:
    """Whether a layer does not meet all its inputs at every position."""
    facts = site.geometry.attributes
    padded = any(facts.get("pads", ())) or facts.get("auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    )
    return padded or ops.weight_op(site.geometry).spreads
