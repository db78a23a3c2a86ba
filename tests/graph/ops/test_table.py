"""Every entry of the table against the op as onnx and onnxruntime run it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from nettrim_cli.graph import ops
from nettrim_cli.graph.analysis.error_gain import error_gain
from nettrim_cli.graph.ir.index import Index
from nettrim_cli.graph.layers.paths import Outputs, own_path
from nettrim_cli.graph.ops.context import ErrorContext, NodeContext, Norms
from nettrim_cli.graph.ops.spec import UNKNOWN, OpSpec
from nettrim_cli.graph.ops.table import FAMILIES, OPS
from nettrim_cli.graph.ops.untreated import UNTREATED
from nettrim_cli.solve.norms import convolution_norm, operator_norm, window_overlap
from tests.support.one_node import OneNode, assert_inverse, assert_linear
from tests.support.op_cases import CASES, Case
from tests.support.small import normal

NORMS = Norms(operator_norm, convolution_norm, window_overlap)
WEIGHT_ONLY = [
    op for op, spec in OPS.items() if spec.weight is not None and (op in UNTREATED or "." in op)
]
"""Refused ones and the engine's own: ``test_products`` and the like compare their weights."""


def having(*facts: str) -> list[str]:
    """Ops with a case whose entry says more than nothing of one of some facts."""
    return [
        op
        for op in CASES
        if any(getattr(OPS[op], fact) != getattr(UNKNOWN, fact) for fact in facts)
    ]


def values_of(op: str, case: Case) -> list[np.ndarray]:
    """Outputs by onnx's reference, those of the engine's own ops by the engine."""
    if "." not in op:
        return case.expected()
    payload = case.model().SerializeToString()
    session = ort.InferenceSession(payload, providers=["CPUExecutionProvider"])
    return session.run(None, dict(case.signals))


def test_every_entry_has_a_case_and_stands_in_one_family() -> None:
    assert {*OPS} - {*WEIGHT_ONLY} == {*CASES}
    assert sum(map(len, FAMILIES)) == len(OPS)


@pytest.mark.parametrize("op", WEIGHT_ONLY)
def test_of_some_ops_a_weight_alone_is_known(op) -> None:
    assert OPS[op] == OpSpec(weight=OPS[op].weight, channels=OPS[op].channels)


@pytest.mark.parametrize("op", having("function"))
def test_functions_are_those_of_the_reference(op) -> None:
    case = CASES[op]
    index = Index(case.model())
    arrays = {**case.signals, **case.arrays}
    inputs = [arrays[name] for name in index.nodes[0].input]
    values = OPS[op].function(index.attributes(index.nodes[0]), *inputs)
    error = 1e-3 if "Fast" in op else 2e-6  # the engine's own tanh is less exact
    np.testing.assert_allclose(values, values_of(op, case)[0], rtol=10 * error, atol=error)


def inputs_of(op: str) -> tuple[list[np.ndarray], int]:
    """Values of a case's inputs, and the position of its signal among them."""
    case = CASES[op]
    names = Index(case.model()).nodes[0].input
    arrays = {**case.signals, **case.arrays}
    return [arrays[name] for name in names], names.index("x")


@pytest.mark.parametrize("op", having("function"))
def test_functions_are_affine_or_sums_if_the_table_says_so(op) -> None:
    inputs, slot = inputs_of(op)

    def apply(x: np.ndarray) -> np.ndarray:
        return OPS[op].function({}, *[*inputs[:slot], np.float32(x), *inputs[slot + 1 :]])

    x, shift = inputs[slot], 4 + np.abs(normal(*inputs[slot].shape, seed=1))  # beyond any bend
    middle = (apply(x) + apply(x + 2 * shift)) / 2
    assert np.allclose(apply(x + shift), middle, rtol=1e-5, atol=1e-5) == OPS[op].linear
    is_sum = len(inputs) > 1 and np.allclose(apply(x), sum(inputs), rtol=1e-5)
    assert is_sum == OPS[op].adds


@pytest.mark.parametrize("op", having("retypes", "probabilities"))
def test_types_and_ranges_of_values(op) -> None:
    y, x = CASES[op].expected()[0], CASES[op].signals["x"]
    assert (y.dtype != x.dtype) == bool(OPS[op].retypes)
    assert not OPS[op].probabilities or (y.min() >= 0 and y.max() <= 1)


@pytest.mark.parametrize("op", having("mean_slot"))
def test_a_mean_is_taken_off_before_the_scale(op) -> None:
    inputs, _ = inputs_of(op)
    case, index = CASES[op], Index(CASES[op].model())
    name = index.nodes[0].input[OPS[op].mean_slot]
    higher = replace(case, constants={**case.constants, name: 1 + case.arrays[name]})
    moved = (case.expected()[0] - higher.expected()[0]).mean((0, 2, 3))
    path = own_path(index, "x", Outputs(1, inputs[0].shape[1]))
    np.testing.assert_allclose(moved, path.scale, rtol=1e-4)


