"""Cut into pieces, a model computes what it computes in one go, bit for bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from nettrim_cli.data.engine import Engine
from nettrim_cli.graph.capture.plan import CapturePlan
from nettrim_cli.graph.capture.segments import Segments
from nettrim_cli.graph.capture.segments import build as build_piece
from nettrim_cli.graph.ir.flat_graph import depends_on
from nettrim_cli.graph.ir.index import Index
from tests.support.effort import examples
from tests.support.networks import attention, mlp, residual
from tests.support.small import build, normal, run


def cut(proto, stops):
    """An index, a recording of nothing in particular, and its pieces."""
    index = Index(proto)
    plan = CapturePlan(index, [], cascade=True)
    return index, plan, Segments(plan, stops).pieces


def by_pieces(proto, stops, feeds, before=lambda at: None):
    """Tensors of each stop, and which nodes ran how often; only what is `needed` stays alive."""
    index, plan, pieces = cut(proto, stops)
    assert len(pieces) == len(stops)
    alive, found, runs = dict(feeds), {}, []
    for at, (stop, piece) in enumerate(zip(stops, pieces, strict=True)):
        before(at)
        runs += piece.positions
        fresh = {}
        if piece.outputs:
            kinds = {name: (alive[name].dtype, alive[name].ndim) for name in piece.inputs}
            engine = Engine(build_piece(index, plan, piece, kinds), threads=1)
            fresh = dict(zip(piece.outputs, engine.run(alive, piece.outputs), strict=True))
        alive = {k: v for k, v in {**alive, **fresh}.items() if k in piece.needed}
        found.update({name: alive[name] for name in stop})
    return found, runs


def check(proto, stops, feeds):
    found, runs = by_pieces(proto, stops, feeds)
    names = sorted(found)
    for name, value in zip(names, run(proto, names, feeds), strict=True):
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value), name
    return runs


def feed(proto, count=3):
    result = {}
    for at, value in enumerate(proto.graph.input):
        shape = [axis.dim_value or count for axis in value.type.tensor_type.shape.dim]
        result[value.name] = normal(*shape, seed=90 + at)
    return result


@pytest.mark.parametrize(
    ("network", "stops"),
    [
        (mlp, [["x"], ["h1"], ["h2"]]),
        (mlp, [["h2"]]),
        (residual, [["x"], ["r1"], ["f"]]),
        (residual, [["r1"], ["r1"], ["k", "p"], ["f"]]),
        (attention, [["x"], ["r"]]),
        (attention, [["q"], ["k", "v"], ["p"], ["y"]]),
    ],
)
def test_pieces_give_the_tensors_of_the_whole(network, stops) -> None:
    proto = network()
    runs = check(proto, stops, feed(proto))
    assert len(runs) == len(set(runs))


OPS = ("Relu", "Tanh", "Identity", "Add", "Mul", "MatMul", "Turned", "Constant", "If")


def random_graph(steps) -> onnx.ModelProto:
    """Nodes on (N, 4) tensors, each reading earlier ones."""
    names, nodes, stored = ["x", "x2"], [], {}
    for at, (op, one, two) in enumerate(steps):
        a, b, out = names[one % len(names)], names[two % len(names)], f"t{at}"
        if op in ("Relu", "Tanh", "Identity"):
            nodes.append(helper.make_node(op, [a], [out]))
        elif op in ("Add", "Mul"):
            nodes.append(helper.make_node(op, [a, b], [out]))
        elif op == "MatMul":
            stored["w"] = 0.5 * normal(4, 4, seed=5)
            nodes.append(helper.make_node("MatMul", [a, "w"], [out]))
        elif op == "Turned":
            if "v" not in stored:
                nodes.append(helper.make_node("Transpose", ["v"], ["vt"]))
                nodes.append(helper.make_node("Identity", ["vt"], ["vti"]))
            stored["v"] = 0.5 * normal(4, 4, seed=6)
            nodes.append(helper.make_node("MatMul", [a, "vti"], [out]))
        elif op == "Constant":
            if not any(node.op_type == "Constant" for node in nodes):
                value = numpy_helper.from_array(normal(4, seed=7))
                nodes.append(helper.make_node("Constant", [], ["c"], value=value))
            nodes.append(helper.make_node("Add", [a, "c"], [out]))
        else:
            if "yes" not in stored:
                stored["yes"] = np.array(True)
            branches = {
                key: helper.make_graph(
                    [helper.make_node(kind, [a, b], [f"{out}.{key}"])],
                    key,
                    [],
                    [helper.make_tensor_value_info(f"{out}.{key}", 1, ["N", 4])],
                )
                for key, kind in (("then_branch", "Sub"), ("else_branch", "Add"))
            }
            nodes.append(helper.make_node("If", ["yes"], [out], **branches))
        names.append(out)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, 1, ["N", 4]) for name in ("x", "x2")],
        [helper.make_tensor_value_info(names[-1], 1, ["N", 4])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(proto)
    return proto


STEPS = st.lists(
    st.tuples(st.sampled_from(OPS), st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=9
)


@examples(40)
@given(STEPS, st.data())
def test_any_graph_cut_anywhere_computes_the_same(steps, data) -> None:
    proto = random_graph(steps)
    tensors = ["x", *(f"t{at}" for at in range(len(steps)))]
    stops = data.draw(
        st.lists(st.lists(st.sampled_from(tensors), min_size=1, max_size=2), min_size=1, max_size=4)
    )
    check(proto, stops, feed(proto))


def test_only_the_tensors_needed_later_stay_alive() -> None:
    proto = residual()
    _, _, pieces = cut(proto, [["x"], ["r1"], ["f"]])
    assert [sorted(piece.needed) for piece in pieces] == [["x"], ["r1"], ["f"]]


def test_a_branch_that_nobody_asks_for_does_not_run() -> None:
    proto = residual()
    runs = check(proto, [["r1"], ["k"]], feed(proto))
    ran = [proto.graph.node[at].op_type for at in runs]
    assert ran == ["Conv", "BatchNormalization", "Relu", "Conv"]


def test_changed_weights_count_from_the_next_piece_on() -> None:
    proto = mlp()
    stops, feeds = [["x"], ["h1"], ["h2"], ["y"]], feed(mlp())

    def change(at: int) -> None:
        if at:
            (tensor,) = (each for each in proto.graph.initializer if each.name == f"w{at}")
            values = numpy_helper.to_array(tensor) * np.float32(0.5)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    found, _ = by_pieces(proto, stops, feeds, change)
    for name, value in zip(["h1", "h2", "y"], run(proto, ["h1", "h2", "y"], feeds), strict=True):
        assert np.array_equal(found[name], value)


def test_weights_in_constant_nodes_follow_changes_in_every_piece() -> None:
    w = numpy_helper.from_array(normal(4, 4, seed=3), "")
    proto = build(
        """g (float[N,4] x) => (float[N,4] y) {
            h = MatMul(x, w)
            r = Relu(h)
            y = MatMul(r, w)
        }""",
        w=normal(4, 4),
    )
    del proto.graph.initializer[:]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=w))
    runs = check(proto, [["r"], ["y"]], feed(proto))
    assert sorted(runs) == [0, 0, 1, 2, 3]


def test_reads_sees_what_subgraphs_capture_but_not_their_own_names() -> None:
    proto = random_graph([("Relu", 0, 0), ("If", 2, 1)])
    flat = Index(proto).flat
    assert flat.main_nodes[-1].reads == {"yes", "t0", "x2"}
    inner = {name for body in flat.main_nodes[-1].subgraphs for name in body.outputs}
    for nodes, more in ((flat.main_nodes, set()), (flat.nodes, inner)):
        assert depends_on(nodes, {"t0"}) == {"t0", "t1"} | more
        assert depends_on(nodes, {"x2"}) == {"x2", "t1"} | more
