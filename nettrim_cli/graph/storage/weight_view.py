"""The way from stored constants to the tensor that a node reads, and back.

A step is what one node on the way does to values: ``there`` forwards, ``back`` so that ``there``
gives the wanted values again, as far as the stored type can.  Where a tensor holds parts of stored
constants, marks of its elements go back beside the values, and what is not marked stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.storage.external import NOTHING, External
from nettrim_cli.graph.storage.tensors import PACKED, TREATED, elem_type, shape, type_name

INTEGERS = frozenset(
    (
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16),
        TensorProto.INT32,
        *PACKED,
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


@dataclass(frozen=True, eq=False)
class Indexed:
    """Entries along one axis, none of them twice: what Slice, Split and Gather do.

    Attributes
    ----------
    axis, size
        The axis, and how many entries it has before.
    entries
        The ones that are taken, in their order; of no axes where the axis goes away.
    """

    axis: int
    size: int
    entries: NDArray[np.intp]

    def there(self, values: Array) -> Array:
        """The entries."""
        return values.take(self.entries, self.axis)

    def back(self, values: Array) -> Array:
        """The entries at their places, zeros elsewhere."""
        before = list(values.shape)
        before[self.axis : self.axis + self.entries.ndim] = [self.size]
        result = np.zeros(before, values.dtype)
        place: tuple[Any, ...] = (*[slice(None)] * self.axis, self.entries)
        result[place] = values
        return result

    def shape(self, before: Shape) -> Shape:
        """With as many entries on the axis as are taken."""
        return (*before[: self.axis], *self.entries.shape, *before[self.axis + 1 :])


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A stored constant.

    Attributes
    ----------
    holder
        The protobuf message that holds the value.
    external
        Values outside the protobuf.
    """

    holder: Any
    external: External = NOTHING

    @property
    def shape(self) -> Shape:
        """Shape of the value."""
        return shape(self.holder)

    @property
    def leaves(self) -> tuple[StoredTensor, ...]:
        """Itself."""
        return (self,)

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        return True

    def values(self) -> Array:
        """The value."""
        return self.external.read(self.holder)

    def put(self, values: Array, where: Array) -> None:
        """Replace the elements at the places that are marked."""
        if not where.all():
            values = np.where(where, values, self.values())
        self.external.write(self.holder, values)

    def count(self, read: Array) -> Iterator[tuple[Any, Array]]:
        """The holder, with how often each of its elements is read."""
        yield self.holder, read

    def same(self, other: Source) -> bool:
        """Whether both are one constant."""
        return isinstance(other, StoredTensor) and self.holder is other.holder


@dataclass(frozen=True, eq=False)
class Concatenated:
    """Concat of what other traces lead to."""

    parts: tuple[WeightView, ...]
    axis: int

    @property
    def shape(self) -> Shape:
        """The parts' shapes, their sizes summed on the axis."""
        first = self.parts[0].shape
        size = sum(each.shape[self.axis] for each in self.parts)
        return (*first[: self.axis], size, *first[self.axis + 1 :])

    @property
    def leaves(self) -> tuple[StoredTensor, ...]:
        """All that is stored, once for each part that reads it."""
        return tuple(leaf for each in self.parts for leaf in each.source.leaves)

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        return all(each.exact for each in self.parts)

    def values(self) -> Array:
        """The parts side by side."""
        return np.concatenate([each.values() for each in self.parts], self.axis)

    def put(self, values: Array, where: Array) -> None:
        """Replace the elements of each part at the places that are marked."""
        for each, *given in zip(self.parts, self._cut(values), self._cut(where)):
            each.put(*given)

    def count(self, read: Array) -> Iterator[tuple[Any, Array]]:
        """Holders, with how often each of their elements is read by each part."""
        for each, given in zip(self.parts, self._cut(read)):
            yield from each.count(given)

    def same(self, other: Source) -> bool:
        """Whether the same parts are joined in the same way."""
        return (
            isinstance(other, Concatenated)
            and (self.axis, len(self.parts)) == (other.axis, len(other.parts))
            and all(one.same(two) for one, two in zip(self.parts, other.parts))
        )

    def _cut(self, values: Array) -> list[Array]:
        ends = np.cumsum([each.shape[self.axis] for each in self.parts])
        return np.split(values, ends[:-1], self.axis)


