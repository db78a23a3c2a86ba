"""What follows a layer is understood, and nothing more is read into it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model
from nettrim_cli.reasons import NO_REASON
from tests.support.small import build, normal, only, run

AFTER = {
    "Relu": ("y = Relu(z)", True, np.inf, "Relu"),
    "Clip 0 to 6": ("y = Clip(z, zero, six)", True, 6, "Clip 0 to 6"),
    "Clip from 0": ("y = Clip(z, zero)", True, np.inf, "Clip from 0"),
    "Clip from -1": ("y = Clip(z, minus, six)", True, 6, "Clip -1 to 6"),
    "Clip to 6": ("y = Min(z, six)", True, 6, "Min with 6"),
    "HardSigmoid": ("y = HardSigmoid(z)", True, 1, "HardSigmoid"),
    "Clip unknown": ("m = ReduceMax<keepdims=0>(x) y = Clip(z, zero, m)", False, np.inf, "Clip"),
    "Max": ("y = Max(zero, z)", True, np.inf, "Max with 0"),
    "Max of six": ("y = Max(z, six)", True, np.inf, "Max with 6"),
    "Identity": ("i = Identity(z) y = Relu(i)", True, np.inf, "Relu"),
    "Dropout": ("i = Dropout(z) y = Relu(i)", True, np.inf, "Relu"),
    "Dropout told": ("i = Dropout(z, half, no) y = Relu(i)", True, np.inf, "Relu"),
    "Dropout in training": ("i = Dropout(z, half, yes) y = Relu(i)", False, np.inf, "Dropout"),
    "Dropout's ratio": ("d = Dropout(x, z) y = Relu(d)", False, np.inf, "Dropout"),
    "Dropout's ratio, and Tanh": ("d = Dropout(x, z) y = Tanh(d)", False, np.inf, "Dropout"),
    "two readers": ("a = Relu(z) y = Add(a, z)", False, np.inf, "Relu, Add"),
    "LeakyRelu": ("y = LeakyRelu(z)", False, np.inf, "LeakyRelu"),
    "Softmax": ("y = Softmax(z)", False, np.inf, "Softmax"),
    "captured": (
        "c = Cast<to=9>(six) y = If(c) <then_branch = t () => (float[n,k] p) {p = Relu(z)},"
        " else_branch = e () => (float[n,k] q) {q = Identity(z)}>",
        False,
        np.inf,
        "Relu + Identity",
    ),
}


@pytest.mark.parametrize("kind", AFTER)
def test_what_follows(kind):
    body, relu, ceiling, follows = AFTER[kind]
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) {body} }}"
    constants = {"zero": 0.0, "six": 6.0, "minus": -1.0, "half": 0.5}
    constants.update(no=np.array(False), yes=np.array(True))
    used = {name: value for name, value in constants.items() if name in body}
    _, layer = only(build(text, w=normal(3, 4), **used))
    assert layer.refusal == NO_REASON
    assert (layer.response.relu, layer.response.ceiling) == (relu, ceiling)
    assert layer.response.follows == follows


def test_an_output_of_the_model_is_linear():
    text = "g (float[n,3] x) => (float[n,4] z, float[n,4] y) { z = Gemm(x, w) y = Relu(z) }"
    _, layer = only(build(text, w=normal(3, 4)))
    assert not layer.response.relu
    assert layer.response.follows == "output + Relu"


def test_clip_with_attributes_before_opset_11():
    text = "g (float[n,3] x) => (float[n,4] y) { z = Gemm(x, w, b) y = Clip<min=0.0,max=6.0>(z) }"
    head = '<ir_version: 6, opset_import: ["" : 10]>'
    _, layer = only(build(text, head=head, w=normal(3, 4), b=normal(4)))
    assert layer.response.relu
    assert layer.response.ceiling == 6


NORMALISED = {
    "Conv": ("z = Conv(x, w, b)", (2, 3, 5, 5), (4, 3, 2, 2)),
    "Gemm": ("z = Gemm(x, w, b)", (6, 3), (3, 4)),
    "MatMul": ("m = MatMul(x, w) z = Add(m, b)", (6, 3), (3, 4)),
}
BN = {
    "gamma": normal(4, seed=1),
    "beta": normal(4, seed=2),
    "mean": normal(4, seed=3),
    "var": np.abs(normal(4, seed=4)) + 0.1,
}


@pytest.mark.parametrize("act", ["Relu(n)", "Clip(n, zero, one)", "Softmax(n)"])
@pytest.mark.parametrize("op", NORMALISED)
def test_batch_normalization_is_part_of_the_response(op, act):
    body, shape, weight = NORMALISED[op]
    axes = ",".join("nabcd"[: len(shape)])
    out = ",".join("nijkl"[: len(shape)])
    tensors = {"w": normal(*weight), "b": normal(4, seed=9), **BN}
    if "zero" in act:
        tensors.update(zero=0.0, one=1.0)
    bn = "n = BatchNormalization<epsilon=0.001>(z, gamma, beta, mean, var)"
    proto = build(f"g (float[{axes}] x) => (float[{out}] y) {{ {body} {bn} y = {act} }}", **tensors)
    model, layer = only(proto)
    response = layer.response
    relu = not act.startswith("Softmax")
    assert response.relu is relu
    assert response.follows.startswith("BatchNormalization, ")
    assert response.scale.dtype == np.float64
    x = normal(*shape)
    end = "y" if relu else "n"
    z, wanted = (
        ops.outputs_as_columns(value, layer.geometry)
        for value in run(proto, [layer.output, end], {"x": x})
    )
    found = response.scale[:, None] * z + response.shift[:, None]
    if relu:
        found = np.clip(found, 0, response.ceiling)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert model.weight(layer)[1] is not None


def test_batch_normalization_over_another_axis_is_not():
    bn = "n = BatchNormalization(z, gamma, beta, mean, var)"
    text = f"g (float[n,4,3] x) => (float[n,4,4] y) {{ z = MatMul(x, w) {bn} y = Relu(n) }}"
    _, layer = only(build(text, w=normal(3, 4), **BN))
    assert layer.response.scale is None
    assert not layer.response.relu
    assert layer.response.follows == "BatchNormalization"


def test_batch_normalization_after_relu_is_not():
    bn = "y = BatchNormalization(r, gamma, beta, mean, var)"
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) r = Relu(z) {bn} }}"
    _, layer = only(build(text, w=normal(3, 4), **BN))
    assert layer.response.scale is None
    assert layer.response.follows == "Relu"


AFFINE = {
    "Mul and Add": "a = Mul(z, gamma) y = Add(beta, a)",
    "Div and Sub": "a = Div(z, gamma) y = Sub(a, beta)",
    "Sub from a constant": "y = Sub(beta, z)",
    "one factor for all": "a = Mul(half, z) y = Add(a, beta)",
    "Sub, Div, Mul, Add": "s = Sub(z, mean) d = Div(s, var) c = Mul(d, gamma) y = Add(c, beta)",
    "Neg": "a = Neg(z) y = Mul(a, gamma)",
    "BatchNormalization and Mul": (
        "a = BatchNormalization(z, flat_gamma, flat_beta, flat_mean, flat_var) y = Mul(a, gamma)"
    ),
}


@pytest.mark.parametrize("op", NORMALISED)
@pytest.mark.parametrize("kind", AFFINE)
def test_constant_factors_and_summands_are_part_of_the_response(kind, op) -> None:
    body, shape, weight = NORMALISED[op]
    body = body.replace("z = Add(m, b)", "i = Add(m, b) z = Identity(i)")
    axes, out = (",".join(names[: len(shape)]) for names in ("nabcd", "nijkl"))
    lying = (4, 1, 1) if op == "Conv" else (4,)
    known = {"half": np.array(0.5, np.float32)}
    for name, value in BN.items():
        known[name], known[f"flat_{name}"] = value.reshape(lying), value
    words = AFFINE[kind].replace("(", " ").replace(")", " ").replace(",", " ").split()
    proto = build(
        f"g (float[{axes}] x) => (float[{out}] r) {{ {body} {AFFINE[kind]} r = Relu(y) }}",
        w=normal(*weight),
        b=normal(4, seed=9),
        **{name: value for name, value in known.items() if name in words},
    )
    _, layer = only(proto)
    response = layer.response
    assert response.relu
    assert response.follows.endswith(", Relu")
    z, y = (
        ops.outputs_as_columns(value, layer.geometry)
        for value in run(proto, [layer.output, "y"], {"x": normal(*shape)})
    )
    found = response.scale[:, None] * z + response.shift[:, None]
    np.testing.assert_allclose(found, y, rtol=1e-4, atol=1e-5)


def test_a_constant_over_another_axis_is_no_factor() -> None:
    text = "g (float[n,4,4] x) => (float[n,4,4] y) { z = MatMul(x, w) y = Mul(z, c) }"
    _, layer = only(build(text, w=normal(4, 4), c=normal(4, 1)))
    assert layer.response.scale is None


def test_batch_normalization_of_the_oldest_opset() -> None:
    text = (
        "g (float[n,3] x) => (float[n,4] y) "
        "{ z = Gemm(x, w, b) n = BatchNormalization(z, gamma, beta, mean, var) y = Relu(n) }"
    )
    head = '<ir_version: 4, opset_import: ["" : 7]>'
    proto = build(text, head=head, w=normal(3, 4), b=normal(4, seed=9), **BN)
    _, layer = only(proto)
    z, n = run(proto, ["z", "n"], {"x": normal(6, 3)})
    found = layer.response.scale * z + layer.response.shift
    np.testing.assert_allclose(found, n, rtol=1e-4, atol=1e-5)


RESIDUAL = {
    "plain": ("y = Add(z, r)", False, "Add, output"),
    "the other way round": ("y = Add(r, z)", False, "Add, output"),
    "Relu": ("s = Sum(z, r) y = Relu(s)", True, "Sum, Relu"),
    "behind a scale": ("n = Mul(z, c) s = Add(n, r) y = Relu(s)", True, "Mul, Add, Relu"),
    "Gelu": (
        "s = Add(z, r) d = Div(s, root2) e = Erf(d) o = Add(e, one) y = Mul(s, o)",
        False,
        "Add, Gelu",
    ),
}


@pytest.mark.parametrize("kind", RESIDUAL)
def test_a_residual_connection(kind) -> None:
    body, relu, follows = RESIDUAL[kind]
    text = f"g (float[n,4] x) => (float[n,4] y) {{ r = Tanh(x) z = Gemm(x, w) {body} }}"
    known = {"c": normal(4, seed=7), "root2": np.sqrt(np.float32(2)), "one": 1.0}
    used = {name: value for name, value in known.items() if f"{name})" in body}
    _, layer = only(build(text, w=normal(4, 4), **used))
    assert layer.response.offset == "r"
    assert layer.response.relu is relu
    assert (layer.response.activation is not None) == (kind == "Gelu")
    assert layer.response.follows == follows


@pytest.mark.parametrize("body", ["y = Add(z, c)", "y = Add(z, v)"])
def test_what_is_broadcast_or_constant_is_no_residual(body) -> None:
    text = f"g (float[n,4] x, float[4] v) => (float[n,4] y) {{ z = Gemm(x, w) {body} }}"
    used = {"c": normal(7, 4)} if "c)" in body else {}
    _, layer = only(build(text, w=normal(4, 4), **used))
    assert layer.response.offset == ""


FUSED = {
    "": {},
    "Relu": {},
    "Tanh": {},
    "LeakyRelu": {"alpha": 0.3},
    "Clip": {"min": -0.2, "max": 0.5},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
}
MS = "com.microsoft"
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid(MS, 1)]


def fused(op: str, act: str, summand: str) -> onnx.ModelProto:
    """``r = Neg(x)``, then a FusedConv or a FusedGemm of x, then a Relu."""
    given = {"activation": act} if act else {}
    if op == "FusedGemm":
        given |= {f"activation_{name}": value for name, value in FUSED[act].items()}
    elif FUSED[act]:
        given["activation_params"] = list(FUSED[act].values())
    spatial = (1,) if op == "FusedConv" else ()
    inputs = ["x", "w", "b", summand] if summand else ["x", "w", "b"]
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["x"], ["r"]),
            helper.make_node(op, inputs, ["a"], domain=MS, **given),
            helper.make_node("Relu", ["a"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, *spatial])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(normal(4, 4, *spatial, seed=1), "w"),
            onnx.numpy_helper.from_array(normal(4, seed=2), "b"),
            onnx.numpy_helper.from_array(normal(5, 4, *spatial, seed=3), "c"),
        ],
    )
    return helper.make_model(graph, opset_imports=OPSETS, ir_version=8)


FUSED_CASES = [("FusedConv", act, summand) for act in FUSED for summand in ("", "r", "c")]
FUSED_CASES += [("FusedGemm", act, "") for act in FUSED if act not in ("Clip", "")]


@pytest.mark.parametrize(("op", "act", "summand"), FUSED_CASES)
def test_what_a_fused_op_does_itself_is_the_response(op, act, summand) -> None:
    """What follows the node comes behind that, and is not read into it."""
    proto = fused(op, act, summand)
    model, layer = only(proto)
    response, x = layer.response, normal(5, 4, *([1] * (op == "FusedConv")))
    assert response.follows == ", ".join(["Add"] * bool(summand) + [act or "Relu"])
    assert layer.sites[0].result == ("" if act or summand else "a")
    assert response.offset == ("r" if summand == "r" else "")
    (a,) = run(proto, ["a"], {"x": x})
    ((U,), (b,)) = model.weight(layer)
    z = U.T @ ops.columns({"x": x}, layer.geometry) + b[:, None]
    if summand == "c":  # what is constant is recorded nowhere
        assert (response.relu, response.activation) == (False, None)
        return
    z += -x.reshape(5, 4).T if summand else 0
    if act in ("Relu", "Clip"):
        z = np.clip(z, response.floor, response.ceiling)
    elif act:
        z = response.activation(z)
    assert response.relu is (act in ("Relu", "Clip", ""))  # "": the Relu behind it
    np.testing.assert_allclose(a.reshape(5, 4).T, z, rtol=1e-5, atol=1e-5)


QUANTIZED = {
    "": "q = QLinearConv(x, s, z, w, s, z, s, z)",
    "DequantizeLinear, Relu": "q = QLinearConv(x, s, z, w, s, z, s, z)"
    " d = DequantizeLinear(q, s, z) a = Relu(d)",
    "Cast, Mul, Add, Relu": "q = ConvInteger(x, w, z, z) c = Cast<to = 1>(q) m = Mul(c, t)"
    " p = Add(m, s) a = Relu(p)",
    "Cast, Softmax": "q = ConvInteger(x, w, z, z) c = Cast<to = 1>(q) a = Softmax(c)",
    "Relu": "q = com.microsoft.MatMulIntegerToFloat(x, w, s, s, z, z) a = Relu(q)",
}


@pytest.mark.parametrize("follows", QUANTIZED)
def test_what_follows_a_layer_of_integers(follows) -> None:
    body = QUANTIZED[follows]
    last = "a" if "a = " in body else "q"
    size = (4, 3) if "MatMul" in body else (4, 3, 1)
    axes = "" if "MatMul" in body else ", 1"
    text = (
        f"g (uint8[n, 4{axes}] x, float t) => (float[n, k{axes}] y) {{ {body}"
        f" y = Cast<to = 1>({last}) }}"
    )
    w = np.arange(12, dtype=np.uint8).reshape(size if "MatMul" in body else (3, 4, 1))
    head = f'<ir_version: 8, opset_import: ["" : 17, "{MS}" : 1]>'
    _, layer = only(build(text, head=head, w=w, s=np.float32(0.5), z=np.uint8(2)))
    assert layer.refusal == NO_REASON
    assert layer.response.follows == (follows or "Cast, output")
    assert layer.response.relu is ("ToFloat" in body)


GATES = {
    "LSTM": ("Sigmoid + Tanh", {}),
    "GRU": ("Sigmoid + Tanh", {}),
    "RNN": ("Tanh", {}),
    "LSTM of others": (
        "HardSigmoid + Softsign",
        {"activations": ["HardSigmoid", "Softsign", "Relu"]},
    ),
    "GRU of others": ("HardSigmoid + Tanh", {"activations": ["HardSigmoid", "Tanh"]}),
    "RNN of others": ("Relu", {"activations": ["Relu"]}),
}


@pytest.mark.parametrize("kind", GATES)
def test_what_follows_a_recurrent_layer_are_its_gates(kind) -> None:
    (follows, given), op = GATES[kind], kind.split()[0]
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=2, **given)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", "n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            onnx.numpy_helper.from_array(normal(1, 2 * gates, 3), "w"),
            onnx.numpy_helper.from_array(normal(1, 2 * gates, 2), "r"),
        ],
    )
    layers = Model(helper.make_model(graph, opset_imports=OPSETS, ir_version=8)).layers
    assert [each.refusal.text for each in layers] == ["", ""]
    assert [each.response.follows for each in layers] == [follows, follows]
    reset = layers[1].geometry.attributes.get("reset", ())
    assert [name for name, *_ in reset] == ([follows.split()[0].lower()] if op == "GRU" else [])
