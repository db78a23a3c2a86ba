"""What the rules for channels may ask, and what they say: labels of units, and edits of nodes.

*Labels* of a tensor are an array with as many axes as the tensor, of size 1 along the axes on which
entries are not told apart; equal numbers stand for entries that can only be deleted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.layer import Layer, Site
from nettrim_cli.graph.ops.base import Shape, Unsupported
from nettrim_cli.graph.ops.context import NodeContext
from nettrim_cli.reasons import Reason

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Cut:
    """A constant input loses entries with the units.

    Attributes
    ----------
    slot
        Which input.
    labels
        Labels of a tensor whose axes the constant meets.
    axes
        For each axis of the constant the axis of `labels` that it meets.
    """

    slot: int
    labels: Labels
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Resized:
    """A list of sizes, an input or the attribute ``shape``, gets those that are left.

    Attributes
    ----------
    slot
        Which input.
    labels
        Labels of the tensor that has these sizes.
    """

    slot: int
    labels: Labels


@dataclass(frozen=True)
class Counted:
    """An attribute is the number of different labels that are left."""

    attribute: str
    labels: Labels


@dataclass(frozen=True)
class Divided:
    """The sizes of parts along an axis get those that are left."""

    axis: int
    parts: tuple[Labels, ...]


@dataclass(frozen=True)
class Picked:
    """Bounds of a Slice, or indices of a Gather, tell where entries are that are left.

    Attributes
    ----------
    axis
        The axis that is sliced or gathered from.
    labels
        Labels of the input.
    entries
        Positions along the axis that are taken; those of a Slice follow each other.
    indices_slot
        Input that lists them; None where bounds tell them.
    """

    axis: int
    labels: Labels
    entries: NDArray[np.int64]
    indices_slot: int | None = None


Edit = Cut | Resized | Counted | Divided | Picked


class Units(Protocol):
    """The units found so far: ``graph.channels.walk``."""

    def fresh(self, count: int) -> Labels:
        """New labels (N,), all different."""

    def unite(self, first: Labels, second: Labels) -> None:
        """Entries with these labels, broadcast, go together."""

    def refuse(self, labels: Labels, reason: Reason) -> None:
        """Entries with these labels have to stay."""

    def columns(self, layer: Layer, block: int) -> Labels:
        """Labels (M,) of the columns of a layer's matrix, new ones at first."""

    def set_columns(self, layer: Layer, block: int, labels: Labels) -> None:
        """Say labels (M,) of the columns of a layer's matrix."""

    def read_rows(self, layer: Layer, block: int, labels: Labels) -> None:
        """Say labels (N,) of the rows of a layer's matrix, at one of its places."""

    def keep_rows(self, layer: Layer, reason: Reason) -> None:
        """Say that the rows of a layer have to stay."""

    def pass_through(self, layer: Layer, labels: Labels) -> None:
        """Say that a layer passes each of the units on by itself."""

    def size_label(self, labels: Labels, axis: int) -> Labels:
        """A label (1,) for the number of entries along an axis of a tensor."""

    def computed_size(self, sizes: Sequence[Labels]) -> Labels | None:
        """A label (1,) for what is computed of several sizes; None where one is no size."""

    def sum_over(self, node: int, first: Labels, second: Labels) -> bool:
        """Whether entries along the last axis, over which a node of this number sums, are units."""

    def share_heads(self, node: int, labels: Labels) -> bool:
        """Whether entries along the last axis are units, which a node of this number weighs."""

    def is_fixed(self, name: str, axis: int) -> bool:
        """Whether the size of a tensor's axis is the same for all inputs of the model."""


@dataclass(frozen=True)
class ChannelContext(NodeContext):
    """A node with the labels of its inputs.

    Attributes
    ----------
    units
        The units found so far.
    layers
        The prunable layers of the node, with the node as their site.
    labels
        Labels of each input, None for one whose entries all stay.
    input_shapes, output_shapes
        Shapes of inputs and outputs, None where they are not known.
    edits
        What is to be changed in the node; rules add to it.
    """

    units: Units
    layers: Sequence[tuple[Layer, Site]]
    labels: Sequence[Labels | None]
    input_shapes: Sequence[Shape | None]
    output_shapes: Sequence[Shape | None]
    edits: list[Edit]

    def of(self, slot: int = 0) -> Labels | None:
        """Labels of an input."""
        return self.labels[slot] if slot < self.count else None

    def shape(self, slot: int = 0) -> Shape:
        """Shape of an input.

        Raises
        ------
        Unsupported
            It is not known.
        """
        return known(self.input_shapes[slot] if slot < self.count else None)

    def result(self, number: int = 0) -> Shape:
        """Shape of an output.

        Raises
        ------
        Unsupported
            It is not known.
        """
        return known(self.output_shapes[number])

    def cut(self, slot: int, labels: Labels, axes: Sequence[int] | None = None) -> None:
        """Let a constant input lose entries; its axes meet the last ones of `labels` by default.

        Raises
        ------
        Unsupported
            It is not constant.
        """
        if not self.name(slot):
            return
        if not self.is_constant(slot):
            raise Unsupported("it is combined with a tensor that is not constant", "not-followed")
        rank = len(self.shape(slot))
        places = range(labels.ndim - rank, labels.ndim) if axes is None else axes
        self.edits.append(Cut(slot, labels, tuple(places)))


def known(shape: Shape | None) -> Shape:
    """A shape that is known.

    Raises
    ------
    Unsupported
        It is not.
    """
    if shape is None:
        raise Unsupported("the sizes of its tensors are not known", "not-followed")
    return shape


def varying(labels: Labels) -> tuple[int, ...]:
    """Axes along which entries are told apart."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size > 1)


def compressed(labels: Labels) -> Labels:
    """The labels with size 1 along all axes on which they do not change."""
    for axis in varying(labels):
        first = labels.take([0], axis)
        if (labels == first).all():
            labels = first
    return labels


def along(labels: Labels, axis: int, size: int) -> Labels:
    """The labels with all entries along an axis."""
    shape = list(labels.shape)
    shape[axis] = size
    return np.broadcast_to(labels, shape)


def on_axis(labels: Labels, axis: int, rank: int) -> Labels:
    """Labels (N,) as those of a tensor with `rank` axes, along one of them."""
    shape = [1] * rank
    shape[axis] = -1
    return labels.reshape(shape)