Source = StoredTensor | Concatenated


@dataclass(frozen=True, eq=False)
class WeightView:
    """The way from stored constants to the tensor that a node reads.

    Attributes
    ----------
    source
        Where it begins.
    steps
        What is done to the values on the way, in order.
    kind
        Element type of the tensor that is read (a Cast may widen it).
    """

    source: Source
    steps: tuple[Step, ...]
    kind: int

    @property
    def floating(self) -> bool:
        """Whether real numbers of a type that can be pruned are read."""
        return self.kind in TREATED

    @property
    def stored_type(self) -> str:
        """Name of the stored element type."""
        return type_name(elem_type(self.source.leaves[0].holder))

    @property
    def shape(self) -> Shape:
        """Shape of the tensor that is read."""
        result = self.source.shape
        for step in self.steps:
            result = step.shape(result)
        return result

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        plain = not any(isinstance(step, Dequantized) for step in self.steps)
        return plain and self.source.exact

    @property
    def whole(self) -> bool:
        """Whether it reads all of one stored constant, each element once, by its form."""
        return isinstance(self.source, StoredTensor) and not any(
            isinstance(step, Indexed) for step in self.steps
        )

    @property
    def finite(self) -> bool:
        """Whether all values are, those of the stored constants that are not read among them."""
        found: list[WeightView | StoredTensor] = [self, *(() if self.whole else self.source.leaves)]
        return all(np.isfinite(each.values()).all() for each in found)

    @property
    def once(self) -> bool:
        """Whether no stored element is read twice, so that any values can be given back."""
        return self.whole or all(read.max(initial=0) <= 1 for read in self.reads.values())

    @property
    def holders(self) -> frozenset[int]:
        """Ids of what holds the stored constants."""
        return frozenset(id(leaf.holder) for leaf in self.source.leaves)

    @cached_property
    def reads(self) -> dict[int, Array]:
        """How often the elements of each stored constant are read, by the holder's id."""
        found: dict[int, Array] = {}
        for holder, read in self.count(np.ones(self.shape, np.uint8)):
            found[id(holder)] = found.get(id(holder), 0) + read
        return found

    def meets(self, other: WeightView) -> bool:
        """Whether a stored element is read by both."""
        shared = self.holders & other.holders
        if not shared or self.whole or other.whole:
            return bool(shared)
        return any(np.logical_and(self.reads[each], other.reads[each]).any() for each in shared)

    def values(self) -> Array:
        """Value of the tensor that is read."""
        array = self.source.values()
        for step in self.steps:
            array = step.there(array)
        if self.floating:
            with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
                array = array.astype(TREATED[self.kind], copy=False)
        return np.asarray(array)

    def store(self, values: Array) -> None:
        """Write the stored values so that `values` (up to the stored dtype) is read."""
        self.put(values, np.broadcast_to(np.True_, values.shape))

    def put(self, values: Array, where: Array) -> None:
        """Like `store`, for the elements at the places that are marked."""
        for step in reversed(self.steps):
            values = step.back(values)
            where = _moved_back(step, where)
        self.source.put(values, where)

    def count(self, read: Array) -> Iterator[tuple[Any, Array]]:
        """Holders, with how often their elements are read if those of the tensor are `read`."""
        for step in reversed(self.steps):
            read = _moved_back(step, read)
        yield from self.source.count(read)

    def same(self, other: WeightView) -> bool:
        """Whether two nodes read the same stored values in one way."""
        return (
            self.source.same(other.source)
            and len(self.steps) == len(other.steps)
            and all(_equal(one, two) for one, two in zip(self.steps, other.steps))
        )


def _moved_back(step: Step, marks: Array) -> Array:
    """Marks of elements where the elements are before a step."""
    return marks if isinstance(step, Dequantized) else step.back(marks)


def _equal(one: Step, two: Step) -> bool:
    if one is two:
        return True
    if type(one) is not type(two):
        return False
    pairs = zip(vars(one).values(), vars(two).values())
    return all(np.array_equal(mine, other) for mine, other in pairs)
