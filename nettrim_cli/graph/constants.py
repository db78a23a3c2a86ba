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
}
"""Element types of weights that can be pruned, with numpy's dtype."""

FIELDS = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.FLOAT16: "int32_data",
}


WIDTHS = {
    TensorProto.FLOAT: 4,
    TensorProto.DOUBLE: 8,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.UINT16: 2,
    TensorProto.INT32: 4,
    TensorProto.UINT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
"""Bytes of an element, of the types whose size is checked without decoding them."""


class Unfit(ValueError):
    """Values that cannot be stored."""


def type_name(elem_type: int) -> str:
    """Name of an element type as numpy spells it: ``float32``, ``bfloat16``, ``int8``."""
    if elem_type in TREATED:
        return str(TREATED[elem_type].name)
    try:
        name: str = TensorProto.DataType.Name(elem_type)
    except ValueError:
        return f"type {elem_type}"
    return name.lower()


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
    """Every TensorProto of a model, wherever it is."""
    for container in containers(model):
        yield from initializers(container)
        for sparse in sparse_initializers(container):
            yield from (sparse.values, sparse.indices)
        defaults = getattr(container, "attribute_proto", ())
        owned = (attribute for node in container.node for attribute in node.attribute)
        for attribute in (*defaults, *owned):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            several = attribute.sparse_tensors
            one = (attribute.sparse_tensor,) if attribute.HasField("sparse_tensor") else ()
            for sparse in (*one, *several):
                yield from (sparse.values, sparse.indices)


def count(model: onnx.ModelProto) -> tuple[int, int]:
    """Floating-point elements of all initializers and Constant nodes, and the non-zero ones."""
    total = nonzero = 0
    for container in containers(model):
        dense = list(initializers(container))
        sparse = list(sparse_initializers(container))
        for node in container.node:
            if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
                continue
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    dense.append(attribute.t)
                elif attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                elif attribute.name in ("value_float", "value_floats"):
                    values = read(attribute)
                    total += values.size
                    nonzero += int(np.count_nonzero(values))
        for tensor in dense:
            if tensor.data_type in FLOATS:
                total += math.prod(tensor.dims)
                nonzero += int(np.count_nonzero(numpy_helper.to_array(tensor)))
        for tensor in sparse:
            if tensor.values.data_type in FLOATS:
                total += math.prod(tensor.dims)
                nonzero += int(np.count_nonzero(numpy_helper.to_array(tensor.values)))
    return total, nonzero


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
    result: NDArray[Any] = numpy_helper.to_array(holder)
    return result


def check_size(tensor: onnx.TensorProto) -> None:
    """Make sure that a tensor has as many values as its shape promises.

    Raises
    ------
    ValueError
        It has fewer or more, or a negative size.
    """
    wanted = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor '{tensor.name}' has a negative size")
    width = WIDTHS.get(tensor.data_type)
    if width is None:
        if tensor.data_type in FLOATS:
            numpy_helper.to_array(tensor)  # rare and packed: raises if it does not fit
        return
    if tensor.HasField("raw_data"):
        found, rest = divmod(len(tensor.raw_data), width)
        bad = found != wanted or rest != 0
    else:
        fields = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
        found = sum(len(getattr(tensor, field)) for field in fields)
        bad = found != wanted
    if bad:
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
    dtype = TREATED[holder.data_type]
    plain = np.ascontiguousarray(cast(values, dtype))
    if tuple(holder.dims) != plain.shape:
        raise ValueError(f"shape {plain.shape} where {tuple(holder.dims)} is stored")
    if holder.HasField("raw_data"):
        holder.raw_data = plain.astype(dtype.newbyteorder("<"), copy=False).tobytes()
        return
    flat = plain.reshape(-1)
    stored = flat.view(np.uint16) if dtype == np.float16 else flat
    getattr(holder, FIELDS[holder.data_type])[:] = stored.tolist()
