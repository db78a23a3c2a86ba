"""Element types of tensors: their names and limits, and values as raw data.

Raw data are the little-endian bytes of a tensor's elements.  Integers of fewer than eight bits
share bytes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

FLOATS = frozenset(
    getattr(TensorProto, name)
    for name in (
        "FLOAT",
        "DOUBLE",
        "FLOAT16",
        "BFLOAT16",
        "FLOAT8E4M3FN",
        "FLOAT8E4M3FNUZ",
        "FLOAT8E5M2",
        "FLOAT8E5M2FNUZ",
        "FLOAT4E2M1",
    )
    if hasattr(TensorProto, name)
)
"""Element types that count as floating point."""

NO_NUMBERS = frozenset((TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128))
"""Element types whose values are no real numbers."""

PRUNABLE: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(np.float32),
}
"""Element types of weights that can be pruned, with the dtype in which they are read."""

RAW_DTYPES: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype("<f4"),
    TensorProto.DOUBLE: np.dtype("<f8"),
    TensorProto.FLOAT16: np.dtype("<f2"),
    TensorProto.BFLOAT16: np.dtype("<u2"),
    TensorProto.INT8: np.dtype("i1"),
    TensorProto.UINT8: np.dtype("u1"),
    TensorProto.INT16: np.dtype("<i2"),
    TensorProto.UINT16: np.dtype("<u2"),
    TensorProto.INT32: np.dtype("<i4"),
    TensorProto.UINT32: np.dtype("<u4"),
    TensorProto.INT64: np.dtype("<i8"),
    TensorProto.UINT64: np.dtype("<u8"),
    TensorProto.BOOL: np.dtype("?"),
    TensorProto.COMPLEX64: np.dtype("<c8"),
    TensorProto.COMPLEX128: np.dtype("<c16"),
}
"""Elements of raw data; bfloat16, which numpy lacks, as its 16 bits."""

PACKED: dict[int, int] = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}
"""Integers of which a byte holds several, and their bits."""

SMALL_BITS = (("float8", 8), ("float4", 4), ("int4", 4), ("uint4", 4), ("int2", 2), ("uint2", 2))
"""Beginnings of the names of small element types, and their bits."""

WIDENED: dict[int, tuple[int, ...]] = {
    TensorProto.FLOAT: (TensorProto.FLOAT16, TensorProto.BFLOAT16),
    TensorProto.DOUBLE: (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT),
}
"""Element types and the smaller ones whose values they all hold."""


class Unfit(ValueError):
    """Values that cannot be stored."""


def type_name(elem_type: int) -> str:
    """Name of an element type as numpy spells it: ``float32``, ``bfloat16``, ``int8``."""
    if elem_type in PRUNABLE and elem_type != TensorProto.BFLOAT16:
        return str(PRUNABLE[elem_type].name)
    try:
        return str(TensorProto.DataType.Name(elem_type)).lower()
    except ValueError:
        return f"type {elem_type}"


def widens(source: int, target: int) -> bool:
    """Whether a Cast from one prunable element type to another keeps every value."""
    return source == target or source in WIDENED.get(target, ())


def element_bits(elem_type: int) -> int:
    """Size of an element in bits; 0 for text and unknown types."""
    if elem_type in RAW_DTYPES:
        return 8 * RAW_DTYPES[elem_type].itemsize
    name = type_name(elem_type)
    return next((bits for prefix, bits in SMALL_BITS if name.startswith(prefix)), 0)


def limits(elem_type: int) -> tuple[int, int]:
    """Least and largest value of an integer type."""
    if elem_type not in PACKED:
        info = np.iinfo(RAW_DTYPES[elem_type])
        return int(info.min), int(info.max)
    bits = PACKED[elem_type]
    if type_name(elem_type).startswith("u"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array ``(D1, ..., DK)`` in another dtype, every zero a positive one.

    Raises
    ------
    Unfit
        A value is not finite, or too large for `dtype`.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result: NDArray[Any] = np.asarray(values).astype(dtype) + dtype.type(0)
    if not np.isfinite(result).all():
        raise Unfit(f"values that do not fit into {dtype.name}")
    return result


def decode(raw: Any, elem_type: int) -> NDArray[Any]:
    """Raw data as an array ``(N,)``: float32 for bfloat16, else a view of the stored elements."""
    stored = np.frombuffer(raw, RAW_DTYPES[elem_type])
    if elem_type != TensorProto.BFLOAT16:
        return stored
    return (stored.astype(np.uint32) << 16).view(np.float32)


def encode(values: NDArray[Any], elem_type: int) -> NDArray[Any]:
    """Values as the elements of raw data; floating-point ones are rounded to nearest even.

    The result has the shape of `values`, except for integers of which a byte holds several: there
    it is an array of bytes ``(N,)``.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the element type.
    """
    if elem_type in PACKED:
        return pack(values, elem_type)
    if elem_type == TensorProto.BFLOAT16:
        return _bfloat16(np.asarray(values))
    if elem_type not in PRUNABLE:
        return np.ascontiguousarray(values, RAW_DTYPES[elem_type])  # integers of a grid
    return np.ascontiguousarray(cast(values, PRUNABLE[elem_type]), RAW_DTYPES[elem_type])


def _bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    """Values as 16 bits, the upper half of a float32, rounded once to nearest even."""
    single = np.array(cast(values, np.dtype(np.float32))).reshape(-1)
    tie = single.view(np.uint32) & 0xFFFF == 0x8000
    residual = np.where(tie, values.reshape(-1) - single.astype(np.float64), 0)  # of a float64
    direction = np.copysign(np.float32(np.inf), residual.astype(np.float32))
    inexact = residual != 0
    single[inexact] = np.nextafter(single[inexact], direction[inexact])
    bits = single.view(np.uint32)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(RAW_DTYPES[TensorProto.BFLOAT16])
    if not np.isfinite(decode(upper, TensorProto.BFLOAT16)).all():
        raise Unfit("values that do not fit into bfloat16")
    upper[upper == 0x8000] = 0  # a negative zero
    return upper.reshape(values.shape)


def pack(values: NDArray[Any], elem_type: int) -> NDArray[np.uint8]:
    """Integers of any shape as bytes ``(N,)`` that hold several each, the lowest bits first."""
    bits = PACKED[elem_type]
    per_byte = 8 // bits
    fields = np.zeros(-(-values.size // per_byte) * per_byte, np.uint8)
    fields[: values.size] = values.reshape(-1).astype(np.int8).view(np.uint8) & (2**bits - 1)
    shifted = fields.reshape(-1, per_byte) << _offsets(bits)
    return np.asarray(np.bitwise_or.reduce(shifted, axis=1))


def unpack(stored: NDArray[np.uint8], shape: tuple[int, ...], elem_type: int) -> NDArray[np.int8]:
    """The inverse of `pack`: bytes ``(N,)`` as integers of a shape."""
    bits = PACKED[elem_type]
    fields = (stored[:, None] >> _offsets(bits)) & (2**bits - 1)
    values = fields.reshape(-1)[: math.prod(shape)].astype(np.int8)
    if limits(elem_type)[0] < 0:
        values[values >= 2 ** (bits - 1)] -= 2**bits
    return np.asarray(values.reshape(shape))


def _offsets(bits: int) -> NDArray[np.uint8]:
    """The bits at which the integers begin in a byte."""
    return np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
