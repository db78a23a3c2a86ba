"""The measuring model holds few tensors at once, however deep the networks are."""

from __future__ import annotations

import numpy as np
import onnx

from nettrim_cli.graph.analysis.difference import difference, measuring_model
from nettrim_cli.graph.model import Model
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
