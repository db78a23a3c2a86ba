"""Activations in every spelling, against onnxruntime."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

from nettrim_cli.graph import ops
from nettrim_cli.graph.layers import elementwise
from nettrim_cli.graph.model import Model
from tests.support.small import build, normal, only, run

ERF = "d = Div(z, root2) e = Erf(d) o = Add(e, one) "
SPELLINGS = {
    "Sigmoid": ("y = Sigmoid(z)", "Sigmoid"),
    "Sigmoid of the exponential": (
        "m = Neg(z) e = Exp(m) o = Add(e, one) y = Reciprocal(o)",
        "Neg, Exp, Add, Reciprocal",
    ),
    "Tanh": ("y = Tanh(z)", "Tanh"),
    "LeakyRelu": ("y = LeakyRelu<alpha=0.2>(z)", "LeakyRelu"),
    "LeakyRelu as Max": ("s = Mul(z, half) y = Max(z, s)", "Mul, Max"),
    "PRelu": ("y = PRelu(z, slopes)", "PRelu"),
    "Elu": ("y = Elu<alpha=1.5>(z)", "Elu"),
    "Selu": ("y = Selu(z)", "Selu"),
    "Celu": ("y = Celu<alpha=2.0>(z)", "Celu"),
    "Softplus": ("y = Softplus(z)", "Softplus"),
    "Softplus written out": ("e = Exp(z) o = Add(one, e) y = Log(o)", "Softplus"),
    "Softsign": ("y = Softsign(z)", "Softsign"),
    "ThresholdedRelu": ("y = ThresholdedRelu<alpha=0.5>(z)", "ThresholdedRelu"),
    "Gelu by Erf": (ERF + "h = Mul(z, half) y = Mul(h, o)", "Gelu"),
    "Gelu by Erf, the half last": (ERF + "h = Mul(z, o) y = Mul(h, half)", "Gelu"),
    "Gelu by Tanh": (
        "c = Mul(z, z) t = Mul(c, z) k = Mul(t, small) a = Add(z, k) b = Mul(a, root) "
        "e = Tanh(b) o = Add(e, one) h = Mul(z, o) y = Mul(half, h)",
        "Gelu",
    ),
    "Gelu by Pow": (
        "t = Pow(z, three) k = Mul(small, t) a = Add(z, k) b = Mul(a, root) "
        "e = Tanh(b) o = Add(one, e) h = Mul(half, z) y = Mul(h, o)",
        "Gelu",
    ),
    "Silu": ("s = Sigmoid(z) y = Mul(z, s)", "Silu"),
    "QuickGelu": ("q = Mul(z, quick) s = Sigmoid(q) y = Mul(s, z)", "QuickGelu"),
    "HardSwish": ("y = HardSwish(z)", "HardSwish"),
    "HardSwish by HardSigmoid": (
        "s = HardSigmoid<alpha=0.16666667,beta=0.5>(z) y = Mul(z, s)",
        "HardSwish",
    ),
    "HardSwish by Clip": (
        "a = Add(z, three) c = Clip(a, zero, six) m = Mul(z, c) y = Div(m, six)",
        "HardSwish",
    ),
    "Mish": ("s = Softplus(z) t = Tanh(s) y = Mul(z, t)", "Mish"),
    "a residual of itself": ("r = Relu(z) y = Add(z, r)", "Relu, Add"),
}
CONSTANTS = {
    "zero": 0.0,
    "one": 1.0,
    "half": 0.5,
    "three": 3.0,
    "six": 6.0,
    "root2": float(np.sqrt(2)),
    "root": float(np.sqrt(2 / np.pi)),
    "small": 0.044715,
    "quick": 1.702,
    "slopes": np.array([0.1, -0.2, 0.5, 1.5], np.float32),
}


def constants(body: str) -> dict:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {name: value for name, value in CONSTANTS.items() if name in words}


def response_of(layer, z):
    response = layer.response
    A = z.astype(np.float32)
    if response.scale is not None:
        A = response.scale[:, None] * A + response.shift[:, None]
    if response.relu:
        return np.clip(A, response.floor, response.ceiling)
    return A if response.activation is None else response.activation(A)


def parallel(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether two arrays agree up to a positive factor."""
    factor = np.vdot(one, two) / np.vdot(one, one)
    return factor > 0 and np.allclose(two, factor * one, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", SPELLINGS)
def test_any_spelling_is_the_activation(kind) -> None:
    body, name = SPELLINGS[kind]
    head = '<ir_version: 8, opset_import: ["" : 18]>'
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) {body} }}"
    proto = build(text, head=head, w=normal(3, 4), **constants(body))
    _, layer = only(proto)
    assert layer.response.follows == name
    again = pickle.loads(pickle.dumps(layer))
    z, y = (
        ops.outputs_as_columns(each, layer.geometry)
        for each in run(proto, ["z", "y"], {"x": 3 * normal(200, 3, seed=5)})
    )
    assert parallel(response_of(layer, z), y)
    assert np.array_equal(response_of(layer, z), response_of(again, z))


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arguments_are_worked_on_block_by_block(order, monkeypatch) -> None:
    body, _ = SPELLINGS["Gelu by Erf"]
    head = '<ir_version: 8, opset_import: ["" : 18]>'
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) {body} }}"
    _, layer = only(build(text, head=head, w=normal(3, 4), **constants(body)))
    function = layer.response.activation
    z = np.asarray(3 * normal(4, 1 << 18), order=order)
    monkeypatch.setattr(elementwise, "BLOCK_VALUES", z.size)
    whole = function(z)
    monkeypatch.setattr(elementwise, "BLOCK_VALUES", 4 * 5000)
    tracemalloc.start()
    try:
        found = function(z)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, whole)
    assert found.flags[f"{order}_CONTIGUOUS"]
    assert peak < 1.5 * z.nbytes  # the result itself, and blocks


