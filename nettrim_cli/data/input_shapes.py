"""Whether a dataset has the shape of a model input, and what would give it one."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence

from nettrim_cli.data.formats.base import Source, spell
from nettrim_cli.graph.layer import Tensor

MAX_PERMUTED = 6  # axes of a sample whose orders are tried

Axis = int | str | None


def fixed(axis: Axis) -> int | None:
    """Size of a fixed axis, None for a free one."""
    return axis if isinstance(axis, int) and axis > 0 else None


def batch_axis(tensor: Tensor, inputs: Sequence[Tensor]) -> int | None:
    """Which axis of an input counts the samples: the first, unless its size says otherwise.

    States of recurrent networks are (layers, batch, units): where the first axis of another input
    is free or 1, a fixed first axis of 2 or more does not count samples; the one free axis does,
    or none.
    """
    firsts = [fixed(other_input.shape[0]) for other_input in inputs if other_input.shape]
    own = fixed(tensor.shape[0]) if tensor.shape else None
    if own in (None, 1) or not {None, 1}.intersection(firsts):
        return 0
    free = [number for number, axis in enumerate(tensor.shape or ()) if fixed(axis) is None]
    return free[0] if len(free) == 1 else None


def dataset_shape(tensor: Tensor, inputs: Sequence[Tensor]) -> tuple[Axis, ...]:
    """Shape of the dataset that feeds an input, with ``samples`` for their number."""
    axis, axes = batch_axis(tensor, inputs), tensor.shape or ()
    if axis is None or not axes:
        return axes
    return ("samples", *axes[:axis], *axes[axis + 1 :])


def is_single(tensor: Tensor, source: Source) -> bool:
    """Whether a dataset is shaped as the value of an input for one sample."""
    ones = tuple(1 if fixed(axis) is None else axis for axis in tensor.shape or ())
    return bool(ones) and source.shape == ones


def stacks_along(axis: int | None, tensor: Tensor, shape: tuple[int, ...]) -> bool:
    """Whether rows of a dataset are samples without a batch axis `axis`, or with one of size 1."""
    if not axis or tensor.shape is None:
        return False
    if len(shape) == len(tensor.shape) + 1 and shape[axis + 1] == 1:
        return fits(tensor.shape, shape[1:])
    return fits((*tensor.shape[:axis], *tensor.shape[axis + 1 :]), shape[1:])


def fits(axes: Sequence[Axis], shape: Sequence[int]) -> bool:
    """Whether sizes are those of declared axes."""
    return len(axes) == len(shape) and all(
        fixed(want) in (None, have) for want, have in zip(axes, shape, strict=True)
    )


def reshape_hint(tensor: Tensor, shape: tuple[int, ...]) -> str:
    """What to do about a wrong shape: other axes' order or a reshape, if that is all it takes."""
    axes = (tensor.shape or ())[1:]
    if order := permutation(axes, shape[1:]):
        moved = ", ".join(str(axis + 1) for axis in order)
        return f"data.transpose(0, {moved}) puts its axes in the model's order."
    if axes and (order := permutation(axes, shape)):
        moved = "" if order == tuple(range(len(order))) else f".transpose({spell_axes(order)})"
        return f"for a single sample data{moved}[None] would do; more samples are needed."
    sizes = [axis for axis in map(fixed, axes) if axis is not None]
    if len(sizes) == len(axes) and axes:
        if regroups(shape[1:], sizes):
            return f"data.reshape(len(data), {spell_axes(sizes)}) would do."
        if regroups(shape, sizes):
            return f"for a single sample data.reshape(1, {spell_axes(sizes)}) would do."
    return "store one sample per row, prepared as in training."


def permutation(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[int, ...] | None:
    """The order of a shape's axes that fits declared ones, a single axis moved if that does."""
    count = len(shape)
    if count != len(axes) or count > MAX_PERMUTED:
        return None
    order = tuple(range(count))
    moves = [(*order[:axis], *order[axis + 1 :]) for axis in order]
    moved = [
        (*remaining[:to], axis, *remaining[to:])
        for to in order
        for axis, remaining in zip(order, moves, strict=True)
    ]
    for candidate in (order, *moved, *itertools.permutations(order)):
        if fits(axes, [shape[axis] for axis in candidate]):
            return candidate
    return None


def regroups(shape: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether a reshape only puts neighbouring axes together, or only takes some apart."""
    products, size_products = (
        set(itertools.accumulate(axes, operator.mul)) - {1} for axes in (shape, sizes)
    )
    return (
        bool(shape)
        and math.prod(shape) == math.prod(sizes)
        and (products <= size_products or size_products <= products)
    )


def spell_axes(axes: Iterable[int]) -> str:
    """Axes or sizes as the arguments of a call."""
    return ", ".join(map(str, axes))


def spell_input(tensor: Tensor) -> str:
    """Shape and dtype that a model input takes, for a message."""
    if tensor.shape is None:
        return f"of any shape, {tensor.dtype}"
    return spell(tensor.shape, tensor.dtype)
