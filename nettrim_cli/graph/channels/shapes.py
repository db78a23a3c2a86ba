"""Sizes of all tensors for two choices of the sizes that a model leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.ir.flat_graph import ENTER, STANDARD, Node
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.ir.writer import Writer
from nettrim_cli.graph.ops import Unsupported, spec_of
from nettrim_cli.graph.ops.layout_steps import Shape
from nettrim_cli.graph.storage.elements import FLOATS

CHOICES = (((2, 64, 64), (3, 96, 96)), ((2, 224, 0), (3, 224, 0)), ((2, 128, 0), (3, 128, 0)))
"""Of each pair: the first axis of an input, its second open size, and the step to further ones.

Later pairs are for models that run on images of one size only.
"""
MOST_ENTRIES = 4096
"""Constants of whole numbers up to this size may tell shapes."""
MOST_FACTORS = 16
"""The same for real numbers, which may tell by how much an image grows."""
KNOWN = frozenset((TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL))
"""Element types of constants that may tell shapes."""
MOST_ROUNDS = 16
"""Times that shapes tell numbers, which tell shapes."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of tensors.

    Attributes
    ----------
    shapes
        By tensor, for the first choice of open sizes, as far as they are known.
    others
        For the second choice.
    """

    shapes: Mapping[str, Shape]
    others: Mapping[str, Shape]

    def of(self, name: str) -> Shape | None:
        """Shape of a tensor for the first choice; None where it is not known."""
        return self.shapes.get(name)

    def is_fixed(self, name: str, axis: int) -> bool:
        """Whether the size of an axis does not depend on the choice."""
        first, second = self.shapes.get(name), self.others.get(name)
        return first is not None and second is not None and first[axis] == second[axis]


def sizes(index: Index) -> Sizes:
    """Sizes of all graphs' tensors, functions inlined, by onnx's shape inference."""
    model = _without_values(index)
    best = Sizes({}, {})
    for pair in CHOICES:
        first, second = (_inferred(index, model, *choice) for choice in pair)
        if min(len(first), len(second)) > len(best.shapes):
            best = Sizes(first, second)
        if all(name in best.shapes for node in model.graph.node for name in node.output if name):
            break
    return best


def _without_values(index: Index) -> onnx.ModelProto:
    """All graphs in one, with real numbers as inputs; constants are known in all of it."""
    model = Writer(index).model("sizes")
    for name in (*index.initializers, *index.sparse):
        if index.flat.initializers.get(name) is not None or name in index.sparse:
            _add_constant(index, model, name)
    for node in index.nodes:
        outputs = [name for name in node.output if name]
        constant = len(outputs) == 1 and outputs[0] in index.constants
        if node.domain == ENTER:
            _add_inputs(node, model)
        elif not (constant and _add_constant(index, model, outputs[0])):
            names = {name: f"{name}~" for name in _names_inside(node)}
            writer = Writer(index, rename=partial(_renamed, names))
            model.graph.node.append(writer.node(node))
    return model


def _add_inputs(enter: Node, model: onnx.ModelProto) -> None:
    """Add a subgraph's inputs, as they are declared."""
    assert enter.parent is not None
    for name, value in zip(enter.output, enter.parent.graph.input, strict=True):
        model.graph.input.add().CopyFrom(value)
        model.graph.input[-1].name = name


def _renamed(names: Mapping[str, str], name: str) -> str:
    return names.get(name, name)


def _names_inside(node: Node) -> set[str]:
    """Tensors of a node's subgraphs, which have other names beside them."""
    names: set[str] = set()
    for subgraph in node.subgraphs:
        names.update(subgraph.inputs, subgraph.initializers, subgraph.sparse)
        for inner in subgraph.nodes:
            names |= _names_inside(inner).union(inner.output)
    return names - {""}


def _add_constant(index: Index, model: onnx.ModelProto, name: str) -> bool:
    """Add a constant, by value where it may tell a shape; whether that is possible."""
    try:
        view = index.view(name)
    except Unsupported:
        if name not in index.sparse:
            return False
        sparse = index.sparse[name]
        value = helper.make_tensor_value_info(name, sparse.values.data_type, sparse.dims)
        model.graph.input.append(value)
        return True
    most = MOST_FACTORS if view.elem_type in FLOATS else MOST_ENTRIES
    if np.prod(view.shape) > most or view.elem_type not in KNOWN:
        value = helper.make_tensor_value_info(name, view.elem_type, view.shape)
        model.graph.input.append(value)
    else:
        model.graph.initializer.append(numpy_helper.from_array(view.values(), name))
    return True


