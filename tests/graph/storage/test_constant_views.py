"""Weights that are made of parts of stored constants: read, stored, and told apart."""

from __future__ import annotations

import re
from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import OPS, Unsupported
from nettrim_cli.graph.storage.tensors import all_tensors
from tests.support.effort import examples
from tests.support.places import Place
from tests.support.small import build, normal, run

BOUNDS = st.integers(-9, 9) | st.sampled_from((-(2**63), 2**63 - 1, -(2**31), 2**31 - 1))


@st.composite
def chains(draw: st.DrawFn) -> onnx.ModelProto:
    """A constant ``k`` of (4, 6), moved by some nodes to ``y``."""
    nodes, tensors, now = [], {}, ["k"]

    def whole(values) -> str:
        name = f"i{len(tensors)}"
        tensors[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def put(op: str, inputs: list[str], count: int = 1, **given) -> None:
        made = [f"t{len(nodes)}.{at}" for at in range(count)]
        nodes.append(helper.make_node(op, inputs, made, **given))
        now.extend(made)

    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(now[-3:]))
        axis = draw(st.sampled_from((0, 1, -1)))
        op = draw(st.sampled_from(("Slice", "Split", "Gather", "Concat", "Transpose")))
        if op == "Slice":
            bounds = [[draw(BOUNDS)], [draw(BOUNDS)], [axis], [draw(st.sampled_from((1, -1, 2)))]]
            put(op, [name, *map(whole, bounds)])
        elif op == "Split":
            put(op, [name], 2, axis=axis, num_outputs=2)
        elif op == "Gather":
            indices = draw(st.lists(st.integers(-2, 1), max_size=3))
            put(op, [name, whole(indices)], axis=axis)
        elif op == "Concat":
            others = draw(st.lists(st.sampled_from(now[-3:]), min_size=1, max_size=2))
            put(op, [name, *others], axis=axis)
        else:
            put(op, [name], perm=[1, 0])
    k = numpy_helper.from_array(np.arange(24, dtype=np.float32).reshape(4, 6), "k")
    output = helper.make_tensor_value_info(now[-1], 1, None)
    graph = helper.make_graph(nodes, "g", [], [output], [k, *tensors.values()])
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@examples(150)
@given(chains())
def test_a_chain_of_moves_is_read_as_it_runs_and_stored_where_it_came_from(proto) -> None:
    name = proto.graph.output[0].name
    index = Index(proto)
    try:
        wanted = run(proto, [name], {})[0]
    except Exception:  # the engine refuses what does not fit, such as sizes of a Concat
        assume(False)
    try:
        view = index.view(name)
    except Unsupported as refusal:
        reason = str(refusal)
    else:
        reason = ""
    if reason:
        assert re.search("taken twice|sliced backwards", reason)
        return
    assert view.shape == wanted.shape
    np.testing.assert_array_equal(view.values(), wanted)
    numbers, counts = np.unique(wanted, return_counts=True)
    assert view.reads_once == (counts.max(initial=0) <= 1)
    if view.reads_once:
        fresh = -1 - np.random.default_rng(0).permutation(wanted.size).reshape(wanted.shape)
        view.store(fresh.astype(np.float32))
        np.testing.assert_array_equal(run(proto, [name], {})[0], fresh)
        stored = numpy_helper.to_array(proto.graph.initializer[0]).reshape(-1)
        untouched = np.setdiff1d(np.arange(24), numbers)
        np.testing.assert_array_equal(stored[untouched], untouched)


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 18])
def test_splits_and_slices_of_every_operator_set(opset) -> None:
    """Their bounds are attributes in earlier ones."""
    split, one, two = "<axis = 1>(w, n2)", "(p, n1, n9, n0)", "(p, n0, n1, n0)"
    if opset < 13:
        split = "<axis = 1, split = [2, 2]>(w)"
    if opset < 10:
        one = "<starts = [1], ends = [9], axes = [0]>(p)"
        two = "<starts = [0], ends = [1]>(p)"
    text = (
        f"p, q = Split{split} a = Slice{one} b = Slice{two} c = Concat<axis = 0>(a, b) "
        "i = Concat<axis = 1>(q, c) y = MatMul(x, i)"
    )
    numbers = {"n2": [2, 2], "n1": [1], "n9": [9], "n0": [0]}
    tensors = {"w": normal(3, 4), **{name: np.array(each) for name, each in numbers.items()}}
    dense = Model(Place(text, tensors).model(f'<ir_version: 4, opset_import: ["" : {opset}]>'))
    (layer,) = dense.layers
    w = tensors["w"]
    ((found,), _) = dense.weight(layer)
    np.testing.assert_array_equal(found, np.hstack([w[:, 2:], np.roll(w[:, :2], -1, 0)]))
    before = dense.to_bytes()
    dense.set_weight(layer, [found], None)
    assert dense.to_bytes() == before


