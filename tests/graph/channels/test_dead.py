"""Units without incoming or outgoing weights go, and the outputs stay the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.channels.dead import dead_units, without_dead_units
from nettrim_cli.graph.model import Model
from tests.support.small import build, normal, run

IMAGE, ROWS = normal(2, 3, 8, 8), normal(4, 6)


def without(array: np.ndarray, axis: int, *entries: int) -> np.ndarray:
    """The array with zeros at some entries along an axis."""
    result = array.copy()
    result[(slice(None),) * axis + (list(entries),)] = 0
    return result


SLIM = {"p": without(normal(8, 3, 3, 3), 0, 1, 6), "r": normal(4, 8, 1, 1)}
CONV = "g (float[n,3,8,8] x) => (float[n,c,u,v] y) { [p] h = Conv(x, p, a) %s }"
GRAPHS: dict[str, tuple[str, np.ndarray, Mapping[str, np.ndarray], dict[str, list[int]]]] = {
    "nobody hears them": (
        "g (float[n,6] x) => (float[n,m] y) { [p] h = MatMul(x, p) z = Relu(h) y = MatMul(z, r) }",
        ROWS,
        {"p": normal(6, 8), "r": without(normal(8, 3), 0, 2, 5)},
        {"p": [2, 5]},
    ),
    "a bias says the same": (
        """g (float[n,6] x) => (float[n,m] y)
        { [p] h = Gemm(x, p, a) z = Sigmoid(h) [r] y = Gemm<alpha = 2.0, beta = 0.5>(z, r, b) }""",
        ROWS,
        {"p": without(normal(6, 8), 1, 0, 7), "a": normal(8), "r": normal(8, 3), "b": normal(3)},
        {"p": [0, 7]},
    ),
    "a reader without a bias gets one": (
        """g (float[n,6] x) => (float[n,m] y)
        { [p] h = Gemm(x, p, a) z = Sigmoid(h) [r] y = MatMul(z, r) }""",
        ROWS,
        {"p": without(normal(6, 8), 1, 0, 7), "a": normal(8), "r": normal(8, 3)},
        {"p": [0, 7]},
    ),
    "a convolution gets a bias": (
        CONV % "z = Softplus(h) [r] y = Conv(z, r)",
        IMAGE,
        SLIM | {"a": normal(8)},
        {"p": [1, 6]},
    ),
    "a reader with margins": (
        CONV % "z = Softplus(h) [r] y = Conv<pads = [1, 1, 1, 1]>(z, r)",
        IMAGE,
        SLIM | {"a": normal(8)},
        {},
    ),
    "a reader with margins of zeros": (
        CONV % "z = Relu(h) [r] y = Conv<pads = [1, 1, 1, 1]>(z, r)",
        IMAGE,
        SLIM | {"a": -np.abs(normal(8))},
        {"p": [1, 6]},
    ),
    "behind a normalisation and a pool": (
        """g (float[n,3,8,8] x) => (float[n,m] y)
        { [p] h = Conv(x, p, a) b = BatchNormalization(h, s, a, a, s) i = HardSwish(b)
          j = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(i) f = Flatten(j)
          y = Gemm(f, w, c) }""",
        IMAGE,
        {**SLIM, "a": normal(8), "s": np.abs(normal(8)), "w": normal(72, 3), "c": normal(3)},
        {"p": [1, 6]},
    ),
    "a depthwise convolution that is empty": (
        CONV % "[d] z = Conv<group = 8, pads = [1, 1, 1, 1]>(h, d, a) [r] y = Conv(z, r)",
        IMAGE,
        {
            "p": normal(8, 3, 3, 3),
            "a": normal(8),
            "r": normal(4, 8, 1, 1),
            "d": without(normal(8, 1, 3, 3), 0, 3),
        },
        {"p": [3]},
    ),
    "through a depthwise convolution": (
        CONV % "[d] z = Conv<group = 8>(h, d, a) [r] y = Conv(z, r)",
        IMAGE,
        {**SLIM, "a": normal(8), "d": normal(8, 1, 3, 3)},
        {"p": [1, 6]},
    ),
    "a residual": (
        CONV % "i = Relu(h) [q] j = Conv(i, q, a) z = Add(h, j) [r] y = Conv(z, r)",
        IMAGE,
        {**SLIM, "a": normal(8), "q": without(normal(8, 8, 1, 1), 0, 1, 2)},
        {"p": [1]},
    ),
    "numbers that change from place to place": (
        """g (float[n,5,6] x) => (float[n,u,m] y)
        { [p] h = MatMul(x, p) z = Add(h, a) y = MatMul(z, r) }""",
        normal(2, 5, 6),
        {"p": without(normal(6, 8), 1, 4), "a": normal(1, 5, 8), "r": normal(8, 3)},
        {},
    ),
    "one of a group stays": (
        "g (float[n,6] x) => (float[n,m] y) { [p] h = MatMul(x, p) z = Relu(h) y = MatMul(z, r) }",
        ROWS,
        {"p": normal(6, 8), "r": 0 * normal(8, 3)},
        {"p": [1, 2, 3, 4, 5, 6, 7]},
    ),
    "what is left behind": (
        """g (float[n,6] x) => (float[n,m] y)
        { [p] h = MatMul(x, p) i = Relu(h) [q] j = MatMul(i, q) z = Relu(j) y = MatMul(z, r) }""",
        ROWS,
        {
            "p": normal(6, 4),
            "r": without(normal(5, 3), 0, 1),
            "q": np.diag([1, 1, 1, 1, 0])[:4].astype(np.float32),
        },
        {"q": [1, 4]},
    ),
}
"""Nodes, an input, tensors, and the units that are dead at once."""


def assert_same(wanted: onnx.ModelProto, got: onnx.ModelProto, x: np.ndarray) -> None:
    onnx.checker.check_model(got, full_check=True)
    (first,), (second,) = (run(proto, ["y"], {"x": x}) for proto in (wanted, got))
    np.testing.assert_allclose(second, first, rtol=0, atol=1e-5 * np.abs(first).max(initial=1e-3))


@pytest.mark.parametrize("name", GRAPHS)
def test_dead_units_go(name) -> None:
    text, x, tensors, expected = GRAPHS[name]
    proto = build(text, **tensors)
    model = Model(proto)
    before = model.to_bytes()
    dead = dead_units(model)
    assert {group: units.tolist() for group, units in dead.items()} == expected
    small, count = without_dead_units(model)
    assert model.to_bytes() == before
    assert (small is model) == (not expected)
    assert count >= sum(map(len, expected.values()))
    assert not dead_units(small)
    assert_same(proto, small.proto, x)


@pytest.mark.parametrize(("dead", "gone"), [(2, 0), (15, 0), (16, 16), (20, 16), (48, 32)])
def test_channels_go_in_whole_blocks(dead, gone) -> None:
    text = """g (float[n,3,4,4] x) => (float[n,2,4,4] y) {
        [p] h = Conv(x, P)
        [r] y = Conv(h, R)
    }"""
    rows = (np.arange(48) >= dead).astype(np.float32)[:, None, None]
    tensors = {"P": normal(48, 3, 1, 1), "R": normal(2, 48, 1, 1) * rows}
    small, count = without_dead_units(Model(build(text, **tensors)))
    assert count == gone
    assert {layer.name: layer.blocks[0][1] for layer in small.layers} == {"p": 48 - gone, "r": 2}
    assert not dead_units(small)


def test_what_is_left_behind_goes_in_the_next_round() -> None:
    text, _, tensors, _ = GRAPHS["what is left behind"]
    small, count = without_dead_units(Model(build(text, **tensors)))
    assert count == 3
    assert {t.name.split(".")[0]: tuple(t.dims) for t in small.proto.graph.initializer} == {
        "p": (6, 3),
        "q": (3, 3),
        "r": (3, 3),
    }
