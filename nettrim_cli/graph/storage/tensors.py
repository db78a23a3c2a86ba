"""Constant tensors as protobuf keeps them: find all of them, read, write and count.

A constant is held by a TensorProto (an initializer, or the ``value`` of a ``Constant`` node) or
by an AttributeProto (``value_float``, ``value_floats``); the two are the *holders* below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, TensorProto, numpy_helper

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

TREATED: dict[int, np.dtype[Any]] = {
    TensorProto.FLOAT: np.dtype(np.float32),
    TensorProto.DOUBLE: np.dtype(np.float64),
    TensorProto.FLOAT16: np.dtype(np.float16),
    TensorProto.BFLOAT16: np.dtype(np.float32),
}
"""Element types of weights that can be pruned, with the dtype in which they are read."""

FIELDS = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.BFLOAT16: "int32_data",
}

STORED: dict[int, np.dtype[Any]] = {
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

PACKED = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}
"""Integers of which a byte holds several, and their bits."""


class Unfit(ValueError):
    """Values that cannot be stored."""


def type_name(elem_type: int) -> str:
    """Name of an element type as numpy spells it: ``float32``, ``bfloat16``, ``int8``."""
    if elem_type in TREATED and elem_type != TensorProto.BFLOAT16:
        return str(TREATED[elem_type].name)
    try:
        name: str = TensorProto.DataType.Name(elem_type)
    except ValueError:
        return f"type {elem_type}"
    return name.lower()


def widens(elem_type: int, other: int) -> bool:
    """Whether a Cast from one treated element type to another keeps every value."""
    half = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
    wider = {TensorProto.FLOAT: half, TensorProto.DOUBLE: (*half, TensorProto.FLOAT)}
    return elem_type == other or elem_type in wider.get(other, ())


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in the attributes of a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def containers(model: onnx.ModelProto) -> Iterator[Any]:
    """Every graph and function of a model, the main graph first, nested ones included."""
    pending = [
        *(part for info in model.training_info for part in (info.initialization, info.algorithm)),
        *model.functions,
        model.graph,
    ]
    while pending:
        container = pending.pop()
        yield container
        for node in container.node:
            pending.extend(subgraphs(node))


def initializers(container: Any) -> Iterator[onnx.TensorProto]:
    """Dense initializers; a local function has none."""
    return iter(getattr(container, "initializer", ()))


def sparse_initializers(container: Any) -> Iterator[onnx.SparseTensorProto]:
    """Sparse initializers; a local function has none."""
    return iter(getattr(container, "sparse_initializer", ()))


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every TensorProto of a model, wherever it is; initializers of the main graph first."""
    return (tensor for tensor, _ in told_apart(model))


