"""The measuring model holds few tensors at once, however deep the networks are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.analysis.difference import difference, measuring_model
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from tests.support.small import build, normal


def chain(depth):
    steps = "".join(f"z{i} = MatMul(a{i}, w{i}) a{i + 1} = Relu(z{i}) " for i in range(depth))
    text = (
        f"g (float[N,6] x) => (float[N,6] y) {{ a0 = Identity(x) {steps} y = Identity(a{depth}) }}"
    )
    return build(text, **{f"w{i}": normal(6, 6, seed=i) for i in range(depth)})


def most_alive(graph):
    """Tensors that somebody still waits for, node by node in the graph's order, at most."""
    last = {name: at for at, node in enumerate(graph.node) for name in node.input}
    alive, most = set(), 0
    for at, node in enumerate(graph.node):
        alive |= {name for name in node.output if last.get(name, -1) > at}
        alive = {name for name in alive if last[name] > at}
        most = max(most, len(alive))
    return most


def test_tensors_are_measured_when_they_are_there() -> None:
    held = []
    for depth in (4, 16):
        dense = Model(chain(depth))
        changed = dense.clone()
        for layer in changed.layers:
            (weight,), bias = changed.weight(layer)
            changed.set_weight(layer, [np.where(abs(weight) > 0.5, weight, 0)], bias)
        runnable, _ = measuring_model(dense, changed, difference(dense, changed))
        held.append(most_alive(onnx.load_from_string(runnable.payload).graph))
    assert held[0] == held[1] < 12


def test_nodes_of_a_branch_are_no_nodes_of_the_main_graph() -> None:
    """The same nodes with the same flat names, one of them moved out of a branch."""
    branch = "y = If(c) <then_branch = t () => (float[N,6] p) {{ {} p = Relu(h) }}, {}>"
    other = "else_branch = e () => (float[N,6] q) { q = Identity(x) }"
    models = []
    for inside, before in (("h = MatMul(x, w)", ""), ("", "h = MatMul(x, w)")):
        body = f"{before} {branch.format(inside, other)}"
        text = f"g (bool c, float[N,6] x) => (float[N,6] y) {{ {body} }}"
        proto = build(text, w=normal(6, 6))
        if before:
            proto.graph.node[0].output[0] = "y.then_branch/h"
            (read,) = proto.graph.node[1].attribute[0].g.node
            read.input[0] = "y.then_branch/h"
        models.append(Model(proto))
    names = [[node.output for node in model.index.nodes] for model in models]
    assert names[0] == names[1]
    with pytest.raises(Unsupported, match="different nodes"):
        difference(*models)
