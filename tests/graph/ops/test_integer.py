"""Integer products and convolutions agree with onnxruntime in the real numbers they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from nettrim_cli.graph.ops.untreated import UNTREATED
from tests.support.effort import examples
from tests.support.one_node import OneNode, assert_parts
from tests.support.small import normal

SIZES = st.integers(1, 4)
KINDS = st.sampled_from([np.uint8, np.int8])
MS = "com.microsoft"


def whole(kind: Any, *shape: int, seed: int = 0) -> np.ndarray:
    """Whole numbers of all of uint8, or of 7 of int8's bits.

    Where a processor has AVX2 or AVX-512 without VNNI, onnxruntime adds two products of a uint8
    and an int8 in 16 bits, which saturates; 2 * 255 * 64 does not.
    """
    limits = np.iinfo(kind)
    low, high = max(limits.min, -64), 63 if limits.min else limits.max
    return np.random.default_rng(seed).integers(low, high, shape, kind, endpoint=True)


def single(value: float, kind: Any = np.float32) -> np.ndarray:
    return np.array(value, kind)


def assert_real(node: OneNode, slot: int, *, scale: float = 0.0, error: float = 1e-4) -> None:
    """``U'X + b`` is the output, where this has a grid (zero point 100) to half its step."""
    geometry, stored = node.geometry(slot), node.inputs[slot]
    grid, inputs = ops.grid(geometry), [*node.inputs, *[None] * 9]
    assert grid is not None
    sizes = [1] * stored.ndim
    (axis,) = grid.axes
    sizes[axis] = -1

    def over(at: int | None, usual: float) -> np.ndarray:
        value = np.asarray(usual) if at is None or inputs[at] is None else inputs[at]
        return value.astype(np.float32).reshape(sizes if value.ndim else ())

    real = (stored.astype(np.float32) - over(grid.zero_point, 0)) * over(grid.scale, 1)
    outputs = node.run()
    matrices = ops.matrices(real, geometry)
    np.testing.assert_array_equal(ops.weight(matrices, geometry, stored.shape), real)
    at = ops.bias_slot(geometry)
    biases = [0.0] * len(matrices)
    if at is not None and inputs[at] is not None:
        biases = [each[:, None] for each in ops.biases(inputs[at], geometry, stored.shape)]
    y, limits = outputs[0], (-np.inf, np.inf)
    if scale:
        with pytest.raises(Unsupported, match="rounds what"):
            ops.outputs_as_columns(y, geometry)
        y, limits = scale * (y.astype(np.float32) - 100), (-100 * scale, 155 * scale)
    for block, (U, bias) in enumerate(zip(matrices, biases, strict=True)):
        arrays = node.arrays(geometry, outputs)
        X = ops.columns(arrays, geometry, block)
        assert X.dtype == np.float32
        assert_parts(arrays, geometry, block, X)
        kind = "ConvInteger" if "Conv" in node.op else "MatMulInteger"
        expected = ops.OPS[kind].weight.outputs(y, geometry, block)
        found = np.clip(U.T @ X + bias, *limits)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=error + scale / 2)


