"""Steps on the way from a stored constant to the tensor that a node reads, and back.

A step is what one node on the way does to values: ``read`` forwards, ``write`` so that ``read``
gives the wanted values again, as far as the stored type can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.graph.ops.base import Grid, Unsupported

Array = NDArray[Any]
Shape = tuple[int, ...]


class Step(Protocol):
    """What a node on the way does to values."""

    def read(self, values: Array) -> Array:
        """Values behind the node from those before it."""

    def write(self, values: Array) -> Array:
        """Values before the node from those behind it."""

    def shape(self, old_shape: Shape) -> Shape:
        """Shape behind the node."""


@dataclass(frozen=True)
class Transposed:
    """The step of Transpose."""

    perm: tuple[int, ...]

    def read(self, values: Array) -> Array:
        """Permute the axes."""
        return values.transpose(self.perm)

    def write(self, values: Array) -> Array:
        """Permute the axes back."""
        return values.transpose(np.argsort(self.perm))

    def shape(self, old_shape: Shape) -> Shape:
        """Sizes of the axes in their new order."""
        return tuple(old_shape[axis] for axis in self.perm)


@dataclass(frozen=True)
class Reshaped:
    """The step of Reshape, Squeeze, Unsqueeze and Flatten: equal values in the same order."""

    old_shape: Shape
    new_shape: Shape

    def read(self, values: Array) -> Array:
        """Put `values` into the new shape."""
        return values.reshape(self.new_shape)

    def write(self, values: Array) -> Array:
        """Put `values` into the old shape."""
        return values.reshape(self.old_shape)

    def shape(self, old_shape: Shape) -> Shape:
        """The new shape."""
        return self.new_shape


@dataclass(frozen=True, eq=False)
class Dequantized:
    """The step of DequantizeLinear: ``(q - zero) * scale``; writing rounds to the nearest q.

    Attributes
    ----------
    scale, zero
        Arrays of the stored shape, or broadcast to it.
    least, most
        Limits of the stored type.
    """

    scale: Array
    zero: Array
    least: int
    most: int

    def read(self, values: Array) -> Array:
        """Turn whole numbers into real ones."""
        return np.asarray((values.astype(self.dtype) - self.zero) * self.scale)

    def write(self, values: Array) -> Array:
        """Round to the nearest whole numbers of the stored type; 0 becomes the zero point."""
        rounded = np.rint(values.astype(self.dtype) / self.scale.astype(self.dtype))
        return np.asarray(np.clip(rounded + self.zero, self.least, self.most))

    def shape(self, old_shape: Shape) -> Shape:
        """The same shape."""
        return old_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type in which whole numbers of the stored type are exact."""
        return np.dtype(np.float64 if self.most > 2**24 else np.float32)


@dataclass(frozen=True, eq=False)
class Indexed:
    """The step of Slice, Split and Gather: entries along one axis, none of them twice.

    Attributes
    ----------
    axis, size
        The axis, and how many entries it has before.
    entries
        Positions of the entries in their order; a 0-d array where the axis goes away.
    """

    axis: int
    size: int
    entries: NDArray[np.intp]

    def read(self, values: Array) -> Array:
        """Take the entries."""
        return values.take(self.entries, self.axis)

    def write(self, values: Array) -> Array:
        """Put the entries at their positions, and zeros elsewhere."""
        old_shape = list(values.shape)
        old_shape[self.axis : self.axis + self.entries.ndim] = [self.size]
        result = np.zeros(old_shape, values.dtype)
        position: tuple[Any, ...] = (*[slice(None)] * self.axis, self.entries)
        result[position] = values
        return result

    def shape(self, old_shape: Shape) -> Shape:
        """The shape with as many entries on the axis as are taken."""
        return (*old_shape[: self.axis], *self.entries.shape, *old_shape[self.axis + 1 :])


def dequantized_step(
    stored: Shape, limits: tuple[int, int], scale: Array, zero: Array, grid: Grid
) -> Dequantized:
    """The step of integers that stand for real numbers: per tensor, axis or block.

    Parameters
    ----------
    stored
        Shape of the integers.
    limits
        Least and largest value of their type.
    scale, zero
        Values: (), a size for each of the grid's axes, or those of its blocks.

    Raises
    ------
    Unsupported
        Scale and zero point do not fit the tensor.
    """
    axes = tuple(axis % max(1, len(stored)) for axis in grid.axes)
    if zero.shape not in ((), scale.shape):
        raise Unsupported("has a zero point that does not fit its scale")
    if not np.isfinite(scale).all() or not (scale > 0).all():
        raise Unsupported("has a scale that is not a positive number")
    least, most = limits
    exact = np.float64 if most > 2**24 else np.float32
    wide_scale, wide_zero = (
        _spread(values, stored, axes, grid.block) for values in (scale, zero.astype(exact))
    )
    return Dequantized(wide_scale, wide_zero, least, most)


def _spread(values: Array, stored: Shape, axes: Shape, block: int) -> Array:
    """Values of a grid in a shape that broadcasts with the integers'."""
    if values.size == 1 and not block:
        return values.reshape(())
    if block > 0 and stored:
        axis = axes[0]
        count = -(-stored[axis] // block)
        if values.shape == (*stored[:axis], count, *stored[axis + 1 :]):
            wide = np.repeat(values, block, axis=axis)
            return np.asarray(wide.take(range(stored[axis]), axis=axis))
    own = axes[: values.ndim]
    if stored and values.shape == tuple(stored[axis] for axis in own):
        return values.reshape([n if axis in own else 1 for axis, n in enumerate(stored)])
    raise Unsupported("has a scale of a shape that is not known")
