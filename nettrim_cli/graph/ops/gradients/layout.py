"""Gradients of ops that move values, and of those that reduce axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.gradients.context import (
    GradientContext,
    GradientRule,
    moved_by_positions,
)

if TYPE_CHECKING:
    from nettrim_cli.graph.gradient.builder import Builder


def reshaped_gradient(context: GradientContext) -> Mapping[int, str]:
    """In the shape of the first input."""
    return {0: context.reshaped(context.gradient)}


def transposed_gradient(context: GradientContext) -> Mapping[int, str]:
    """By the inverse order."""
    rank = len(context.sizes())
    order = context.attributes.get("perm", range(rank)[::-1])
    inverse = [int(axis) for axis in np.argsort(order)]
    return {0: context.g.Transpose(context.gradient, perm=inverse)}


def joined_gradient(context: GradientContext) -> Mapping[int, str]:
    """Each input's part."""
    g, axis = context.g, context.attributes.get("axis", 1)
    rank = len(context.sizes_of(context.y))
    axis %= rank
    sizes = [_size_along(context, name, axis) for name in context.node.input]
    lengths = g.Concat(*sizes, axis=0)
    parts = g.split(context.count, context.gradient, lengths, axis=axis)
    return {slot: parts[slot] for slot in context.wanted}


def _size_along(context: GradientContext, name: str, axis: int) -> str:
    size = context.sizes_of(name)[axis]
    if isinstance(size, int):
        return context.g.constant([size])
    return context.g.Gather(context.g.shape(name), context.g.constant([axis]), axis=0)


def split_gradient(context: GradientContext) -> Mapping[int, str]:
    """The parts together, with zeros for those that nobody reads.

    Raises
    ------
    Unsupported
        A part has no name.
    """
    g, parts = context.g, []
    for name, gradient in zip(context.node.output, context.gradients, strict=True):
        if not name:
            raise Unsupported("has a part without a name")
        zeros = "" if gradient else g.Expand(context.number_like(0.0), g.shape(name))
        parts.append(gradient or zeros)
    return {0: g.Concat(*parts, axis=context.attributes.get("axis", 0))}


def expanded_gradient(context: GradientContext) -> Mapping[int, str]:
    """Summed over copies."""
    return {0: context.summed(context.gradient, 0)}


def gathered_gradient(context: GradientContext) -> Mapping[int, str]:
    """Rows of a table are added up by their numbers; other axes go by positions."""
    sizes, axis = context.sizes(), context.attributes.get("axis", 0)
    if axis not in (0, -len(sizes)) or len(sizes) != 2:
        return moved_by_positions(context)
    g = context.g
    rows = g.Reshape(context.name(1), g.constant([-1, 1]))
    width = _size_along(context, context.name(), 1)
    updates = g.Reshape(context.gradient, g.Concat(g.constant([-1]), width, axis=0))
    zeros = g.Expand(context.number_like(0.0), g.shape(context.name()))
    return {0: g.ScatterND(zeros, rows, updates, reduction="add")}


def sliced_gradient(context: GradientContext) -> Mapping[int, str]:
    """With zeros around it, where entries are one behind the other; else by positions."""
    starts, axes = context.integers("starts", 1), context.integers("axes", 3)
    steps = context.integers("steps", 4) if context.name(4) else (1,)
    if starts is None or steps is None or set(steps) != {1}:
        return moved_by_positions(context)
    if context.name(3) and axes is None:
        return moved_by_positions(context)
    g, rank = context.g, len(context.sizes())
    places = [axis % rank for axis in axes or range(len(starts))]
    pick = g.constant(places)
    before = g.Gather(g.shape(context.name()), pick)
    after = g.Gather(g.shape(context.y), pick)
    first = g.constant(starts)
    wrapped = g.Where(g.constant(np.less(starts, 0), 9), g.Add(first, before), first)
    begin = g.Min(g.Max(wrapped, g.constant(0)), before)
    end = g.Sub(g.Sub(before, begin), after)
    nothing = g.constant(np.zeros(2 * rank))
    where = g.constant([*places, *(rank + axis for axis in places)])
    margins = g.Concat(begin, end, axis=0)
    pads = g.ScatterElements(nothing, where, margins, axis=0)
    return {0: g.Pad(context.gradient, pads)}


def padded_gradient(context: GradientContext) -> Mapping[int, str]:
    """Without the margins; where these are copies, by positions.

    Raises
    ------
    Unsupported
        Margins of some axes alone, or copies around axes.
    """
    if context.name(3):
        raise Unsupported("pads listed axes")
    if context.attributes.get("mode", "constant") != "constant":
        return moved_by_positions(context)
    g = context.g
    pads = context.name(1) or g.constant(context.attributes["pads"])
    return {0: g.Pad(context.gradient, g.Neg(pads))}