SHAPES = st.lists(st.integers(0, 4), max_size=3)
MISFITS = {
    "Transpose": (0, lambda n: {"perm": [n, 0]}),
    "Reshape": (1, lambda n: {"allowzero": n % 2}),
    "Flatten": (0, lambda n: {"axis": n}),
    "Squeeze": (1, lambda n: {}),
    "Unsqueeze": (1, lambda n: {}),
    "Slice": (4, lambda n: {}),
    "Split": (1, lambda n: {"axis": n}),
    "Gather": (1, lambda n: {"axis": n}),
    "Concat": (1, lambda n: {"axis": n}),
    "Identity": (0, lambda n: {}),
    "Cast": (0, lambda n: {"to": n}),
}
"""By op: how many lists of whole numbers it reads besides, and attributes from a number."""


def test_every_op_that_is_followed_may_be_wrong() -> None:
    layouts = {op for op, spec in OPS.items() if spec.layout or spec.join_axis}
    assert {*MISFITS, "DequantizeLinear"} == layouts


@pytest.mark.parametrize("op", MISFITS)
@examples(60)
@given(SHAPES, st.lists(st.lists(st.integers(-4, 4), max_size=3), min_size=4), st.integers(-4, 4))
def test_what_does_not_fit_is_refused_whatever_it_is(op, shape, lists, number) -> None:
    """Onnx's checker lets such nodes pass."""
    count, attributes = MISFITS[op]
    tensors = {f"i{n}": np.array(values, np.int64) for n, values in enumerate(lists[:count])}
    node = helper.make_node(op, ["k", *tensors], ["y"], **attributes(number))
    view_or_refusal(node, {"k": np.zeros(shape, np.float32), **tensors})


@examples(200)
@given(SHAPES, SHAPES, st.integers(-2, 3), st.integers(-4, 4))
def test_grids_that_do_not_fit_are_refused(shape, scale_shape, block, axis) -> None:
    node = helper.make_node("DequantizeLinear", ["k", "s"], ["y"], block_size=block, axis=axis)
    view_or_refusal(
        node, {"k": np.ones(shape, np.int8), "s": np.full(scale_shape, 0.5, np.float32)}
    )


def view_or_refusal(node, tensors) -> None:
    stored = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    output = helper.make_tensor_value_info("y", 1, None)
    index = Index(helper.make_model(helper.make_graph([node], "g", [], [output], stored)))
    with suppress(Unsupported):
        view = index.view("y")
        assert view.values().shape == view.shape


PACKED = "n = Constant<value_ints = [4, 4, 2]>() a, b, c = Split<axis = 1>(w, n) "


def test_layers_that_read_parts_of_one_constant_are_layers_of_their_own() -> None:
    text = PACKED + "p = MatMul(x, a) q = MatMul(x, b) r = MatMul(x, c) "
    text += "y = Concat<axis = 1>(p, q, r)"
    w = normal(3, 10)
    model = Model(Place(text, {"w": w}).model())
    assert [layer.weight_shape for layer in model.layers] == [(3, 4), (3, 4), (3, 2)]
    fresh = normal(3, 4, seed=1)
    model.set_weight(model.layers[1], [fresh], None)
    w[:, 4:8] = fresh
    np.testing.assert_array_equal(numpy_helper.to_array(model.proto.graph.initializer[0]), w)
    x = normal(5, 3)
    np.testing.assert_allclose(run(model.proto, ["y"], {"x": x})[0], x @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PACKED + "p = MatMul(x, a) q = MatMul(x, w)", "is shared with layer 'q' in another form"),
        (PACKED + "p = MatMul(x, a) q = Tanh(w)", "is also read by Tanh 'q'"),
        ("a = Concat<axis = 1>(w, w) p = MatMul(x, a) q = Neg(p)", "reads a stored value twice"),
        (
            "n = Constant<value_ints = [1, -2, 1]>() a = Gather<axis = 1>(w, n) p = MatMul(x, a) "
            "q = Neg(p)",
            "has entries that are taken twice",
        ),
    ],
)
def test_a_weight_that_cannot_be_replaced_alone_is_left(text, reason) -> None:
    model = Model(Place(text, {"w": normal(3, 10)}, outputs="float[A,B] p, float[C,D] q").model())
    assert model.layers[0].refusal.text == f"weight {reason}"


