"""Layers are found wherever their weights are, or listed with the reason why not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model
from nettrim_cli.reasons import NO_REASON
from tests.support.small import HEAD, build, normal, only, run


def assert_layer_works(proto: onnx.ModelProto, x: np.ndarray, input_name: str = "x") -> None:
    """Reading gives the output; so does setting; and setting what was read changes nothing."""
    model, layer = only(proto)
    assert layer.refusal == NO_REASON
    before = model.to_bytes()
    for seed in (None, 7):
        (matrix,), biases = model.weight(layer)
        assert (biases is not None) == layer.has_bias
        bias = None if biases is None else biases[0]
        if seed is not None:
            matrix = normal(*layer.shape, seed=seed)
            matrix[0, 0] = -0.0
            bias = None if bias is None else normal(layer.shape[1], seed=seed + 1)
        model.set_weight(layer, [matrix], None if bias is None else [bias])
        if seed is None:
            assert model.to_bytes() == before
        onnx.checker.check_model(model.proto)
        tolerance = 1e-2 if layer.dtype == "float16" else 1e-4
        for read, wanted in zip(model.weight(layer), (matrix, bias), strict=True):
            if wanted is not None:
                np.testing.assert_allclose(read[0], wanted, rtol=tolerance, atol=tolerance)
        assert not np.signbit(model.weight(layer)[0][0][0, 0]) or seed is None
        seen, y = run(model.proto, [layer.input, layer.output], {input_name: x})
        result = matrix.T @ ops.columns({"x": seen}, layer.geometry)
        result = result if bias is None else result + bias[:, None]
        found = ops.outputs_as_columns(y, layer.geometry)
        np.testing.assert_allclose(result, found, rtol=tolerance, atol=10 * tolerance)


WEIGHTS = {
    "initializer": ("y = MatMul(x, w)", {"w": normal(3, 4)}),
    "Constant": (
        "w = Constant<value = float[3, 2] {1, 2, 3, -4, 5, 6}>() y = MatMul(x, w)",
        {},
    ),
    "Transpose": ("t = Transpose(w) y = MatMul(x, t)", {"w": normal(4, 3)}),
    "Transpose perm": (
        "t = Transpose<perm=[3,2,0,1]>(w) y = Conv(z, t)",
        {"w": normal(2, 1, 3, 5)},
    ),
    "Identity, Transpose": (
        "i = Identity(w) t = Transpose<perm=[1,0]>(i) y = Gemm<transB=1, alpha=2.0>(x, t)",
        {"w": normal(3, 4)},
    ),
    "Transpose twice": (
        "s = Transpose(w) t = Transpose(s) y = MatMul(x, t)",
        {"w": normal(3, 4)},
    ),
    "Cast": ("t = Cast<to=1>(w) y = MatMul(x, t)", {"w": normal(3, 4, dtype=np.float16)}),
}


@pytest.mark.parametrize("where", WEIGHTS)
def test_weight_is_found(where):
    body, tensors = WEIGHTS[where]
    if "z" in body:
        proto = build(f"g (float[n,3,6,6] z) => (float[n,5,h,v] y) {{ {body} }}", **tensors)
        assert_layer_works(proto, normal(2, 3, 6, 6), "z")
    else:
        proto = build(f"g (float[n,3] x) => (float[n,k] y) {{ {body} }}", **tensors)
        assert_layer_works(proto, normal(5, 3))


BIASES = {
    "Gemm C": ("y = Gemm(x, w, b)", {"b": normal(4)}, True),
    "Gemm C row": ("y = Gemm<beta=0.5>(x, w, b)", {"b": normal(1, 4)}, True),
    "Gemm C scalar": ("y = Gemm<beta=2.0>(x, w, b)", {"b": 1.5}, True),
    "Gemm C one": ("y = Gemm(x, w, b)", {"b": [1.5]}, True),
    "Gemm beta 0": ("y = Gemm<beta=0.0>(x, w, b)", {"b": normal(4)}, False),
    "Gemm empty C": ("y = Gemm(x, w, )", {}, False),
    "Add right": ("z = MatMul(x, w) y = Add(z, b)", {"b": normal(4)}, True),
    "Add left": ("z = MatMul(x, w) y = Add(b, z)", {"b": normal(1, 4)}, True),
    "Add scalar": ("z = MatMul(x, w) y = Add(b, z)", {"b": 0.5}, True),
    "Add Constant": (
        "b = Constant<value_floats=[1.0, 2.0, 3.0, 4.0]>() z = MatMul(x, w) y = Add(z, b)",
        {},
        True,
    ),
    "Add scalar Constant": (
        "b = Constant<value_float=1.5>() z = MatMul(x, w) y = Add(z, b)",
        {},
        True,
    ),
    "Add Identity": ("i = Identity(b) z = MatMul(x, w) y = Add(z, i)", {"b": normal(4)}, True),
    "shared": (
        "z = MatMul(x, w) a = Add(z, b) y = Mul(a, b)",
        {"b": normal(4)},
        True,
    ),
    "residual": ("r = Gemm_(x) z = MatMul(x, w) y = Add(z, r)", {}, False),
    "column": ("z = MatMul(x, w) y = Add(z, b)", {"b": normal(5, 1)}, False),
}


CHANNELS = {
    "Add": ("c = Conv(x, w) y = Add(c, b)", {"b": normal(4, 1, 1)}, True),
    "Add left": ("c = Conv(x, w) y = Add(b, c)", {"b": normal(1, 4, 1, 1)}, True),
    "Add one number": ("c = Conv(x, w) y = Add(c, b)", {"b": 0.5}, True),
    "Add Reshape": (
        "c = Conv(x, w) r = Reshape(b, s) y = Add(c, r)",
        {"b": normal(4), "s": np.array([1, -1, 1, 1])},
        True,
    ),
    "ConvTranspose": ("c = ConvTranspose(x, v) y = Add(c, b)", {"b": normal(4, 1, 1)}, True),
    "along the width": ("c = Conv(x, w) y = Add(c, b)", {"b": normal(4)}, False),
    "another axis": ("c = Conv(x, w) y = Add(c, b)", {"b": normal(4, 1)}, False),
    "a bias of its own": (
        "c = Conv(x, w, a) y = Add(c, b)",
        {"a": normal(4, seed=2), "b": normal(4, 1, 1)},
        True,
    ),
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_the_bias_of_a_convolution_may_be_added_behind_it(kind):
    body, tensors, expected = CHANNELS[kind]
    kernel = {"v": normal(3, 4, 2, 2)} if "v)" in body else {"w": normal(4, 3, 2, 2)}
    proto = build(f"g (float[n,3,5,5] x) => (float[n,4,h,w_] y) {{ {body} }}", **kernel, **tensors)
    _, layer = only(proto)
    assert layer.has_bias is expected
    assert layer.output == ("y" if expected and kind != "a bias of its own" else "c")
    assert_layer_works(proto, normal(2, 3, 5, 5))


@pytest.mark.parametrize("kind", BIASES)
def test_bias_is_found(kind):
    body, tensors, expected = BIASES[kind]
    body = body.replace("r = Gemm_(x)", "s = ReduceSum<keepdims=1>(x) r = Relu(s)")
    text = f"g (float[n,3] x) => (float[n,4] y) {{ {body} }}"
    proto = build(text, w=normal(3, 4), **tensors)
    _, layer = only(proto)
    assert layer.has_bias is expected
    assert layer.output == (
        "a" if kind == "shared" else "z" if not expected and "z" in body else "y"
    )
    if kind != "column":
        assert_layer_works(proto, normal(5, 3))


def test_a_shared_bias_is_copied_and_its_other_reader_sees_the_old_one():
    text = """g (float[n,3] x) => (float[n,4] y, float[n,4] s)
    { a = MatMul(x, v) z = MatMul(x, w) y = Add(z, b) s = Mul(a, b) }"""
    proto = build(text, w=normal(3, 4), v=normal(3, 4, seed=1), b=normal(4))
    model = Model(proto)
    layer = model.layers[1]
    x = normal(5, 3)
    (before,) = run(proto, ["s"], {"x": x})
    model.set_weight(layer, model.weight(layer)[0], [np.ones(4, np.float32)])
    np.testing.assert_array_equal(run(model.proto, ["s"], {"x": x})[0], before)
    np.testing.assert_array_equal(model.weight(layer)[1], [np.ones(4)])


def test_a_bias_of_its_own_is_an_input_too_before_ir_version_4():
    text = """g (float[n,3] x, float[3,4] w, float[1] b) => (float[n,4] y)
    { z = MatMul(x, w) y = Add(z, b) }"""
    head = '<ir_version: 3, opset_import: ["" : 11]>'
    proto = build(text, head=head, w=normal(3, 4), b=[2.0])
    model, layer = only(proto)
    assert [tensor.name for tensor in model.inputs] == ["x"]
    model.set_weight(layer, model.weight(layer)[0], [np.arange(4, dtype=np.float32)])
    onnx.checker.check_model(model.proto)
    np.testing.assert_array_equal(model.weight(layer)[1], [np.arange(4)])


REFUSALS = {
    "weight is not constant": ("y = Conv(x, x)", {}),
    "its input is constant": ("c = MatMul(w, w2) y = Add(c, x)", {"w": normal(2, 2)}),
    "a vector": ("y = MatMul(x, w)", {"w": normal(2)}),
    "a factor that is 0": ("y = Gemm<alpha=0.0>(x, w)", {"w": normal(2, 2)}),
    "bias is not constant": ("y = Gemm(x, w, x)", {"w": normal(2, 2)}),
    "is not one value per output": ("y = Gemm(x, w, b)", {"w": normal(2, 2), "b": normal(2, 2)}),
    "DeformConv reads its input": ("y = DeformConv(x, w, x)", {"w": normal(4, 2, 3, 3)}),
    "also read by Mul": ("v = Mul(w, x) y = MatMul(v, w)", {"w": normal(2, 2)}),
    "also an output": ("y = MatMul(x, w) w2 = Identity(w)", {"w": normal(2, 2)}),
    "computed from constants by Mul": ("v = Mul(w, w2) y = MatMul(x, v)", {"w": normal(2, 2)}),
    "a scale that is not a positive number": (
        "v = DequantizeLinear(w, s) y = MatMul(x, v)",
        {"w": np.ones((2, 2), np.int8), "s": -0.5},
    ),
    "put into a computed shape by Reshape": (
        "s = Shape(w) v = Reshape(w, s) y = MatMul(x, v)",
        {"w": normal(2, 2)},
    ),
    "float8e4m3fn": ("v = Cast<to=1>(w) y = MatMul(x, v)", {"w": "bfloat16"}),
    "rounded by a Cast": (
        "c = Cast<to=10>(w) v = Cast<to=1>(c) y = MatMul(x, v)",
        {"w": normal(2, 2)},
    ),
    "weight has values that are not finite": ("y = MatMul(x, w)", {"w": [[np.nan, 1], [1, 1]]}),
    "bias has values that are not finite": (
        "z = MatMul(x, w) y = Add(z, b)",
        {"w": normal(2, 2), "b": [np.inf, 0]},
    ),
    "bias of shape (1,)": ("y = Conv(x, w, b)", {"w": normal(2, 2, 3), "b": normal(1)}),
    "weight is empty": ("y = MatMul(x, w)", {"w": normal(2, 0)}),
    "negative pads": ("y = Conv<pads=[-1,0]>(x, w)", {"w": normal(2, 2, 3)}),
    "twice by the same node": ("y = Gemm(x, w, w)", {"w": normal(2, 2)}),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_refusal(reason):
    body, tensors = REFUSALS[reason]
    tensors = dict(tensors)
    if "w2" in body and "w2 =" not in body:
        tensors["w2"] = normal(2, 2, seed=3)
    if isinstance(tensors.get("w"), str):
        tensors.pop("w")
    outputs = "y, float[2,2] w" if reason == "also an output" else "y"
    text = f"g (float[n,k] x) => (float[n,m] {outputs}) {{ {body} }}"
    proto = parser.parse_model(f"{HEAD}\n{text}")
    for name, values in tensors.items():
        array = np.asarray(values) if isinstance(values, np.ndarray) else np.float32(values)
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    if reason == "float8e4m3fn":
        proto.graph.initializer.append(
            helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, [2, 2], [1] * 4)
        )
    model, layer = only(proto)
    assert reason in layer.refusal.text
    assert not layer.prunable
    with pytest.raises(ValueError, match="not a prunable layer"):
        model.weight(layer)


def test_weights_shared_in_another_form_name_each_other():
    text = """g (float[n,2] x) => (float[n,2] y)
    { t = Transpose(w) [a] z = MatMul(x, w) [b] y = MatMul(z, t) }"""
    first, second = Model(build(text, w=normal(2, 2))).layers
    assert first.refusal.text == "weight is shared with layer 'b' in another form"
    assert second.refusal.text == "weight is shared with layer 'a' in another form"


def test_two_constants_that_a_node_multiplies_are_both_left():
    text = 'g (float[n,2] x) => (float[n,2] y) { y = Einsum<equation = "ab,bc,cd->ad">(x, v, w) }'
    layers = Model(build(text, v=normal(2, 2), w=normal(2, 2))).layers
    assert [layer.refusal.text for layer in layers] == [
        "weight is multiplied with another constant by the same node"
    ] * 2


def test_products_of_two_signals_are_no_layers():
    text = "g (float[n,2] x) => (float[n,n] y) { t = Transpose(x) y = MatMul(x, t) }"
    assert Model(build(text)).layers == ()


def test_layers_of_local_functions_and_other_domains_are_listed():
    text = """
    <ir_version: 8, opset_import: ["" : 17, "local" : 1, "com.microsoft" : 1]>
    g (float[n,2] x) => (float[n,2] y) { h = local.dense(x, w) y = com.microsoft.BiasGelu2(h, v) }
    <domain: "local", opset_import: ["" : 17]>
    dense (a, k) => (r) { r = MatMul(a, k) }
    """
    model = Model(build(text, head="", w=normal(2, 3), v=normal(3, 2)))
    inner, other = model.layers
    assert inner.prunable
    assert inner.weight_shape == (2, 3)
    assert other.refusal.text == "BiasGelu2 of domain 'com.microsoft' is not treated yet"


def test_names_are_unique_and_order_is_that_of_the_graph():
    text = """g (float[n,2] x) => (float[n,2] y)
    { [a] p = MatMul(x, u) [a] q = MatMul(p, v) y = MatMul(q, w) }"""
    proto = build(text, u=normal(2, 2), v=normal(2, 2), w=normal(2, 2))
    assert [layer.name for layer in Model(proto).layers] == ["a", "a_2", "y"]