def blocks_gradient(context: GradientContext) -> Mapping[int, str]:
    """The inverse of DepthToSpace and SpaceToDepth.

    Raises
    ------
    Unsupported
        Channels come before blocks.
    """
    if context.attributes.get("mode", "DCR") != "DCR":
        raise Unsupported("puts channels before blocks")
    inverse = {"DepthToSpace": "SpaceToDepth", "SpaceToDepth": "DepthToSpace"}
    size = context.attributes["blocksize"]
    return {0: context.g.add(inverse[context.op], context.gradient, blocksize=size)}


def same_op_gradient(context: GradientContext) -> Mapping[int, str]:
    """For ops that are their own adjoint."""
    inputs = [context.gradient, *context.node.input[1:]]
    return {0: context.g.add(context.node.op_type, *inputs, **context.attributes)}


def resized_gradient(context: GradientContext) -> Mapping[int, str]:
    """By positions, where values are copied.

    Raises
    ------
    Unsupported
        They are mixed.
    """
    if context.attributes.get("mode", "nearest") != "nearest":
        raise Unsupported("mixes values")
    return moved_by_positions(context)


# ---- reductions


def _kept(context: GradientContext, name: str, axes: tuple[int, ...]) -> str:
    """A tensor of a reduction's output shape with the reduced axes kept."""
    if context.attributes.get("keepdims", 1) or not axes:
        return name
    g, rank = context.g, len(context.sizes())
    reduced = g.constant([axis in axes for axis in range(rank)], 9)
    sizes = g.Where(reduced, g.constant(1), g.shape(context.name()))
    return g.Reshape(name, sizes)


def _spread(context: GradientContext, name: str) -> str:
    return context.g.Expand(name, context.g.shape(context.name()))


def total_gradient(context: GradientContext) -> Mapping[int, str]:
    """The same for all entries."""
    axes = context.axes("axes", 1)
    return {0: _spread(context, _kept(context, context.gradient, axes))}


def _mean_factor(context: GradientContext) -> str:
    """Entries of the output for one of the input."""
    g, kind = context.g, context.facts.types.get(context.name(), 1)
    counts = [g.Cast(g.size(name), to=kind) for name in (context.y, context.name())]
    return g.Div(*counts)


def mean_gradient(context: GradientContext) -> Mapping[int, str]:
    """An equal part for each entry."""
    gradient = context.g.Mul(context.gradient, _mean_factor(context))
    return {0: _spread(context, _kept(context, gradient, context.axes("axes", 1)))}


def global_average_gradient(context: GradientContext) -> Mapping[int, str]:
    """An equal part for each position."""
    gradient = context.g.Mul(context.gradient, _mean_factor(context))
    return {0: _spread(context, gradient)}


def extreme_gradient(context: GradientContext) -> Mapping[int, str]:
    """For the largest (or smallest), in equal parts where there are several."""
    axes = context.axes("axes", 1)
    return {0: _to_extreme(context, axes)}


def global_maximum_gradient(context: GradientContext) -> Mapping[int, str]:
    """For the largest of each channel."""
    return {0: _to_extreme(context, tuple(range(2, len(context.sizes()))))}


def _to_extreme(context: GradientContext, axes: tuple[int, ...]) -> str:
    g = context.g
    chosen = g.Equal(context.name(), _kept(context, context.y, axes))
    mask = g.Cast(chosen, to=context.facts.types.get(context.name(), 1))
    count = g.total(mask, axes, keepdims=True)
    gradient = g.Div(_kept(context, context.gradient, axes), count)
    return g.Mul(mask, gradient)


def by_kept(derivative: Callable[[Builder, str, str], str]) -> GradientRule:
    """A reduction whose derivative is made of input and output."""

    def rule(context: GradientContext) -> Mapping[int, str]:
        """The gradient times the derivative."""
        g, axes = context.g, context.axes("axes", 1)
        value = derivative(g, context.name(), _kept(context, context.y, axes))
        return {0: g.Mul(value, _kept(context, context.gradient, axes))}

    return rule


def sum_of_squares_gradient(context: GradientContext) -> Mapping[int, str]:
    """``2 x g``."""
    twice = context.scaled(_kept(context, context.gradient, context.axes("axes", 1)), 2.0)
    return {0: context.g.Mul(context.name(), twice)}


def log_sum_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g exp(-y)``."""
    g = context.g
    gradient = g.Div(context.gradient, g.Exp(context.y))
    return {0: _spread(context, _kept(context, gradient, context.axes("axes", 1)))}


def product_gradient(context: GradientContext) -> Mapping[int, str]:
    """``g y / x``, for inputs without zeros."""
    g = context.g
    gradient = g.Mul(context.gradient, context.y)
    return {0: g.Div(_kept(context, gradient, context.axes("axes", 1)), context.name())}


def running_sum_gradient(context: GradientContext) -> Mapping[int, str]:
    """Sums that run the other way."""
    attributes = dict(context.attributes)
    attributes["reverse"] = 1 - attributes.get("reverse", 0)
    return {0: context.g.CumSum(context.gradient, context.name(1), **attributes)}
