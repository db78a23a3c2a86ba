"""The way from stored constants to the tensor that a node reads, and back.

A step is what one node on the way does to values: ``read`` forwards, ``write`` so that ``read``
gives the wanted values again, as far as the stored type can.  Where a tensor holds parts of stored
constants, marks of its elements go back beside the values, and what is not marked stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import TensorProto

from nettrim_cli.graph.ops.layout_steps import Array, Dequantized, Indexed, Shape, Step
from nettrim_cli.graph.storage.elements import PACKED, PRUNABLE, type_name
from nettrim_cli.graph.storage.external import NOTHING, External
from nettrim_cli.graph.storage.tensors import Holder, elem_type, shape

INTEGERS = frozenset(
    (
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16),
        TensorProto.INT32,
        *PACKED,
    )
)
"""Element types that may stand for real numbers."""


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

    holder: Holder
    external: External = NOTHING

    @property
    def shape(self) -> Shape:
        """Shape of the value."""
        return shape(self.holder)

    @property
    def leaves(self) -> tuple[StoredTensor, ...]:
        """A tuple of itself."""
        return (self,)

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        return True

    def values(self) -> Array:
        """The value."""
        return self.external.read(self.holder)

    def store_masked(self, values: Array, mask: Array) -> None:
        """Replace the elements that are marked; both arrays have the shape of the value."""
        if not mask.all():
            values = np.where(mask, values, self.values())
        self.external.write(self.holder, values)

    def stored_counts(self, counts: Array) -> Iterator[tuple[Holder, Array]]:
        """The holder with `counts`, which tell for each element how often it is read."""
        yield self.holder, counts

    def equals(self, source: Source) -> bool:
        """Whether both are one constant."""
        return isinstance(source, StoredTensor) and self.holder is source.holder


@dataclass(frozen=True, eq=False)
class Concatenated:
    """A Concat of tensors with views of their own."""

    views: tuple[WeightView, ...]
    axis: int

    @property
    def shape(self) -> Shape:
        """Shape of the joined tensor."""
        first = self.views[0].shape
        size = sum(view.shape[self.axis] for view in self.views)
        return (*first[: self.axis], size, *first[self.axis + 1 :])

    @property
    def leaves(self) -> tuple[StoredTensor, ...]:
        """All stored constants, once for each view that reads them."""
        return tuple(leaf for view in self.views for leaf in view.source.leaves)

    @property
    def exact(self) -> bool:
        """Whether any values of the dtype can be stored."""
        return all(view.exact for view in self.views)

    def values(self) -> Array:
        """Values of the views side by side."""
        return np.concatenate([view.values() for view in self.views], self.axis)

    def store_masked(self, values: Array, mask: Array) -> None:
        """Replace the elements that are marked; both arrays have the shape of the joined tensor."""
        parts = zip(self.views, self._split(values), self._split(mask), strict=True)
        for view, view_values, view_mask in parts:
            view.store_masked(view_values, view_mask)

    def stored_counts(self, counts: Array) -> Iterator[tuple[Holder, Array]]:
        """Each view's holders, with how often it reads their elements.

        `counts` tell it for each element of the joined tensor.
        """
        for view, view_counts in zip(self.views, self._split(counts), strict=True):
            yield from view.stored_counts(view_counts)

    def equals(self, source: Source) -> bool:
        """Whether equal views are joined in the same way."""
        return (
            isinstance(source, Concatenated)
            and (self.axis, len(self.views)) == (source.axis, len(source.views))
            and all(a.equals(b) for a, b in zip(self.views, source.views, strict=True))
        )

    def _split(self, values: Array) -> list[Array]:
        ends = np.cumsum([view.shape[self.axis] for view in self.views])
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
    elem_type
        Element type of the tensor that is read (a Cast may widen it).
    """

    source: Source
    steps: tuple[Step, ...]
    elem_type: int

    @property
    def floating(self) -> bool:
        """Whether real numbers of a type that can be pruned are read."""
        return self.elem_type in PRUNABLE

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
        quantized = any(isinstance(step, Dequantized) for step in self.steps)
        return not quantized and self.source.exact

    @property
    def covers_constant(self) -> bool:
        """Whether its form alone tells that it reads one stored constant, each element once."""
        return isinstance(self.source, StoredTensor) and not any(
            isinstance(step, Indexed) for step in self.steps
        )

    @property
    def is_finite(self) -> bool:
        """Whether all values are finite, also those of the stored constants that are not read."""
        leaves = () if self.covers_constant else self.source.leaves
        return bool(np.isfinite(self.values()).all()) and all(
            np.isfinite(leaf.values()).all() for leaf in leaves
        )

    @property
    def reads_once(self) -> bool:
        """Whether no stored element is read twice, so that any values can be given back."""
        if self.covers_constant:
            return True
        return all(counts.max(initial=0) <= 1 for counts in self.read_counts.values())

    @property
    def holders(self) -> frozenset[int]:
        """Ids of the holders of the stored constants."""
        return frozenset(id(leaf.holder) for leaf in self.source.leaves)

    @cached_property
    def read_counts(self) -> dict[int, Array]:
        """How often the elements of each stored constant are read, by the holder's id."""
        totals: dict[int, Array] = {}
        for holder, counts in self.stored_counts(np.ones(self.shape, np.uint8)):
            totals[id(holder)] = totals.get(id(holder), 0) + counts
        return totals

    def overlaps(self, view: WeightView) -> bool:
        """Whether both views read one stored element."""
        shared = self.holders & view.holders
        if not shared or self.covers_constant or view.covers_constant:
            return bool(shared)
        return any(
            np.logical_and(self.read_counts[holder], view.read_counts[holder]).any()
            for holder in shared
        )

    def values(self) -> Array:
        """Value of the tensor that is read."""
        array = self.source.values()
        for step in self.steps:
            array = step.read(array)
        if self.floating:
            with np.errstate(invalid="ignore"):  # a signalling NaN stays a NaN
                array = array.astype(PRUNABLE[self.elem_type], copy=False)
        return np.asarray(array)

    def store(self, values: Array) -> None:
        """Write the stored values so that `values` are read, up to the stored dtype.

        `values` have the shape of the tensor that is read.
        """
        self.store_masked(values, np.broadcast_to(np.True_, values.shape))

    def store_masked(self, values: Array, mask: Array) -> None:
        """Store the elements that are marked; both arrays have the shape of the tensor."""
        for step in reversed(self.steps):
            values = step.write(values)
            mask = _marks_before(step, mask)
        self.source.store_masked(values, mask)

    def stored_counts(self, counts: Array) -> Iterator[tuple[Holder, Array]]:
        """Holders, with how often their elements are read.

        `counts` tell it for each element of the tensor that is read.
        """
        for step in reversed(self.steps):
            counts = _marks_before(step, counts)
        yield from self.source.stored_counts(counts)

    def equals(self, view: WeightView) -> bool:
        """Whether both views read the same stored values in the same way."""
        return (
            self.source.equals(view.source)
            and len(self.steps) == len(view.steps)
            and all(_equal(a, b) for a, b in zip(self.steps, view.steps, strict=True))
        )


def _marks_before(step: Step, marks: Array) -> Array:
    """Marks of elements where the elements are before a step."""
    return marks if isinstance(step, Dequantized) else step.write(marks)


def _equal(a: Step, b: Step) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    return all(np.array_equal(value, vars(b)[name]) for name, value in vars(a).items())
