"""Convolutions agree with onnxruntime in one to three axes, whatever moves the window."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node import OneNode, assert_linear
from small import normal

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Refusal, read_geometry

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


@settings(max_examples=120, deadline=None)
@given(convolutions(), st.booleans(), SEEDS)
def test_conv(case, biased, seed):
    attributes, weight, x = case
    bias = {"b": normal(weight[0], seed=seed)} if biased else {}
    inputs = {"x": normal(*x, seed=seed + 1), "w": normal(*weight, seed=seed + 2), **bias}
    geometry = assert_linear(OneNode("Conv", inputs, **attributes), 1)
    assert len(ops.blocks(geometry, weight)) == attributes["group"]


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
        with pytest.raises(Refusal, match="one value per output"):
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
def test_what_is_refused(given_attributes, shape, reason):
    with pytest.raises(Refusal, match=reason):
        read_geometry("Conv", 1, given_attributes, shape)
