"""Shapes of constants whose values are not looked at, by onnx's shape inference."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.tensors import elem_type, shape, type_name

SHAPES = frozenset((TensorProto.INT32, TensorProto.INT64))
"""Element types of what other nodes take for shapes, axes and bounds."""


def constant_type(index: Index, name: str) -> tuple[tuple[int, ...], str]:
    """Shape and name of the element type of a constant; () and empty where they are not known."""
    if name in index.sparse:
        sparse = index.sparse[name]
        return tuple(sparse.dims), type_name(sparse.values.data_type)
    holder = index.holder(name)
    if holder is not None:
        return shape(holder), type_name(elem_type(holder))
    try:
        model = onnx.shape_inference.infer_shapes(_upstream(index, name), data_prop=True)
    except Exception:  # whatever the C++ below throws
        return (), ""
    for value in model.graph.value_info:
        axes = value.type.tensor_type.shape.dim
        if value.name == name and all(axis.HasField("dim_value") for axis in axes):
            sizes = tuple(int(axis.dim_value) for axis in axes)
            return sizes, type_name(value.type.tensor_type.elem_type)
    return (), ""


def _upstream(index: Index, name: str) -> onnx.ModelProto:
    """A model of the nodes that make a constant; real numbers come in without their values."""
    writer = Writer(index)
    made = writer.model("constants")
    pending, seen, nodes = [name], {name, ""}, set[int]()
    while pending:
        each = pending.pop()
        try:
            trace = index.trace(each)
        except Unsupported:
            if each in index.sparse:
                kind = index.sparse[each].values.data_type
                value = helper.make_tensor_value_info(each, kind, index.sparse[each].dims)
                made.graph.input.append(value)
                continue
            nodes.add(index.producers[each])
            wanted = set(index.nodes[index.producers[each]].input) - seen
            pending.extend(sorted(wanted))
            seen |= wanted
            continue
        if trace.kind in SHAPES:
            made.graph.initializer.append(numpy_helper.from_array(trace.values(), each))
        else:
            value = helper.make_tensor_value_info(each, trace.kind, trace.shape)
            made.graph.input.append(value)
    made.graph.node.extend(writer.node(index.nodes[number]) for number in sorted(nodes))
    return made
