"""Every op's rule for channels: units that it passes on can be deleted in front of it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.graph.channels.walk import walk
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.channel_context import varying
from nettrim_cli.graph.ops.channel_rules import boundary
from nettrim_cli.graph.ops.table import OPS
from tests.support.op_cases import CASES
from tests.support.smaller import assert_deletes

FLOATS = [
    op
    for op, case in CASES.items()
    if case.signals.get("x", np.zeros(0, bool)).dtype == np.float32 and case.signals["x"].ndim > 1
]
"""Ops whose case reads a signal of several axes."""
NOTHING = {  # ops with a rule that pass nothing on in their cases
    *("ArgMax", "ArgMin", "DepthToSpace", "GroupNormalization", "Shape", "Size", "Squeeze"),
}
FACTORS = ("BatchNormalization", "Resize", "Upsample")
"""Ops whose case has whole numbers where real ones belong."""


def on_last(axis: int, rank: int) -> list[int]:
    """The order of axes with one of them last; it is its own inverse."""
    order = [*range(rank)]
    order[axis], order[-1] = order[-1], order[axis]
    return order


def around(op: str, axis: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The case with a layer on one axis of x before it, without one behind it."""
    case = CASES[op]
    proto, x = case.model(), case.signals["x"]
    graph, size = proto.graph, x.shape[axis]
    weight = np.diag(1 + 0.1 * np.arange(size)).astype(np.float32)
    for tensor in graph.initializer if op in FACTORS else ():
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    graph.initializer.append(numpy_helper.from_array(weight, "p"))
    order = on_last(axis, x.ndim)
    front = [
        helper.make_node("Transpose", ["x"], ["x1"], perm=order),
        helper.make_node("MatMul", ["x1", "p"], ["x2"], "p"),
        helper.make_node("Transpose", ["x2"], ["x3"], perm=order),
    ]
    node = graph.node[0]
    node.input[:] = ["x3" if name == "x" else name for name in node.input]
    nodes = [*front, onnx.NodeProto.FromString(node.SerializeToString())]
    del graph.node[:]
    graph.node.extend(nodes)
    return proto, dict(case.signals)


def with_reader(proto: onnx.ModelProto, axis: int, shape: tuple[int, ...]) -> onnx.ModelProto:
    """The model with a layer behind it that reads one axis of its first output."""
    graph = proto.graph
    weight = np.random.default_rng(1).standard_normal((shape[axis], 2)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, "r"))
    output = graph.output[0].name
    nodes = [
        helper.make_node("Cast", [output], ["y1"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["y1"], ["y2"], perm=on_last(axis, len(shape))),
        helper.make_node("MatMul", ["y2", "r"], ["y3"], "r"),
    ]
    graph.node.extend(nodes)
    del graph.output[:]
    sizes = [shape[place] for place in on_last(axis, len(shape))][:-1]
    graph.output.append(helper.make_tensor_value_info("y3", TensorProto.FLOAT, [*sizes, 2]))
    return proto


def passes(op: str) -> set[int]:
    """Axes of x whose units can be deleted in front of the op."""
    found = set()
    for axis, size in enumerate(CASES[op].signals["x"].shape):
        if size == 1:
            continue
        proto, feeds = around(op, axis)
        facts = walk(Model(proto))
        output = proto.graph.output[0].name
        labels, shape = facts.labels.get(output), facts.sizes.of(output)
        if labels is None or shape is None or len(varying(labels)) != 1:
            continue
        whole = with_reader(proto, varying(labels)[0], shape)
        groups = assert_deletes(whole, feeds, axis)
        if any(group.name.startswith("p") for group in groups):
            found.add(axis)
    return found


@pytest.mark.parametrize("op", [op for op in FLOATS if OPS[op].channels is not boundary])
def test_units_in_front_of_an_op_are_deleted(op) -> None:
    assert bool(passes(op)) == (op not in NOTHING)


@pytest.mark.parametrize("op", [op for op in FLOATS if OPS[op].channels is boundary])
def test_units_in_front_of_other_ops_stay(op) -> None:
    assert not passes(op)
