"""Products with a constant operand agree with onnxruntime, whatever side, shape and factor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import OneNode, assert_inverse, assert_linear
from small import normal

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Refusal, read_geometry

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


@settings(max_examples=150, deadline=None)
@given(products(), SEEDS)
def test_matmul(case, seed):
    weight, x, slot = case
    w = {"w": normal(*weight, seed=seed)}
    given_x = {"x": normal(*x, seed=seed + 1)}
    node = OneNode("MatMul", {**w, **given_x} if slot == 0 else {**given_x, **w})
    assert len(ops.blocks(node.geometry(slot), weight)) == int(np.prod(weight[:-2]))
    assert_linear(node, slot)


@settings(max_examples=100, deadline=None)
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
    stored = [a.T.copy() if t else a for a, t in zip(arrays, turned)]
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
    with pytest.raises(Refusal, match="one value per output"):
        ops.biases(normal(3), geometry, (3, 2))
    geometry = read_geometry("Gemm", 1, {}, (2, 3))
    with pytest.raises(Refusal, match="one value per output"):
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
    with pytest.raises(Refusal, match=reason):
        read_geometry(op, 1, given_attributes, shape)
