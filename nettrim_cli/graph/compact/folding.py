"""The nodes that rebuild weights, as functions on the constants that they read, and their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from nettrim_cli.graph.storage import tensors
from nettrim_cli.graph.storage.elements import FLOATS, RAW_DTYPES

FEWEST_BYTES = 64  # of integers that are weights
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


class Values(Protocol):
    """What a graph computes of constants."""

    @property
    def sources(self) -> Mapping[str, TensorProto | NodeProto | None]:
        """Constants and nodes by the names of tensors."""

    def value(self, name: str) -> Elements:
        """Value of a tensor; raises Unfolded."""


def _scatter_steps(values: Values, node: NodeProto) -> list[str]:
    """Ops that follow a ScatterElements."""
    steps, scattered = ["Reshape"], values.value(node.output[0])
    if scattered.array.ndim > 1:
        steps.append("Transpose")
    if scattered.elem_type == TensorProto.INT8:  # integers of a grid, or weights that are integers
        axes = (helper.get_attribute_value(each) for each in node.attribute if each.name == "axis")
        return [*steps, "Cast", "Mul"] if next(axes, 0) < 0 else steps
    maker = values.sources.get(node.input[2])
    if isinstance(maker, NodeProto) and maker.op_type == "Cast":
        steps += ["Mul"] if values.value(maker.input[0]).array.dtype.kind in "iu" else []
    return steps


def _cast_steps(values: Values, node: NodeProto) -> list[str]:
    """Ops that follow a Cast of integers to real numbers."""
    source = values.value(node.input[0])
    if source.elem_type not in (TensorProto.INT8, TensorProto.INT32) or source.array.ndim < 1:
        raise Unfolded
    if source.array.nbytes < FEWEST_BYTES or values.value(node.output[0]).elem_type not in FLOATS:
        raise Unfolded
    return ["Mul"]


def _reshape_steps(values: Values, node: NodeProto) -> list[str]:
    """Ops that follow a Reshape of all elements in half precision."""
    source = values.value(node.input[0])
    if source.elem_type != TensorProto.FLOAT16 or source.array.ndim != 1:
        raise Unfolded
    if source.array.nbytes < FEWEST_BYTES:
        raise Unfolded
    return ["Cast"]


STEPS: Mapping[str, Callable[[Values, NodeProto], list[str]]] = {
    "Cast": _cast_steps,
    "Reshape": _reshape_steps,
    "ScatterElements": _scatter_steps,
}
"""By the first op of a rebuilt tensor, what tells the ops that follow it."""
