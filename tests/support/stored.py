"""Where a model's constants are stored and which layers read them: an oracle that shares nothing
with `nettrim_cli.graph`.

A place is the path of field names and numbers that leads to a TensorProto: the same in two
models of equal structure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import AttributeProto, ModelProto, TensorProto

WEIGHTS = {
    "MatMul": (0, 1),
    "Gemm": (1,),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "LSTM": (1, 2),
    "ConvInteger": (1,),
    "MatMulInteger": (1,),
    "DynamicQuantizeLSTM": (1, 2),
}
"""Ops of the models tested, with the inputs that carry weights."""
BIASES = {"Gemm": 2, "Conv": 2, "ConvTranspose": 2, "LSTM": 3, "DynamicQuantizeLSTM": 3}

Place = tuple[Any, ...]


@dataclass
class Stored:
    """Tensors by place, and those that layers read as weights or biases.

    Attributes
    ----------
    weights, biases
        Places, with the names of the nodes that read them.
    """

    tensors: dict[Place, TensorProto] = field(default_factory=dict)
    weights: dict[Place, set[str]] = field(default_factory=dict)
    biases: dict[Place, set[str]] = field(default_factory=dict)

    def size(self, place: Place) -> int:
        """Number of elements."""
        return math.prod(self.tensors[place].dims)


def stored(model: ModelProto) -> Stored:
    """Find everything in a model without local functions."""
    assert not model.functions
    found = Stored()
    _walk(model.graph, ("graph",), {}, found)
    return found


def tensors(message: Any, path: Place = ()) -> Iterator[tuple[Place, TensorProto]]:
    """Every TensorProto inside a message, by place."""
    if isinstance(message, TensorProto):
        yield path, message
        return
    for fact, value in message.ListFields():
        if fact.type != fact.TYPE_MESSAGE:
            continue
        if hasattr(value, "ListFields"):
            yield from tensors(value, (*path, fact.name))
        else:
            for number, each in enumerate(value):
                yield from tensors(each, (*path, fact.name, number))


def _walk(
    graph: onnx.GraphProto, path: Place, outer: Mapping[str, frozenset[Place]], found: Stored
) -> None:
    """Add the constants of a graph; what a tensor is made of alone if constant, by its name."""
    origins = dict(outer)
    products: dict[str, str] = {}
    for number, tensor in enumerate(graph.initializer):
        _constant(tensor, (*path, "initializer", number), tensor.name, origins, found)
    order = sorted(range(len(graph.node)), key=lambda at: not _is_constant(graph.node[at]))
    for number in order:
        node, at = graph.node[number], (*path, "node", number)
        for place, attribute in enumerate(node.attribute):
            inner = (*at, "attribute", place)
            if attribute.type == AttributeProto.TENSOR and _is_constant(node):
                _constant(attribute.t, (*inner, "t"), node.output[0], origins, found)
            elif attribute.type == AttributeProto.GRAPH:
                _walk(attribute.g, (*inner, "g"), origins, found)
        given = [name for name in node.input if name]
        has_graphs = any(each.type == AttributeProto.GRAPH for each in node.attribute)
        if given and not has_graphs and all(name in origins for name in given):
            whole = frozenset().union(*(origins[name] for name in given))
            origins.update((name, whole) for name in node.output)
        _readers(node, origins, products, found)


def _readers(
    node: onnx.NodeProto,
    origins: Mapping[str, frozenset[Place]],
    products: dict[str, str],
    found: Stored,
) -> None:
    """Note the weights and the bias of a layer; the Add that follows a product has its bias."""
    name = node.name or node.output[0]
    slots = WEIGHTS.get(node.op_type, ())
    given = {slot: node.input[slot] for slot in slots if slot < len(node.input)}
    if any(each not in origins for each in node.input):
        for each in given.values():
            for place in origins.get(each, ()):
                if _is_matrix(found.tensors[place]):
                    found.weights.setdefault(place, set()).add(name)
                    products[node.output[0]] = name
    bias = BIASES.get(node.op_type, len(node.input))
    if bias < len(node.input):
        for place in origins.get(node.input[bias], ()):
            found.biases.setdefault(place, set()).add(name)
    if node.op_type == "Add":
        for one, other in (node.input, reversed(node.input)):
            for place in origins.get(other, ()):
                if one in products:
                    found.biases.setdefault(place, set()).add(products[one])


def _constant(
    tensor: TensorProto,
    path: Place,
    name: str,
    origins: dict[str, frozenset[Place]],
    found: Stored,
) -> None:
    found.tensors[path] = tensor
    origins[name] = frozenset((path,))


def _is_constant(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant"


def _is_matrix(tensor: TensorProto) -> bool:
    """Not the bounds of a slice, nor a scale."""
    return len(tensor.dims) >= 2
