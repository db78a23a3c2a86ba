"""U, X and the layer's output agree with onnxruntime and with onnx's reference."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model

QUICK = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**31)


def one_node(op: str, weight: np.ndarray, bias: np.ndarray | None, rank: int, **attributes: Any):
    """A model of one node reading ``x`` and making ``y``."""
    constants = [numpy_helper.from_array(weight, "w")]
    if bias is not None:
        constants.append(numpy_helper.from_array(bias, "b"))
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *(c.name for c in constants)], ["y"], "layer", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", kind, [None] * rank)],
        [helper.make_tensor_value_info("y", kind, None)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": x})[0]


def assert_identity(proto: onnx.ModelProto, x: np.ndarray) -> None:
    """``U.T @ X + b`` is the output, by two engines, and the weight comes back from U."""
    model = Model(proto)
    (layer,) = model.layers
    assert layer.refusal == ""
    matrix, bias = model.weight(layer)
    columns = ops.columns(x, layer.geometry)
    assert matrix.shape == layer.shape
    assert columns.shape[0] == layer.shape[0]
    assert columns.dtype == np.float32
    assert columns.shape[1] == x.shape[0] * ops.positions(x.shape, layer.geometry)
    result = matrix.T @ columns + (0 if bias is None else bias[:, None])
    for y in (run(proto, x), ReferenceEvaluator(proto).run(None, {"x": x})[0]):
        seen = ops.outputs_as_columns(y, layer.geometry)
        np.testing.assert_allclose(result, seen, rtol=1e-4, atol=1e-4)
    stored = numpy_helper.to_array(proto.graph.initializer[0])
    back = ops.weight(matrix, layer.geometry, stored.shape)
    np.testing.assert_allclose(back, stored, rtol=1e-6)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@QUICK
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
    st.booleans(),
    st.sampled_from([1.0, 0.5, -2.0]),
    st.sampled_from([1.0, 0.0, 3.0]),
    st.sampled_from(["none", "M", "1M", "scalar", "1"]),
    SEEDS,
)
def test_gemm(sizes, turned, alpha, beta, bias, seed):
    rows, inputs, outputs = sizes
    shape = {"none": None, "M": (outputs,), "1M": (1, outputs), "scalar": (), "1": (1,)}[bias]
    proto = one_node(
        "Gemm",
        normal(seed, outputs, inputs) if turned else normal(seed, inputs, outputs),
        None if shape is None else np.asarray(normal(seed + 1, *shape), dtype=np.float32),
        2,
        transB=int(turned),
        alpha=alpha,
        beta=beta,
    )
    assert_identity(proto, normal(seed + 2, rows, inputs))
    (layer,) = Model(proto).layers
    assert layer.has_bias == (shape is not None and beta != 0)


@QUICK
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 5), SEEDS)
def test_matmul(shape, outputs, seed):
    proto = one_node("MatMul", normal(seed, shape[-1], outputs), None, len(shape))
    assert_identity(proto, normal(seed + 1, *shape))


@st.composite
def convolutions(draw):
    """Attributes, weight shape and input shape of a convolution over 1 to 3 axes."""
    axes = draw(st.integers(1, 3))
    several = {1: 12, 2: 9, 3: 6}[axes]

    def numbers(low: int, high: int, count: int = axes) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))

    kernel = numbers(1, 3)
    mode = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    attributes: dict[str, Any] = {"auto_pad": mode, "strides": numbers(1, 3)}
    # onnxruntime cannot run a dilated convolution with SAME padding.
    attributes["dilations"] = numbers(1, 1 if mode.startswith("SAME") else 2)
    if mode == "NOTSET":
        attributes["pads"] = numbers(0, 2, 2 * axes)
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    batch, channels, outputs = numbers(1, 3, 3)
    size = [draw(st.integers(2 * (k - 1) + 1, several)) for k in kernel]
    return attributes, (outputs, channels, *kernel), (batch, channels, *size)


@settings(max_examples=120, deadline=None)
@given(convolutions(), st.booleans(), SEEDS)
def test_conv(case, biased, seed):
    attributes, weight, shape = case
    bias = normal(seed, weight[0]) if biased else None
    proto = one_node("Conv", normal(seed + 1, *weight), bias, len(shape), **attributes)
    x = normal(seed + 2, *shape)
    assert_identity(proto, x)


def test_conv_columns_are_contiguous_and_in_sample_order():
    proto = one_node("Conv", normal(0, 2, 3, 2, 2), None, 4)
    (layer,) = Model(proto).layers
    x = normal(1, 5, 3, 4, 4)
    columns = ops.columns(x, layer.geometry)
    count = ops.positions(x.shape, layer.geometry)
    assert columns.flags.c_contiguous
    assert count == 9
    third = ops.columns(x[2:3], layer.geometry)
    np.testing.assert_array_equal(columns[:, 2 * count : 3 * count], third)


def test_columns_never_alias_a_convolution_input():
    proto = one_node("Conv", normal(0, 2, 3, 1, 1), None, 4)
    (layer,) = Model(proto).layers
    x = normal(1, 1, 3, 4, 4)
    columns = ops.columns(x, layer.geometry)
    columns[:] = 0
    assert x.any()


@pytest.mark.parametrize(
    ("given_dtype", "kept"),
    [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)],
)
def test_dtype_of_columns(given_dtype, kept):
    for op, shape in (("MatMul", (3, 4)), ("Conv", (2, 3, 1))):
        proto = one_node(op, normal(0, *shape).astype(given_dtype), None, len(shape))
        (layer,) = Model(proto).layers
        x = normal(1, 2, 3, *shape[2:]).astype(given_dtype)
        assert ops.columns(x, layer.geometry).dtype == kept
        assert ops.outputs_as_columns(x, layer.geometry).dtype == kept


def test_equal_readings_have_equal_keys():
    rows = [
        Model(one_node("MatMul", normal(0, 3, 4), None, 2)).layers[0],
        Model(one_node("Gemm", normal(0, 4, 3), None, 2, transB=1, alpha=2.0)).layers[0],
    ]
    assert rows[0].geometry.key == rows[1].geometry.key
    convs = [
        Model(one_node("Conv", normal(0, m, 2, 3), None, 3, **attributes)).layers[0]
        for m, attributes in (
            (2, {}),
            (5, {"auto_pad": "VALID"}),
            (2, {"pads": [0, 0]}),
            (2, {"pads": [1, 0]}),
        )
    ]
    keys = [layer.geometry.key for layer in convs]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_no_protobuf_is_needed():
    code = "import sys, nettrim_cli.graph.ops; sys.exit('onnx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
