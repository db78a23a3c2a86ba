"""Where two versions of a network are cut, and what counts with which cut."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli.graph.analysis.difference import differing_nodes
from nettrim_cli.graph.capture.splice import Cut, Splices, find_cuts, grouped, merged
from nettrim_cli.graph.model import Model
from tests.support.networks import attention, residual
from tests.support.small import build, normal

CUTS = [Cut(position, (name,)) for position, name in ((2, "a"), (5, "b"), (7, "c"), (9, "d"))]


def halved(proto: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """A copy with half the values in some initializers, in all by default."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    for tensor in copy.graph.initializer:
        if not names or tensor.name in names:
            values = 0.5 * numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))
    return copy


def test_cuts_that_go_leave_their_layers_to_the_one_before() -> None:
    assert merged(CUTS, {0, 2}) == [Cut(2, ("a", "b")), Cut(7, ("c", "d"))]
    assert merged(CUTS, {2}) == [Cut(0, ("a", "b")), Cut(7, ("c", "d"))]
    assert merged(CUTS, {0, 1, 2, 3}) == CUTS
    assert merged(CUTS, set()) == [Cut(0, ("a", "b", "c", "d"))]


@pytest.mark.parametrize(("most", "sizes"), [(1, [4]), (3, [2, 1, 1]), (4, [1] * 4), (9, [1] * 4)])
def test_groups_are_about_equal(most, sizes) -> None:
    assert [len(cut.titles) for cut in grouped(CUTS, most)] == sizes
    assert grouped([], most) == []


def test_only_what_differs_is_cut_at() -> None:
    dense = residual()
    cuts = find_cuts(Model(dense), Model(halved(dense, "w2", "b4")))
    assert [cut.titles for cut in cuts] == [("c2",), ("y",)]
    assert find_cuts(Model(dense), Model(dense)) == []


def test_a_cut_has_all_that_is_alive() -> None:
    dense = attention()
    splices = Splices(
        *[Model(dense), Model(halved(dense))], find_cuts(Model(dense), Model(halved(dense)))
    )
    assert [cut.titles for cut in splices.cuts] == [("q0",), ("k",), ("v",), ("y0",)]
    alive = [splices.piece(number, changed=True).needed for number in range(4)]
    assert alive == [{"x"}, {"x", "q"}, {"x", "q", "k"}, {"r"}]
    assert splices.same_shapes


def test_a_tensor_that_the_other_network_lacks_is_no_cut() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        a = MatMul(x, w)
        HIDDEN = Relu(a)
        y = MatMul(HIDDEN, u)
    }"""
    tensors = {"w": normal(6, 5), "u": normal(5, 4)}
    dense = Model(build(text.replace("HIDDEN", "b"), **tensors))
    other = Model(halved(build(text.replace("HIDDEN", "other"), **tensors)))
    splices = Splices(dense, other, find_cuts(dense, other))
    assert [cut.titles for cut in splices.cuts] == [("a", "y")]
    assert not splices.same_shapes


def test_constants_count_with_the_nodes_that_read_them() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        h = Relu(x)
        w = Mul(v, s)
        y = MatMul(h, w)
    }"""
    dense = build(text, v=normal(6, 4), s=normal(4))
    numbers = differing_nodes(Model(dense).index, Model(halved(dense, "s")).index)
    assert [Model(dense).index.nodes[number].output for number in numbers] == [("y",)]
    stored = build(text.replace("w = Mul(v, s)", ""), w=normal(6, 4) * normal(4))
    assert differing_nodes(Model(stored).index, Model(dense).index) != set()
