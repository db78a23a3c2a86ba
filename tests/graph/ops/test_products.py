"""Products with a constant operand agree with onnxruntime, whatever side, shape and factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from tests.support.effort import examples
from tests.support.one_node import OneNode, assert_inverse, assert_linear
from tests.support.small import normal

SIZES = st.integers(1, 4)
SEEDS = st.integers(0, 99)
FACTORS = st.sampled_from([1.0, 0.5, -2.0, 0.3])


@st.composite
def products(draw):
    """Shapes of the constant and of x, and the slot of the constant, of a MatMul."""
    inner, rows, outer = draw(SIZES), draw(SIZES), draw(SIZES)
    whole = draw(st.lists(SIZES, max_size=2))
    batches = [
        [n if draw(st.booleans()) else 1 for n in whole][draw(st.integers(0, len(whole))) :]
        for _ in range(2)
    ]
    left = draw(st.booleans())
    weight = (*batches[0], *((outer, inner) if left else (inner, outer)))
    x = (*batches[1], *((inner, rows) if left else (rows, inner)))
    if draw(st.integers(0, 4)) == 0:
        x = (inner,)
    return weight, x, 0 if left else 1


@examples(150)
@given(products(), SEEDS)
def test_matmul(case, seed):
    weight, x, slot = case
    w = {"w": normal(*weight, seed=seed)}
    given_x = {"x": normal(*x, seed=seed + 1)}
    node = OneNode("MatMul", {**w, **given_x} if slot == 0 else {**given_x, **w})
    assert len(ops.blocks(node.geometry(slot), weight)) == int(np.prod(weight[:-2]))
    assert_linear(node, slot)


@examples(100)
@given(
    st.tuples(SIZES, SIZES, SIZES),
    st.booleans(),
    st.tuples(st.booleans(), st.booleans()),
    FACTORS,
    st.sampled_from([1.0, 0.0, 0.3]),
    st.sampled_from(["none", "outputs", "scalar", "1", "11"]),
    SEEDS,
)
def test_gemm(sizes, left, turned, alpha, beta, bias, seed):
    inner, rows, outer = sizes
    shapes = [(outer, inner), (inner, rows)] if left else [(rows, inner), (inner, outer)]
    slot = 0 if left else 1
    arrays = [normal(*s, seed=seed + n) for n, s in enumerate(shapes)]
    stored = [a.T.copy() if t else a for a, t in zip(arrays, turned, strict=True)]
    column = {"none": None, "scalar": (), "1": (1,), "11": (1, 1)}
    column["outputs"] = (outer, 1) if left else (outer,)
    c = column[bias]
    node = OneNode(
        "Gemm",
        {
            "w" if left else "x": stored[0],
            "x" if left else "w": stored[1],
            **({} if c is None else {"c": np.asarray(normal(*c, seed=seed + 2))}),
        },
        transA=int(turned[0]),
        transB=int(turned[1]),
        alpha=alpha,
        beta=beta,
    )
    geometry = assert_linear(node, slot)
    assert ops.bias_slot(geometry) == (2 if beta else None)


@examples(60)
@given(products(), st.tuples(st.booleans(), st.booleans()), FACTORS, SEEDS)
def test_fused_matmul(case, turned, alpha, seed):
    weight, x, slot = case
    if len(x) == 1:
        x = (x[0], 2) if slot == 0 else (2, x[0])
    pair = [normal(*weight, seed=seed), normal(*x, seed=seed + 1)]
    pair = pair if slot == 0 else pair[::-1]
    pair = [a.swapaxes(-1, -2).copy() if t else a for a, t in zip(pair, turned, strict=True)]
    node = OneNode(
        "FusedMatMul",
        dict(zip("wx" if slot == 0 else "xw", pair, strict=True)),
        domain="com.microsoft",
        transA=int(turned[0]),
        transB=int(turned[1]),
        alpha=alpha,
    )
    assert_linear(node, slot)


def test_fused_gemm():
    inputs = {"x": normal(5, 3), "w": normal(4, 3, seed=1), "b": normal(4, seed=2)}
    how = {"domain": "com.microsoft", "transB": 1, "alpha": 0.3, "beta": 2.0}
    node = OneNode("FusedGemm", inputs, activation="Relu", **how)
    geometry = node.geometry(1)
    (U,), (bias,) = ops.matrices(inputs["w"], geometry), ops.biases(inputs["b"], geometry, (4, 3))
    z = U.T @ ops.columns({"x": inputs["x"]}, geometry) + bias[:, None]
    np.testing.assert_allclose(np.maximum(z, 0).T, node.run()[0], rtol=1e-5, atol=1e-6)
    assert ops.applies(geometry) == (("Relu", {}),)


def test_attention():
    batch, length, width, heads, each = 2, 5, 6, 2, 4
    x, w, b = normal(batch, length, width), normal(width, 24, seed=1), normal(24, seed=2)
    node = OneNode("Attention", {"x": x, "w": w, "b": b}, domain="com.microsoft", num_heads=heads)
    geometry = node.geometry(1)
    (U,) = assert_inverse(w, geometry)
    (bias,) = ops.biases(b, geometry, w.shape)
    rows = (U.T @ ops.columns({"x": x}, geometry) + bias[:, None]).T
    parts = np.moveaxis(rows.reshape(batch, length, 3, heads, each), (2, 3), (0, 2))
    query, key, value = parts
    scores = np.exp(query @ key.swapaxes(-1, -2) / np.sqrt(each))
    y = (scores / scores.sum(axis=-1, keepdims=True)) @ value
    np.testing.assert_allclose(
        node.run()[0], y.swapaxes(1, 2).reshape(batch, length, -1), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(Unsupported, match="does not give out"):
        ops.outputs_as_columns(y, geometry)
    assert ops.slots("Attention", 6, "com.microsoft") == (1,)
    assert not ops.is_product("Attention", "com.microsoft")


def test_columns_of_a_matmul_are_a_view():
    x = normal(5, 4, 3)
    for weight in ((3, 2), (4, 3, 2)):
        geometry = read_geometry("MatMul", 1, {}, weight)
        assert np.shares_memory(ops.columns({"x": x}, geometry), x)


def test_the_axis_of_the_outputs():
    assert ops.output_axis(read_geometry("MatMul", 1, {}, (2, 3))) == -1
    assert ops.output_axis(read_geometry("Gemm", 0, {"transA": 1}, (2, 3))) == -2


def test_a_row_is_no_bias_of_a_constant_on_the_left():
    geometry = read_geometry("Gemm", 0, {}, (3, 2))
    with pytest.raises(Unsupported, match="one value per output"):
        ops.biases(normal(3), geometry, (3, 2))
    geometry = read_geometry("Gemm", 1, {}, (2, 3))
    with pytest.raises(Unsupported, match="one value per output"):
        ops.biases(normal(2, 3), geometry, (2, 3))


def test_one_number_becomes_a_bias_for_each_output():
    geometry = read_geometry("Gemm", 1, {"beta": 0.5}, (2, 3))
    (vector,) = ops.biases(np.float32(4.0).reshape(()), geometry, (2, 3))
    np.testing.assert_array_equal(vector, [2, 2, 2])
    stored = ops.bias([vector + [0, 1, 2]], geometry, (2, 3), np.float32(4.0).reshape(()))
    np.testing.assert_array_equal(stored, [4, 6, 8])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_factor_is_undone_bit_for_bit(dtype):
    weight = normal(50, 40).astype(dtype)
    for alpha in (0.1, 1 / 3, 7e-3, -1.7e5):
        assert_inverse(weight, read_geometry("Gemm", 1, {"alpha": alpha}, weight.shape))


@pytest.mark.parametrize(
    ("op", "given_attributes", "shape", "reason"),
    [
        ("MatMul", {}, (3,), "vector"),
        ("Gemm", {}, (3, 3, 3), "3 axes"),
        ("Gemm", {"alpha": 0.0}, (3, 3), "0 or not finite"),
        ("Gemm", {"beta": float("nan")}, (3, 3), "0 or not finite"),
    ],
)
def test_what_is_refused(op, given_attributes, shape, reason):
    with pytest.raises(Unsupported, match=reason):
        read_geometry(op, 1, given_attributes, shape)


def test_batch_axes_that_are_turned_are_refused():
    with pytest.raises(Unsupported, match="turns batch axes"):
        read_geometry("FusedMatMul", 1, {"transBatchA": 1}, (2, 3, 4), "com.microsoft")
