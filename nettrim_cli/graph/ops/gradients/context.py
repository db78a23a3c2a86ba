"""What a gradient rule may ask, and the parts that several rules share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nettrim_cli.graph.ops.base import Unsupported
from nettrim_cli.graph.ops.context import NodeContext

if TYPE_CHECKING:
    from nettrim_cli.graph.gradient.builder import Builder

Sizes = tuple[int | str | None, ...]
"""Sizes of axes: a number, a name that is equal for equal sizes, or None."""


@dataclass(frozen=True)
class TensorFacts:
    """What shape inference says of tensors.

    Attributes
    ----------
    sizes
        By tensor; none of one whose rank is not known.
    types
        Element types by tensor.
    """

    sizes: Mapping[str, Sizes]
    types: Mapping[str, int]


@dataclass(frozen=True)
class GradientContext(NodeContext):
    """A node with the gradients of its outputs.

    Attributes
    ----------
    g
        Appends nodes to the graph.
    gradients
        Names of the gradients of its outputs; empty for an output without.
    wanted
        Slots whose gradient is needed.
    facts
        Of all tensors.
    """

    g: Builder
    gradients: Sequence[str]
    wanted: frozenset[int]
    facts: TensorFacts

    @property
    def gradient(self) -> str:
        """Gradient of the first output.

        Raises
        ------
        Unsupported
            Only another output is read.
        """
        if not self.gradients[0] or any(self.gradients[1:]):
            raise Unsupported("has several outputs that are read")
        return self.gradients[0]

    @property
    def y(self) -> str:
        """Name of the first output."""
        return self.node.output[0]

    def sizes(self, slot: int = 0) -> Sizes:
        """Sizes of an input's axes.

        Raises
        ------
        Unsupported
            Not even their number is known.
        """
        return self.sizes_of(self.name(slot))

    def sizes_of(self, name: str) -> Sizes:
        """Sizes of a tensor's axes.

        Raises
        ------
        Unsupported
            Not even their number is known.
        """
        if name not in self.facts.sizes:
            raise Unsupported("reads a tensor whose number of axes is not known")
        return self.facts.sizes[name]

    def fixed_sizes(self, slot: int, start: int = 0) -> tuple[int, ...] | None:
        """Sizes from an axis on, where all of them are numbers."""
        sizes = self.sizes(slot)[start:]
        numbers = tuple(size for size in sizes if isinstance(size, int))
        return numbers if len(numbers) == len(sizes) else None

    def axes(self, name: str, slot: int) -> tuple[int, ...]:
        """Listed axes of the first input, counted from its first; all where none are listed.

        Raises
        ------
        Unsupported
            They are computed, or the number of axes is not known.
        """
        rank, listed = len(self.sizes()), self.integers(name, slot)
        if listed is None and self.name(slot):
            raise Unsupported("computes its axes")
        if not listed:
            idle = self.attributes.get("noop_with_empty_axes", 0)
            return () if idle else tuple(range(rank))
        return tuple(sorted(axis % rank for axis in listed))

    def number_like(self, value: Any, slot: int = 0) -> str:
        """A constant of the element type of an input."""
        return self.g.constant(value, self.facts.types.get(self.name(slot), 1))

    def scaled(self, name: str, factor: float) -> str:
        """A tensor of the first input's type times a number."""
        return name if factor == 1 else self.g.Mul(name, self.number_like(factor))

    def reshaped(self, name: str, slot: int = 0) -> str:
        """A tensor in the shape of an input."""
        return self.g.Reshape(name, self.g.shape(self.name(slot)))

    def summed(self, name: str, slot: int) -> str:
        """A tensor of the output's shape, summed to that of an input by which it was broadcast."""
        return sum_to(self, name, self.sizes_of(self.y), self.name(slot))


GradientRule = Callable[[GradientContext], Mapping[int, str]]


def sum_to(context: GradientContext, name: str, sizes: Sizes, target: str) -> str:
    """A tensor, summed to the shape of another that was broadcast to it.

    Parameters
    ----------
    context
        Of the node.
    name, sizes
        The tensor, and its sizes.
    target
        Name of the tensor whose shape is wanted.
    """
    g, small = context.g, context.sizes_of(target)
    missing = len(sizes) - len(small)
    pairs = list(enumerate(zip(small, sizes[missing:], strict=True), start=missing))
    if any(a is None or (a != b and not isinstance(a, int)) for _, (a, b) in pairs):
        return _sum_to_computed(context, name, missing, target)
    ones = [axis for axis, (a, b) in pairs if a == 1 and b != 1]
    if not missing:
        return g.total(name, ones, keepdims=True)
    total = g.total(name, [*range(missing), *ones], keepdims=not ones)
    if not ones:
        return g.total(name, range(missing), keepdims=False)
    return g.Reshape(total, g.shape(target))


def _sum_to_computed(context: GradientContext, name: str, missing: int, target: str) -> str:
    """Over the axes that turn out to be of size 1."""
    g, shape = context.g, context.g.shape(target)
    padded = g.Concat(g.constant(np.ones(missing)), shape, axis=0) if missing else shape
    is_one = g.Equal(padded, g.constant(1))
    axes = g.Reshape(g.NonZero(is_one), g.constant([-1]))
    total = g.ReduceSum(name, axes, keepdims=1, noop_with_empty_axes=1)
    return g.Reshape(total, shape)


def zero(_: GradientContext) -> Mapping[int, str]:
    """Steps, and integers: no gradient."""
    return {}


def moved_by_positions(context: GradientContext) -> Mapping[int, str]:
    """For ops that give out entries of their first input: the positions go the same way.

    The gradient of each output is added to that of the entry that it came from.
    """
    g = context.g
    size = g.size(context.name())
    counts = g.Cast(size, to=6)
    whole = g.Range(g.constant(0, 6), counts, g.constant(1, 6))
    positions = g.Reshape(whole, g.shape(context.name()))
    inputs = [positions, *context.node.input[1:]]
    outputs = g.add_many(
        context.node.op_type, inputs, len(context.node.output), **context.attributes
    )
    total = g.Expand(context.number_like(0.0), g.Reshape(size, g.constant([1])))
    flat = g.constant([-1])
    for places, gradient in zip(outputs, context.gradients, strict=True):
        if gradient:
            total = g.ScatterElements(
                total,
                g.Reshape(places, flat),
                g.Reshape(gradient, flat),
                axis=0,
                reduction="add",
            )
    return {0: context.reshaped(total)}
