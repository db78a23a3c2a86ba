"""Layers inside of loops whose tensors change their shape from iteration to iteration."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.errors import EngineFailed
from nettrim_cli.graph.model import Model
from nettrim_cli.reasons import NO_REASON
from tests.support.places import Place
from tests.support.recording import recorded
from tests.support.small import normal

W, U = normal(3, 3, seed=2), normal(3, 4, seed=3)
BATCHES = [normal(4, 3, seed=11), normal(2, 3, seed=12)]


def loop(body: str, out: str = "last", turns: str = "n", start: str = "x", v: str = "v") -> str:
    """A Loop that hands on a tensor of any number of rows; its body makes the next one."""
    return (
        f"{out} = Loop({turns}, , {start}) <body = of_{v} (int64 i{v}, bool k{v}, float[P,3] {v})"
        f" => (bool k{v}2, float[Q,3] {v}2) {{ k{v}2 = Identity(k{v}) {body} }}>"
    )


def growing(v: str = "v") -> str:
    return f"h = MatMul({v}, w) r = Relu(h) {v}2 = Concat<axis = 0>({v}, r)"


def model(body: str, turns: int = 3, **tensors: np.ndarray) -> Model:
    tensors = {"n": np.array(turns), "w": W, "u": U, **tensors}
    return Model(Place(f"{body} y = MatMul(last, u)", tensors).model())


def grown(x: np.ndarray, turns: int) -> list[np.ndarray]:
    """What each turn of a growing loop reads, and what it leaves."""
    values = [x]
    for _ in range(turns):
        values.append(np.vstack([values[-1], np.maximum(values[-1] @ W, 0)]))
    return values


def check(dense: Model, wanted: dict[str, list[np.ndarray]], batches=BATCHES) -> None:
    """Layers whose names end like this read these rows, one after the other."""
    for pruned in (None, dense.clone()):
        found = recorded(dense, batches, pruned)
        for end, rows in wanted.items():
            (samples,) = (each for name, each in found.items() if name.endswith(end))
            assert samples.unusable_reason == NO_REASON
            np.testing.assert_allclose(samples.X[:-1], np.vstack(rows).T, rtol=1e-4, atol=1e-5)


def test_a_tensor_that_grows_from_turn_to_turn() -> None:
    values = [grown(x, 3) for x in BATCHES]
    read = [each for before in values for each in before[:-1]]
    check(model(loop(growing())), {"/h": read, "y": [each[-1] for each in values]})


def test_a_loop_without_a_turn_in_one_of_the_batches() -> None:
    count = "s = Shape<start = 0, end = 1>(x) two = Constant<value_ints = [2]>() n = Sub(s, two) "
    dense = Model(Place(f"{count} {loop(growing())} y = MatMul(last, u)", {"w": W, "u": U}).model())
    *inside, last = grown(BATCHES[0], 2)
    check(dense, {"/h": inside, "y": [last, BATCHES[1]]})
    check(dense, {"/h": inside, "y": [BATCHES[1], last]}, BATCHES[::-1])


def test_branches_that_change_from_turn_to_turn() -> None:
    body = (
        "one = Constant<value_int = 1>() d = Equal(iv, one) "
        "v2 = If(d) <then_branch = t () => (float[A,3] p) { p = MatMul(v, w) },"
        " else_branch = f () => (float[B,3] q) { g = Neg(v) q = MatMul(g, w2) }>"
    )
    first = [-x @ W.T for x in BATCHES]
    other = [each for x, a in zip(BATCHES, first, strict=True) for each in (-x, -a @ W)]
    check(model(loop(body), w2=W.T.copy()), {"/p": first, "/q": other})


def test_a_loop_in_a_loop() -> None:
    inner = loop(growing("t"), "v2", "m", "v", "t")
    dense = model(loop(f"one = Constant<value_int = 1>() m = Add(iv, one) {inner}"), turns=2)
    check(dense, {"/h": [each for x in BATCHES for each in (x, *grown(x, 3)[1:3])]})


def test_a_loop_in_a_branch() -> None:
    taken = loop(growing(), "p")
    body = (
        "s = ReduceSum<keepdims = 0>(x) low = Constant<value_float = -1e9>() c = Greater(s, low) "
        f"last = If(c) <then_branch = t () => (float[A,3] p) {{ {taken} }},"
        " else_branch = e () => (float[B,3] q) { q = MatMul(x, w2) }>"
    )
    dense = model(body, turns=2, w2=W.T.copy())
    check(dense, {"/h": [each for x in BATCHES for each in grown(x, 2)[:-1]]})
    (other,) = (each for k, each in recorded(dense, BATCHES).items() if k.endswith("/q"))
    assert other.unusable_reason.text == "none of the calibration samples reaches it"


def test_recurrent_layers_of_a_loop_read_states_of_any_length() -> None:
    cell = (
        "ax = Constant<value_ints = [1]>() s = Unsqueeze(v, ax) "
        "a, b = RNN<hidden_size = 3>(s, wi, r) o = Squeeze(b, zero) v2 = Concat<axis = 0>(v, o)"
    )
    tensors = {"wi": W[None], "r": W.T[None].copy(), "zero": np.array([0])}
    rows, states = [], []
    for x in BATCHES:
        for _ in range(2):
            rows.append(x)
            h = [np.zeros(3, np.float32)]
            for each in x:
                h.append(np.tanh(each @ W.T + h[-1] @ W))
            states.append(np.vstack(h[:-1]))
            x = np.vstack([x, h[-1]])
    check(model(loop(cell), turns=2, **tensors), {".W": rows, ".R": states})


SCAN = (
    "i = Unsqueeze(x, two) t = Concat<axis = 2>(i, i) "
    "last, more = Scan<num_scan_inputs = 1, scan_input_axes = [2], body = b "
    "(float[N,3] s, float[N,3] v) => (float[N,3] s2, float[1] one) { "
    "zero = Constant<value_float = 0.0>() m = ReduceSum<keepdims = 0>(s) z = Equal(m, zero) "
    "one = Constant<value_floats = [1.0]>() "
    "s2 = If(z) <then_branch = d () => (float[N,3] p) { p = MatMul(v, w) },"
    " else_branch = e () => (float[N,3] q) { q = Relu(s) }> }>(nothing, t) y = MatMul(last, u)"
)


def test_a_scan_is_left_where_its_shapes_change() -> None:
    tensors = {"w": W, "u": U, "two": np.array([2]), "nothing": np.zeros((4, 3), np.float32)}
    dense = Model(Place(SCAN, tensors).model())
    for pruned in (None, dense.clone()):
        inside, behind = recorded(dense, BATCHES[:1], pruned).values()
        assert inside.unusable_reason.text == (
            "shapes inside of its Scan change between iterations, so that it cannot be recorded"
        )
        assert behind.unusable_reason == NO_REASON
        read = np.maximum(BATCHES[0] @ W, 0)
        np.testing.assert_allclose(behind.X[:-1], read.T, rtol=1e-4, atol=1e-5)


def test_what_fails_for_another_reason_says_that() -> None:
    dense = model(loop("h = MatMul(v, w) z = Constant<value_ints = [7]>() v2 = Reshape(h, z)"))
    with pytest.raises(EngineFailed, match="Reshape"):
        recorded(dense, BATCHES)
