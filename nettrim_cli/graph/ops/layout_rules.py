"""Lengths of lists and errors of ops that move values."""

from __future__ import annotations

import math

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.context import (
    ErrorContext,
    ErrorGain,
    NodeContext,
)


def sum_of_lengths(context: NodeContext) -> int | None:
    """Entries of all parts together."""
    slots = range(context.count)
    lengths = [length for slot in slots if (length := context.length(slot)) is not None]
    return sum(lengths) if len(lengths) == context.count else None


def slice_length(context: NodeContext) -> int | None:
    """Entries that a Slice leaves of a list."""
    length, steps = context.length(), context.integers("steps", 4) if context.name(4) else (1,)
    starts, ends = context.integers("starts", 1), context.integers("ends", 2)
    if length is None or not (starts and ends and steps) or not steps[0]:
        return None
    return len(range(*slice(starts[0], ends[0], steps[0]).indices(length)))


def reshape_length(context: NodeContext) -> int | None:
    """The listed size, or that of before for -1."""
    sizes = context.integers("shape", 1)
    if not sizes or sizes[0] == 0:
        return None
    return sizes[0] if sizes[0] > 0 else context.length()


def gather_rank(context: NodeContext) -> int | None:
    """The axes of the indices in place of one."""
    rank, indices = context.rank(0), context.rank(1)
    return None if rank is None or indices is None else rank + indices - 1


def expand_rank(context: NodeContext) -> int | None:
    """As many axes as the longer of the two shapes."""
    length, rank = context.length(1), context.rank()
    return None if length is None or rank is None else max(length, rank)


def pad_error(context: ErrorContext) -> ErrorGain:
    """Margins of a constant have no error.

    Raises
    ------
    Unsupported
        The margins are copies.
    """
    if context.attributes.get("mode", "constant") != "constant":
        raise Unsupported("it copies its margins")
    return context.first(1.0)


def gather_error(context: ErrorContext) -> ErrorGain:
    """The root of how often one entry is taken.

    Raises
    ------
    Unsupported
        The indices are not constant.
    """
    indices = context.stored(1)
    if indices is None:
        raise Unsupported("what it picks is not constant")
    axis = context.attributes.get("axis", 0)
    sizes = [x[axis] for x, _ in context.shape_pairs(0)]
    counts = (np.unique(indices.ravel() % size, return_counts=True)[1] for size in sizes)
    return context.first(math.sqrt(max(int(count.max(initial=0)) for count in counts)))
