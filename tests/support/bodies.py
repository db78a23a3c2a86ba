"""Networks in the branches of an If, and in the bodies of a Loop or a Scan."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Feeds = dict[str, np.ndarray]
KINDS = ("If", "nested", "Loop", "Scan")


def in_body(
    kind: str, proto: onnx.ModelProto, feeds: Feeds, *, stored_inside: bool
) -> tuple[onnx.ModelProto, Feeds]:
    """A model that runs a network with the input ``x`` in a subgraph, and inputs for it.

    Parameters
    ----------
    kind
        If: in a branch, beside another of its kind; nested: that in a branch; Loop, Scan: twice.
    stored_inside
        Whether its constants stand in the subgraph or outside.
    """
    graph, x = proto.graph, feeds["x"]
    constants, outside = list(graph.initializer), []
    if not stored_inside:
        constants, outside = [], constants
    output = onnx.ValueInfoProto.FromString(graph.output[0].SerializeToString())
    inputs: list[onnx.ValueInfoProto] = []
    if kind == "Loop":
        inputs = [_value("i", TensorProto.INT64, []), _value("go", TensorProto.BOOL, [])]
    elif kind == "Scan":
        inputs = [onnx.ValueInfoProto(name="x")]  # of the shape that the Scan gives it
    body = helper.make_graph(graph.node, "body", inputs, [output], constants)
    whole = [_value("x", TensorProto.FLOAT, x.shape)]
    if kind in ("If", "nested"):
        rival = _changed(graph, output)
        node = helper.make_node(
            "If", ["c"], ["result"], "choose", then_branch=body, else_branch=rival
        )
        if kind == "nested":
            inner = helper.make_graph([node], "inner", [], [_same("result", output)])
            rest = _changed(graph, output, "f_")
            node = helper.make_node(
                "If", ["c"], ["chosen"], "outer", then_branch=inner, else_branch=rest
            )
        whole.append(_value("c", TensorProto.BOOL, []))
        feeds = {**feeds, "c": np.array(True)}
    elif kind == "Loop":
        body.node.append(helper.make_node("Identity", ["go"], ["on"]))
        del body.output[:]
        body.output.extend([_value("on", TensorProto.BOOL, []), output])
        node = helper.make_node("Loop", ["count", ""], ["result"], "twice", body=body)
        outside.append(numpy_helper.from_array(np.array(2), "count"))
    else:
        node = helper.make_node("Scan", ["xs"], ["result"], "twice", body=body, num_scan_inputs=1)
        whole = [_value("xs", TensorProto.FLOAT, (2, *x.shape))]
        feeds = {"xs": np.stack([x, 0.5 * x])}
    result = onnx.ValueInfoProto(name=node.output[0])
    outer = helper.make_graph([node], "main", whole, [result], outside)
    model = helper.make_model(outer, opset_imports=proto.opset_import, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.output[0].CopyFrom(inferred.graph.output[0])
    return model, feeds


def _value(name: str, kind: int, shape: tuple[int, ...] | list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _same(name: str, value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    result = onnx.ValueInfoProto.FromString(value.SerializeToString())
    result.name = name
    return result


def _changed(
    graph: onnx.GraphProto, output: onnx.ValueInfoProto, prefix: str = "e_"
) -> onnx.GraphProto:
    """A branch with the same network under other names, with constants of its own."""
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    for node in nodes:
        node.name = prefix + node.name
        for names in (node.input, node.output):
            names[:] = [name and (name if name == "x" else prefix + name) for name in names]
    tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer]
    for tensor in tensors:
        tensor.name = prefix + tensor.name
    return helper.make_graph(nodes, prefix, [], [_same(prefix + output.name, output)], tensors)
