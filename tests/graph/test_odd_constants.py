"""Constants of types and values that no op reads: onnx's checker lets them pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from nettrim_cli.graph.model import Model
from tests.support.effort import thinned
from tests.support.op_cases import CASES, Case
from tests.support.small import normal

ODD = {
    "word": np.array("a", object),
    "text": np.array(["a", "b"], object),
    "complex": np.complex64(1 + 2j),
    "not finite": np.array([np.nan, np.inf], np.float32),
}


def models(case: Case, odd: np.ndarray) -> Iterator[onnx.ModelProto]:
    """The node of a case with each of its inputs odd: the others stored, or a layer's result."""
    node = parser.parse_node(f"{case.outputs} = {case.call}")
    for name in filter(None, node.input):
        for first in {*node.input} - {name, ""}:
            for stored in (True, False):
                tensors = {**case.signals, **case.arrays, name: odd, "w": normal(6, 6)}
                nodes = [node, helper.make_node("MatMul", [node.output[0], "w"], ["last"])]
                if not stored:
                    del tensors[first]
                    nodes.insert(0, helper.make_node("MatMul", ["input", "w"], [first]))
                yield helper.make_model(
                    helper.make_graph(
                        nodes,
                        "g",
                        [helper.make_tensor_value_info("input", 1, ["N", 6])],
                        [helper.make_tensor_value_info("last", 1, ["N", 6])],
                        [numpy_helper.from_array(value, key) for key, value in tensors.items()],
                    ),
                    opset_imports=[helper.make_opsetid("", case.opset)],
                )


@pytest.mark.parametrize(
    ("op", "kind"), thinned(itertools.product((op for op in CASES if "." not in op), ODD), 3)
)
def test_odd_constants_break_no_search_for_layers(op, kind) -> None:
    for proto in models(CASES[op], ODD[kind]):
        model = Model(proto)
        assert model.layers
        for name in model.index.all_names():
            model.index.rank(name)