@pytest.mark.parametrize(
    "node", ["Gather(w, n)", "Slice(w, n, n)", "Split(w, n)", "Concat<axis = 0>(w, x)"]
)
def test_what_an_input_of_the_model_decides_is_no_part_of_a_trace(node) -> None:
    text = f"""g (float[N,3] x, int64[1] n) => (float[N,3] p, float[A,B] q) {{
        p = MatMul(x, w) q = {node}
    }}"""
    (layer,) = Model(build(text, w=normal(3, 3))).layers
    assert layer.refusal.text == f"weight is also read by {node.split('(')[0].split('<')[0]} 'q'"


def test_parts_that_do_not_meet_what_is_read_elsewhere_are_no_hindrance() -> None:
    text = PACKED + "p = MatMul(x, a) q = Tanh(b)"
    (layer,) = Model(
        Place(text, {"w": normal(3, 10)}, outputs="float[A,B] p, float[C,D] q").model()
    ).layers
    assert layer.prunable


def test_a_weight_and_its_bias_of_several_constants_are_stored_in_all_of_them() -> None:
    text = """g (float[N,3] x) => (float[N,4] y) {
        i = DequantizeLinear(q, s) w = Concat<axis = 1>(u, i) b = Concat<axis = 0>(c, d)
        y = Gemm(x, w, b)
    }"""
    tensors = {
        "u": normal(3, 2),
        "q": np.int8([[1, -2], [3, 4], [5, 6]]),
        "s": 0.5,
        "c": normal(3, seed=1),
        "d": normal(1, seed=2),
    }
    model = Model(build(text, **tensors))
    (layer,) = model.layers
    before = model.to_bytes()
    model.set_weight(layer, *model.weight(layer))
    assert model.to_bytes() == before
    W, b = normal(3, 4, seed=3), normal(4, seed=4)
    model.set_weight(layer, [W], [b])
    W[:, 2:] = np.rint(2 * W[:, 2:]) / 2
    x = normal(6, 3, seed=5)
    np.testing.assert_allclose(run(model.proto, ["y"], {"x": x})[0], x @ W + b, rtol=1e-5)
    assert len(model.proto.graph.initializer) == len(tensors)


def test_a_bias_of_one_value_twice_is_replaced_by_one_of_the_layers_own() -> None:
    text = "g (float[N,3] x) => (float[N,4] y) { b = Concat<axis = 0>(c, c) y = Gemm(x, w, b) }"
    model = Model(build(text, w=normal(3, 4), c=normal(2)))
    (layer,) = model.layers
    fresh = normal(4, seed=1)
    model.set_weight(layer, model.weight(layer)[0], [fresh])
    np.testing.assert_array_equal(model.weight(layer)[1][0], fresh)
    assert [each.name for each in model.proto.graph.initializer] == ["w", "c", "y.bias"]


def test_what_is_not_read_must_be_finite_too() -> None:
    """It is written anew with the rest."""
    w = normal(3, 10)
    w[1, 9] = np.inf
    text = PACKED + "y = MatMul(x, a)"
    (layer,) = Model(Place(text, {"w": w}).model()).layers
    assert layer.refusal.text == "weight has values that are not finite"


