"""Costs of layers at the outputs: against networks that are put together by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from nettrim_cli.data.dataset import Batch
from nettrim_cli.evaluation.layer_costs import SplicedNetworks, entry_distances, layer_costs
from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops import Unsupported
from nettrim_cli.report.certificate_result import LayerCosts
from tests.support.effort import examples
from tests.support.networks import attention, initializers, input_samples, mlp, residual
from tests.support.random_networks import random_network
from tests.support.sketches import batches, changed, samples, sketched
from tests.support.small import build, normal, run
from tests.support.smaller import choice, masked


def costs(
    dense: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray, **options: int
) -> LayerCosts:
    name = dense.graph.input[0].name
    models = Model(dense), Model(other)
    return layer_costs(*models, lambda _: batches(name, x), threads=1, **options)


def spliced(
    dense: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray, most: int = 99
) -> list[np.ndarray]:
    """The output of all networks, in float64, and the layers that change between them."""
    networks = SplicedNetworks(Model(dense), Model(other), threads=1, most_parts=most)
    found = [networks.outputs(batch) for batch in batches(dense.graph.input[0].name, x)]
    return [
        np.concatenate([next(iter(values.values())) for values in same]).astype(np.float64)
        for same in zip(*found, strict=True)
    ]


def mixed(dense: onnx.ModelProto, other: onnx.ModelProto) -> list[onnx.ModelProto]:
    """Models with the dense weights in the first 0, 1, ... layers and the other weights behind."""
    models, originals = [other], initializers(dense)
    names: list[list[str]] = []
    for node in dense.graph.node:
        read = [name for name in node.input if name in originals]
        if node.op_type in ("Conv", "Gemm", "MatMul") and read:
            names.append(read)
        elif read:
            names[-1] += read
    for read in names:
        models.append(onnx.ModelProto.FromString(models[-1].SerializeToString()))
        for tensor in models[-1].graph.initializer:
            if tensor.name in read:
                tensor.CopyFrom(numpy_helper.from_array(originals[tensor.name], tensor.name))
    return models


def reference(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return np.asarray(
        ReferenceEvaluator(proto).run(None, {proto.graph.input[0].name: x})[0], np.float64
    )


@pytest.mark.parametrize("network", [mlp, residual, attention])
def test_networks_are_those_of_mixed_weights(network) -> None:
    dense = network()
    other = changed(dense, 1, 0.4)
    x = input_samples(dense, 9)
    expected = [reference(proto, x) for proto in mixed(dense, other)]
    expected = [
        y
        for number, y in enumerate(expected)
        if number == 0 or not np.array_equal(y, expected[number - 1])
    ]
    found = spliced(dense, other, x)
    assert len(found) == len(expected) > 2
    for y, z in zip(found, expected, strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)
    size = np.linalg.norm(expected[-1])
    steps = [np.linalg.norm(b - a) / size for a, b in zip(expected, expected[1:], strict=False)]
    result = costs(dense, other, x)
    assert [part.largest for part in result.parts] == pytest.approx(steps, rel=1e-3)
    (cost_sum,) = result.sums
    moved = sum(np.abs(b - a) for a, b in zip(expected, expected[1:], strict=False))
    assert cost_sum.bound == pytest.approx(np.linalg.norm(moved) / size, rel=1e-3)
    assert cost_sum.error <= cost_sum.bound <= sum(steps)
    assert cost_sum.error == pytest.approx(
        np.linalg.norm(expected[-1] - expected[0]) / size, rel=1e-3
    )
    assert result.samples == 9


@examples(30)
@given(st.integers(0, 100_000), st.sampled_from((0.02, 0.3, 0.9)), st.integers(1, 8))
def test_the_sum_telescopes_and_bounds_the_error(seed, share, most) -> None:
    dense = sketched(seed)
    other, x = changed(dense, seed, share), samples(dense, seed)
    y, z = (run(proto, ["y"], {"x": x})[0].astype(np.float64) for proto in (dense, other))
    found = spliced(dense, other, x, most)
    np.testing.assert_allclose(found[0], z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[-1], y, rtol=1e-4, atol=1e-5)
    differences = [b - a for a, b in zip(found, found[1:], strict=False)]
    np.testing.assert_allclose(sum(differences, np.zeros_like(y)), found[-1] - found[0], atol=1e-12)
    result = costs(dense, other, x, most_parts=most)
    (cost_sum,) = result.sums
    assert len(result.parts) == len(differences) <= most
    if y.any():
        error = np.linalg.norm(z - y) / np.linalg.norm(y)
        assert cost_sum.error == pytest.approx(error, rel=1e-3, abs=1e-5)
        assert cost_sum.error <= cost_sum.bound * (1 + 1e-9) + 1e-12


def test_equal_models_cost_nothing() -> None:
    dense = residual()
    result = costs(dense, dense, input_samples(dense, 5))
    assert result.parts == ()
    assert [(each.bound, each.error) for each in result.sums] == [(0, 0)]


def test_a_branch_is_a_node_as_a_whole() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        h = MatMul(x, w)
        m = ReduceMax<keepdims = 0>(h)
        zero = Constant<value_float = 0.0>()
        c = Greater(m, zero)
        b = If(c)<
            then_branch = t () => (float[N,4] a) { a = MatMul(h, u) },
            else_branch = e () => (float[N,4] d) { d = Neg(h) }
        >
        y = MatMul(b, v)
    }"""
    dense = build(text, w=normal(6, 4), u=normal(4, 4, seed=1), v=normal(4, 4, seed=2))
    other = onnx.ModelProto.FromString(dense.SerializeToString())
    for tensor in other.graph.initializer:
        values = 0.9 * numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    x = samples(dense, 0)
    result = costs(dense, other, x)
    assert [len(part.layers) for part in result.parts] == [1, 1, 1]
    # Each layer takes a tenth off what arrives, wherever the branch leads.
    assert [part.largest for part in result.parts] == pytest.approx([0.081, 0.09, 0.1], rel=1e-4)
    (cost_sum,) = result.sums
    assert (cost_sum.error, cost_sum.bound) == pytest.approx((0.271, 0.271), rel=1e-4)


