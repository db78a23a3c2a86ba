"""Ops that move values and change none: where a weight may be stored behind them, it is found."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nettrim_cli.graph.ops import channel_layout as channels
from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.channel_rules import reshape_channels, to_first_output
from nettrim_cli.graph.ops.context import (
    LayoutContext,
)
from nettrim_cli.graph.ops.error_rules import copies, side_by_side, slope, unmoved
from nettrim_cli.graph.ops.function_rules import always, plain
from nettrim_cli.graph.ops.gradients import layout as gradients
from nettrim_cli.graph.ops.gradients.context import moved_by_positions, zero
from nettrim_cli.graph.ops.gradients.elementwise import to_first as identity_gradient
from nettrim_cli.graph.ops.layout_rules import (
    expand_rank,
    gather_error,
    gather_rank,
    pad_error,
    reshape_length,
    slice_length,
    sum_of_lengths,
)
from nettrim_cli.graph.ops.layout_steps import Array, Indexed, Reshaped, Shape, Step, Transposed
from nettrim_cli.graph.ops.rank_rules import (
    first_length,
    first_rank,
    fixed,
    listed_rank,
    more_axes,
    rank_of_any,
)
from nettrim_cli.graph.ops.spec import OpSpec

OPEN = (2**31 - 1, 2**63 - 1)
"""Ends that stand for "all the rest": going backwards, onnxruntime's rest is not ONNX's."""

# ---- steps on the way from a stored constant


def transposed(context: LayoutContext) -> tuple[Step, ...]:
    """The axes in another order.

    Raises
    ------
    Unsupported
        The tensor has not these axes.
    """
    axes = tuple(range(len(context.shape)))
    perm = context.attributes.get("perm", axes[::-1])
    if tuple(sorted(perm)) != axes:
        raise Unsupported("is transposed over axes that it does not have")
    return (Transposed(perm),)


def reshaped(
    new_shape: Callable[[LayoutContext, Shape], Sequence[int]],
) -> Callable[[LayoutContext], tuple[Step, ...]]:
    """The rule of an op that changes the shape alone, from one for the new shape."""
    return functools.partial(_reshape, new_shape)


def _reshape(
    new_shape: Callable[[LayoutContext, Shape], Sequence[int]], context: LayoutContext
) -> tuple[Step, ...]:
    old_shape = context.shape
    sizes = tuple(new_shape(context, old_shape))
    if math.prod(sizes) != math.prod(old_shape) or min(sizes, default=1) < 0:
        op = context.node.op_type
        raise Unsupported(f"is put into a shape that does not fit by {op}")
    return (Reshaped(old_shape, sizes),)


def _listed(context: LayoutContext, name: str) -> list[int]:
    """The second input, or what earlier operator sets have as an attribute."""
    values = context.whole(1)
    if values is None:
        return list(context.attributes.get(name, ()))
    return [int(value) for value in values.reshape(-1)]


def reshape_shape(context: LayoutContext, old_shape: Shape) -> Sequence[int]:
    """The listed sizes, 0 for an old one and -1 for what is left."""
    sizes = _listed(context, "shape")
    if not context.attributes.get("allowzero", 0):
        old = dict(enumerate(old_shape))
        sizes = [old.get(axis, 0) if size == 0 else size for axis, size in enumerate(sizes)]
    product = math.prod(size for size in sizes if size != -1)
    return [math.prod(old_shape) // max(1, product) if size == -1 else size for size in sizes]


def flatten_shape(context: LayoutContext, old_shape: Shape) -> Sequence[int]:
    """Two axes: those before one, and the others."""
    axis = context.attributes.get("axis", 1)
    start = axis + len(old_shape) if axis < 0 else axis
    return math.prod(old_shape[:start]), math.prod(old_shape[start:])


def squeeze_shape(context: LayoutContext, old_shape: Shape) -> Sequence[int]:
    """Without the listed axes, or all of size 1."""
    axes = {_axis(axis, len(old_shape)) for axis in _listed(context, "axes")}
    axes = axes or {axis for axis, size in enumerate(old_shape) if size == 1}
    return [size for axis, size in enumerate(old_shape) if axis not in axes]


def unsqueeze_shape(context: LayoutContext, old_shape: Shape) -> Sequence[int]:
    """With axes of size 1 at the listed places.

    Raises
    ------
    Unsupported
        An axis is listed twice.
    """
    axes = _listed(context, "axes")
    rank = len(old_shape) + len(axes)
    sizes, added = iter(old_shape), {_axis(axis, rank) for axis in axes}
    if len(added) != len(axes):
        raise Unsupported("is given an axis twice")
    return [1 if axis in added else next(sizes) for axis in range(rank)]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Unsupported(f"has no axis {axis}")
    return axis % rank


def gathered(context: LayoutContext) -> tuple[Step, ...]:
    """Entries along an axis, none of them twice.

    Raises
    ------
    Unsupported
        There are no indices, or an entry is taken twice or is not there.
    """
    shape, entries = context.shape, context.whole(1)
    axis = _axis(context.attributes.get("axis", 0), len(shape))
    if entries is None:
        raise Unsupported("is read by a Gather without indices")
    size = shape[axis]
    entries = np.where(entries < 0, entries + size, entries)
    if entries.size and not 0 <= entries.min() <= entries.max() < size:
        raise Unsupported("has not the entries that are taken from it")
    if len(np.unique(entries)) != entries.size:
        raise Unsupported("has entries that are taken twice")
    return (Indexed(axis, size, entries.astype(np.intp)),)


def split(context: LayoutContext) -> tuple[Step, ...]:
    """One of several parts along an axis; the last of equal ones may be smaller.

    Raises
    ------
    Unsupported
        The parts do not fit.
    """
    shape, sizes, count = context.shape, context.whole(1), len(context.node.output)
    axis = _axis(context.attributes.get("axis", 0), len(shape))
    size = shape[axis]
    parts = context.attributes.get("split") if sizes is None else sizes.reshape(-1)
    if parts is None:
        even = -(-size // count)
        parts = [max(0, min(even, size - even * number)) for number in range(count)]
    ends = np.cumsum(parts)
    if len(ends) != count or ends[-1] != size or min(parts) < 0:
        raise Unsupported("is split into parts that do not fit")
    end = ends[context.result]
    return (Indexed(axis, size, np.arange(end - parts[context.result], end)),)


def sliced(context: LayoutContext) -> tuple[Step, ...]:
    """Entries between bounds, one axis after the other.

    Raises
    ------
    Unsupported
        Bounds are missing, or do not go together.
    """
    shape = context.shape
    starts, ends, axes, strides = (
        _bounds(context, name, slot)
        for slot, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    if starts is None or ends is None:
        raise Unsupported("is sliced without bounds")
    axes = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if strides is None else strides
    if not len(starts) == len(ends) == len(axes) == len(strides) or 0 in strides:
        raise Unsupported("is sliced by bounds that do not go together")
    steps: list[Step] = []
    for start, end, listed, stride in zip(starts, ends, axes, strides, strict=True):
        axis = _axis(listed, len(shape))
        size = shape[axis]
        steps.append(Indexed(axis, size, _span(size, start, end, stride)))
    return tuple(steps)


def _bounds(context: LayoutContext, name: str, slot: int) -> Sequence[int] | None:
    if slot >= context.count:
        bounds: Sequence[int] | None = context.attributes.get(name)
        return bounds
    values = context.whole(slot)
    return None if values is None else [int(value) for value in values.reshape(-1)]


def _span(size: int, start: int, end: int, stride: int) -> Array:
    """Entries of a slice; a start before the first one is the first one (ONNX, not Python)."""
    if stride < 0 and end in OPEN:
        raise Unsupported("is sliced backwards to an end that engines do not agree on")
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    last = size if stride > 0 else size - 1
    start, end = min(max(start, 0), last), min(max(end, last - size), last)
    return np.arange(start, end, stride)


def moved(layout: Callable[[LayoutContext], tuple[Step, ...]], **facts: Any) -> OpSpec:
    """An op that gives out all values of its first input in another shape or order."""
    usual = {"error": slope(1), "steady": always}
    return OpSpec(layout=layout, same_values=True, **usual | facts)


LAYOUT: dict[str, OpSpec] = {
    "Identity": moved(
        lambda context: (),
        rank=first_rank,
        length=first_length,
        function=plain(lambda x: x),
        linear=True,
        idle=lambda context: True,
        channels=to_first_output,
        gradient=identity_gradient,
    ),
    "Transpose": moved(
        transposed,
        rank=first_rank,
        channels=channels.transpose_channels,
        gradient=gradients.transposed_gradient,
    ),
    "Reshape": moved(
        reshaped(reshape_shape),
        rank=listed_rank(1),
        length=reshape_length,
        channels=channels.reshape_channels,
        gradient=gradients.reshaped_gradient,
    ),
    "Flatten": moved(
        reshaped(flatten_shape),
        rank=fixed(2),
        channels=reshape_channels,
        gradient=gradients.reshaped_gradient,
    ),
    "Squeeze": moved(
        reshaped(squeeze_shape),
        rank=more_axes(-1),
        channels=reshape_channels,
        gradient=gradients.reshaped_gradient,
    ),
    "Unsqueeze": moved(
        reshaped(unsqueeze_shape),
        rank=more_axes(1),
        length=fixed(1),
        channels=reshape_channels,
        gradient=gradients.reshaped_gradient,
    ),
    "Slice": OpSpec(
        layout=sliced,
        rank=first_rank,
        length=slice_length,
        error=slope(1),
        channels=channels.slice_channels,
        steady=always,
        gradient=gradients.sliced_gradient,
    ),
    "Split": OpSpec(
        layout=split,
        rank=first_rank,
        every_output=True,
        error=slope(1),
        channels=channels.split_channels,
        steady=always,
        gradient=gradients.split_gradient,
    ),
    "Gather": OpSpec(
        layout=gathered,
        indices=1,
        rank=gather_rank,
        length=lambda context: context.length(1),
        error=gather_error,
        channels=channels.gather_channels,
        steady=lambda context: not context.is_constant(0),
        gradient=gradients.gathered_gradient,
    ),
    "Concat": OpSpec(
        join_axis=lambda context: int(context.attributes.get("axis", 1)),
        rank=rank_of_any(),
        length=sum_of_lengths,
        error=side_by_side,
        channels=channels.concat_channels,
        steady=always,
        gradient=gradients.joined_gradient,
    ),
    "Expand": OpSpec(
        rank=expand_rank,
        error=copies,
        spreads=True,
        channels=channels.expand_channels,
        steady=always,
        gradient=gradients.expanded_gradient,
    ),
    "Tile": OpSpec(
        rank=first_rank,
        error=copies,
        channels=channels.tile_channels,
        steady=always,
        gradient=moved_by_positions,
    ),
    "Pad": OpSpec(
        rank=first_rank,
        error=pad_error,
        channels=channels.same_size_channels,
        gradient=gradients.padded_gradient,
    ),
    "DepthToSpace": OpSpec(
        rank=first_rank,
        error=slope(1),
        channels=channels.to_space_channels,
        gradient=gradients.blocks_gradient,
    ),
    "SpaceToDepth": OpSpec(
        rank=first_rank,
        error=slope(1),
        channels=channels.to_depth_channels,
        steady=always,
        gradient=gradients.blocks_gradient,
    ),
    **dict.fromkeys(
        ("Trilu", "ReverseSequence"), OpSpec(rank=first_rank, gradient=gradients.same_op_gradient)
    ),
    "GatherElements": OpSpec(rank=first_rank, gradient=moved_by_positions),
    **dict.fromkeys(("ScatterElements", "ScatterND"), OpSpec(rank=first_rank)),
    "Shape": OpSpec(
        rank=fixed(1),
        length=lambda context: (
            None if {"start", "end"} & set(context.attributes) else context.rank()
        ),
        error=unmoved,
        channels=channels.size_channels,
        gradient=zero,
    ),
    "Size": OpSpec(rank=fixed(0), gradient=zero),
    "Constant": OpSpec(stores=True),
    "ConstantOfShape": OpSpec(
        rank=listed_rank(0), channels=channels.filled_channels, gradient=zero
    ),
    "Range": OpSpec(rank=fixed(1), gradient=zero),
    "NonZero": OpSpec(rank=fixed(2), gradient=zero),
    "OneHot": OpSpec(rank=lambda context: None if (rank := context.rank()) is None else rank + 1),
}
