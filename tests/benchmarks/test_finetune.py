"""The strongest peer gets what it can use, and is compared as its table says."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import finetune, peers_finetune
from benchmarks.finetune import PEERS, failures, table, verdicts
from benchmarks.peers_finetune import held_error, rows, slow, supported


def network() -> onnx.ModelProto:
    """Flatten, a layer, HardSigmoid, a layer."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("A", (6, 8)), ("B", (8, 3)))
    ]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], "flatten"),
        helper.make_node("MatMul", ["flat", "A"], ["a"], "first"),
        helper.make_node("HardSigmoid", ["a"], ["h"], "gate", alpha=0.3),
        helper.make_node("MatMul", ["h", "B"], ["y"], "second"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    opset = [helper.make_opsetid("", peers_finetune.OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def samples(count: int) -> list[dict[str, Any]]:
    """Batches of ten."""
    random = np.random.default_rng(1)
    return [{"x": random.standard_normal((10, 2, 3)).astype(np.float32)} for _ in range(count)]


def test_nodes_without_gradients_become_others_that_say_the_same() -> None:
    model, (batch,) = network(), samples(1)
    wanted = onnx.reference.ReferenceEvaluator(model).run(None, batch)[0]
    nodes = [part for node in model.graph.node for part in supported(node, model.graph)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert not {"Flatten", "HardSigmoid"} & {node.op_type for node in nodes}
    onnx.checker.check_model(model)
    found = onnx.reference.ReferenceEvaluator(model).run(None, batch)[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_step_has_as_many_samples_as_the_shapes_allow() -> None:
    model = network()
    assert rows(model) == peers_finetune.ROWS
    assert not slow(model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
    assert rows(model) == 7


def test_the_worst_output_counts() -> None:
    wanted = [np.array([3.0, 4.0]), np.array([1.0])]
    assert held_error([np.array([3.0, 3.0]), np.array([1.5])], wanted) == pytest.approx(0.5)


@pytest.mark.slow
def test_fine_tuning_lowers_the_error_and_keeps_zeros(monkeypatch: Any) -> None:
    pytest.importorskip("onnxsim", reason="onnxsim is not installed (pip install '.[bench]')")
    monkeypatch.setattr(peers_finetune, "STEPS", (20, 40))
    dense, pruned, batches = network(), network(), samples(20)
    for tensor in pruned.graph.initializer:
        values = numpy_helper.to_array(tensor)
        zeroed = np.where(np.abs(values) < 0.5, np.float32(0), values)
        tensor.CopyFrom(numpy_helper.from_array(zeroed, tensor.name))
    found = peers_finetune.finetune(dense, pruned, batches, 2, 1)
    wanted, before, after = (
        peers_finetune.answers(model, batches, 1) for model in (dense, pruned, found)
    )
    assert held_error(after, wanted) < 0.9 * held_error(before, wanted)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    for tensor in pruned.graph.initializer:
        assert not weights[tensor.name][numpy_helper.to_array(tensor) == 0].any()


def cell(
    method: str, error: float | str, sparsity: float = 0.9, reached: float = 0
) -> dict[str, Any]:
    """A measured cell, or one that failed."""
    key = "failed" if isinstance(error, str) else "error"
    found = {"model": "net", "method": method, "sparsity": sparsity, key: error}
    return found | {"processor_seconds": 10 * len(method), "reached": reached or sparsity}


def test_the_best_peer_of_each_cell_counts() -> None:
    cells = [
        cell("nettrim", 0.1),
        cell(PEERS[0], 0.4),
        cell(PEERS[1], 0.2),
        cell(PEERS[2], "no block"),
        cell("nettrim", 0.1, 0.7),
        cell(PEERS[0], 0.8, 0.7),
        cell(PEERS[1], 0.01, 0.7, reached=0.2),
    ]
    assert table(cells)[0] == ["net", "90%", 0.4, 0.2, None, 0.1, None]
    mean, worst, *_ = verdicts(cells)
    assert "0.250, floor 0.50, aim 0.30: aim reached" in mean
    assert "worst (net at 90%): 0.500, floor 0.90, aim 0.70: aim reached" in worst
    assert list(failures(cells)) == [
        f"net, {PEERS[2]} at 90%: no block",
        f"net, {PEERS[1]} at 70%: only 20% zeros",
    ]
    assert finetune.by_method(cells, "net", 0.7) == {"nettrim": 0.1, PEERS[0]: 0.8}
