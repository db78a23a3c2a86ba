"""The way through a network: order, groups, and whose signals a layer reads."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.stream import StreamCache
from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import (
    dense_matrices,
    layer_problem,
    propagate,
    stages,
)
from tests.support.networks import NETWORKS, attention, input_samples, mlp, residual
from tests.support.small import build, normal, run


def batches(x, size=8):
    return [
        (Batch({"x": x[at : at + size]}, len(x[at : at + size]), None), at >= len(x) - size)
        for at in range(0, len(x), size)
    ]


def halve(model: Model, layer) -> None:
    """Prune roughly: the smaller half of the weights goes."""
    weights, biases = model.weight(layer)
    for weight in weights:
        weight[np.abs(weight) < np.median(np.abs(weight))] = 0
    model.set_weight(layer, weights, None if biases is None else [0.9 * each for each in biases])


def columns(proto, layer, x):
    (value,) = run(proto, [layer.input], {"x": x}) if layer.input != "x" else (x,)
    return ops.columns({"x": value}, layer.geometry)


def result_columns(proto, layer, x):
    (value,) = run(proto, [layer.output], {"x": x})
    return ops.outputs_as_columns(value, layer.geometry)


def through(name, cascade):
    """Walk and prune on the way; samples by layer, the models, the data."""
    dense = Model(NETWORKS[name]())
    pruned = dense.clone()
    x = input_samples(dense.proto, 24)
    seen = {}
    plan = stages(dense.layers)
    steps = propagate(dense, pruned if cascade else None, plan, batches(x), threads=1, seed=0)
    for stage in steps:
        for layer, (samples,) in stage:
            seen[layer.name] = (layer, samples)
            halve(pruned, layer)
    return dense, pruned, x, seen


def test_layers_that_read_one_tensor_share_a_stage() -> None:
    plan = stages(Model(attention()).layers)
    assert [(s.layers[0].input, [layer.op for layer in s.layers]) for s in plan] == [
        ("x", ["MatMul"] * 3),
        ("r", ["MatMul"]),
    ]


def test_windows_that_differ_make_stages_of_their_own() -> None:
    plan = stages(Model(residual()).layers)
    assert [(s.layers[0].input, len(s.layers)) for s in plan] == [
        ("x", 1),
        ("r1", 1),
        ("r1", 1),
        ("f", 1),
    ]
    order = [layer.input for s in plan for layer in s.layers]
    assert order == [layer.input for layer in Model(residual()).layers]


@pytest.mark.parametrize("name", NETWORKS)
def test_in_parallel_all_is_the_dense_network(name) -> None:
    dense, _, x, seen = through(name, cascade=False)
    assert list(seen) == [layer.name for layer in dense.layers]
    for layer, samples in seen.values():
        assert samples.inputs_exact
        assert np.array_equal(samples.X[:-1], columns(dense.proto, layer, x[:16]))
        assert np.array_equal(samples.holdout_X[:-1], columns(dense.proto, layer, x[16:]))
        expected = result_columns(dense.proto, layer, x[:16])
        np.testing.assert_allclose(samples.Z, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cascade_reads_the_pruned_network_and_aims_at_the_dense_one(name) -> None:
    dense, pruned, x, seen = through(name, cascade=True)
    for layer, samples in seen.values():
        for inputs, results, part in (
            (samples.X, samples.Z, x[:16]),
            (samples.holdout_X, samples.holdout_Z, x[16:]),
        ):
            reached = columns(pruned.proto, layer, part)
            np.testing.assert_allclose(inputs[:-1], reached, rtol=1e-4, atol=1e-5)
            wanted = result_columns(dense.proto, layer, part)
            np.testing.assert_allclose(results, wanted, rtol=1e-4, atol=1e-5)
        same = np.array_equal(samples.X[:-1], columns(dense.proto, layer, x[:16]))
        assert samples.inputs_exact is same


@pytest.mark.parametrize("share", [0, 0.9, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cache_leaves_every_sample_as_it_is(name, share) -> None:
    dense, plan = Model(NETWORKS[name]()), stages(Model(NETWORKS[name]()).layers)
    x = input_samples(dense.proto, 24)
    runs: list[int] = []

    class Counting(StreamCache):
        def follow(self, stop, run, names=None):
            return super().follow(stop, lambda: (runs.append(1), run())[1], names)

    def passed(cache):
        pruned, seen = dense.clone(), []
        for stage in propagate(dense, pruned, plan, batches(x), threads=1, seed=0, cache=cache):
            for layer, (samples,) in stage:
                arrays = (samples.X, samples.Z, samples.holdout_X, samples.holdout_Z)
                seen.append([samples.inputs_exact, *(each.copy() for each in arrays)])
                halve(pruned, layer)
        return seen

    whole = StreamCache(1 << 30)
    expected = passed(None)
    passed(whole)
    cache = Counting(int(share * ((1 << 30) - whole.free_bytes)))
    for _ in range(2):
        runs.clear()
        for one, two in zip(passed(cache), expected, strict=True):
            assert one[0] == two[0]
            assert all(np.array_equal(a, b) for a, b in zip(one[1:], two[1:], strict=True))
    kept = len(cache.stops)
    assert kept == 0 if share == 0 else 0 < kept <= len(plan) if share < 1 else kept > len(plan)
    assert len(runs) == len(plan) + 1 - kept


@pytest.mark.parametrize("share", [0.5, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_cascade_takes_from_the_cache_of_a_pass_before_it(name, share) -> None:
    dense, plan = Model(NETWORKS[name]()), stages(Model(NETWORKS[name]()).layers)
    x = input_samples(dense.proto, 24)

    def passed(pruned, cache):
        seen = []
        for stage in propagate(dense, pruned, plan, batches(x), threads=1, seed=0, cache=cache):
            for layer, (samples,) in stage:
                seen += [samples.X.copy(), samples.Z.copy()]
                if pruned is not None:
                    halve(pruned, layer)
        return seen

    whole = StreamCache()
    passed(None, whole)
    cache = StreamCache(int(share * (whole.max_bytes - whole.free_bytes)))
    passed(None, cache)
    assert 0 < len(cache.stops) <= len(plan) + 1
    pairs = zip(passed(dense.clone(), cache), passed(dense.clone(), None), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_only_what_comes_after_a_pruned_layer_is_inexact() -> None:
    exact = {
        layer.input: samples.inputs_exact
        for layer, samples in through("residual", True)[3].values()
    }
    assert exact == {"x": True, "r1": False, "f": False}


def test_beside_a_pruned_branch_signals_stay_exact() -> None:
    proto = build(
        """g (float[N,4] x) => (float[N,4] y) {
            a = MatMul(x, w1)
            t = Tanh(x)
            b = MatMul(t, w2)
            s = Add(a, b)
            y = MatMul(s, w3)
        }""",
        w1=normal(4, 4, seed=1),
        w2=normal(4, 4, seed=2),
        w3=normal(4, 4, seed=3),
    )
    dense = Model(proto)
    pruned = dense.clone()
    x = input_samples(proto, 24)
    exact = []
    for ((layer, (samples,)),) in propagate(
        dense, pruned, stages(dense.layers), batches(x), threads=1, seed=0
    ):
        exact.append((layer.input, samples.inputs_exact))
        halve(pruned, layer)
    assert exact == [("x", True), ("t", True), ("s", False)]


def test_a_task_reproduces_what_follows_the_layer() -> None:
    dense, _, x, seen = through("residual", cascade=False)
    layer, samples = seen[dense.layers[0].name]
    task = layer_problem(dense, layer, samples)
    assert task.relu
    (after,) = run(dense.proto, ["r1"], {"x": x[:16]})
    expected = ops.outputs_as_columns(after, layer.geometry)
    np.testing.assert_allclose(task.response(samples.Z), expected, rtol=1e-3, atol=1e-4)
    assert task.error(task.W, holdout=False) < 1e-6
    assert task.error(np.zeros_like(task.W), holdout=True) > 0.1


def test_a_layer_without_bias_has_a_row_of_zeros_for_the_samples_and_none_in_the_task() -> None:
    dense, _, _, seen = through("attention", cascade=False)
    layer, samples = next(each for each in seen.values() if not each[0].has_bias)
    assert not dense_matrices(dense, layer)[0][-1].any()
    task = layer_problem(dense, layer, samples)
    assert task.W.shape == layer.shape
    assert task.weight_count == layer.parameters


def test_stages_of_nothing() -> None:
    assert stages([]) == []
    assert [s.layers[0].input for s in stages(Model(mlp()).layers[1:])] == ["h1", "h2"]


def branches(order: str):
    """Two branches that meet in a ReLU, and a residual connection around a Gemm behind it."""
    first, second = (
        "a = Conv<pads = [1,1,1,1]>(x, w1, b1)",
        "h = Conv(x, w2) i = Relu(h) c = Conv(i, w3)",
    )
    body = f"{first} {second}" if order == "short first" else f"{second} {first}"
    return build(
        f"""g (float[N,2,6,6] x) => (float[N,5] y) {{
            {body}
            s = Add(c, a)
            r = Relu(s)
            p = GlobalAveragePool(r)
            f = Flatten(p)
            g = Gemm(f, w4, b4)
            y = Add(g, f)
        }}""",
        w1=normal(5, 2, 3, 3, seed=1),
        b1=normal(5, seed=2),
        w2=normal(4, 2, 1, 1, seed=3),
        w3=normal(5, 4, 1, 1, seed=4),
        w4=normal(5, 5, seed=5),
        b4=normal(5, seed=6),
    )


@pytest.mark.parametrize("cascade", [True, False])
@pytest.mark.parametrize("order", ["short first", "long first"])
def test_what_is_added_behind_a_layer_is_recorded_beside_it(order, cascade) -> None:
    proto = branches(order)
    dense = Model(proto)
    pruned = dense.clone()
    x = input_samples(dense.proto, 24)
    later, earlier = ("c", "a") if order == "short first" else ("a", "c")
    seen = {}
    steps = propagate(
        dense, pruned if cascade else None, stages(dense.layers), batches(x), threads=1, seed=0
    )
    for stage in steps:
        for layer, (samples,) in stage:
            seen[layer.output] = samples
            if samples.skip is not None:
                name = layer.response.offset
                for model, kept, held in (
                    (pruned if cascade else dense, "pruned", "holdout_pruned"),
                    (dense, "dense", "holdout_dense"),
                ):
                    for field, part in ((kept, x[:16]), (held, x[16:])):
                        (value,) = run(model.proto, [name], {"x": part})
                        expected = ops.outputs_as_columns(value, layer.geometry)
                        got = getattr(samples.skip, field)
                        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
                assert samples.skip.exact is not cascade
                if cascade:
                    lacks = samples.skip.dense - samples.skip.pruned
                    expected = samples.X.astype(float) @ lacks.T
                    np.testing.assert_allclose(samples.skip.missing, expected, rtol=1e-3, atol=1e-3)
                task = layer_problem(dense, layer, samples)
                assert task.relu is (layer.output != "g")
            halve(pruned, layer)
    assert seen[later].skip is not None
    assert seen["g"].skip is not None
    assert seen[earlier].skip is None  # the other branch is not pruned yet


def test_without_its_residual_a_layer_is_linear() -> None:
    dense = Model(branches("short first"))
    x = input_samples(dense.proto, 24)
    for stage in propagate(dense, None, stages(dense.layers), batches(x), threads=1, seed=0):
        for layer, (samples,) in stage:
            if layer.output == "a":
                assert layer.response.relu
                assert not layer_problem(dense, layer, samples).relu


def test_an_offset_that_is_broadcast_is_given_up() -> None:
    proto = build(
        """g (float[N,3,4] x) => (float[N,3,4] y) {
            z = MatMul(x, w)
            m = ReduceMax<keepdims = 1, axes = [1]>(x)
            s = Add(z, m)
            y = Relu(s)
        }""",
        w=normal(4, 4, seed=1),
    )
    dense = Model(proto)
    x = input_samples(proto, 24)
    steps = propagate(dense, None, stages(dense.layers), batches(x), threads=1, seed=0)
    (((layer, (samples,)),),) = map(list, steps)
    assert layer.response.offset == "m"
    assert samples.skip is None


@pytest.mark.parametrize("where", ["main", "branch"])
def test_a_bias_given_to_a_pruned_layer_runs_along(where) -> None:
    """Two layers share a bias: the one that is pruned first gets a bias of its own."""
    first = "a = MatMul(x, w1) h = Add(a, b)"
    if where == "branch":
        first = """h = If(c) <
            then_branch = t () => (float[N,4] u) { a = MatMul(x, w1) u = Add(a, b) },
            else_branch = e () => (float[N,4] v) { v = Identity(x) }
        >"""
    proto = build(
        f"""g (float[N,4] x) => (float[N,4] y) {{
            {first}
            r = Relu(h)
            d = MatMul(r, w2)
            y = Add(d, b)
        }}""",
        w1=normal(4, 4, seed=1),
        w2=normal(4, 4, seed=2),
        b=normal(4, seed=3),
        c=np.array(True),
    )
    dense = Model(proto)
    pruned = dense.clone()
    x = input_samples(proto, 24)
    found = {}
    for ((layer, (samples,)),) in propagate(
        dense, pruned, stages(dense.layers), batches(x), threads=1, seed=0
    ):
        found[layer.input] = samples
        halve(pruned, layer)
    assert len(pruned.proto.graph.initializer) > len(proto.graph.initializer)
    (reached,) = run(pruned.proto, ["r"], {"x": x[:16]})
    np.testing.assert_allclose(found["r"].X[:-1], reached.T, rtol=1e-4, atol=1e-5)