def test_all_random_ops_are_known() -> None:
    kind, graph = onnx.defs.OpSchema.NodeDeterminism, onnx.defs.OpSchema.AttrType.GRAPH
    random = {
        schema.name
        for schema in onnx.defs.get_all_schemas()
        if not schema.domain and schema.node_determinism == kind.NonDeterministic
        if not any(attribute.type == graph for attribute in schema.attributes.values())
    }
    by_body_or_training = {"AffineGrid", "Dropout"}
    assert random - by_body_or_training == {op for op, spec in OPS.items() if spec.random}


@pytest.mark.parametrize("op", having("rank"))
def test_ranks_and_lengths_are_those_of_the_tensors(op) -> None:
    proto = CASES[op].model()
    index, expected = Index(proto), values_of(op, CASES[op])
    inferred = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in onnx.shape_inference.infer_shapes(proto).graph.output
        if value.type.tensor_type.HasField("shape")
    }
    checked = len(expected) if OPS[op].every_output else 1
    for name, value in [*zip(index.nodes[0].output, expected, strict=True)][:checked]:
        assert index.rank(name) == inferred.get(name, value.ndim) == value.ndim
        assert index.length(name) in (None, value.size)


@pytest.mark.parametrize("op", having("error"))
def test_random_errors_never_grow_by_more_than_the_bound(op) -> None:
    case = CASES[op]
    index = Index(case.model())
    (node,) = index.nodes
    clean = case.expected()
    arrays = {**case.signals, **case.arrays, **dict(zip(node.output, clean, strict=True))}
    shapes = {name: np.shape(value) for name, value in arrays.items()}
    slots = tuple(slot for slot, name in enumerate(node.input) if name in case.signals)
    gain = error_gain(ErrorContext(index, node, slots, [shapes], NORMS))
    for seed in range(9):
        size = 10.0 ** -(seed % 3)
        moves = {name: size * normal(*x.shape, seed=seed) for name, x in case.signals.items()}
        signals = {name: np.float32(x + moves[name]) for name, x in case.signals.items()}
        moved = replace(case, signals=signals).expected()
        distance = float(np.linalg.norm((moved[0].astype(float) - clean[0]).ravel()))
        errors = {slot: float(np.linalg.norm(moves[node.input[slot]])) for slot in slots}
        assert distance <= gain.error(errors) * (1 + 1e-4) + 1e-5


@pytest.mark.parametrize("op", having("gate"))
def test_gates_are_no_steeper_than_their_bound(op) -> None:
    x = np.linspace(-9, 9, 4001)
    y = x * OPS[op].function({}, x.astype(np.float32)).astype(float)
    assert np.abs(np.diff(y) / np.diff(x)).max() <= OPS[op].gate({}) * (1 + 1e-3)


@pytest.mark.parametrize("op", having("layout", "join_axis"))
def test_constants_are_read_and_written_through_a_layout(op) -> None:
    case = CASES[op]
    proto = case.model(*case.signals)
    (expected, *_), view = case.expected(proto), Index(proto).view("y")
    np.testing.assert_allclose(view.values(), expected, rtol=1e-6)
    assert view.shape == expected.shape
    values = np.random.default_rng(1).permutation(expected.ravel()).reshape(expected.shape)
    view.store(values)
    np.testing.assert_allclose(case.expected(proto)[0], values, rtol=1e-6)


@pytest.mark.parametrize("op", having("affine", "clip"))
def test_scales_and_ranges_give_the_values(op) -> None:
    case = CASES[op]
    x, index = case.signals["x"], Index(case.model())
    sizes = [1, x.shape[1], *[1] * (x.ndim - 2)]
    path = own_path(index, "x", Outputs(1, x.shape[1]))
    assert (path.tensor, path.nodes) == ("y", (0,))
    y = x if path.scale is None else path.scale.reshape(sizes) * x + path.shift.reshape(sizes)
    expected = case.expected()[0]
    np.testing.assert_allclose(np.clip(y, path.low, path.high), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", having("same_values", "idle"))
def test_ops_that_change_no_values(op) -> None:
    case = CASES[op]
    (y, *_), x, index = case.expected(), case.signals["x"], Index(case.model())
    np.testing.assert_array_equal(np.sort(y.ravel()), np.sort(x.ravel()))
    context = NodeContext(index, index.nodes[0])
    if OPS[op].idle is not None:
        assert OPS[op].idle(context)
        np.testing.assert_array_equal(y, x)
    assert not (OPS[op].trains and OPS[op].trains(context))


@pytest.mark.parametrize("op", having("weight"))
def test_columns_times_the_weight_are_the_output(op) -> None:
    case = CASES[op]
    index = Index(case.model())
    arrays, (node,) = {**case.signals, **case.arrays}, index.nodes
    inputs = {name: arrays[name] for name in node.input}
    slot = [*inputs].index("a")
    geometry = ops.read_geometry(op, slot, index.attributes(node), inputs["a"].shape)
    if ops.output_axis(geometry) is None:  # rounded, or gates that stay inside
        assert_inverse(inputs["a"].astype(np.float32), geometry)
    else:
        facts = {"opset": case.opset, "outputs": len(node.output), **index.attributes(node)}
        assert_linear(OneNode(op, inputs, **facts), slot)
