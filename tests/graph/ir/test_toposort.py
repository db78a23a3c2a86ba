"""Nodes in any order: the model is what it is when they are sorted, and its file stays as it is."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.toposort import sorted_model, topological_order
from nettrim_cli.graph.model import Model
from tests.support.effort import examples
from tests.support.networks import NETWORKS
from tests.support.small import build, normal, run

INNER = """<ir_version: 8, opset_import: ["" : 17, "f" : 1]>
    g (float[N,4] x, bool c) => (float[N,4] y) {
        a = MatMul(x, w)
        h = If(c) <
            then_branch = t () => (float[N,4] u) { r = Relu(a) s = MatMul(r, w) u = Tanh(s) },
            else_branch = e () => (float[N,4] v) { v = Identity(a) }
        >
        y = f.twice(h)
    }
    <domain: "f", opset_import: ["" : 17]>
    twice (p) => (q) { two = Constant<value = float {2.0}>() z = Mul(p, two) q = Add(z, p) }
"""


def shuffled(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """All nodes of the main graph in another order."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    mix(copy.graph.node, random.Random(seed))
    return copy


def mix(nodes, order) -> None:
    kept = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes]
    order.shuffle(kept)
    del nodes[:]
    nodes.extend(kept)


def with_subgraphs() -> onnx.ModelProto:
    return build(INNER.split("\n", 1)[1], head=INNER.split("\n", 1)[0], w=normal(4, 4))


MODELS = {**NETWORKS, "with_subgraphs": with_subgraphs}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(3))
def test_shuffled_models_have_the_same_layers_and_keep_their_bytes(tmp_path, name, seed) -> None:
    proto = MODELS[name]()
    mixed = shuffled(proto, seed)
    path, new = tmp_path / "model.onnx", tmp_path / "new.onnx"
    path.write_bytes(mixed.SerializeToString(deterministic=True))
    model, plain = Model.load(path), Model(proto)
    assert {layer.name: layer.refusal.text for layer in model.layers} == {
        layer.name: layer.refusal.text for layer in plain.layers
    }
    made: set[str] = set()
    for node in model.index.flat.main_nodes:
        produced = {name for name in node.reads if name in model.index.producers}
        assert produced <= made
        made.update(node.output)
    model.save(new)
    assert new.read_bytes() == path.read_bytes()


INSIDE = {
    "the local function 'twice'": lambda proto: proto.functions[0].node,
    "a subgraph of If 'h'": lambda proto: proto.graph.node[1].attribute[0].g.node,
}


@pytest.mark.parametrize("place", INSIDE)
def test_an_order_that_no_engine_mends_is_refused(tmp_path, place) -> None:
    proto = with_subgraphs()
    nodes = INSIDE[place](proto)
    turned = [onnx.NodeProto.FromString(each.SerializeToString()) for each in nodes][::-1]
    del nodes[:]
    nodes.extend(turned)
    with pytest.raises(Exception, match=r"topologically sorted|input 0|Input 0"):
        run(proto, ["y"], {"x": normal(3, 4), "c": np.array(True)})
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput, match=f"the nodes of {place} are in no order"):
        Model.load(path)


def test_sorted_models_compute_the_same() -> None:
    proto = with_subgraphs()
    found = sorted_model(shuffled(proto, 5))
    onnx.checker.check_model(found)
    for taken in (True, False):
        feeds = {"x": normal(3, 4, seed=1), "c": np.array(taken)}
        assert np.array_equal(run(found, ["y"], feeds)[0], run(proto, ["y"], feeds)[0])


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=9), st.randoms())
@examples(100)
def test_any_order_of_a_graph_without_circles_is_sorted(reads, order) -> None:
    nodes = [
        helper.make_node("Sum", [f"t{each}" for each in them if each < at], [f"t{at}"])
        for at, them in enumerate(reads)
    ]
    assert topological_order(nodes) == nodes
    order.shuffle(nodes)
    made: set[str] = set()
    for node in topological_order(nodes):
        assert set(node.input) <= made
        made.update(node.output)
    assert len(made) == len(nodes)


def test_a_sorted_model_is_not_copied() -> None:
    proto = with_subgraphs()
    assert sorted_model(proto) is proto


CIRCLES = {
    "two nodes": ("a = Add(x, b) b = Relu(a) y = Relu(b)", "'a' (Add)", "'b' (Relu)"),
    "one node": ("y = Add(x, y)", "'y' (Add) reads its own result"),
    "through a subgraph": (
        """c = Constant<value = bool {1}>() b = If(c) <
            then_branch = t () => (float[N,4] u) { u = Relu(y) },
            else_branch = e () => (float[N,4] v) { v = Identity(x) }
        > y = Relu(b)""",
        "'b' (If)",
        "'y' (Relu)",
    ),
}


@pytest.mark.parametrize("circle", CIRCLES)
def test_circles_are_refused_by_the_names_of_their_nodes(tmp_path, circle) -> None:
    text, *names = CIRCLES[circle]
    proto = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) {{ {text} }}'
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput) as caught:
        Model.load(path)
    for name in names:
        assert name in str(caught.value)


def test_what_nothing_makes_is_named_with_its_reader(tmp_path) -> None:
    proto = build("g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Tanh(a) }")
    proto.graph.node[1].input[0], proto.graph.node[1].name = "nowhere", "last"
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadInput, match=r"nothing makes the tensor 'nowhere'.*'last' \(Tanh\)"):
        Model.load(path)
