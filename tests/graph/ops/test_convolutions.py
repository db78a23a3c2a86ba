"""Convolutions agree with onnxruntime in one to three axes, whatever moves the window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from tests.support.effort import examples
from tests.support.one_node import OneNode, assert_linear
from tests.support.small import normal

SEEDS = st.integers(0, 99)


def numbers(draw, low: int, high: int, count: int) -> list[int]:
    return draw(st.lists(st.integers(low, high), min_size=count, max_size=count))


@st.composite
def convolutions(draw):
    """Attributes, weight shape and input shape of a convolution over 1 to 3 axes."""
    axes = draw(st.integers(1, 3))
    several = {1: 12, 2: 9, 3: 6}[axes]
    kernel = numbers(draw, 1, 3, axes)
    mode = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    attributes: dict[str, Any] = {"auto_pad": mode, "strides": numbers(draw, 1, 3, axes)}
    # onnxruntime cannot run a dilated convolution with SAME padding.
    attributes["dilations"] = numbers(draw, 1, 1 if mode.startswith("SAME") else 2, axes)
    if mode == "NOTSET":
        attributes["pads"] = numbers(draw, 0, 2, 2 * axes)
    if draw(st.booleans()):
        attributes["kernel_shape"] = kernel
    attributes["group"] = draw(st.integers(1, 3))
    batch, channels, outputs = numbers(draw, 1, 3, 3)
    size = [draw(st.integers(2 * (k - 1) + 1, several)) for k in kernel]
    groups = attributes["group"]
    return attributes, (outputs * groups, channels, *kernel), (batch, channels * groups, *size)


@examples(120)
@given(convolutions(), st.booleans(), SEEDS)
def test_conv(case, biased, seed):
    attributes, weight, x = case
    bias = {"b": normal(weight[0], seed=seed)} if biased else {}
    inputs = {"x": normal(*x, seed=seed + 1), "w": normal(*weight, seed=seed + 2), **bias}
    geometry = assert_linear(OneNode("Conv", inputs, **attributes), 1)
    assert len(ops.blocks(geometry, weight)) == attributes["group"]


@examples(40)
@given(convolutions(), SEEDS)
def test_fused_conv(case, seed):
    attributes, weight, x = case
    inputs = {
        "x": normal(*x, seed=seed),
        "w": normal(*weight, seed=seed + 1),
        "b": normal(weight[0], seed=seed),
    }
    geometry = assert_linear(OneNode("FusedConv", inputs, domain="com.microsoft", **attributes), 1)
    assert geometry.key == OneNode("Conv", inputs, **attributes).geometry(1).key
    relu = OneNode("FusedConv", inputs, domain="com.microsoft", activation="Relu", **attributes)
    assert ops.applies(relu.geometry(1)) == (("Relu", {}),)
    plain = OneNode("Conv", inputs, **attributes).run()[0]
    np.testing.assert_allclose(relu.run()[0], np.maximum(plain, 0), rtol=1e-4, atol=1e-4)


@st.composite
def transposed(draw):
    """As `convolutions`, of a transposed convolution: each way to say the size of its output."""
    attributes, (outputs, channels, *kernel), (batch, _, *size) = draw(convolutions())
    axes, groups, strides = len(kernel), attributes["group"], attributes["strides"]
    dilations = [draw(st.integers(1, 2)) for _ in kernel]
    extra = [draw(st.integers(0, s - 1)) for s in strides]
    full = [
        s * (n - 1) + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(size, strides, dilations, kernel, extra, strict=True)
    ]
    pads = attributes.pop("pads", None)
    if pads is not None:
        within = all(a + b < n for a, b, n in zip(pads[:axes], pads[axes:], full, strict=True))
        attributes["pads"] = pads if within else [0] * (2 * axes)
    if attributes["auto_pad"] == "NOTSET" and draw(st.booleans()):
        attributes["output_shape"] = [draw(st.integers(max(1, n - 3), n)) for n in full]
    attributes |= {"dilations": dilations, "output_padding": extra}
    weight = (channels * groups, outputs // groups, *kernel)
    return attributes, weight, (batch, channels * groups, *size)


@examples(120)
@given(transposed(), st.booleans(), SEEDS)
def test_conv_transpose(case, biased, seed):
    attributes, weight, x = case
    outputs = weight[1] * attributes["group"]
    bias = {"b": normal(outputs, seed=seed)} if biased else {}
    inputs = {"x": normal(*x, seed=seed + 1), "w": normal(*weight, seed=seed + 2), **bias}
    geometry = assert_linear(OneNode("ConvTranspose", inputs, **attributes), 1)
    assert ops.blocks(geometry, weight)[0][1] == weight[1]


def test_a_convolution_and_a_transposed_one_do_not_share_columns():
    keys = [read_geometry(op, 1, {}, (2, 2, 1)).key for op in ("Conv", "ConvTranspose")]
    assert keys[0] != keys[1]


def test_columns_are_contiguous_and_never_alias_the_input():
    geometry = read_geometry("Conv", 1, {}, (2, 3, 1, 1))
    x = normal(1, 3, 4, 4)
    columns = ops.columns({"x": x}, geometry)
    assert columns.flags.c_contiguous
    columns[:] = 0
    assert x.any()


@pytest.mark.parametrize(
    ("given_attributes", "shape", "depthwise"),
    [
        ({"group": 4}, (4, 1, 3), True),
        ({"group": 4}, (8, 1, 3, 3), True),
        ({"group": 2}, (4, 2, 3), False),
        ({}, (4, 1, 3), False),
    ],
)
def test_depthwise(given_attributes, shape, depthwise):
    assert ops.depthwise(read_geometry("Conv", 1, given_attributes, shape), shape) is depthwise


def test_a_bias_must_be_one_value_per_output():
    geometry = read_geometry("Conv", 1, {}, (2, 3, 1))
    for shape in ((1,), (1, 2), (3,)):
        with pytest.raises(Unsupported, match="one value per output"):
            ops.biases(np.zeros(shape, np.float32), geometry, (2, 3, 1))


@pytest.mark.parametrize(
    ("given_attributes", "shape", "reason"),
    [
        ({}, (2, 3), "2 axes"),
        ({"auto_pad": "SOME"}, (2, 3, 1), "'SOME' is not known"),
        ({"kernel_shape": (2,)}, (2, 3, 1), "kernel_shape"),
        ({"strides": (1, 1)}, (2, 3, 1), "number of axes"),
        ({"dilations": (0,)}, (2, 3, 1), "below 1"),
        ({"group": 2}, (3, 1, 1), "evenly"),
    ],
)
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_what_is_refused(op, given_attributes, shape, reason):
    with pytest.raises(Unsupported, match=reason):
        read_geometry(op, 1, given_attributes, shape)


def test_an_output_shape_of_the_wrong_length_is_refused():
    with pytest.raises(Unsupported, match="number of axes"):
        read_geometry("ConvTranspose", 1, {"output_shape": (3,)}, (2, 2, 1, 1))


def test_a_large_sample_is_unfolded_slice_by_slice() -> None:
    geometry = ops.read_geometry("Conv", 1, {"pads": (1, 1, 1, 1)}, (4, 3, 3, 3))
    x = {"x": normal(2, 3, 20, 10)}
    parts = list(ops.columns_in_parts(x, geometry, 0, 27 * 50))
    assert [part.shape[1] for part in parts] == [50] * 8
    np.testing.assert_array_equal(np.hstack(parts), ops.columns(x, geometry))
