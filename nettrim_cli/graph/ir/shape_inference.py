"""Shapes of constants by onnx's shape inference, which does not need their values."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.graph.storage.elements import type_name
from nettrim_cli.graph.storage.tensors import elem_type, shape

SHAPES = frozenset((TensorProto.INT32, TensorProto.INT64))
"""Element types of shapes, axes and bounds."""


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
        dims = value.type.tensor_type.shape.dim
        if value.name == name and all(axis.HasField("dim_value") for axis in dims):
            sizes = tuple(int(axis.dim_value) for axis in dims)
            return sizes, type_name(value.type.tensor_type.elem_type)
    return (), ""


def _upstream(index: Index, name: str) -> onnx.ModelProto:
    """A model of the nodes that make a constant; real numbers come in without their values."""
    writer = Writer(index)
    model = writer.model("constants")
    pending, visited, nodes = [name], {name, ""}, set[int]()
    while pending:
        name = pending.pop()
        try:
            view = index.view(name)
        except Unsupported:
            if name in index.sparse:
                elem_type = index.sparse[name].values.data_type
                value = helper.make_tensor_value_info(name, elem_type, index.sparse[name].dims)
                model.graph.input.append(value)
                continue
            nodes.add(index.producers[name])
            inputs = set(index.nodes[index.producers[name]].input) - visited
            pending.extend(sorted(inputs))
            visited |= inputs
            continue
        if view.elem_type in SHAPES:
            model.graph.initializer.append(numpy_helper.from_array(view.values(), name))
        else:
            value = helper.make_tensor_value_info(name, view.elem_type, view.shape)
            model.graph.input.append(value)
    model.graph.node.extend(writer.node(index.nodes[number]) for number in sorted(nodes))
    return model
