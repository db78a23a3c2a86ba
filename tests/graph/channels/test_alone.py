"""Models of one node alone: as wide as asked for, and made as the smaller network's are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.channels.alone import lone_nodes
from nettrim_cli.graph.channels.factors import factorize
from nettrim_cli.graph.model import Model
from tests.support.small import build, normal, run

TEXT = """g (float[2,6,9,9] x) => (float[2,5] y) {
    c = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w1)
    r = Relu(c)
    f = Flatten(r)
    y = Gemm<transB = 1>(f, w2)
}"""


def network() -> Model:
    return Model(build(TEXT, w1=normal(8, 6, 3, 3, seed=1), w2=normal(5, 200, seed=2)))


SHAPES = {"c": ((2, 6, 9, 9), (2, 8, 5, 5)), "y": ((2, 200), (2, 5))}


@pytest.mark.parametrize(("name", "fold"), [("c", 1), ("c", 3), ("y", 1)])
def test_models_have_the_sizes_that_are_asked_for(name, fold) -> None:
    layer = next(layer for layer in network().layers if layer.name == name)
    reads, makes = SHAPES[name]
    whole, first, second = lone_nodes(layer, reads, makes, fold)
    for node, channels, columns in ((whole, 3, 4), (first, 3, 4), (second, 4, 7)):
        rows = channels * node.step
        proto = onnx.load_from_string(node.model(rows, columns).payload)
        shape = node.input_shape(rows)
        assert shape[1] == channels
        (y,) = run(proto, ["y"], {"x": np.ones(shape, np.float32)})
        assert y.shape[:2] == (2, columns)
        assert node is first or y.shape[2:] == makes[2:]
        inside = y[(0, 0, *(size // 2 for size in y.shape[2:]))]
        np.testing.assert_allclose(inside, 0.01 * rows, rtol=1e-4)


@pytest.mark.parametrize(("name", "fold"), [("c", 1), ("c", 3), ("y", 1)])
def test_the_nodes_are_those_that_factors_become(name, fold) -> None:
    model = network()
    layer = next(layer for layer in model.layers if layer.name == name)
    smaller = factorize(model, {name: 2}, {name: fold})
    written = [
        node for node in smaller.proto.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")
    ]
    place = 0 if name == "c" else 1
    _, *factors = lone_nodes(layer, *SHAPES[name], fold)
    for node, expected in zip(factors, written[place : place + 2], strict=True):
        (alone,) = onnx.load_from_string(node.model(2 * node.step, 3).payload).graph.node
        assert alone.op_type == expected.op_type
        assert list(alone.attribute) == list(expected.attribute)


def test_equal_nodes_are_measured_once() -> None:
    layer = network().layers[1]
    nodes, others = lone_nodes(layer, (2, 200), (2, 5)), lone_nodes(layer, (2, 200), (2, 9))
    assert [node.key for node in nodes] == [node.key for node in others]
    assert nodes[0].key == nodes[1].key != nodes[2].key
    assert lone_nodes(layer, (4, 200), (4, 5))[0].key != nodes[0].key
