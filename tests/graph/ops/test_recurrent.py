"""Recurrences computed again from columns and matrices are onnxruntime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import Unsupported, read_geometry
from tests.support.effort import examples
from tests.support.one_node import OneNode, assert_inverse, assert_parts
from tests.support.small import normal

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ALPHAS = (0.3, 0.25)  # of each direction's hard sigmoids


def activation(name: str, direction: int) -> Any:
    return {
        "Sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "Tanh": np.tanh,
        "HardSigmoid": lambda z: np.clip(ALPHAS[direction] * z + 0.4, 0, 1),
        "Softsign": lambda z: z / (1 + abs(z)),
    }[name]


@st.composite
def nodes(draw, *operations: str):
    """A node with any of the inputs that may be left out, its activations' names and its clip."""
    op = draw(st.sampled_from(operations))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    steps, batch, size, hidden = (draw(st.integers(1, 4)) for _ in range(4))
    two, rows, seed = (
        2 if direction == "bidirectional" else 1,
        GATES[op] * hidden,
        draw(st.integers(0, 99)),
    )
    shapes = {
        "x": (steps, batch, size),
        "w": (two, rows, size),
        "r": (two, rows, hidden),
        "b": (two, 2 * rows),
        "lengths": (batch,),
        "h": (two, batch, hidden),
    }
    if op == "LSTM":
        shapes |= {"c": (two, batch, hidden), "p": (two, 3 * hidden)}
    inputs: dict[str, Any] = {
        name: normal(*shape, seed=seed + n) if n < 3 or draw(st.booleans()) else None
        for n, (name, shape) in enumerate(shapes.items())
    }
    if inputs["lengths"] is not None:
        lengths = [draw(st.integers(1, steps)) for _ in range(batch)]
        inputs["lengths"] = np.array([steps, *lengths[1:]], np.int32)
    acts = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[op]
    given: dict[str, Any] = {}
    if draw(st.booleans()):
        acts = [
            draw(st.sampled_from(["HardSigmoid", "HardSigmoid", "Sigmoid"]))
            if a == "Sigmoid"
            else "Softsign"
            for a in acts
        ]
        hard = [alpha for alpha in ALPHAS[:two] for name in acts if name == "HardSigmoid"]
        given = {"activations": acts * two}
        if hard:
            given |= {"activation_alpha": hard, "activation_beta": [0.4] * len(hard)}
    clip = draw(st.sampled_from([0.0, 0.6]))
    if clip:
        given["clip"] = clip
    if op == "GRU":
        given["linear_before_reset"] = draw(st.integers(0, 1))
    node = OneNode(op, inputs, outputs=2, direction=direction, hidden_size=hidden, **given)
    return node, acts, clip


