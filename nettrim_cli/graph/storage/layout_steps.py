"""What the nodes on the way from a stored constant do to its values, as steps of a trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.elements import limits
from nettrim_cli.graph.storage.weight_view import (
    Array,
    Dequantized,
    Indexed,
    Reshaped,
    Shape,
    Step,
    Transposed,
)

TAKE = frozenset(("Slice", "Split", "Gather"))
"""Standard ops that take entries along an axis."""

MOVES = TAKE | {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
"""Standard ops that move values and change none."""

OPEN = (2**31 - 1, 2**63 - 1)
"""Ends that stand for "all the rest": going backwards, onnxruntime's rest is not ONNX's."""


def moves(
    kind: str, before: Shape, given: dict[str, Any], inputs: Sequence[Array | None], result: int
) -> tuple[Step, ...]:
    """The steps of a node that moves the values of its first input.

    Parameters
    ----------
    kind
        One of `MOVES`.
    before
        Shape of the first input.
    given
        The node's attributes; ``outputs`` is how many results it has.
    inputs
        Its other inputs, whole numbers; None for one that is left out.
    result
        Which of its results is meant.

    Raises
    ------
    Unsupported
        The tensor cannot be moved like this, or an entry is taken twice.
    """
    if kind == "Transpose":
        axes = tuple(range(len(before)))
        perm = given.get("perm", axes[::-1])
        if tuple(sorted(perm)) != axes:
            raise Unsupported("is transposed over axes that it does not have")
        return (Transposed(perm),)
    first = inputs[0] if inputs else None
    if kind not in TAKE:
        wanted = given.get("axes", given.get("shape", ())) if first is None else first.reshape(-1)
        return (reshaped(kind, before, given, [int(each) for each in wanted]),)
    if kind == "Slice":
        return _sliced(before, given, inputs)
    axis = _axis(given.get("axis", 0), before)
    if kind == "Split":
        return (Indexed(axis, before[axis], _split(before[axis], given, first, result)),)
    if first is None:
        raise Unsupported("is read by a Gather without indices")
    return (_taken(axis, before, np.where(first < 0, first + before[axis], first)),)


def _axis(axis: int, before: Shape) -> int:
    if not -len(before) <= axis < len(before):
        raise Unsupported(f"has no axis {axis}")
    return axis % len(before)


def _taken(axis: int, before: Shape, entries: Array) -> Indexed:
    if entries.size and not 0 <= entries.min() <= entries.max() < before[axis]:
        raise Unsupported("has not the entries that are taken from it")
    if len(np.unique(entries)) != entries.size:
        raise Unsupported("has entries that are taken twice")
    return Indexed(axis, before[axis], entries.astype(np.intp))


def _sliced(
    before: Shape, given: dict[str, Any], inputs: Sequence[Array | None]
) -> tuple[Step, ...]:
    """Slice over its axes, one after the other."""
    named = [given.get(name) for name in ("starts", "ends", "axes", "steps")]
    for at, values in enumerate(inputs):
        named[at] = None if values is None else [int(each) for each in values.reshape(-1)]
    starts, ends, axes, strides = named
    if starts is None or ends is None:
        raise Unsupported("is sliced without bounds")
    axes = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if strides is None else strides
    if not len(starts) == len(ends) == len(axes) == len(strides) or 0 in strides:
        raise Unsupported("is sliced by bounds that do not go together")
    steps: list[Step] = []
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        at = _axis(axis, before)
        steps.append(Indexed(at, before[at], _span(before[at], start, end, stride)))
    return tuple(steps)


def _span(size: int, start: int, end: int, stride: int) -> Array:
    """Entries of a slice; a start before the first one is the first one (ONNX, not Python)."""
    if stride < 0 and end in OPEN:
        raise Unsupported("is sliced backwards to an end that engines do not agree on")
    start, end = (at + size if at < 0 else at for at in (start, end))
    last = size if stride > 0 else size - 1
    start, end = min(max(start, 0), last), min(max(end, last - size), last)
    return np.arange(start, end, stride)


def _split(size: int, given: dict[str, Any], sizes: Array | None, result: int) -> Array:
    """Entries of one result of a Split; the last of equal ones may be smaller."""
    parts = given.get("split") if sizes is None else sizes.reshape(-1)
    if parts is None:
        each = -(-size // given["outputs"])
        parts = [max(0, min(each, size - each * at)) for at in range(given["outputs"])]
    ends = np.cumsum(parts)
    if len(ends) != given["outputs"] or ends[-1] != size or min(parts) < 0:
        raise Unsupported("is split into parts that do not fit")
    return np.arange(ends[result] - parts[result], ends[result])


def reshaped(kind: str, before: Shape, given: dict[str, Any], wanted: Sequence[int]) -> Reshaped:
    """The step of a node that changes the shape alone.

    Parameters
    ----------
    kind
        Reshape, Squeeze, Unsqueeze or Flatten.
    given
        The node's attributes.
    wanted
        Its second input (shape or axes), or what earlier operator sets have as an attribute.

    Raises
    ------
    Unsupported
        The shape does not fit.
    """
    axes = list(wanted)
    if kind == "Flatten":
        axis = given.get("axis", 1)
        at = axis + len(before) if axis < 0 else axis
        after: Sequence[int] = (math.prod(before[:at]), math.prod(before[at:]))
    elif kind == "Squeeze":
        gone = {axis % len(before) for axis in axes} if axes else None
        after = [
            size
            for axis, size in enumerate(before)
            if (axis not in gone if gone is not None else size != 1)
        ]
    elif kind == "Unsqueeze":
        rank = len(before) + len(axes)
        sizes = iter(before)
        added = {axis % rank for axis in axes}
        if len(added) != len(axes):
            raise Unsupported("is given an axis twice")
        after = [1 if axis in added else next(sizes) for axis in range(rank)]
    else:
        copied = [
            before[axis]
            if size == 0 and not given.get("allowzero", 0) and axis < len(before)
            else size
            for axis, size in enumerate(axes)
        ]
        rest = math.prod(size for size in copied if size != -1)
        after = [math.prod(before) // max(1, rest) if size == -1 else size for size in copied]
    if math.prod(after) != math.prod(before) or min(after, default=1) < 0:
        raise Unsupported(f"is put into a shape that does not fit by {kind}")
    return Reshaped(before, tuple(after))


def dequantized(
    stored: Shape, kind: int, scale: Array, zero: Array, axes: tuple[int, ...], block: int
) -> Dequantized:
    """The step of a DequantizeLinear on a tensor of shape `stored`: per tensor, axis or block.

    Parameters
    ----------
    axes
        Axes of the tensor along which those of scale and zero point run.

    Raises
    ------
    Unsupported
        Scale and zero point do not fit the tensor.
    """
    axes = tuple(axis % max(1, len(stored)) for axis in axes)
    if zero.shape not in ((), scale.shape):
        raise Unsupported("has a zero point that does not fit its scale")

    def spread(values: Array) -> Array:
        if values.size == 1 and not block:
            return values.reshape(())
        if block and values.ndim == len(stored):
            wide = np.repeat(values, block, axis=axes[0])
            cut = [slice(None)] * len(stored)
            cut[axes[0]] = slice(stored[axes[0]])
            return np.asarray(wide[tuple(cut)])
        mine = axes[: values.ndim]
        if stored and values.shape == tuple(stored[axis] for axis in mine):
            return values.reshape([n if axis in mine else 1 for axis, n in enumerate(stored)])
        raise Unsupported("has a scale of a shape that is not known")

    if not np.isfinite(scale).all() or not (scale > 0).all():
        raise Unsupported("has a scale that is not a positive number")
    least, most = limits(kind)
    exact = np.float64 if most > 2**24 else np.float32
    return Dequantized(spread(scale), spread(zero.astype(exact)), least, most)
