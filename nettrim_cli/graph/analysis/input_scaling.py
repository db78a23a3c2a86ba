"""What a model itself tells of the range of its inputs and of its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from nettrim_cli.graph.ir.flat_graph import Node
from nettrim_cli.graph.ir.index import Index, attributes
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported

LAYERS = ("Conv", "Gemm", "MatMul")
SAME_VALUES = ("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Relu")
SQUASHED = ("Softmax", "Sigmoid")


@dataclass(frozen=True)
class Trained:
    """What training saw at a BatchNormalization: ``mean`` and ``variance`` of each channel."""

    node: str
    tensor: str
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


def first_normalization(model: Model) -> Trained | None:
    """The first BatchNormalization of the main graph that a layer alone precedes."""
    index = model.index
    reached = {each.name for each in model.inputs}
    behind: set[str] = set()  # a layer that reads an input
    for node in index.flat.main_nodes:
        source = node.input[0] if node.input else ""
        if node.op_type == "BatchNormalization" and source in behind and not trains(index, node):
            mean, variance = (_constant(index, name) for name in node.input[3:5])
            if mean is not None and variance is not None and (variance > 0).all():
                return Trained(node.title, source, mean, variance)
        if node.op_type in LAYERS and source in reached:
            behind.update(node.output)
        elif node.op_type in SAME_VALUES:
            reached.update(node.output if source in reached else ())
    return None


def trains(index: Index, node: Node) -> bool:
    """Whether a node behaves as in training: by the batch that it is in, or at random."""
    if node.op_type == "BatchNormalization":  # before opset 14 its further results said so
        return bool(attributes(node).get("training_mode", len(node.output) > 1))
    return node.op_type == "Dropout" and len(node.input) > 2 and bool(index.number(node.input[2]))


def first_factor(model: Model, name: str) -> float | None:
    """What a model's input is multiplied by before anything else, 1 where a layer reads it.

    None where nothing of the kind is known.
    """
    index = model.index
    for _ in range(len(index.flat.main_nodes)):
        readers = [node for node in index.flat.main_nodes if name in node.input]
        if len(readers) != 1:
            return None
        (node,) = readers
        if node.op_type in LAYERS:
            return 1.0
        if node.op_type in ("Mul", "Div") and len(node.input) == 2:
            other = node.input[1] if node.input[0] == name else node.input[0]
            factor = abs(index.number(other) or 0)
            if not factor or (node.op_type == "Div" and node.input[0] != name):
                return None
            return factor if node.op_type == "Mul" else 1 / factor
        if node.op_type not in SAME_VALUES[:-1]:
            return None
        name = node.output[0]
    return None


def squashed(model: Model, output: str) -> str:
    """The op, of those in ``SQUASHED``, that an output comes from; empty for any other."""
    makers = [node for node in model.index.flat.main_nodes if output in node.output]
    return makers[0].op_type if makers and makers[0].op_type in SQUASHED else ""


def with_outputs(model: Model, names: Sequence[str]) -> Runnable:
    """The model with more tensors, of float32, as its last outputs."""
    graph = model.proto.graph
    count = len(graph.output)
    for name in names:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    try:
        return model.runnable()
    finally:
        del graph.output[count:]


def _constant(index: Index, name: str) -> NDArray[np.float64] | None:
    try:
        value: NDArray[Any] = index.view(name).values()
    except Unsupported:  # not a stored one: nothing is known of it
        return None
    return value.astype(np.float64)
