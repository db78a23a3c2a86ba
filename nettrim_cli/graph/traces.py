"""The way from a stored constant to the tensor that a node reads, and back.

A step is what one node on the way does to values: ``there`` forwards, ``back`` so that ``there``
gives the wanted values again, as far as the stored type can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.constants import STORED, TREATED, elem_type, shape, type_name
from nettrim_cli.graph.external import NOTHING, External
from nettrim_cli.graph.ops import Refusal

INTEGERS = frozenset(
    (
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16),
        TensorProto.INT32,
    )
)
"""Element types that may stand for real numbers."""

Array = NDArray[Any]
Shape = tuple[int, ...]


class Step(Protocol):
    """What a node on the way does."""

    def there(self, values: Array) -> Array:
        """Values behind the node."""

    def back(self, values: Array) -> Array:
        """Values before the node."""

    def shape(self, before: Shape) -> Shape:
        """Shape behind the node."""


@dataclass(frozen=True)
class Transposed:
    """Transpose."""

    perm: tuple[int, ...]

    def there(self, values: Array) -> Array:
        """Turn the axes."""
        return values.transpose(self.perm)

    def back(self, values: Array) -> Array:
        """Turn them back."""
        return values.transpose(np.argsort(self.perm))

    def shape(self, before: Shape) -> Shape:
        """Axes in their new order."""
        return tuple(before[axis] for axis in self.perm)


@dataclass(frozen=True)
class Reshaped:
    """Reshape, Squeeze, Unsqueeze and Flatten: the same values in the same order."""

    before: Shape
    after: Shape

    def there(self, values: Array) -> Array:
        """In the new shape."""
        return values.reshape(self.after)

    def back(self, values: Array) -> Array:
        """In the old one."""
        return values.reshape(self.before)

    def shape(self, before: Shape) -> Shape:
        """The new shape."""
        return self.after


@dataclass(frozen=True, eq=False)
class Dequantized:
    """DequantizeLinear: ``(q - zero) * scale``; on the way back to the nearest step.

    Both are arrays of the stored shape, or broadcast to it.
    """

    scale: Array
    zero: Array
    least: int
    most: int

    def there(self, values: Array) -> Array:
        """Real numbers."""
        return np.asarray((values.astype(self.wide) - self.zero) * self.scale)

    def back(self, values: Array) -> Array:
        """The nearest whole numbers of the stored type: a zero is the zero point itself."""
        found = np.rint(values.astype(self.wide) / self.scale.astype(self.wide))
        return np.asarray(np.clip(found + self.zero, self.least, self.most))

    def shape(self, before: Shape) -> Shape:
        """The same."""
        return before

    @property
    def wide(self) -> np.dtype[Any]:
        """Type in which whole numbers of the stored type are exact."""
        return np.dtype(np.float64 if self.most > 2**24 else np.float32)


@dataclass(frozen=True)
class Trace:
    """The way from a stored constant to the tensor that a node reads.

    Attributes
    ----------
    holder
        The protobuf message that holds the stored value.
    names
        Tensors on the way, the stored one first, the one that is read last.
    steps
        What is done to the values on the way, in order.
    kind
        Element type of the tensor that is read (a Cast may widen it).
    external
        Values outside the protobuf.
    """

    holder: Any
    names: tuple[str, ...]
    steps: tuple[Step, ...]
    kind: int
    external: External = NOTHING

    @property
    def floating(self) -> bool:
        """Whether real numbers of a type that can be pruned are read."""
        return self.kind in TREATED

    @property
    def stored_type(self) -> str:
        """Name of the stored element type."""
        return type_name(elem_type(self.holder))

    @property
    def shape(self) -> Shape:
        """Shape of the tensor that is read."""
        result = shape(self.holder)
        for step in self.steps:
            result = step.shape(result)
        return result

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        return not any(isinstance(step, Dequantized) for step in self.steps)

    def values(self) -> Array:
        """Value of the tensor that is read."""
        array = self.external.read(self.holder)
        for step in self.steps:
            array = step.there(array)
        if self.floating:
            with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
                array = array.astype(TREATED[self.kind], copy=False)
        return np.asarray(array)

    def store(self, values: Array) -> None:
        """Write the stored value so that `values` (up to the stored dtype) is read."""
        for step in reversed(self.steps):
            values = step.back(values)
        self.external.write(self.holder, values)

    def same(self, other: Trace) -> bool:
        """Whether two nodes read one stored value in one way."""
        mine, theirs = [each.steps for each in (self, other)]
        return (
            self.holder is other.holder
            and len(mine) == len(theirs)
            and all(
                a is b or (a == b and not isinstance(a, Dequantized)) or _equal(a, b)
                for a, b in zip(mine, theirs)
            )
        )


def _equal(one: Step, two: Step) -> bool:
    return (
        isinstance(one, Dequantized)
        and isinstance(two, Dequantized)
        and np.array_equal(one.scale, two.scale)
        and np.array_equal(one.zero, two.zero)
    )


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
    Refusal
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
            raise Refusal("is given an axis twice")
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
        raise Refusal(f"is put into a shape that does not fit by {kind}")
    return Reshaped(before, tuple(after))


def dequantized(
    stored: Shape, kind: int, scale: Array, zero: Array, axis: int, block: int
) -> Dequantized:
    """The step of a DequantizeLinear on a tensor of shape `stored`: per tensor, axis or block.

    Raises
    ------
    Refusal
        Scale and zero point do not fit the tensor.
    """
    axis = axis % max(1, len(stored))
    if zero.shape not in ((), scale.shape):
        raise Refusal("has a zero point that does not fit its scale")

    def spread(values: Array) -> Array:
        if values.size == 1 and not block:
            return values.reshape(())
        if block and values.ndim == len(stored):
            wide = np.repeat(values, block, axis=axis)
            cut = [slice(None)] * len(stored)
            cut[axis] = slice(stored[axis])
            return np.asarray(wide[tuple(cut)])
        sizes = [1] * len(stored)
        if values.ndim == 1 and stored and values.size == stored[axis]:
            sizes[axis] = values.size
            return values.reshape(sizes)
        raise Refusal("has a scale of a shape that is not known")

    if not np.isfinite(scale).all() or not (scale > 0).all():
        raise Refusal("has a scale that is not a positive number")
    limits = np.iinfo(STORED[kind])
    exact = np.float64 if limits.max > 2**24 else np.float32
    return Dequantized(spread(scale), spread(zero.astype(exact)), limits.min, limits.max)
