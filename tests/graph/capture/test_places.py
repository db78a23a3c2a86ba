"""Layers wherever they are: recorded, reproduced, written back, and nothing else touched."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.ir.flatten import flatten
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.tensors import all_tensors
from nettrim_cli.pruning.propagation import dense_matrices, propagate, stages
from tests.support.effort import examples
from tests.support.places import HEAD, PLACES, Place, W, branch
from tests.support.recording import recorded
from tests.support.small import normal, run


def main_layer(model: Model):
    return next(layer for layer in model.layers if layer.prunable)


def results(proto: onnx.ModelProto, batches: list[np.ndarray], left: bool = False) -> np.ndarray:
    """(M, P) of what the model's ``y`` is, by onnxruntime."""
    parts = [run(proto, ["y"], {"x": each})[0] for each in batches]
    return np.hstack([y if left else y.reshape(-1, y.shape[-1]).T for y in parts])


def in_order(values: np.ndarray) -> np.ndarray:
    """Columns sorted, where several places give theirs in another order than ``y`` has them."""
    return values[:, np.lexsort(np.round(values, 3))]


def check(name: str, place: Place, batches: list[np.ndarray], head: str = HEAD) -> None:
    proto = place.model(head)
    dense = Model(proto)
    layer = main_layer(dense)
    before = dense.to_bytes()
    matrices, biases = dense.weight(layer)
    dense.set_weight(layer, matrices, biases)
    assert dense.to_bytes() == before
    for changed in (dense, dense.clone()):
        if changed is not dense:
            fresh = [normal(*each, seed=7) for each in layer.blocks]
            bias = [normal(m, seed=8) for _, m in layer.blocks] if layer.has_bias else None
            changed.set_weight(layer, fresh, bias)
            onnx.checker.check_model(changed.proto)
            pairs = zip(all_tensors(proto), all_tensors(changed.proto), strict=True)
            differ = [one.name for one, two in pairs if one != two]
            assert len(differ) == 1 + layer.has_bias
            again, _ = changed.weight(layer)
            changed.set_weight(layer, again, None)  # on the grid already
            np.testing.assert_array_equal(changed.weight(layer)[0], again)
        samples = recorded(changed, batches)[layer.name]
        (W,) = dense_matrices(changed, layer)
        wanted = results(changed.proto, batches, left=name == "left")
        assert samples.X.shape[1] == wanted.shape[1]
        tolerance = 2e-4 * max(1.0, np.abs(wanted).max())
        np.testing.assert_allclose(in_order(samples.Z), in_order(wanted), atol=tolerance)
        np.testing.assert_allclose(W.T @ samples.X, samples.Z, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("name", PLACES)
def test_a_layer_is_reproduced_and_written_wherever_it_is(name) -> None:
    rows = 5 if name == "left" else 6
    check(name, PLACES[name], [normal(rows, 3, seed=11), normal(5, 3, seed=12)])


RECENT = [name for name in PLACES if "by blocks" in name or "int4" in name]
"""Places that only the newest operator sets have."""


@examples(12)
@given(
    st.sampled_from([name for name in PLACES if name not in ("left", "Cast", *RECENT)]),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(("13", "17", "21", "22")),
)
def test_in_batches_of_any_size_and_operator_sets(name, sizes, opset) -> None:
    place = PLACES[name]
    head = HEAD.replace('"" : 21', f'"" : {opset}')
    functions = place.functions.replace('"" : 21', f'"" : {opset}')
    moved = Place(place.body, place.tensors, functions, place.outputs, place.runs)
    check(name, moved, [normal(n, 3, seed=n) for n in sizes], head)


def test_one_weight_at_several_places_is_one_layer() -> None:
    for name in ("shared", "function called twice", "If in function"):
        model = Model(PLACES[name].model())
        (layer,) = model.layers
        assert len(layer.sites) == 2, name
        assert layer.response.follows == "2 places"


@pytest.mark.parametrize("opset", [7, 11, 12])
def test_axes_and_shapes_that_are_attributes_in_earlier_operator_sets(opset) -> None:
    place = Place(
        "i = Squeeze<axes = [0]>(w) j = Unsqueeze<axes = [2]>(i) k = Flatten<axis = 1>(j) "
        "y = MatMul(x, k)",
        {"w": normal(1, 3, 4)},
    )
    head = f'<ir_version: 4, opset_import: ["" : {opset}]>'
    check("flat", place, [normal(4, 3)], head)


def test_a_branch_gives_columns_only_where_it_is_taken() -> None:
    text = branch(
        "p = MatMul(x, w)",
        "q = MatMul(x, u)",
        "s = ReduceSum<keepdims = 0>(x) zero = Constant<value_float = 0.0>() ",
    )
    place = Place(text, {"w": normal(3, 4), "u": normal(3, 4, seed=1)})
    up, down = np.abs(normal(5, 3)), -np.abs(normal(7, 3))
    found = recorded(Model(place.model()), [up, down, up])
    taken, other = found.values()
    np.testing.assert_array_equal(taken.X[:-1], np.hstack([up.T, up.T]))
    np.testing.assert_array_equal(other.X[:-1], down.T)


def test_an_if_whose_branch_is_never_taken_says_so() -> None:
    place = Place(branch("p = Identity(z)", "q = MatMul(x, w)"))
    (samples,) = recorded(Model(place.model()), [normal(4, 3)]).values()
    assert samples.unusable_reason.text == "none of the calibration samples reaches it"


def test_a_cascade_sees_new_weights_at_every_place() -> None:
    """Behind the last place of a shared weight, signals are those of the pruned model."""
    text = "a = MatMul(x, w) h = Tanh(a) b = MatMul(h, w) r = Relu(b) y = MatMul(r, v)"
    place = Place(text, {"w": normal(3, 3), "v": normal(3, 4, seed=5)})
    dense = Model(place.model())
    pruned, x = dense.clone(), normal(9, 3)
    plan = stages(dense.layers)
    flagged = [(Batch({"x": x}, len(x), None), False)]
    seen = []
    for stage in propagate(dense, pruned, plan, flagged, threads=1, seed=0):
        for layer, (samples,) in stage:
            seen.append(samples)
            weights, _ = pruned.weight(layer)
            pruned.set_weight(layer, [0.5 * each for each in weights], None)
    shared, last = seen
    assert (shared.inputs_exact, last.inputs_exact) == (True, False)
    (h,) = run(dense.proto, ["h"], {"x": x})
    np.testing.assert_allclose(shared.X[:-1], np.hstack([x.T, h.T]), rtol=1e-5, atol=1e-6)
    (r,) = run(pruned.proto, ["r"], {"x": x})
    np.testing.assert_allclose(last.X[:-1], r.T, rtol=1e-5, atol=1e-6)
    (y,) = run(dense.proto, ["y"], {"x": x})
    np.testing.assert_allclose(last.Z, y.T, rtol=1e-4, atol=1e-5)


def test_a_weight_tied_to_an_embedding_is_left() -> None:
    text = (
        "i = Constant<value_ints = [0, 2]>() e = Gather(w, i) t = Transpose(w) a = MatMul(x, t) "
        "y = MatMul(a, e2) s = ReduceSum<keepdims = 0>(e)"
    )
    place = Place(text, {"w": normal(5, 3), "e2": normal(5, 4)}, outputs="float[N,M] y, float s")
    model = Model(place.model())
    assert model.layers[0].refusal.text == "weight is also read by ReduceSum 's'"
    assert model.layers[1].prunable


def test_operators_that_only_a_function_imports_are_there_when_it_is_unfolded() -> None:
    functions = (
        '<domain: "local", opset_import: ["" : 21, "com.microsoft" : 1]> act (a) => (r) '
        "{ r = com.microsoft.QuickGelu(a) }"
    )
    place = Place("h = local.act(x) y = MatMul(h, w)", {"w": W}, functions)
    check("act", place, [normal(5, 3)])


def test_names_are_those_of_the_main_graph_and_unique_elsewhere() -> None:
    flat = flatten(PLACES["function called twice"].model())
    made = [name for node in flat.nodes for name in node.output if name]
    assert len(made) == len(set(made))
    assert {"a", "b", "y"} <= set(made)
    holders = [node.holder for node in flat.nodes if node.op_type == "Constant"]
    assert holders[0] is holders[1]


def test_what_a_function_passes_on_is_the_callers() -> None:
    functions = (
        '<domain: "local", opset_import: ["" : 21]> both (a) => (r, s, t) '
        "{ r = Identity(a) s = Relu(r) t = Tanh(r) }"
    )
    place = Place("p, , q = local.both(x) y = Add(p, q)", {}, functions)
    flat = flatten(place.model())
    assert (flat.nodes[0].op_type, flat.nodes[0].output) == ("Identity", ("p",))
    assert flat.nodes[2].output == ("q",)
    assert flat.nodes[1].input == ("p",)


def test_functions_that_call_each_other_are_malformed() -> None:
    one = '<domain: "local", opset_import: ["" : 21, "local" : 1]> f (a) => (r) { r = local.h(a) }'
    two = one.replace("f (a)", "h (a)").replace("local.h(a)", "local.f(a)")
    proto = Place("y = Identity(x)", {}).model()
    other = onnx.parser.parse_model(
        f"{HEAD} g (float[N,3] x) => (float[N,3] y) {{ y = local.f(x) }} {one} {two}"
    )
    proto.functions.extend(other.functions)
    proto.graph.node[0].CopyFrom(other.graph.node[0])
    with pytest.raises(BadInput, match="calls itself"):
        Model(proto)


def test_values_beyond_the_grid_go_to_its_end_and_zeros_to_the_zero_point() -> None:
    dense = Model(PLACES["DequantizeLinear"].model())
    (layer,) = dense.layers
    matrix = np.zeros((3, 4), np.float32)
    matrix[0] = [1e6, -1e6, 0.26, 0]
    dense.set_weight(layer, [matrix], None)
    stored = numpy_helper.to_array(next(t for t in dense.proto.graph.initializer if t.name == "w"))
    assert stored.dtype == np.int8
    assert stored[0].tolist() == [127, -128, 4, 3]
    assert (stored[1:] == 3).all()
    np.testing.assert_array_equal(dense.weight(layer)[0][0][1:], 0)