def told_apart(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Every TensorProto, and whether it is a part of a sparse tensor."""
    for container in containers(model):
        yield from ((tensor, False) for tensor in initializers(container))
        sparse = list(sparse_initializers(container))
        defaults = getattr(container, "attribute_proto", ())
        owned = (attribute for node in container.node for attribute in node.attribute)
        for attribute in (*defaults, *owned):
            if attribute.HasField("t"):
                yield attribute.t, False
            yield from ((tensor, False) for tensor in attribute.tensors)
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
            sparse += attribute.sparse_tensors
        for tensor in sparse:
            yield from ((tensor.values, True), (tensor.indices, True))


def constants(model: onnx.ModelProto) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Holders of all initializers and Constant nodes with their shapes.

    The holder of a sparse one is that of its values.
    """
    for container in containers(model):
        yield from ((tensor, tuple(tensor.dims)) for tensor in initializers(container))
        sparse = list(sparse_initializers(container))
        for node in container.node:
            if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
                continue
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t, tuple(attribute.t.dims)
                elif attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                elif attribute.name in ("value_float", "value_floats"):
                    yield attribute, shape(attribute)
        yield from ((each.values, tuple(each.dims)) for each in sparse)


def constant_holder(node: onnx.NodeProto) -> Any:
    """Holder of a ``Constant`` node's value; None for a kind that is not treated (sparse, text)."""
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            return attribute
    return None


def elem_type(holder: Any) -> int:
    """Element type of a holder."""
    if isinstance(holder, AttributeProto):
        integer = holder.type in (AttributeProto.INT, AttributeProto.INTS)
        result: int = TensorProto.INT64 if integer else TensorProto.FLOAT
    else:
        result = holder.data_type
    return result


def shape(holder: Any) -> tuple[int, ...]:
    """Shape of a holder's value."""
    if isinstance(holder, AttributeProto):
        if holder.type in (AttributeProto.FLOAT, AttributeProto.INT):
            return ()
        return (len(holder.floats) + len(holder.ints),)
    return tuple(holder.dims)


def read(holder: Any) -> NDArray[Any]:
    """Value of a holder, in its stored dtype."""
    if isinstance(holder, AttributeProto):
        if holder.type == AttributeProto.FLOAT:
            return np.array(holder.f, dtype=np.float32)
        if holder.type == AttributeProto.INT:
            return np.array(holder.i, dtype=np.int64)
        integer = holder.type == AttributeProto.INTS
        return np.array(
            holder.ints if integer else holder.floats, dtype=np.int64 if integer else np.float32
        )
    if holder.data_type == TensorProto.BFLOAT16:
        field = holder.raw_data if holder.HasField("raw_data") else None
        bits = np.array(holder.int32_data, np.int32).astype("<u2")
        return decode(bits if field is None else field, holder.data_type).reshape(holder.dims)
    if holder.data_type in PACKED:
        return _unpacked(holder)
    result: NDArray[Any] = numpy_helper.to_array(holder)
    return result


def _unpacked(tensor: onnx.TensorProto) -> NDArray[np.int8]:
    """Integers of which a byte, or an entry of int32_data, holds several, the lowest bits first."""
    if tensor.HasField("raw_data"):
        stored = np.frombuffer(tensor.raw_data, np.uint8)
    else:
        stored = np.array(tensor.int32_data, np.int32).astype(np.uint8)
    bits = PACKED[tensor.data_type]
    parts = (stored[:, None] >> _places(bits)) & (2**bits - 1)
    found = parts.reshape(-1)[: math.prod(tensor.dims)].astype(np.int8)
    if limits(tensor.data_type)[0] < 0:
        found[found >= 2 ** (bits - 1)] -= 2**bits
    return np.asarray(found.reshape(tensor.dims))


def _packed(values: NDArray[Any], elem_type: int) -> NDArray[np.uint8]:
    """Inverse of `_unpacked`, on one axis."""
    bits = PACKED[elem_type]
    each = 8 // bits
    parts = np.zeros(-(-values.size // each) * each, np.uint8)
    parts[: values.size] = values.reshape(-1).astype(np.int8).view(np.uint8) & (2**bits - 1)
    moved = parts.reshape(-1, each) << _places(bits)
    return np.asarray(np.bitwise_or.reduce(moved, axis=1))


def _places(bits: int) -> NDArray[np.uint8]:
    """Where the integers begin in a byte."""
    return np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)


def limits(elem_type: int) -> tuple[int, int]:
    """Least and largest value of an integer type."""
    if elem_type not in PACKED:
        known = np.iinfo(STORED[elem_type])
        return int(known.min), int(known.max)
    bits = PACKED[elem_type]
    if type_name(elem_type).startswith("u"):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def decode(raw: Any, elem_type: int) -> NDArray[Any]:
    """Raw data as a flat array: float32 for bfloat16, else a view of the elements as stored."""
    stored = np.frombuffer(raw, STORED[elem_type])
    if elem_type != TensorProto.BFLOAT16:
        return stored
    return (stored.astype(np.uint32) << 16).view(np.float32)


def encode(values: NDArray[Any], elem_type: int) -> NDArray[Any]:
    """Values as the elements of raw data; floating-point ones are rounded to nearest even.

    In the same shape, but for integers of which a byte holds several: these are bytes.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the element type.
    """
    if elem_type in PACKED:
        return _packed(values, elem_type)
    if elem_type not in TREATED:
        return np.ascontiguousarray(values, STORED[elem_type])  # integers of a grid
    if elem_type != TensorProto.BFLOAT16:
        return np.ascontiguousarray(cast(values, TREATED[elem_type]), STORED[elem_type])
    # bfloat16 is the upper half of a float32.
    values = np.asarray(values)
    plain = np.array(cast(values, np.dtype(np.float32))).reshape(-1)
    tie = plain.view(np.uint32) & 0xFFFF == 0x8000
    rest = np.where(tie, values.reshape(-1) - plain.astype(np.float64), 0)  # of a float64
    toward = np.copysign(np.float32(np.inf), rest.astype(np.float32))
    moved = rest != 0
    plain[moved] = np.nextafter(plain[moved], toward[moved])
    whole = plain.view(np.uint32)
    upper = ((whole + 0x7FFF + ((whole >> 16) & 1)) >> 16).astype(STORED[elem_type])
    if not np.isfinite(decode(upper, elem_type)).all():
        raise Unfit("values that do not fit into bfloat16")
    upper[upper == 0x8000] = 0  # a negative zero
    return upper.reshape(values.shape)


def raw_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of raw data that the shape of a tensor asks for.

    Raises
    ------
    ValueError
        A negative size, or elements that raw data cannot hold.
    """
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor '{tensor.name}' has a negative size")
    bits = _bits(tensor.data_type)
    if not bits:
        raise ValueError(f"tensor '{tensor.name}' holds {type_name(tensor.data_type)} as raw data")
    return int(-(-math.prod(tensor.dims) * bits // 8))


def _bits(elem_type: int) -> int:
    """Size of an element; 0 for text and unknown types."""
    if elem_type in STORED:
        return 8 * STORED[elem_type].itemsize
    name = type_name(elem_type)
    known = (("float8", 8), ("float4", 4), ("int4", 4), ("uint4", 4), ("int2", 2), ("uint2", 2))
    return next((bits for prefix, bits in known if name.startswith(prefix)), 0)


MOST_AXES = 64
"""NumPy has no arrays of more."""


def check_size(tensor: onnx.TensorProto) -> None:
    """Make sure that a tensor has as many values as its shape promises.

    Raises
    ------
    ValueError
        It has fewer or more, a negative size, more axes than an array, or is a segment.
    """
    if len(tensor.dims) > MOST_AXES:
        axes = len(tensor.dims)
        raise ValueError(f"tensor '{tensor.name}' has {axes} axes, at most {MOST_AXES} are read")
    if tensor.HasField("segment"):
        raise ValueError(f"tensor '{tensor.name}' is stored in segments, which are not read")
    if tensor.HasField("raw_data"):
        wanted, found = raw_bytes(tensor), len(tensor.raw_data)
        if found != wanted:
            raise ValueError(f"tensor '{tensor.name}' has {found} bytes, its shape wants {wanted}")
        return
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor '{tensor.name}' has a negative size")
    if tensor.data_type == TensorProto.STRING:
        found, wanted = len(tensor.string_data), math.prod(tensor.dims)
    elif tensor.data_type in STORED:
        fields = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
        found = sum(len(getattr(tensor, field)) for field in fields)
        twice = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
        wanted = math.prod(tensor.dims) * (2 if twice else 1)
    elif _bits(tensor.data_type):
        numpy_helper.to_array(tensor)  # rare and packed: raises if it does not fit
        return
    else:
        raise ValueError(f"tensor '{tensor.name}' is of the unknown {type_name(tensor.data_type)}")
    if found != wanted:
        raise ValueError(f"tensor '{tensor.name}' has {found} values, its shape wants {wanted}")


def cast(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """`values` in `dtype`, every zero a positive one.

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


def write(holder: Any, values: NDArray[Any]) -> None:
    """Replace the value of a holder, in the field and dtype in which it is stored now.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the stored dtype.
    """
    if isinstance(holder, AttributeProto):
        plain = cast(values, np.dtype(np.float32))
        if holder.type == AttributeProto.FLOAT:
            holder.f = float(plain.reshape(()))
        else:
            holder.floats[:] = plain.tolist()
        return
    stored = encode(values, holder.data_type)
    if tuple(holder.dims) != values.shape:
        raise ValueError(f"shape {values.shape} where {tuple(holder.dims)} is stored")
    if holder.HasField("raw_data"):
        holder.raw_data = stored.tobytes()
        return
    flat = stored.reshape(-1)
    bits = flat.view(np.uint16) if flat.dtype == np.float16 else flat
    getattr(holder, FIELDS.get(holder.data_type, "int32_data"))[:] = bits.tolist()


def new_tensor(name: str, values: NDArray[Any], elem_type: int) -> onnx.TensorProto:
    """A tensor with `values` as raw data.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the element type.
    """
    raw = encode(values, elem_type).tobytes()
    return TensorProto(name=name, data_type=elem_type, dims=values.shape, raw_data=raw)