class Again:
    """Sums of the gates from columns and matrices, and the outputs of the steps that count."""

    def __init__(self, node: OneNode) -> None:
        x, w, r, b, lengths = node.inputs[:5]
        self.y = node.run()[0]
        self.hidden, self.two = r.shape[2], len(w)
        lengths = np.full(x.shape[1], len(x)) if lengths is None else lengths
        self.within = np.arange(len(x))[:, None] < lengths
        ways = [node.geometry(slot) for slot in (1, 2)]
        arrays = [node.arrays(way, [self.y]) for way in ways]
        matrices = [assert_inverse(weight, way) for weight, way in zip((w, r), ways, strict=True)]
        vectors = [[np.zeros(U.shape[1], np.float32) for U in each] for each in matrices]
        if b is not None:
            vectors = [
                ops.biases(b, way, each.shape) for way, each in zip(ways, (w, r), strict=True)
            ]
            moved = ops.bias([v + 1 for v in vectors[0]], ways[0], w.shape, b)
            moved = ops.bias([v + 1 for v in vectors[1]], ways[1], r.shape, moved)
            np.testing.assert_array_equal(moved, b + 1)
            assert [ops.bias_slot(way) for way in ways] == [3, 3]
        self.from_x, self.from_h = (
            [
                U.T @ ops.columns(mine, way, block) + vector[:, None]
                for block, (U, vector) in enumerate(zip(each, theirs, strict=True))
            ]
            for mine, way, each, theirs in zip(arrays, ways, matrices, vectors, strict=True)
        )
        for mine, way in zip(arrays, ways, strict=True):
            assert_parts(mine, way, 0, ops.columns(mine, way, 0))
        self.states = [
            ops.columns(arrays[1], ways[1], d * len(matrices[1]) // self.two)
            for d in range(self.two)
        ]

    def steps(self, rows: np.ndarray) -> np.ndarray:
        """Columns put back to (steps, sequences, rows)."""
        result = np.zeros((*self.within.shape, len(rows)), rows.dtype)
        result[self.within] = rows.T
        return result

    def assert_states(self, found: list[np.ndarray]) -> None:
        """Those of each direction, as columns."""
        for direction, mine in enumerate(found):
            theirs = self.y[:, direction][self.within].T
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


def clipped(z: np.ndarray, clip: float) -> np.ndarray:
    return np.clip(z, -clip, clip) if clip else z


@examples(40)
@given(nodes("RNN"))
def test_rnn(case):
    node, acts, clip = case
    again = Again(node)
    from_x = np.split(again.from_x[0], again.two)
    sums = [a + b for a, b in zip(from_x, again.from_h, strict=True)]
    again.assert_states([activation(acts[0], d)(clipped(z, clip)) for d, z in enumerate(sums)])


@examples(80)
@given(nodes("GRU"))
def test_gru(case):
    node, acts, clip = case
    again = Again(node)
    linear, found = node.given["linear_before_reset"], []
    for d, from_x in enumerate(np.split(again.from_x[0], again.two)):
        first, second = (activation(name, d) for name in acts)
        wz, wr, wh = np.split(from_x, 3)
        from_h = again.from_h[d] if linear else np.vstack(again.from_h[2 * d : 2 * d + 2])
        rz, rr, rh = np.split(from_h, 3)
        z, r = first(clipped(wz + rz, clip)), first(clipped(wr + rr, clip))
        h = second(clipped(wh + (r * rh if linear else rh), clip))
        found.append((1 - z) * h + z * again.states[d])
    assert len(again.from_h) == again.two * (1 if linear else 2)
    again.assert_states(found)


@examples(60)
@given(nodes("LSTM"))
def test_lstm(case):
    node, acts, clip = case
    again = Again(node)
    cells, peepholes = node.inputs[6:8]
    found = []
    for d, from_x in enumerate(np.split(again.from_x[0], again.two)):
        f, g, h = (activation(name, d) for name in acts)
        sums = again.steps(from_x + again.from_h[d])
        p = np.zeros((3, again.hidden)) if peepholes is None else peepholes[d].reshape(3, -1)
        c = np.zeros(sums[0, :, : again.hidden].shape) if cells is None else cells[d].copy()
        states = np.zeros((*again.within.shape, again.hidden))
        backwards = node.given["direction"] == "reverse" or d == 1
        for t in range(len(sums))[:: -1 if backwards else 1]:
            i, o, forget, cell = np.split(sums[t], 4, axis=1)
            now = f(clipped(forget + p[2] * c, clip)) * c
            now += f(clipped(i + p[0] * c, clip)) * g(clipped(cell, clip))
            o = f(clipped(o + p[1] * now, clip))
            states[t] = o * h(now)  # onnxruntime clips the gates alone
            c = np.where(again.within[t][:, None], now, c)
        found.append(states[again.within].T)
    again.assert_states(found)


@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_the_batch_may_come_first(op):
    steps, batch, size, hidden, rows = 4, 3, 2, 5, 5 * GATES[op]
    x, y = normal(steps, batch, size), normal(steps, 2, batch, hidden, seed=1)
    initial = normal(2, batch, hidden, seed=2)
    common = {
        "lengths": np.array([4, 1, 2]),
        "W": normal(2, rows, size, seed=3),
        "R": normal(2, rows, hidden, seed=4),
    }
    plain = {"x": x, "y": y, "initial": initial, **common}
    turned = {
        "x": x.swapaxes(0, 1),
        "y": y.transpose(2, 0, 1, 3),
        "initial": initial.swapaxes(0, 1),
        **common,
    }
    for slot, shape in ((1, (2, rows, size)), (2, (2, rows, hidden))):
        a, b = (
            read_geometry(op, slot, {"direction": "bidirectional", "layout": layout}, shape)
            for layout in (0, 1)
        )
        assert a.key != b.key
        for block in range(len(ops.blocks(a, shape))):
            expected = ops.columns(plain, a, block)
            assert expected.shape[1] == 4 + 1 + 2
            assert_parts(plain, a, block, expected)
            assert_parts(turned, b, block, expected)
            np.testing.assert_array_equal(ops.columns(turned, b, block), expected)


def test_no_steps_make_no_columns():
    arrays = {"y": normal(0, 1, 3, 2), "x": normal(0, 3, 4), "initial": normal(1, 3, 2)}
    states = read_geometry("LSTM", 2, {}, (1, 8, 2))
    inputs = read_geometry("LSTM", 1, {}, (1, 8, 4))
    assert ops.columns(arrays, states).shape == (2, 0)
    assert ops.columns(arrays, inputs).shape == (4, 0)


def test_what_is_read():
    assert ops.slots("LSTM", 8) == (1, 2)
    lstm, gru = (read_geometry(op, 2, {}, (1, 2 * n, 2)) for op, n in (("LSTM", 4), ("GRU", 3)))
    assert set(ops.reads(lstm)) == {"y", "initial", "lengths"}
    assert set(ops.reads(gru)) == {"y", "initial", "lengths", "x", "W", "R", "B"}
    first = read_geometry("LSTM", 1, {}, (1, 8, 3))
    assert ops.reads(first) == {"x": ("input", 0), "lengths": ("input", 4)}
    assert first.key == read_geometry("GRU", 1, {"direction": "reverse"}, (1, 6, 3)).key
    with pytest.raises(Unsupported, match="does not give out"):
        ops.outputs_as_columns(normal(3, 1, 2, 2), lstm)


@pytest.mark.parametrize(
    ("op", "slot", "given_attributes", "shape", "reason"),
    [
        ("LSTM", 1, {"direction": "sideways"}, (1, 8, 3), "'sideways' is not known"),
        ("LSTM", 1, {"direction": "bidirectional"}, (1, 8, 3), "does not match"),
        ("LSTM", 2, {}, (1, 8, 3), "does not match"),
        ("GRU", 1, {}, (1, 8, 3), "does not match"),
        ("GRU", 2, {"activations": ("Relu", "Tanh")}, (1, 6, 2), "'relu' is not treated"),
    ],
)
def test_what_is_refused(op, slot, given_attributes, shape, reason):
    with pytest.raises(Unsupported, match=reason):
        read_geometry(op, slot, given_attributes, shape)