@pytest.mark.parametrize(
    "node",
    ["Gelu(z)", "FastGelu(z)", "FastGelu(z, slopes)", "BiasGelu(z, slopes)", "QuickGelu(z)"],
)
def test_the_engines_own_activations(node) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>'
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) y = com.microsoft.{node} }}"
    proto = build(text, head=head, w=normal(3, 4), **constants(node))
    _, layer = only(proto)
    assert layer.response.activation is not None
    z, y = run(proto, ["z", "y"], {"x": 3 * normal(200, 3, seed=5)})
    np.testing.assert_allclose(response_of(layer, z.T), y.T, rtol=1e-3, atol=1e-4)


LINEAR = {
    "a gate of another layer": "u = Gemm(x, w2) s = Sigmoid(u) y = Mul(z, s)",
    "steeper than linear": "y = Exp(z)",
    "a square": "y = Mul(z, z)",
    "not bent": "h = Mul(z, half) y = Sub(z, h)",
    "read elsewhere": "s = Sigmoid(z) m = ReduceMax<keepdims=1>(z) y = Mul(m, s)",
}


@pytest.mark.parametrize("kind", LINEAR)
def test_what_is_no_activation_is_linear(kind) -> None:
    body = LINEAR[kind]
    text = f"g (float[n,3] x) => (float[n,4] y) {{ z = Gemm(x, w) {body} }}"
    weights = {"w2": normal(3, 4, seed=3)} if "w2" in body else {}
    layer = Model(build(text, w=normal(3, 4), **weights, **constants(body))).layers[0]
    assert layer.response.activation is None
    assert not layer.response.relu


def test_a_tensor_that_the_caller_gets_too_ends_the_activation() -> None:
    text = (
        "g (float[n,3] x) => (float[n,4] y, float[n,4] s) "
        "{ z = Gemm(x, w) s = Sigmoid(z) y = Mul(z, s) }"
    )
    _, layer = only(build(text, w=normal(3, 4)))
    assert layer.response.activation is None


def test_a_clipping_ends_where_it_is_clipped() -> None:
    """ReLU6 in two nodes; factors behind an activation are no part of it."""
    text = "g (float[n,3] x) => (float[n,4] y) { z = Gemm(x, w) r = Relu(z) y = Min(r, six) }"
    _, layer = only(build(text, w=normal(3, 4), six=6.0))
    response = layer.response
    assert (response.relu, response.floor, response.ceiling) == (True, 0, 6)
    assert response.follows == "Relu, Min with 6"
