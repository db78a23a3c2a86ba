"""Layers as two of a lower rank: the same outputs, from a valid and smaller model."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from nettrim_cli.graph.channels.factors import can_factorize, factorize, fold_of, halves
from nettrim_cli.graph.model import Model

RANK = 2
CASES = {
    "Gemm": ("Gemm", {}, (4, 8), (8, 6), (6,), 1),
    "Gemm, turned weight": ("Gemm", {"transB": 1, "alpha": 0.5}, (4, 8), (6, 8), (6,), 1),
    "Gemm, beta": ("Gemm", {"beta": 2.0, "alpha": 3.0}, (4, 8), (8, 6), (1, 6), 1),
    "Gemm, weight on the left": ("Gemm", {}, (8, 4), (6, 8), (6, 1), 0),
    "Gemm, turned weight on the left": ("Gemm", {"transA": 1}, (8, 4), (8, 6), None, 0),
    "MatMul": ("MatMul", {}, (2, 4, 8), (8, 6), None, 1),
    "MatMul, weight on the left": ("MatMul", {}, (2, 8, 4), (6, 8), None, 0),
    "Conv": ("Conv", {"pads": [1, 1, 1, 1]}, (2, 4, 5, 5), (6, 4, 3, 3), (6,), 1),
    "Conv, strides": (
        "Conv",
        {"strides": [2, 1], "dilations": [1, 2]},
        (2, 4, 7, 7),
        (6, 4, 3, 2),
        None,
        1,
    ),
    "Conv, SAME_UPPER": ("Conv", {"auto_pad": "SAME_UPPER"}, (2, 4, 5), (6, 4, 3), (6,), 1),
}
REFUSED = {
    "Gemm, turned signal": ("Gemm", {"transA": 1}, (8, 4), (8, 6), None, 1),
    "MatMul of a stack": ("MatMul", {}, (2, 4, 8), (2, 8, 6), None, 1),
    "Conv of groups": ("Conv", {"group": 2}, (2, 4, 5), (6, 2, 3), None, 1),
    "ConvTranspose": ("ConvTranspose", {}, (2, 4, 5), (4, 6, 3), None, 1),
}


def model_of(case, opset=17, ir_version=8):
    op, attributes, signal, weight, bias, slot = case
    random = np.random.default_rng(0)
    tensors = [numpy_helper.from_array(random.normal(size=weight).astype(np.float32), "w")]
    inputs = ["w", "x"] if slot == 0 else ["x", "w"]
    if bias is not None:
        tensors.append(numpy_helper.from_array(random.normal(size=bias).astype(np.float32), "c"))
        inputs.append("c")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, signal)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(signal))
    values = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in tensors
    ]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], "layer", **attributes)],
        "graph",
        [x, *(values if ir_version < 4 else [])],
        [y],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset)]
    return Model(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version))


def with_rank(model):
    (layer,) = model.layers
    (U,), biases = model.weight(layer)
    first, second = halves(U, RANK)
    model.set_weight(layer, [first @ second], biases)
    return layer


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("opset", "ir_version"), [(17, 8), (9, 3)])
def test_two_layers_give_what_one_gave(case, opset, ir_version) -> None:
    if opset < 11 and case[0] == "Gemm" and case[4] is None:
        pytest.skip("Gemm has a third input there")
    model = model_of(case, opset, ir_version)
    layer = with_rank(model)
    assert can_factorize(model, layer)
    result = factorize(model, {layer.name: RANK})
    onnx.checker.check_model(result.proto, full_check=True)
    x = np.random.default_rng(1).normal(size=case[2]).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.to_bytes()).run(None, {"x": x})
    (actual,) = onnxruntime.InferenceSession(result.to_bytes()).run(None, {"x": x})
    size = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * size)
    if opset >= 11:
        (reference,) = ReferenceEvaluator(result.proto).run(None, {"x": x})
        np.testing.assert_allclose(reference, expected, rtol=0, atol=1e-5 * size)
    assert len(result.layers) == 2
    assert "w" not in {tensor.name for tensor in result.proto.graph.initializer}
    assert result.count_parameters()[0] < model.count_parameters()[0]


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_two_layers(case) -> None:
    model = model_of(case)
    assert not any(can_factorize(model, layer) for layer in model.layers)


def test_a_weight_that_two_nodes_read_stays() -> None:
    model = model_of(CASES["MatMul"])
    graph = model.proto.graph
    graph.node.append(helper.make_node("MatMul", ["x", "w"], ["z"], "other"))
    graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 3))
    model = Model(model.proto)
    assert not any(can_factorize(model, layer) for layer in model.layers)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_factors_have_the_type_of_the_weight(dtype) -> None:
    model = model_of(CASES["MatMul"])
    graph = model.proto.graph
    graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(graph.initializer[0]).astype(dtype), "w")
    )
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph.input[0].type.tensor_type.elem_type = kind
    graph.output[0].type.tensor_type.elem_type = kind
    model = Model(model.proto)
    layer = with_rank(model)
    result = factorize(model, {layer.name: RANK})
    onnx.checker.check_model(result.proto, full_check=True)
    assert {tensor.data_type for tensor in result.proto.graph.initializer} == {kind}


FOLDED = {
    "pads": {"pads": [1, 2, 0, 1]},
    "strides": {"strides": [2, 3], "dilations": [1, 2]},
    "SAME_UPPER": {"auto_pad": "SAME_UPPER", "strides": [2, 1]},
    "VALID": {"auto_pad": "VALID"},
}


@pytest.mark.parametrize("attributes", FOLDED.values(), ids=FOLDED)
@pytest.mark.parametrize("bias", [(6,), None])
def test_a_window_becomes_one_of_each_axis(attributes, bias) -> None:
    model = model_of(("Conv", attributes, (2, 4, 9, 8), (6, 4, 3, 2), bias, 1))
    (layer,) = model.layers
    assert fold_of(layer) == 2
    (U,), biases = model.weight(layer)
    first, second = halves(U, 3, 2)
    assert (first.shape, second.shape) == ((12, 3), (3, 12))
    model.set_weight(layer, [(first @ second).reshape(U.shape)], biases)
    result = factorize(model, {layer.name: 3}, {layer.name: 2})
    onnx.checker.check_model(result.proto, full_check=True)
    assert [each.weight_shape for each in result.layers] == [(3, 4, 3, 1), (6, 3, 1, 2)]
    x = np.random.default_rng(1).normal(size=(2, 4, 9, 8)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(model.to_bytes()).run(None, {"x": x})
    (actual,) = onnxruntime.InferenceSession(result.to_bytes()).run(None, {"x": x})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kernel", [(3,), (1, 3), (3, 1), (1, 1), (2, 2, 2)])
def test_other_windows_stay_whole(kernel) -> None:
    signal = (2, 4, *(5,) * len(kernel))
    (layer,) = model_of(("Conv", {}, signal, (6, 4, *kernel), None, 1)).layers
    assert fold_of(layer) == 1
