"""Models of one node, and what its layer must be: an oracle for ``nettrim_cli.graph.ops``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from nettrim_cli.graph import ops
from nettrim_cli.graph.layer import Geometry

Inputs = Mapping[str, np.ndarray | None]


class OneNode:
    """A node with inputs by name and in order, all constant but ``x``; None leaves one out."""

    def __init__(
        self,
        op: str,
        inputs: Inputs,
        *,
        outputs: int = 1,
        domain: str = "",
        opset: int = 22,
        **given: Any,
    ) -> None:
        self.inputs = list(inputs.values())
        names = [name if value is not None else "" for name, value in inputs.items()]
        made = [f"y{number}" for number in range(outputs)]
        node = helper.make_node(op, names, made, "layer", domain=domain, **given)
        x = inputs["x"]
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        graph = helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", kind, [None] * x.ndim)],
            [onnx.ValueInfoProto(name=name) for name in made],
            [
                numpy_helper.from_array(value, name)
                for name, value in inputs.items()
                if name != "x" and value is not None
            ],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        self.proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        self.given = {
            each.name: _plain(helper.get_attribute_value(each)) for each in node.attribute
        }
        self.op, self.domain, self._x = op, domain, x

    def run(self) -> list[np.ndarray]:
        """All outputs, by onnxruntime."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(
            self.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"x": self._x})

    def geometry(self, slot: int) -> Geometry:
        """Of the layer whose weight is the input `slot`."""
        return ops.read_geometry(
            self.op, slot, self.given, self.inputs[slot].shape, domain=self.domain
        )

    def arrays(self, geometry: Geometry, outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
        """What the layer reads, by role."""
        there = {"input": [*self.inputs, *[None] * 9], "output": outputs}
        roles = ops.reads(geometry).items()
        found = {role: there[kind][slot] for role, (kind, slot) in roles}
        return {role: value for role, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return tuple(_plain(each) for each in value) if isinstance(value, list) else value


def assert_inverse(weight: np.ndarray, geometry: Geometry) -> list[np.ndarray]:
    """Matrices have the shapes of the blocks and make the weight again, bit for bit."""
    matrices = ops.matrices(weight, geometry)
    assert tuple(U.shape for U in matrices) == ops.blocks(geometry, weight.shape)
    back = ops.weight([np.array(U) for U in matrices], geometry, weight.shape)
    np.testing.assert_array_equal(back.astype(weight.dtype), weight)
    return matrices


def assert_linear(node: OneNode, slot: int, *, tolerance: float = 1e-4) -> Geometry:
    """``U.T @ X + b`` is the output of every block; columns in parts are the same columns."""
    geometry, weight = node.geometry(slot), node.inputs[slot]
    outputs = node.run()
    arrays = node.arrays(geometry, outputs)
    matrices = assert_inverse(weight, geometry)
    vectors = [np.zeros(U.shape[1], np.float32) for U in matrices]
    at = ops.bias_slot(geometry)
    if at is not None and at < len(node.inputs) and node.inputs[at] is not None:
        vectors = ops.biases(node.inputs[at], geometry, weight.shape)
        again = ops.bias(vectors, geometry, weight.shape, node.inputs[at])
        np.testing.assert_allclose(*np.broadcast_arrays(again, node.inputs[at]), rtol=1e-6)
    seen = 0
    for block, (U, vector) in enumerate(zip(matrices, vectors, strict=True)):
        X = ops.columns(arrays, geometry, block)
        assert X.dtype == (np.float64 if arrays["x"].dtype == np.float64 else np.float32)
        y = ops.outputs_as_columns(outputs[0], geometry, block)
        np.testing.assert_allclose(U.T @ X + vector[:, None], y, rtol=tolerance, atol=tolerance)
        assert_parts(arrays, geometry, block, X)
        seen += y.size
    assert seen >= outputs[0].size  # the blocks have made all of it
    return geometry


def assert_parts(
    arrays: dict[str, np.ndarray], geometry: Geometry, block: int, X: np.ndarray
) -> None:
    """Columns are counted from shapes alone; in parts, and some of them, they are the same."""
    shapes = {role: value.shape for role, value in arrays.items()}
    assert ops.count_columns(shapes, geometry, block, arrays.get("lengths")) == X.shape[1]
    some = np.flatnonzero(np.arange(X.shape[1]) * 7 % 3 == 0)
    most = max(3, X.shape[1] // 24)  # columns in a part
    for positions, expected in ((None, X), (some, X[:, some]), (some[:0], X[:, :0])):
        parts = list(ops.columns_in_parts(arrays, geometry, block, most * len(X), positions))
        np.testing.assert_array_equal(np.hstack([*parts, X[:, :0]]), expected)
        assert all(part.shape[1] <= most for part in parts) or positions is None