def smaller_mlp() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A network, and one with a hidden unit less between its second and its third layer."""
    text = """g (float[N,6] x) => (float[N,4] y) {
        a = MatMul(x, w)
        b = Relu(a)
        c = MatMul(b, u)
        d = Relu(c)
        e = MatMul(d, v)
        y = MatMul(e, z)
    }"""
    w, u, v, z = (
        normal(*shape, seed=n) for n, shape in enumerate([(6, 7), (7, 5), (5, 3), (3, 4)])
    )
    dense = build(text, w=w, u=u, v=v, z=z)
    return dense, build(text, w=0.9 * w, u=u[:, 1:], v=v[1:], z=0.9 * z)


def test_the_dense_network_is_left_with_the_units_that_the_other_has() -> None:
    dense, other = smaller_mlp()
    x = samples(dense, 0)
    result = costs(dense, other, x)
    assert [part.layers for part in result.parts] == [("a",), ("c",), ("e",), ("y",)]
    found = spliced(dense, other, x)
    w, u, v, z = (numpy_helper.to_array(each) for each in dense.graph.initializer)
    hidden = np.maximum(x @ w, 0)
    by_hand = np.maximum(hidden @ u[:, 1:], 0) @ v[1:] @ (0.9 * z)
    for network in found[1:3]:  # a layer whose units are left as they were costs nothing
        np.testing.assert_allclose(network, by_hand, rtol=1e-4, atol=1e-5)


def test_layers_between_tensors_that_match_are_one_part() -> None:
    dense, other = (mlp(sizes=(6, 8, hidden, 7, 3)) for hidden in (9, 12))
    x = input_samples(dense, 12)
    result = costs(dense, other, x)
    assert [len(part.layers) for part in result.parts] == [2]  # its hidden units are more
    (cost_sum,) = result.sums
    y, z = (run(proto, ["y"], {"x": x})[0] for proto in (dense, other))
    assert cost_sum.error == pytest.approx(np.linalg.norm(z - y) / np.linalg.norm(y), rel=1e-4)
    assert cost_sum.error == cost_sum.bound


@pytest.mark.parametrize("seed", range(8))
def test_networks_with_fewer_units_of_any_kind(seed) -> None:
    proto, feeds = random_network(seed)
    model = Model(proto)
    kept = choice(groups := unit_groups(model), seed)
    small = Model(delete_units(masked(model, groups, kept), kept).proto)
    batch = Batch(feeds, len(next(iter(feeds.values()))), None)
    result = layer_costs(model, small, lambda _: [batch], threads=1)
    assert not result.reason
    for cost_sum in result.sums:
        y, z = (run(each.proto, [cost_sum.name], feeds)[0] for each in (model, small))
        error = np.linalg.norm(z - y) / np.linalg.norm(y)
        assert cost_sum.error == pytest.approx(error, rel=1e-3, abs=1e-5)
        assert cost_sum.error <= cost_sum.bound * (1 + 1e-9)


def test_groups_cost_no_more_than_their_layers() -> None:
    dense = mlp(sizes=(8, 9, 9, 9, 9, 9, 3))
    other = Model(dense).clone()
    for layer in other.layers:
        weights, biases = other.weight(layer)
        other.set_weight(layer, [0.9 * weight for weight in weights], biases)
    x = input_samples(dense, 12)
    single, groups = (costs(dense, other.proto, x, most_parts=most) for most in (99, 3))
    assert [len(part.layers) for part in groups.parts] == [2, 2, 2]
    assert [len(part.layers) for part in single.parts] == [1] * 6
    (alone,), (together,) = single.sums, groups.sums
    assert alone.error == pytest.approx(together.error, rel=1e-5)
    assert together.error <= together.bound <= alone.bound


def test_what_differs_between_layers_counts_with_the_one_before() -> None:
    text = """g (float[N,6] x) => (float[N,4] y) {
        s = Mul(x, f)
        a = MatMul(s, w)
        b = LayerNormalization<axis = -1>(a, g)
        y = MatMul(b, u)
    }"""
    tensors = {"f": normal(6), "w": normal(6, 5), "g": normal(5), "u": normal(5, 4)}
    dense = build(text, **tensors)
    other = build(text, **tensors | {name: 0.9 * tensors[name] for name in "fwg"})
    result = costs(dense, other, samples(dense, 0))
    assert [part.layers for part in result.parts] == [("s",), ("a",)]


def test_distances_of_answers_and_of_what_is_not_finite() -> None:
    words = np.array([["a", "b"]], object), np.array([["a", "c"]], object)
    assert entry_distances("y", *words).tolist() == [[0, 1]]
    odd = np.array([np.inf, np.nan, 1.0, np.inf]), np.array([np.inf, np.nan, 3.0, 1.0])
    assert entry_distances("y", *odd).tolist() == [0, 0, 2, np.inf]
    with pytest.raises(Unsupported, match="the shape of 'y' depends on the weights"):
        entry_distances("y", np.zeros(3), np.zeros(4))


def test_answers_that_several_layers_change_count_once() -> None:
    dense = mlp(sizes=(6, 9, 9, 5))
    for proto in (dense, other := changed(dense, 3, 0.6)):
        proto.graph.node.append(onnx.helper.make_node("ArgMax", ["y"], ["a"], axis=1))
        proto.graph.output[0].name = "a"
        proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    (cost_sum,) = costs(dense, other, x := input_samples(dense, 50)).sums
    found = np.stack(spliced(dense, other, x))
    assert cost_sum.error == np.mean(found[0] != found[-1])
    assert cost_sum.bound == np.mean((found[1:] != found[:-1]).any(axis=0)) < 1
