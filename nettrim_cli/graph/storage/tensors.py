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

from nettrim_cli.graph.storage.elements import (
    PACKED,
    RAW_DTYPES,
    cast,
    decode,
    element_bits,
    encode,
    type_name,
    unpack,
)

Holder = TensorProto | AttributeProto
Container = onnx.GraphProto | onnx.FunctionProto

DATA_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.FLOAT16: "int32_data",
    TensorProto.BFLOAT16: "int32_data",
}
"""Fields of a tensor without raw data, by element type; integers of a grid are in int32_data."""

MOST_AXES = 64
"""NumPy has no arrays of more."""


def attribute_graphs(attribute: AttributeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in an attribute."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs in the attributes of a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        yield from attribute_graphs(attribute)


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and those nested in it, the outer ones first; none of functions."""
    yield graph
    for node in graph.node:
        for nested in subgraphs(node):
            yield from graphs(nested)


def containers(model: onnx.ModelProto) -> Iterator[Container]:
    """Every graph and function of a model, the main graph first, nested ones included."""
    pending: list[Container] = [
        *(graph for info in model.training_info for graph in (info.initialization, info.algorithm)),
        *model.functions,
        model.graph,
    ]
    while pending:
        container = pending.pop()
        yield container
        for node in container.node:
            pending.extend(subgraphs(node))


def initializers(container: Container) -> Iterator[onnx.TensorProto]:
    """Dense initializers; a local function has none."""
    return iter(getattr(container, "initializer", ()))


def sparse_initializers(container: Container) -> Iterator[onnx.SparseTensorProto]:
    """Sparse initializers; a local function has none."""
    return iter(getattr(container, "sparse_initializer", ()))


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every TensorProto of a model, wherever it is; initializers of the main graph first."""
    return (tensor for tensor, _ in tensors_by_density(model))


def tensors_by_density(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Every TensorProto, and whether it belongs to a sparse tensor."""
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


def constants(model: onnx.ModelProto) -> Iterator[tuple[Holder, tuple[int, ...]]]:
    """Holders of all initializers and Constant nodes with their shapes.

    The holder of a sparse one is that of its values.
    """
    for container in containers(model):
        yield from ((tensor, tuple(tensor.dims)) for tensor in initializers(container))
        sparse = list(sparse_initializers(container))
        for node in container.node:
            if not is_constant(node):
                continue
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t, tuple(attribute.t.dims)
                elif attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                elif attribute.name in ("value_float", "value_floats"):
                    yield attribute, shape(attribute)
        yield from ((tensor.values, tuple(tensor.dims)) for tensor in sparse)


def is_constant(node: onnx.NodeProto) -> bool:
    """Whether a node is a Constant."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def constant(node: onnx.NodeProto) -> TensorProto | None:
    """The tensor of a Constant node."""
    if not is_constant(node):
        return None
    return next((each.t for each in node.attribute if each.name == "value"), None)


def elem_type(holder: Holder) -> int:
    """Element type of a holder."""
    if isinstance(holder, TensorProto):
        return holder.data_type
    integer = holder.type in (AttributeProto.INT, AttributeProto.INTS)
    return TensorProto.INT64 if integer else TensorProto.FLOAT


def shape(holder: Holder) -> tuple[int, ...]:
    """Shape of a holder's value."""
    if isinstance(holder, TensorProto):
        return tuple(holder.dims)
    if holder.type in (AttributeProto.FLOAT, AttributeProto.INT):
        return ()
    return (len(holder.floats) + len(holder.ints),)


def read(holder: Holder) -> NDArray[Any]:
    """Value of a holder, in its stored dtype."""
    if isinstance(holder, AttributeProto):
        return _attribute_value(holder)
    dims = tuple(holder.dims)
    if holder.data_type == TensorProto.BFLOAT16:
        raw = holder.raw_data if holder.HasField("raw_data") else None
        bits = np.array(holder.int32_data, np.int32).astype("<u2")
        return decode(bits if raw is None else raw, holder.data_type).reshape(dims)
    if holder.data_type in PACKED:
        if holder.HasField("raw_data"):
            stored = np.frombuffer(holder.raw_data, np.uint8)
        else:
            stored = np.array(holder.int32_data, np.int32).astype(np.uint8)
        return unpack(stored, dims, holder.data_type)
    return numpy_helper.to_array(holder)


def elements(tensor: TensorProto) -> NDArray[Any] | None:
    """The elements as raw data have them, bit by bit, ``(N,)``.

    None where their bits are not known: other types than those of ``RAW_DTYPES``, or values that
    are not finite in fields of their own.
    """
    if tensor.data_type not in RAW_DTYPES:
        return None
    dtype = RAW_DTYPES[tensor.data_type]
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype)
    values = read(tensor).reshape(-1)
    if not np.isfinite(values).all():
        return None
    if tensor.data_type == TensorProto.BFLOAT16:
        return (values.view(np.uint32) >> 16).astype(dtype)
    return np.ascontiguousarray(values, dtype)


def _attribute_value(attribute: AttributeProto) -> NDArray[Any]:
    if attribute.type == AttributeProto.FLOAT:
        return np.array(attribute.f, np.float32)
    if attribute.type == AttributeProto.INT:
        return np.array(attribute.i, np.int64)
    if attribute.type == AttributeProto.INTS:
        return np.array(attribute.ints, np.int64)
    return np.array(attribute.floats, np.float32)


def raw_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of raw data that the shape of a tensor asks for.

    Raises
    ------
    ValueError
        A negative size, or elements that raw data cannot hold.
    """
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor '{tensor.name}' has a negative size")
    bits = element_bits(tensor.data_type)
    if not bits:
        raise ValueError(f"tensor '{tensor.name}' holds {type_name(tensor.data_type)} as raw data")
    return int(-(-math.prod(tensor.dims) * bits // 8))


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
        size, stored = raw_bytes(tensor), len(tensor.raw_data)
        if stored != size:
            raise ValueError(f"tensor '{tensor.name}' has {stored} bytes, its shape wants {size}")
        return
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"tensor '{tensor.name}' has a negative size")
    size = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        stored = len(tensor.string_data)
    elif tensor.data_type in RAW_DTYPES:
        fields = ("float_data", "double_data", "int32_data", "int64_data", "uint64_data")
        stored = sum(len(getattr(tensor, field)) for field in fields)
        if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
            size *= 2
    elif element_bits(tensor.data_type):
        numpy_helper.to_array(tensor)  # rare and packed: raises if it does not fit
        return
    else:
        raise ValueError(f"tensor '{tensor.name}' is of the unknown {type_name(tensor.data_type)}")
    if stored != size:
        raise ValueError(f"tensor '{tensor.name}' has {stored} values, its shape wants {size}")


def write(holder: Holder, values: NDArray[Any]) -> None:
    """Replace the value of a holder, an array ``(D1, ..., DK)``, in the same field and dtype.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the stored dtype.
    ValueError
        `values` are of another shape than the stored ones.
    """
    if isinstance(holder, AttributeProto):
        single = cast(values, np.dtype(np.float32))
        if holder.type == AttributeProto.FLOAT:
            holder.f = float(single.reshape(()))
        else:
            holder.floats[:] = single.tolist()
        return
    stored = encode(values, holder.data_type)
    if tuple(holder.dims) != values.shape:
        raise ValueError(f"shape {values.shape} where {tuple(holder.dims)} is stored")
    if holder.HasField("raw_data"):
        holder.raw_data = stored.tobytes()
        return
    flat = stored.reshape(-1)
    bits = flat.view(np.uint16) if flat.dtype == np.float16 else flat
    getattr(holder, DATA_FIELDS.get(holder.data_type, "int32_data"))[:] = bits.tolist()


def new_tensor(name: str, values: NDArray[Any], elem_type: int) -> onnx.TensorProto:
    """A tensor that holds an array ``(D1, ..., DK)`` as raw data.

    Raises
    ------
    Unfit
        A value is not finite, or too large for the element type.
    """
    raw = encode(values, elem_type).tobytes()
    return TensorProto(name=name, data_type=elem_type, dims=values.shape, raw_data=raw)