def _inferred(
    index: Index, model: onnx.ModelProto, first: int, size: int, step: int
) -> dict[str, Shape]:
    """Shapes that are wholly known once open sizes are chosen, as in ``CHOICES``."""
    chosen = onnx.ModelProto()
    chosen.CopyFrom(model)
    for value in index.graph.input:
        if value.name in index.initializers or value.name in index.sparse:
            continue
        chosen.graph.input.add().CopyFrom(value)
        open_axes = 0
        for axis, dim in enumerate(chosen.graph.input[-1].type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value < 0:
                dim.dim_value = size + step * open_axes if axis else first
                open_axes += axis > 0
    shapes: dict[str, Shape] = {}
    for _ in range(MOST_ROUNDS):
        try:
            inferred = onnx.shape_inference.infer_shapes(chosen, data_prop=True)
        except Exception:  # whatever the C++ below throws
            break
        shapes.update(_known_shapes(inferred.graph))
        told = _add_entrywise(chosen, shapes) or _enter_scans(index, chosen, shapes)
        if not (told or _fold(chosen, shapes)):
            break
    return shapes


def _enter_scans(index: Index, model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Tell the shapes in which a Scan hands its inputs to its body; whether any was new."""
    values, added = {value.name: value for value in model.graph.input}, False
    for node in index.nodes:
        if node.domain != ENTER or node.parent is None:
            continue
        facts = index.attributes(node.parent.owner)
        if "num_scan_inputs" not in facts:  # a Loop
            continue
        states = len(node.output) - facts["num_scan_inputs"]
        axes = facts.get("scan_input_axes", (0,) * len(node.output))
        for place, (operand, name) in enumerate(zip(node.input, node.output, strict=False)):
            if operand not in shapes or name in shapes:
                continue
            shape = list(shapes[operand])
            if place >= states:
                del shape[axes[place - states]]
            kind = values[name].type.tensor_type.elem_type or TensorProto.FLOAT
            values[name].CopyFrom(helper.make_tensor_value_info(name, kind, shape))
            added = True
    return added


def _add_entrywise(model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Tell the shapes that ops which onnx does not know have as functions; whether any has."""
    added = False
    for node in model.graph.node:
        name = node.output[0] if node.output else ""
        known = all(operand in shapes for operand in node.input if operand)
        if not name or name in shapes or not known or node.domain in STANDARD:
            continue
        if spec_of(node.op_type, node.domain).function is None:
            continue
        shapes[name] = np.broadcast_shapes(*(shapes[operand] for operand in node.input if operand))
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name])
        model.graph.value_info.append(value)
        added = True
    return added


def _known_shapes(graph: onnx.GraphProto) -> Iterator[tuple[str, Shape]]:
    for value in (*graph.input, *graph.value_info):
        kind = value.type.tensor_type
        sizes = kind.shape.dim
        if kind.HasField("shape") and all(size.HasField("dim_value") for size in sizes):
            yield value.name, tuple(int(size.dim_value) for size in sizes)
    for tensor in graph.initializer:
        yield tensor.name, tuple(tensor.dims)


def _fold(model: onnx.ModelProto, shapes: dict[str, Shape]) -> bool:
    """Replace nodes that compute whole numbers of known shapes by constants; whether any was."""
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    left = []
    for node in graph.node:
        results = _folded(model, node, values, shapes)
        if results is None:
            left.append(node)
            continue
        values.update(results)
        for name, value in results.items():
            graph.initializer.append(numpy_helper.from_array(value, name))
    if len(left) == len(graph.node):
        return False
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
    del graph.node[:]
    graph.node.extend(nodes)
    return True


def _folded(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    values: dict[str, NDArray[Any]],
    shapes: dict[str, Shape],
) -> dict[str, NDArray[Any]] | None:
    """What a node gives out, where its inputs are known and small; None where they are not."""
    if node.op_type == "Shape" and node.domain in STANDARD and node.input[0] in shapes:
        size = np.array(shapes[node.input[0]], np.int64)
        first, last = (
            next((int(a.i) for a in node.attribute if a.name == name), None)
            for name in ("start", "end")
        )
        return {node.output[0]: size[first:last]}
    names = [name for name in node.input if name]
    if not names or any(name not in values for name in names):
        return None
    from onnx.reference import ReferenceEvaluator  # takes long to import

    try:
        evaluator = ReferenceEvaluator(_alone(model, node))
        results = evaluator.run(None, {name: values[name] for name in names})
    except Exception:  # a node that the reference does not know
        return None
    if any(np.asarray(result).size > MOST_ENTRIES for result in results):
        return None
    pairs = zip([name for name in node.output if name], results, strict=True)
    return {name: np.asarray(result) for name, result in pairs}


def _alone(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.ModelProto:
    """A model of one node."""
    graph = onnx.GraphProto(name="one")
    graph.node.append(node)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, graph=graph
    )
