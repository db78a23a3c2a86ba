"""The nodes that rebuild weights, as functions on the constants that they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import RAW_DTYPES

Attributes = dict[str, Any]


@dataclass(frozen=True)
class Elements:
    """A tensor as its elements are stored, and the number of their type."""

    array: NDArray[Any]
    elem_type: int


class Unfolded(Exception):
    """What is asked for is not computed of constants by known nodes."""


@dataclass
class Room:
    """Bytes that what is rebuilt may still take."""

    left: int

    def take(self, size: int, itemsize: int) -> None:
        """Take so much of the room for what is rebuilt.

        Raises
        ------
        Unfolded
            There is no more.
        """
        self.left -= size * itemsize
        if size < 0 or self.left < 0:
            raise Unfolded


def _cast(room: Room, attributes: Attributes, source: Elements) -> Elements:
    target = int(attributes["to"])
    if TensorProto.BFLOAT16 in (target, source.elem_type) or target not in RAW_DTYPES:
        raise Unfolded
    room.take(source.array.size, RAW_DTYPES[target].itemsize)
    return Elements(source.array.astype(RAW_DTYPES[target]), target)


def _cumsum(room: Room, attributes: Attributes, source: Elements, axis: Elements) -> Elements:
    if attributes.get("exclusive") or attributes.get("reverse") or source.array.dtype.kind != "i":
        raise Unfolded
    room.take(source.array.size, source.array.itemsize)
    array = np.cumsum(source.array, int(axis.array.reshape(())), source.array.dtype)
    return Elements(array, source.elem_type)


def _arithmetic(function: Callable[..., NDArray[Any]], *, floats: bool = False) -> Any:
    def fold(room: Room, attributes: Attributes, first: Elements, second: Elements) -> Elements:
        """Combine two tensors of one type.

        Parameters
        ----------
        room
            For the result.
        attributes
            Those of the node.
        first, second
            The tensors.

        Raises
        ------
        Unfolded
            Runtimes may give something else.
        """
        arrays = first.array, second.array
        if first.elem_type != second.elem_type or first.elem_type == TensorProto.BFLOAT16:
            raise Unfolded
        kinds = "if" if floats else "i"
        if arrays[0].dtype.kind not in kinds or attributes.get("fmod"):
            raise Unfolded
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
        room.take(math.prod(shape), arrays[0].itemsize)
        if function in (np.floor_divide, np.mod) and (arrays[0].min() < 0 or arrays[1].min() < 1):
            raise Unfolded  # where runtimes round differently
        with np.errstate(all="ignore"):
            return Elements(function(*arrays), first.elem_type)

    return fold


def _gather(room: Room, attributes: Attributes, table: Elements, rows: Elements) -> Elements:
    if attributes.get("axis") or rows.array.dtype.kind != "i" or table.array.ndim < 1:
        raise Unfolded
    room.take(rows.array.size * math.prod(table.array.shape[1:]), table.array.itemsize)
    if rows.array.size and not 0 <= rows.array.min() <= rows.array.max() < len(table.array):
        raise Unfolded
    return Elements(table.array[rows.array], table.elem_type)


def _reshape(_: Room, attributes: Attributes, source: Elements, shape: Elements) -> Elements:
    sizes = [int(size) for size in shape.array.reshape(-1)]
    if not attributes.get("allowzero"):
        sizes = [size or source.array.shape[axis] for axis, size in enumerate(sizes)]
    return Elements(source.array.reshape(sizes), source.elem_type)


def _zeros(room: Room, attributes: Attributes, shape: Elements) -> Elements:
    value = attributes.get("value")
    elem_type = TensorProto.FLOAT if value is None else value.data_type
    if value is not None:
        fill = tensors.elements(value)
        if fill is None or any(fill.tobytes()):
            raise Unfolded
    sizes = [int(size) for size in shape.array.reshape(-1)]
    room.take(math.prod(sizes), RAW_DTYPES[elem_type].itemsize)
    return Elements(np.zeros(sizes, RAW_DTYPES[elem_type]), elem_type)


def _scatter(
    room: Room, attributes: Attributes, zeros: Elements, places: Elements, updates: Elements
) -> Elements:
    size, column = len(zeros.array), zeros.array.shape[1:]
    if (
        attributes.get("axis", 0) % zeros.array.ndim
        or attributes.get("reduction", b"none") not in (b"none", "none")
        or math.prod(column) != 1
        or zeros.elem_type != updates.elem_type
        or places.array.dtype.kind != "i"
        or not places.array.shape == updates.array.shape == (places.array.size, *column)
        or (places.array.size and not -size <= places.array.min() <= places.array.max() < size)
    ):
        raise Unfolded
    room.take(size, zeros.array.itemsize)
    array = zeros.array.copy()
    array[places.array.reshape(-1)] = updates.array
    return Elements(array, zeros.elem_type)


def _slice(
    room: Room, attributes: Attributes, source: Elements, starts: Elements, ends: Elements
) -> Elements:
    if attributes or not starts.array.shape == ends.array.shape == (source.array.ndim,) == (1,):
        raise Unfolded
    room.take(source.array.size, source.array.itemsize)
    array = source.array[int(starts.array[0]) : int(ends.array[0])]
    return Elements(array, source.elem_type)


def _transpose(room: Room, attributes: Attributes, source: Elements) -> Elements:
    room.take(source.array.size, source.array.itemsize)
    array = np.ascontiguousarray(source.array.transpose(attributes.get("perm")))
    return Elements(array, source.elem_type)


FOLDED: Mapping[str, Callable[..., Elements]] = {
    "Cast": _cast,
    "ConstantOfShape": _zeros,
    "CumSum": _cumsum,
    "Gather": _gather,
    "Div": _arithmetic(np.floor_divide),
    "Mod": _arithmetic(np.mod),
    "Mul": _arithmetic(np.multiply, floats=True),
    "Reshape": _reshape,
    "ScatterElements": _scatter,
    "Slice": _slice,
    "Sub": _arithmetic(np.subtract),
    "Transpose": _transpose,
}
"""The ops that rebuild weights, as functions on what they read."""