@examples(60)
@given(st.tuples(SIZES, SIZES, SIZES), KINDS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_matmul_integer(sizes, kind, left, zeros, seed):
    rows, inner, outer = sizes
    a, b = whole(np.uint8, rows, inner, seed=seed), whole(kind, inner, outer, seed=seed + 1)
    points = {"az": single(7, np.uint8), "bz": single(3, kind)} if zeros else {}
    names = "wx" if left else "xw"
    node = OneNode("MatMulInteger", {names[0]: a, names[1]: b, **points})
    assert_real(node, 0 if left else 1)


@examples(60)
@given(st.tuples(SIZES, SIZES, SIZES), KINDS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_qlinear_matmul(sizes, kind, left, each, seed):
    rows, inner, outer = sizes
    a, b = whole(np.uint8, rows, inner, seed=seed), whole(kind, inner, outer, seed=seed + 1)
    count = (outer,) if each and not left else ()
    scale = np.asarray(abs(normal(*count, seed=seed)) + 0.1, np.float32)
    names = "wx" if left else "xw"
    node = OneNode(
        "QLinearMatMul",
        {
            names[0]: a,
            "as": single(0.5),
            "az": single(7, np.uint8),
            names[1]: b,
            "bs": scale,
            "bz": np.asarray(whole(kind, *count, seed=seed)),
            "ys": single(9.0),
            "yz": single(100, np.uint8),
        },
    )
    assert_real(node, 0 if left else 3, scale=9)


@examples(60)
@given(st.integers(1, 2), SIZES, st.integers(1, 2), st.booleans(), st.integers(0, 99))
def test_qlinear_conv(axes, channels, groups, each, seed):
    weight = (2 * groups, channels, *(3, 2)[:axes])
    count = (2 * groups,) if each else ()
    scale = np.asarray(abs(normal(*count, seed=seed)) + 0.1, np.float32)
    node = OneNode(
        "QLinearConv",
        {
            "x": whole(np.uint8, 2, channels * groups, *(6, 5)[:axes], seed=seed),
            "xs": single(0.5),
            "xz": single(7, np.uint8),
            "w": whole(np.int8, *weight, seed=seed + 1),
            "ws": scale,
            "wz": np.zeros(count, np.int8),
            "ys": single(9.0),
            "yz": single(100, np.uint8),
        },
        pads=[1] * (2 * axes),
        group=groups,
    )
    assert_real(node, 3, scale=9)
    assert ops.bias_slot(node.geometry(3)) is None


@examples(30)
@given(SIZES, st.integers(1, 2), st.booleans(), st.integers(0, 99))
def test_conv_integer(channels, groups, zeros, seed):
    points = {"xz": single(9, np.uint8), "wz": single(5, np.uint8)} if zeros else {}
    x = whole(np.uint8, 2, channels * groups, 4, 5, seed=seed)
    w = whole(np.uint8, 2 * groups, channels, 2, 3, seed=seed + 1)
    how = {"group": groups, "strides": [1, 2], "pads": [1, 0, 1, 1]}
    assert_real(OneNode("ConvInteger", {"x": x, "w": w, **points}, **how), 1)


@pytest.mark.parametrize("each", [False, True])
def test_matmul_integer_to_float(each):
    count = (5,) if each else ()
    inputs = {
        "x": whole(np.uint8, 2, 3, 4),
        "w": whole(np.int8, 4, 5, seed=1),
        "xs": single(0.1),
        "ws": np.asarray(abs(normal(*count)), np.float32),
        "xz": single(9, np.uint8),
        "wz": np.asarray(whole(np.int8, *count)),
        "b": normal(5, seed=3),
    }
    assert_real(OneNode("MatMulIntegerToFloat", inputs, domain=MS), 1)


def test_dynamic_quantize_matmul_is_that_of_its_input_but_for_rounding():
    x = normal(20, 4)
    inputs = {"x": x, "w": whole(np.int8, 4, 5), "ws": single(0.01), "wz": None, "b": normal(5)}
    node = OneNode("DynamicQuantizeMatMul", inputs, domain=MS)
    step = float(x.max() - x.min()) / 255
    assert_real(node, 1, error=step / 2 * 4 * 1.28)
    assert node.geometry(1).key == read_geometry("MatMul", 1, {}, (4, 5)).key
    assert ops.slots("DynamicQuantizeMatMul", 5, MS) == (1,)
    assert ops.slots("MatMulInteger", 4) == (0, 1)


def test_qgemm():
    inputs = {
        "x": whole(np.uint8, 6, 4),
        "xs": single(0.5),
        "xz": single(9, np.uint8),
        "w": whole(np.int8, 5, 4),
        "ws": single(0.3),
        "wz": single(0, np.int8),
        "b": None,
        "ys": single(50.0),
        "yz": single(100, np.uint8),
    }
    node = OneNode("QGemm", inputs, domain=MS, transB=1, alpha=0.7)
    assert_real(node, 3, scale=50)


def test_qattention():
    x, w = whole(np.uint8, 1, 3, 4), whole(np.int8, 4, 12)
    inputs = {"x": x, "w": w, "b": normal(12), "xs": single(0.01), "ws": single(0.02)}
    inputs |= {"mask": None, "xz": single(9, np.uint8), "wz": single(0, np.int8)}
    node = OneNode("QAttention", inputs, domain=MS, num_heads=2)
    (y,) = node.run()
    geometry = node.geometry(1)
    (real_x,) = [ops.columns(node.arrays(geometry, []), geometry)]
    real = {"x": real_x.T.reshape(x.shape).copy(), "w": w.astype(np.float32) * np.float32(0.02)}
    plain = OneNode("Attention", {**real, "b": inputs["b"]}, domain=MS, num_heads=2)
    np.testing.assert_allclose(plain.run()[0], y, rtol=1e-4, atol=1e-5)
    assert ops.bias_slot(geometry) == 2
    assert ops.grid(geometry) == ops.Grid(4, 7, (-1,))


@pytest.mark.parametrize("slot", [0, 1])
def test_each_row_on_the_left_and_each_column_on_the_right_may_have_a_zero_point(slot):
    x, zeros = whole(np.uint8, 3, 4), np.arange(4 if slot == 0 else 3, dtype=np.uint8)
    geometry = read_geometry("MatMulInteger", slot, {}, (2, 3) if slot == 0 else (4, 2))
    real = x.astype(np.float32) - (zeros if slot == 0 else zeros[:, None])
    columns = ops.columns({"x": x, "x_zero_point": zeros}, geometry)
    np.testing.assert_array_equal(columns, real if slot == 0 else real.T)


def test_channels_last_are_refused():
    with pytest.raises(Unsupported, match="channels last"):
        read_geometry("QLinearConv", 3, {"channels_last": 1}, (2, 3, 1), MS)


def test_floats_have_no_grid():
    assert ops.grid(read_geometry("MatMul", 1, {}, (2, 3))) is None


@pytest.mark.parametrize("name", [name for name, spec in UNTREATED.items() if spec.weight])
def test_what_is_left_alone_says_why(name):
    domain, _, op = name.rpartition(".")
    for slot in ops.slots(op, 20, domain):
        with pytest.raises(Unsupported, match=rf"^{op} \w+ \w+"):
            read_geometry(op, slot, {}, (2, 2), domain)
    assert ops.slots(op, 20, domain)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("each", [False, True])
def test_dynamic_quantize_lstm_is_an_lstm_but_for_rounding(direction, each):
    two, steps, batch, size, hidden = 1 + (direction == "bidirectional"), 5, 3, 4, 6
    shapes = {"w": (two, size, 4 * hidden), "r": (two, hidden, 4 * hidden)}
    stored = {name: whole(np.int8, *shape, seed=len(name)) for name, shape in shapes.items()}
    count = (two, 4 * hidden) if each else (two,)
    scales = {name: np.float32(0.004) * (1 + abs(normal(*count, seed=9))) for name in shapes}
    spread = (two, 1, 4 * hidden if each else 1)
    real = {name: stored[name] * scales[name].reshape(spread) for name in shapes}
    float_weights = {name: value.swapaxes(1, 2).copy() for name, value in real.items()}
    usual = {"b": normal(two, 8 * hidden, seed=3), "lengths": None, "h": None, "c": None, "p": None}
    x, zeros = normal(steps, batch, size), np.zeros(count, np.int8)
    grids = {"ws": scales["w"], "wz": zeros, "rs": scales["r"], "rz": zeros}
    how = {"direction": direction, "hidden_size": hidden}
    node = OneNode(
        "DynamicQuantizeLSTM", {"x": x, **stored, **usual, **grids}, domain=MS, outputs=2, **how
    )
    plain = OneNode("LSTM", {"x": x, **float_weights, **usual}, outputs=2, **how)
    outputs = node.run()
    np.testing.assert_allclose(outputs[0], plain.run()[0], atol=0.05)
    for slot, name in ((1, "w"), (2, "r")):
        mine, other = node.geometry(slot), plain.geometry(slot)
        assert mine.key == other.key
        grid = ops.grid(mine)
        assert node.inputs[grid.scale] is scales[name]
        assert node.inputs[grid.zero_point] is zeros
        matrices = ops.matrices(real[name], mine)
        for one, two_ in zip(matrices, ops.matrices(float_weights[name], other), strict=True):
            np.testing.assert_array_equal(one, two_)
        assert tuple(U.shape for U in matrices) == ops.blocks(mine, stored[name].shape)
        np.testing.assert_array_equal(ops.weight(matrices, mine, stored[name].shape), real[name])
        for one, two_ in zip(
            ops.biases(usual["b"], mine, stored[name].shape),
            ops.biases(usual["b"], other, float_weights[name].shape),
            strict=True,
        ):
            np.testing.assert_array_equal(one, two_)
