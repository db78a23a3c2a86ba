"""How ops pass units on, by rules that several families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.ops.base import Shape, Unsupported
from nettrim_cli.graph.ops.channel_context import (
    ChannelContext,
    Labels,
    along,
    compressed,
    varying,
)
from nettrim_cli.reasons import Reason

Outputs = Sequence[Labels | None]
"""Labels of each output; missing ones have none."""
ChannelRule = Callable[[ChannelContext], Outputs]


def boundary(context: ChannelContext) -> Outputs:
    """Nothing is known of what it makes of units.

    Raises
    ------
    Unsupported
        Always.
    """
    raise Unsupported(f"{context.node.op_type} does not pass them on one by one", "not-followed")


def to_first_output(context: ChannelContext) -> Outputs:
    """The units of the first input; the other inputs are about all entries alike.

    Raises
    ------
    Unsupported
        Another input has units, or more than one value.
    """
    others = range(1, context.count)
    if any(context.of(slot) is not None for slot in others):
        return boundary(context)
    return (context.of(),)


def unary(context: ChannelContext) -> Outputs:
    """As `to_first_output`, where the shape stays.

    Raises
    ------
    Unsupported
        Another input has more than one value.
    """
    for slot in range(1, context.count):
        if context.name(slot) and math.prod(context.shape(slot)) != 1:
            raise Unsupported("it is steered by a tensor with several values", "not-followed")
    return to_first_output(context)


def entrywise(context: ChannelContext) -> Outputs:
    """Inputs are broadcast: entries that meet go together, constants lose theirs."""
    return (joined(context, range(context.count)),)


def joined(
    context: ChannelContext, slots: Iterable[int], result: Labels | None = None
) -> Labels | None:
    """Labels of inputs that are broadcast against each other, and against `result`."""
    named = [slot for slot in slots if context.name(slot)]
    signals = [slot for slot in named if not context.is_constant(slot)]
    parts = [(context.of(slot), context.shape(slot)) for slot in signals]
    if result is not None:
        parts.append((result, result.shape))
    elif all(labels is None for labels, _ in parts):
        return None
    rank = max((len(context.shape(slot)) for slot in named), default=0)
    labels = broadcast(context, parts, rank)
    if labels is None:
        return None
    for slot in named:
        sizes = (1,) * (labels.ndim - len(context.shape(slot))) + context.shape(slot)
        if context.is_constant(slot) and any(sizes[axis] > 1 for axis in varying(labels)):
            context.cut(slot, labels)
    return labels


def broadcast(
    context: ChannelContext, parts: Sequence[tuple[Labels | None, Shape]], rank: int = 0
) -> Labels | None:
    """Labels of signals, given with their shapes, that are broadcast against each other.

    Units stay where a signal without units has several entries.
    """
    rank = max(rank, *(len(shape) for _, shape in parts))
    arrays = [None if labels is None else padded(labels, rank) for labels, _ in parts]
    told = [array for array in arrays if array is not None and array.size > 1]
    single = [array for array in arrays if array is not None and array.size == 1]
    if not told and single:
        computed = context.units.computed_size(single)
        if computed is not None:
            return computed.reshape((1,) * rank)
    for label in single:
        context.units.refuse(label, met(context))
    if not told:
        return None
    whole = np.broadcast_to(told[0], np.broadcast_shapes(*(array.shape for array in told)))
    for labels in told[1:]:
        context.units.unite(whole, labels)
    for array, (_, shape) in zip(arrays, parts, strict=True):
        sizes = (1,) * (rank - len(shape)) + shape
        shown = () if array is None else varying(array)
        if any(sizes[axis] > 1 and axis not in shown for axis in varying(whole)):
            context.units.refuse(whole, met(context))
    return whole


def padded(labels: Labels, rank: int) -> Labels:
    """Labels with further axes in front."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def met(context: ChannelContext) -> Reason:
    """Why units have to stay that meet others."""
    text = f"{context.node.op_type} '{title(context)}' combines them with what has to stay"
    return Reason("fixed-partner", text)


def mixed(context: ChannelContext, labels: Labels, axes: Iterable[int]) -> Labels:
    """Labels where an op mixes all entries along some axes.

    Units that are told apart along other axes go as a whole; where there are none, they stay.
    """
    taken = [axis for axis in axes if labels.shape[axis] > 1]
    if not taken:
        return labels
    if len(taken) == len(varying(labels)):
        text = f"{context.node.op_type} '{title(context)}' mixes them all"
        context.units.refuse(labels, Reason("mixed", text))
        return labels
    first = labels
    for axis in taken:
        first = first.take([0], axis)
    context.units.unite(labels, first)
    return first


def title(context: ChannelContext) -> str:
    """Name of a node for people."""
    return getattr(context.node, "title", context.node.op_type)


def regrouped(labels: Labels, old: Shape, new: Shape) -> Labels:
    """Labels of a tensor whose values are put into another shape in their order.

    Only neighbouring axes that are joined or divided are written out.
    """
    wide_old, wide_new = [], []
    for old_axes, new_axes in _aligned(old, new):
        if any(labels.shape[axis] > 1 for axis in old_axes):
            wide_old += [old[axis] for axis in old_axes]
            wide_new += [new[axis] for axis in new_axes]
        else:
            wide_old += [1] * len(old_axes)
            wide_new += [1] * len(new_axes)
    return compressed(np.broadcast_to(labels, wide_old).reshape(wide_new))


def _aligned(old: Shape, new: Shape) -> Iterable[tuple[list[int], list[int]]]:
    """Axes of two shapes that hold the same entries, as few together as possible."""
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = [i] if i < len(old) else [], [j] if j < len(new) else []
        i, j = i + len(first), j + len(second)
        sizes = [math.prod(old[a] for a in first), math.prod(new[a] for a in second)]
        while sizes[0] != sizes[1]:
            if (sizes[0] < sizes[1] and i < len(old)) or j >= len(new):
                if i >= len(old):
                    raise Unsupported("it is put into a shape that does not fit", "not-followed")
                first.append(i)
                sizes[0] *= old[i]
                i += 1
            else:
                second.append(j)
                sizes[1] *= new[j]
                j += 1
        yield first, second


def reshape_channels(context: ChannelContext) -> Outputs:
    """Values in another shape, which no list of sizes tells."""
    labels = context.of()
    if labels is None:
        return ()
    return (regrouped(labels, context.shape(), context.result()),)


def taken(labels: Labels, axis: int, entries: NDArray[np.int64], size: int) -> Labels:
    """Labels of some entries (N,) along an axis.

    Parameters
    ----------
    labels, axis
        What is taken from, and along which axis.
    entries
        (N,) numbers of the entries.
    size
        Of the axis.
    """
    return compressed(along(labels, axis, size).take(entries, axis))
