"""How ops that move values pass units on, and what is changed in them where units go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.channel_context import (
    ChannelContext,
    Divided,
    Labels,
    Picked,
    Resized,
    along,
    compressed,
    on_axis,
    varying,
)
from nettrim_cli.graph.ops.channel_rules import (
    Outputs,
    boundary,
    broadcast,
    met,
    padded,
    regrouped,
    taken,
)
from nettrim_cli.reasons import Reason


def transpose_channels(context: ChannelContext) -> Outputs:
    """The axes in another order."""
    labels = context.of()
    if labels is None:
        return ()
    perm = context.attributes.get("perm", range(labels.ndim)[::-1])
    return (labels.transpose(tuple(perm)),)


def reshape_channels(context: ChannelContext) -> Outputs:
    """Values in a listed shape."""
    labels = context.of()
    result = None
    if labels is not None:
        result = regrouped(labels, context.shape(), context.result())
        context.edits.append(Resized(1, result))
    _check_sizes(context, 1, result)
    return (result,)


def filled_channels(context: ChannelContext) -> Outputs:
    """One number everywhere: the last axis may be of any length."""
    shape, result = context.result(), None
    if shape and shape[-1] > 1 and context.units.is_fixed(context.node.output[0], len(shape) - 1):
        result = on_axis(context.units.fresh(shape[-1]), -1, len(shape))
        context.edits.append(Resized(0, result))
    _check_sizes(context, 0, result)
    return (result,)


def _stored(context: ChannelContext) -> Labels | None:
    """Labels of the first input; of a constant new ones, along its last axis."""
    if not context.is_constant(0):
        return context.of()
    shape = context.shape()
    if not shape or shape[-1] == 1:
        return None
    labels = on_axis(context.units.fresh(shape[-1]), -1, len(shape))
    context.cut(0, labels)
    return labels


def expand_channels(context: ChannelContext) -> Outputs:
    """Values repeated up to a listed shape."""
    labels = _stored(context)
    result = None
    if labels is not None:
        result = padded(labels, len(context.result()))
        context.edits.append(Resized(1, result))
    _check_sizes(context, 1, result)
    return (result,)


def _check_sizes(context: ChannelContext, slot: int, result: Labels | None) -> None:
    """Sizes of tensors that lose entries may be used where the result loses some, too."""
    sizes = context.of(slot)
    if sizes is None:
        return
    for place, size in enumerate(sizes.reshape(-1)):
        if result is None or place >= result.ndim or result.shape[place] == 1:
            reason = Reason("fixed-partner", "the number of them is used as a size")
            context.units.refuse(np.asarray([size]), reason)


def slice_channels(context: ChannelContext) -> Outputs:
    """Entries between bounds, one step after the other."""
    labels = _stored(context)
    if labels is None:
        return ()
    starts, ends = context.integers("starts", 1), context.integers("ends", 2)
    axes = context.integers("axes", 3)
    steps = context.integers("steps", 4) if context.name(4) else None
    if axes is None and (context.name(3) or starts is None):
        return _beside(context, labels, range(labels.ndim))
    axes = tuple(range(len(starts or ()))) if axes is None else axes
    axes = tuple(axis % labels.ndim for axis in axes)
    if starts is None or ends is None or (steps is None and context.name(4)):
        return _beside(context, labels, axes)
    steps = (1,) * len(axes) if steps is None else steps
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if labels.shape[axis] == 1:
            continue
        size = context.shape()[axis]
        entries = np.arange(size, dtype=np.int64)[slice(start, end, step)]
        if len(entries) == size and step == 1 and start == 0 and (end > size or end < 0):
            continue
        if step != 1:
            return boundary(context)
        context.edits.append(Picked(axis, labels, entries))
        labels = taken(labels, axis, entries, size)
    return (labels,)


def _beside(context: ChannelContext, labels: Labels, axes: Sequence[int]) -> Outputs:
    """The labels, where nothing happens along their axes."""
    if any(labels.shape[axis] > 1 for axis in axes):
        return boundary(context)
    return (labels,)


def split_channels(context: ChannelContext) -> Outputs:
    """Parts along an axis."""
    labels = context.of()
    if labels is None:
        return ()
    axis = context.attributes.get("axis", 0) % labels.ndim
    if labels.shape[axis] == 1:
        return (labels,) * len(context.node.output)
    sizes = [context.result(slot)[axis] for slot in range(len(context.node.output))]
    ends = np.cumsum(sizes)
    whole = along(labels, axis, int(ends[-1]))
    parts = tuple(np.split(whole, ends[:-1], axis))
    context.edits.append(Divided(axis, parts))
    return [compressed(labels) for labels in parts]


def gather_channels(context: ChannelContext) -> Outputs:
    """Entries along an axis, by constant numbers; or rows of a stored table."""
    axis = context.attributes.get("axis", 0)
    if context.is_constant(0):
        return _table(context, axis)
    labels = context.of()
    if context.of(1) is not None:
        return boundary(context)
    if labels is None:
        return ()
    axis %= labels.ndim
    indices = context.stored(1)
    if labels.shape[axis] == 1:
        rank = len(context.shape(1)) if indices is None else indices.ndim
        return (labels.reshape(labels.shape[:axis] + (1,) * rank + labels.shape[axis + 1 :]),)
    if indices is None or indices.ndim > 1:
        return boundary(context)
    size = context.shape()[axis]
    entries = np.where(indices < 0, indices + size, indices).astype(np.int64)
    context.edits.append(Picked(axis, labels, entries, context.spec.indices))
    return (compressed(along(labels, axis, size).take(entries, axis)),)


def _table(context: ChannelContext, axis: int) -> Outputs:
    """Rows of a stored matrix: its columns are units."""
    shape = context.shape()
    if len(shape) != 2 or axis % 2 or shape[1] == 1:
        return boundary(context)
    if context.of(1) is not None:
        boundary(context)
    columns = context.units.fresh(shape[1])
    context.cut(0, columns, (-1, 0))
    return (on_axis(columns, -1, len(context.result())),)


def concat_channels(context: ChannelContext) -> Outputs:
    """Parts side by side; along other axes entries that are side by side go together."""
    labels = [context.of(slot) for slot in range(context.count)]
    told = [array for array in labels if array is not None]
    if not told:
        return ()
    rank = told[0].ndim
    axis = context.attributes.get("axis", 1) % rank
    if all(array.shape[axis] == 1 for array in told) and max(map(np.size, told)) > 1:
        return (_stacked(context, axis, labels),)
    parts = []
    for slot, array in enumerate(labels):
        shape = context.shape(slot)
        if array is None:
            array = context.units.fresh(shape[axis])
            context.units.refuse(array, met(context))
            array = on_axis(array, axis, rank)
        parts.append(along(array, axis, shape[axis]))
    whole = np.broadcast_shapes(*(part.shape[:axis] + part.shape[axis + 1 :] for part in parts))
    wide = (
        np.broadcast_to(part, (*whole[:axis], part.shape[axis], *whole[axis:])) for part in parts
    )
    return (compressed(np.concatenate(list(wide), axis)),)


def _stacked(context: ChannelContext, axis: int, labels: Sequence[Labels | None]) -> Labels | None:
    """Labels of parts that are put behind each other along an axis without units."""

    def flat(slot: int) -> tuple[int, ...]:
        """Shape of a part with one entry along the axis."""
        shape = context.shape(slot)
        return (*shape[:axis], 1, *shape[axis + 1 :])

    signals = [slot for slot in range(context.count) if not context.is_constant(slot)]
    result = broadcast(context, [(labels[slot], flat(slot)) for slot in signals])
    if result is not None:
        for slot in range(context.count):
            if context.is_constant(slot):
                context.cut(slot, result)
    return result


def tile_channels(context: ChannelContext) -> Outputs:
    """Values repeated."""
    labels = context.of()
    if labels is None:
        return ()
    repeats = [
        new // max(1, old) for old, new in zip(context.shape(), context.result(), strict=True)
    ]
    wide = [repeats[axis] if axis in varying(labels) else 1 for axis in range(labels.ndim)]
    return (np.tile(labels, wide),)


def same_size_channels(context: ChannelContext) -> Outputs:
    """Nothing happens along axes with units.

    Raises
    ------
    Unsupported
        The size of such an axis changes.
    """
    labels = context.of()
    if any(context.of(slot) is not None for slot in range(1, context.count)):
        boundary(context)
    if labels is None:
        return ()
    if any(context.shape()[axis] != context.result()[axis] for axis in varying(labels)):
        raise Unsupported(f"{context.node.op_type} changes how many there are", "not-followed")
    return (labels,)


def resize_channels(context: ChannelContext) -> Outputs:
    """As `same_size_channels`; sizes that are listed may be those of all axes."""
    labels = context.of()
    _check_sizes(context, 3, labels)
    if labels is None:
        return ()
    if any(context.shape()[axis] != context.result()[axis] for axis in varying(labels)):
        return boundary(context)
    if context.name(3) and len(context.shape(3)) and context.shape(3)[0] == labels.ndim:
        context.edits.append(Resized(3, labels))
    return (labels,)


def to_space_channels(context: ChannelContext) -> Outputs:
    """Channels that come to lie beside each other in one image go together."""
    labels = context.of()
    if labels is None:
        return ()
    if varying(labels) != (1,):
        return boundary(context)
    block = context.attributes["blocksize"] ** 2
    flat = labels.reshape(-1)
    column_first = context.attributes.get("mode", "DCR") == "CRD"
    shape = (-1, block) if column_first else (block, -1)
    places = flat.reshape(shape) if column_first else flat.reshape(shape).T
    context.units.unite(places, places[:, :1])
    return (on_axis(places[:, 0], 1, labels.ndim),)


def to_depth_channels(context: ChannelContext) -> Outputs:
    """Each channel becomes several."""
    labels = context.of()
    if labels is None:
        return ()
    if varying(labels) != (1,):
        return boundary(context)
    block = context.attributes["blocksize"] ** 2
    return (on_axis(np.tile(labels.reshape(-1), block), 1, labels.ndim),)


def size_channels(context: ChannelContext) -> Outputs:
    """Sizes of the axes; each is an entry, which depends on how many units are left."""
    labels = context.of()
    if labels is None:
        return ()
    first, last = context.attributes.get("start", 0), context.attributes.get("end")
    axes = range(labels.ndim)[first:last]
    return (np.concatenate([context.units.size_label(labels, axis) for axis in axes]),)