def lstm(rearranged: bool) -> onnx.ModelProto:
    """An LSTM of gates in another order than ONNX has them, or with the weights as it wants them.

    Two of its constants make the bias.
    """
    H = 5
    stored = {
        "w": normal(4 * H, 3, seed=1),
        "r": normal(4 * H, H, seed=2),
        "wb": normal(4 * H, seed=3),
        "rb": normal(4 * H, seed=4),
    }

    def turned(values: np.ndarray) -> np.ndarray:
        return np.concatenate([values[:H], values[3 * H :], values[H : 3 * H]])

    text = ""
    for name in stored if rearranged else ():
        text += f"""
            {name}1 = Slice({name}, n0, n5, n0)
            {name}2 = Slice({name}, n15, n20, n0)
            {name}3 = Slice({name}, n5, n15, n0)
            {name}4 = Concat<axis = 0>({name}1, {name}2, {name}3)"""
    if rearranged:
        text += """
            bs = Concat<axis = 0>(wb4, rb4)
            W = Unsqueeze(w4, n0) R = Unsqueeze(r4, n0) B = Unsqueeze(bs, n0)"""
        numbers = {f"n{n}": np.array([n]) for n in (0, 5, 15, 20)}
        tensors = {**stored, **numbers}
    else:
        w, r, wb, rb = map(turned, stored.values())
        tensors = {"W": w[None], "R": r[None], "B": np.concatenate([wb, rb])[None]}
    head = f"g (float[T,N,3] x) => (float[T,1,N,{H}] y) {{ {text}"
    return build(f"{head} y = LSTM<hidden_size = {H}>(x, W, R, B) }}", **tensors)


def test_an_lstm_of_rearranged_gates_is_that_of_its_plain_weights() -> None:
    parts, plain = Model(lstm(True)), Model(lstm(False))
    x = normal(6, 2, 3, seed=8)
    before = parts.to_bytes()
    for one, two in zip(parts.layers, plain.layers, strict=True):
        assert (one.name, one.blocks, one.has_bias) == (two.name, two.blocks, two.has_bias)
        found, wanted = parts.weight(one), plain.weight(two)
        np.testing.assert_array_equal(found[0][0], wanted[0][0])
        np.testing.assert_array_equal(found[1][0], wanted[1][0])
        parts.set_weight(one, *found)
        assert parts.to_bytes() == before
    for seed, (one, two) in enumerate(zip(parts.layers, plain.layers, strict=True)):
        fresh = [normal(*each, seed=seed) for each in one.blocks]
        bias = [normal(m, seed=9 + seed) for _, m in one.blocks]
        parts.set_weight(one, fresh, bias)
        plain.set_weight(two, fresh, bias)
    ours, theirs = (run(model.proto, ["y"], {"x": x})[0] for model in (parts, plain))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    pairs = zip(all_tensors(lstm(True)), all_tensors(parts.proto), strict=True)
    assert {one.name for one, two in pairs if one != two} == {"w", "r", "wb", "rb"}


@pytest.mark.parametrize(
    ("text", "tensors", "op"),
    [
        ("i = Mul(w, s)", {"w": normal(3, 4), "s": 2.0}, "Mul"),
        ("a = Tanh(w) i = Expand(a, n)", {"w": normal(1, 4), "n": np.array([3, 4])}, "Expand"),
        ("a = Exp(w) i = Concat<axis = 1>(a, a)", {"w": normal(3, 2)}, "Exp"),
    ],
)
def test_the_size_of_a_weight_that_is_computed_is_known(text, tensors, op) -> None:
    (layer,) = Model(Place(f"{text} y = MatMul(x, i)", tensors).model()).layers
    assert layer.refusal.text == f"weight is computed from constants by {op}"
    assert (layer.weight_shape, layer.dtype) == ((3, 4), "float32")
    assert layer.parameters == 12


def test_the_size_of_a_sparse_weight_is_known() -> None:
    proto = Place("y = MatMul(x, w)").model()
    del proto.graph.initializer[:]
    values = helper.make_tensor("w", 1, [2], [1.0, 2.0])
    places = helper.make_tensor("places", 7, [2], [0, 5])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3, 4]))
    (layer,) = Model(proto).layers
    assert layer.refusal.text == "weight is stored as a sparse tensor"
    assert layer.weight_shape == (3, 4)
