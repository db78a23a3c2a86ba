"""How products and convolutions make units of their outputs and read those of their inputs."""

from __future__ import annotations

import math

import numpy as np

from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops.base import Shape, Unsupported
from nettrim_cli.graph.ops.channel_context import (
    ChannelContext,
    Counted,
    Labels,
    on_axis,
    varying,
)
from nettrim_cli.graph.ops.channel_rules import Outputs, boundary, broadcast, joined, met, mixed
from nettrim_cli.reasons import Reason

OUTSIDE = Reason("fixed-width", "they come from outside the layers that can be pruned")
ALONE = Reason("fixed-width", "the layer has a single output")


def only_layer(context: ChannelContext) -> tuple[Layer, Site]:
    """The prunable layer of a node.

    Raises
    ------
    Unsupported
        There is none.
    """
    if len(context.layers) != 1:
        raise Unsupported(f"the weight of {context.node.op_type} is left alone", "not-followed")
    return context.layers[0]


def product_channels(context: ChannelContext) -> Outputs:
    """A constant matrix reads entries along an axis and makes others; two signals go together.

    Raises
    ------
    Unsupported
        It multiplies by several matrices, or a vector.
    """
    if not (context.is_constant(0) or context.is_constant(1)):
        return signal_product(context)
    layer, site = only_layer(context)
    facts, slot = site.geometry.attributes, site.geometry.slot
    rank, result = len(context.shape(1 - slot)), len(context.result())
    if len(layer.blocks) != 1 or rank < 2:
        raise Unsupported("it multiplies by several matrices, or a vector", "not-followed")
    labels, contracted = context.of(1 - slot), facts["contracted"] % rank
    place = -2 if facts["left"] else -1
    output: Labels | None
    if labels is not None and varying(labels) not in ((), (contracted,)):
        output = _beside(context, layer, labels, contracted, place)
    else:
        read_rows(context, layer, labels, 1)
        output = new_columns(context, layer, place, result)
        weight = len(context.shape(slot))
        first, second = (-1, -2) if facts["turned"] else (-2, -1)
        if labels is not None:
            context.cut(slot, on_axis(labels.reshape(-1), first, weight))
        if output is not None:
            context.cut(slot, on_axis(output.reshape(-1), second, weight))
    summand = None if context.spec.weight is None else context.spec.weight.bias_input
    if summand is not None and output is not None:
        output = joined(context, [summand], output)
    return (output,)


def _beside(
    context: ChannelContext, layer: Layer, labels: Labels, contracted: int, place: int
) -> Labels:
    """Labels of axes that a product leaves alone; its own outputs then have none."""
    reason = Reason("fixed-partner", "units of another axis pass through the layer")
    context.units.keep_rows(layer, reason)
    context.units.refuse(context.units.columns(layer, 0), reason)
    kept = mixed(context, labels, [contracted])
    if kept.shape[contracted] > 1:
        raise Unsupported("it mixes units of two axes", "mixed")
    return np.expand_dims(np.squeeze(kept, contracted), place)


def read_rows(context: ChannelContext, layer: Layer, labels: Labels | None, taps: int) -> None:
    """Let the rows of a layer with one block be read by units.

    Parameters
    ----------
    context
        The node.
    layer
        The layer that reads.
    labels
        Of the entries that it reads; None for unknown ones.
    taps
        Rows for each entry.
    """
    if labels is None or labels.size * taps != layer.blocks[0][0]:
        context.units.keep_rows(layer, OUTSIDE)
        if labels is not None:
            context.units.refuse(labels, met(context))
    else:
        context.units.read_rows(layer, 0, np.repeat(labels.reshape(-1), taps))


def new_columns(context: ChannelContext, layer: Layer, axis: int, rank: int) -> Labels | None:
    """Labels of an output that has the columns of a layer with one block.

    Parameters
    ----------
    context
        The node.
    layer
        The layer.
    axis, rank
        The axis that has the columns, and the number of axes.
    """
    columns = context.units.columns(layer, 0)
    if len(columns) == 1:
        context.units.refuse(columns, ALONE)
        return None
    return on_axis(columns, axis, rank)


def signal_product(context: ChannelContext) -> Outputs:
    """Units along batch axes and those of rows and columns; those that are summed over go whole."""
    first, second = context.shape(0), context.shape(1)
    if context.attributes or min(len(first), len(second)) < 2:
        return boundary(context)
    own, partner = context.of(0), context.of(1)
    if own is not None and partner is not None and own.shape[-1] > 1:
        partner = partner.swapaxes(-1, -2)
        if own.shape == partner.shape and context.units.sum_over(context.node.number, own, partner):
            return (None,)
    weighed = own is None and partner is not None and partner.shape[-2] == 1 < partner.shape[-1]
    if weighed and partner is not None and context.units.share_heads(context.node.number, partner):
        return (partner,)
    labels: list[Labels | None] = []
    shapes: list[Shape] = []
    for slot, contracted in ((0, -1), (1, -2)):
        shape = list(context.shape(slot))
        shape[contracted] = 1
        own = context.of(slot)
        if own is not None:
            own = mixed(context, own, [own.ndim + contracted])
            own = own if own.shape[contracted] == 1 else None
        labels.append(own)
        shapes.append(tuple(shape))
    return (broadcast(context, list(zip(labels, shapes, strict=True))),)


def convolution_channels(context: ChannelContext) -> Outputs:
    """Channels in, channels out; with several groups, whole groups go through."""
    layer, site = only_layer(context)
    labels, rank = context.of(), len(context.shape(1))
    if labels is not None and varying(labels) not in ((), (1,)):
        return boundary(context)
    facts = site.geometry.attributes
    spread = context.spec.weight is not None and context.spec.weight.spreads
    if facts["group"] > 1:
        output = _grouped(context, layer, labels, facts["group"], rank)
        cut = labels if spread else output
        if cut is not None:
            context.cut(1, on_axis(cut.reshape(-1), 0, rank))
    else:
        read_rows(context, layer, labels, math.prod(facts["kernel_shape"]))
        output = new_columns(context, layer, 1, rank)
        for axis, own in ((int(not spread), labels), (int(spread), output)):
            if own is not None:
                context.cut(1, on_axis(own.reshape(-1), axis, rank))
    if output is not None:
        context.cut(2, output, (1,))
        output = joined(context, range(3, context.count), output)
    return (output,)


def _grouped(
    context: ChannelContext, layer: Layer, labels: Labels | None, groups: int, rank: int
) -> Labels | None:
    """Labels of the outputs of a convolution with groups: each goes as a whole."""
    if labels is None or labels.size == 1:
        for block in range(groups):
            context.units.refuse(context.units.columns(layer, block), OUTSIDE)
        return None
    inputs = labels.reshape(groups, -1)
    context.units.unite(inputs, inputs[:, :1])
    outputs = np.repeat(inputs[:, 0], context.result()[1] // groups)
    context.units.pass_through(layer, outputs)
    context.edits.append(Counted("group", inputs[:, 0]))
    return on_axis(outputs, 1, rank)
