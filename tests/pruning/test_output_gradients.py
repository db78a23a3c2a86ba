"""Gradients of random signs against Jacobians in closed form, and against whole runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning import output_gradients, sensitivity
from nettrim_cli.pruning.output_gradients import (
    SHRINKAGE,
    OutputGradients,
    OutputImportance,
    blended,
    shrunk_correlation,
)
from nettrim_cli.pruning.propagation import stages
from nettrim_cli.pruning.sensitivity import SensitivityProbe, movements
from tests.support.networks import NETWORKS, input_samples
from tests.support.small import build, normal, run


def single(x):
    """Batches of one sample each."""
    return [Batch({"x": x[at : at + 1]}, 1, None) for at in range(len(x))]


def together(x):
    """One batch of all samples."""
    return [Batch({"x": x}, len(x), None)]


def gradients_of(proto, x, batches=single):
    return OutputGradients(Model(proto), batches(x), batches(x), threads=1)


def importance_of(proto, x):
    gradients = gradients_of(proto, x)
    return gradients.importance(gradients.dense)


def alone(*blocks):
    """The importance of outputs of which nothing is known together."""
    return [OutputImportance(np.array(weights)) for weights in blocks]


def relative(weights):
    """Numbers with mean square 1."""
    return weights / np.sqrt(np.mean(np.square(weights)))


def with_noise(dense):
    """A network with other weights in every layer."""
    changed, noise = dense.clone(), np.random.default_rng(0)
    for layer in dense.layers:
        matrices, biases = dense.weight(layer)
        small = [U * noise.normal(1, 1e-3, U.shape).astype(U.dtype) for U in matrices]
        changed.set_weight(layer, small, biases and [bias + np.float32(1e-4) for bias in biases])
    return changed


def test_of_a_linear_network_it_is_the_product_of_the_weights_behind() -> None:
    """With one output there is one pattern of signs up to the whole sign: no noise is left."""
    w = [normal(7, 6), normal(6, 5, seed=1), normal(5, 1, seed=2)]
    proto = build(
        """g (float[N,7] x) => (float[N,1] y) {
            a = MatMul(x, w0) b = MatMul(a, w1) y = MatMul(b, w2)
        }""",
        **{f"w{at}": each for at, each in enumerate(w)},
    )
    found = importance_of(proto, normal(4, 7, seed=3))
    np.testing.assert_allclose(
        found["a"][0].weights, relative(np.abs(w[1] @ w[2])[:, 0]), rtol=1e-4
    )
    np.testing.assert_allclose(found["b"][0].weights, relative(np.abs(w[2])[:, 0]), rtol=1e-4)


@pytest.mark.parametrize("constant", [True, False])
def test_it_is_the_same_inside_the_branch_that_all_samples_take(constant) -> None:
    chain = "a = MatMul(x, w0) b = MatMul(a, w1) {} = MatMul(b, w2)"
    branches = f"""g (float[N,7] x, bool c) => (float[N,1] y) {{
        y = If(c) <
            then_branch = t () => (float[N,1] p) {{ {chain.format("p")} }},
            else_branch = e () => (float[N,1] q) {{ q = MatMul(x, v) }}
        >
    }}"""
    x, v = normal(4, 7, seed=3), normal(7, 1, seed=4)
    w = {"w0": normal(7, 6), "w1": normal(6, 5, seed=1), "w2": normal(5, 1, seed=2)}
    batches = [
        Batch({"x": x[at : at + 1], "c": np.array(constant or at > 0)}, 1, None) for at in range(4)
    ]
    gradients = OutputGradients(Model(build(branches, **w, v=v)), batches, batches, threads=1)
    found = gradients.importance(gradients.dense)
    plain = importance_of(
        build(f"g (float[N,7] x) => (float[N,1] y) {{ {chain.format('y')} }}", **w), x
    )
    assert len(found) == (3 if constant else 0)
    for name in "ab" if constant else "":
        inside, outside = found[f"y.then_branch/{name}"][0], plain[name][0]
        np.testing.assert_allclose(inside.weights, outside.weights, rtol=1e-4)
        np.testing.assert_allclose(inside.correlation, outside.correlation, atol=1e-4)


def test_with_many_outputs_it_is_the_diagonal_of_h_on_average() -> None:
    w = normal(6, 9, seed=1)
    proto = build(
        "g (float[N,7] x) => (float[N,9] y) { a = MatMul(x, w0) y = MatMul(a, w1) }",
        w0=normal(7, 6),
        w1=w,
    )
    (found,) = importance_of(proto, normal(600, 7, seed=3))["a"]
    np.testing.assert_allclose(found.weights, relative(np.sqrt(np.diag(w @ w.T))), rtol=0.1)


def correlation_of(H):
    """What stays of second moments where each channel has unit energy."""
    size = np.sqrt(np.diag(H))
    return H / np.outer(size, size)


@pytest.mark.parametrize("layout", ["last", "second"])
def test_outputs_together_have_the_correlations_of_h(layout: str) -> None:
    w = normal(6, 3, seed=1)
    if layout == "last":
        body, x, w0, w1 = "a = MatMul(x, w0) y = MatMul(a, w1)", normal(4000, 7), normal(7, 6), w
        text = f"g (float[N,7] x) => (float[N,3] y) {{ {body} }}"
    else:
        body, x = "a = Conv(x, w0) y = Conv(a, w1)", normal(4000, 7, 1, 1)
        w0, w1 = normal(6, 7, 1, 1), w.T[:, :, None, None].copy()
        text = f"g (float[N,7,1,1] x) => (float[N,3,1,1] y) {{ {body} }}"
    (found,) = importance_of(build(text, w0=w0, w1=w1), x)["a"]
    expected = (1 - SHRINKAGE) * correlation_of(w @ w.T)
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(found.correlation, expected, atol=0.04)


@pytest.mark.parametrize(("limits", "together"), [((6, 99), "ay"), ((99, 40), "y"), ((2, 99), "")])
def test_of_wide_layers_outputs_are_taken_alone(limits, together, monkeypatch) -> None:
    monkeypatch.setattr(output_gradients, "MOST_OUTPUTS", limits[0])
    monkeypatch.setattr(output_gradients, "FEW_PAIRS", limits[1])
    proto = build(
        "g (float[N,2] x) => (float[N,3] y) { a = MatMul(x, w0) y = MatMul(a, w1) }",
        w0=normal(2, 6),
        w1=normal(6, 3),
    )
    found = importance_of(proto, normal(8, 2))
    assert {name for name, (block,) in found.items() if block.correlation is not None} == {
        *together
    }


def test_correlations_that_chance_explains_vanish() -> None:
    independent = normal(40, 200).astype(np.float64)
    found = shrunk_correlation(independent.T @ independent, 40)
    assert np.abs(found - np.eye(200)).max() < 0.06
    common = independent + 3 * normal(40, 1, seed=1)
    found = shrunk_correlation(common.T @ common, 40)
    assert np.mean(found) > 0.7
    assert np.array_equal(shrunk_correlation(np.zeros((3, 3)), 5), np.eye(3))
    assert np.linalg.eigvalsh(found).min() > 0


TAILS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "activations": ("6", "a = Tanh(z) y = MatMul(a, w1)", {"w1": normal(6, 1, seed=5)}),
    "a gate": (
        "6",
        "a = Sigmoid(z) b = Mul(a, z) y = MatMul(b, w1)",
        {"w1": normal(6, 1, seed=5)},
    ),
    "a softmax": ("6", "a = Softmax(z) y = MatMul(a, w1)", {"w1": normal(6, 1, seed=5)}),
    "a convolution": (
        "6,4,4",
        "a = Conv<pads = [1, 1, 1, 1]>(z, w1) b = Relu(a) y = ReduceSum(b)",
        {"w1": normal(4, 6, 3, 3, seed=5)},
    ),
}


@pytest.mark.parametrize("kind", TAILS)
def test_it_is_the_size_of_the_derivative_by_differences(kind) -> None:
    sizes, tail, tensors = TAILS[kind]
    image = "," in sizes
    shape = (2, 4, 4) if image else (5,)
    declared = f"float[N,{','.join(map(str, shape))}] x"
    head = "z = Conv<pads = [1, 1, 1, 1]>(x, w0)" if image else "z = MatMul(x, w0)"
    w0 = normal(6, 2, 3, 3) if image else normal(5, 6)
    whole = build(f"g ({declared}) => (float[N,1] y) {{ {head} {tail} }}", w0=w0, **tensors)
    after = build(f"g (float[N,{sizes}] z) => (float[N,1] y) {{ {tail} }}", **tensors)
    x = normal(3, *shape, seed=8)
    energy = np.zeros(6)
    for sample in single(x):
        before = build(f"g ({declared}) => (float[N,{sizes}] z) {{ {head} }}", w0=w0)
        (z,) = run(before, ["z"], sample.feeds)
        for place in np.ndindex(*z.shape):
            step = np.zeros_like(z)
            step[place] = 1e-2
            (up,), (down,) = (run(after, ["y"], {"z": z + sign * step}) for sign in (1, -1))
            energy[place[1]] += np.square((up - down).sum() / 2e-2)
    (found,) = importance_of(whole, x)["z"]
    np.testing.assert_allclose(found.weights, relative(np.sqrt(energy)), rtol=0.02, atol=0.011)


def test_before_an_op_without_a_rule_channels_are_told_apart_all_the_same() -> None:
    w1 = normal(6, 4, seed=1) * np.arange(1, 7, dtype=np.float32)[:, None]
    proto = build(
        """g (float[4,N,3] x) => (float[4,1,N,5] y) {
            z = MatMul(x, w0) v = MatMul(z, w1) y = GRU<hidden_size = 5>(v, w, r, b, steps)
        }""",
        w0=normal(3, 6),
        w1=w1,
        w=normal(1, 15, 4, seed=2),
        r=normal(1, 15, 5, seed=3),
        b=np.zeros((1, 30), np.float32),
        steps=np.array([4, 4], np.int32),
    )
    dense = Model(proto)
    batches = [Batch({"x": normal(4, 2, 3, seed=at)}, 2, None) for at in range(200)]
    gradients = OutputGradients(dense, batches, batches, threads=1)
    (found,) = gradients.importance(dense)["z"]
    np.testing.assert_allclose(found.weights, relative(np.linalg.norm(w1, axis=1)), rtol=0.15)
    assert not gradients.movements(with_noise(dense)).keys() & {"z", "v"}


def moved_by_each(proto, x, batches=single):
    """What gradients and probes tell of small changes of each layer."""
    gradients = gradients_of(proto, x, batches)
    dense, changed = gradients.dense, with_noise(gradients.dense)
    plan = stages(dense.layers)
    names = [layer.name for layer in dense.layers]
    probe = SensitivityProbe(dense, plan, single(x), threads=1)
    wanted = {}
    for number, stage in enumerate(plan):
        for layer in stage.layers:
            matrices, biases = changed.weight(layer)
            if layer.has_bias:
                pairs = zip(matrices, biases, strict=True)
                matrices = [np.vstack([U, bias[None]]) for U, bias in pairs]
            wanted[layer.name] = probe.movement(number, layer, matrices)
    found = movements(gradients, changed, names, plan, lambda _: single(x))
    return gradients.movements(changed), found, wanted


@pytest.mark.parametrize("batches", [single, together])
def test_with_one_output_movements_are_those_of_probes(batches) -> None:
    proto = build(
        """g (float[N,8] x) => (float[N,1] y) {
            a = Gemm(x, w0, b0) p = Relu(a) b = MatMul(p, w1) c = Add(b, b1) q = Tanh(c)
            y = MatMul(q, w2)
        }""",
        w0=normal(8, 7),
        b0=normal(7),
        w1=normal(7, 6, seed=1),
        b1=normal(6),
        w2=normal(6, 1, seed=2),
    )
    direct, _, wanted = moved_by_each(proto, normal(64, 8, seed=3), batches)
    assert direct.keys() == wanted.keys()
    for name, movement in wanted.items():
        assert direct[name] == pytest.approx(movement, rel=0.02)


@pytest.mark.parametrize("name", NETWORKS)
def test_movements_are_those_of_probes_on_average(name, monkeypatch) -> None:
    monkeypatch.setattr(sensitivity, "PROBED_LAYERS", 0)
    proto = NETWORKS[name]()
    _, found, wanted = moved_by_each(proto, input_samples(proto, 96))
    assert found.keys() == wanted.keys()
    for layer, movement in wanted.items():
        assert found[layer].outputs == pytest.approx(movement.outputs, rel=0.6)
        assert found[layer].unflattened == pytest.approx(movement.unflattened, rel=0.6)


@pytest.mark.parametrize("probed", [0, 48])
def test_few_layers_and_those_that_no_gradient_reaches_are_probed(probed, monkeypatch) -> None:
    monkeypatch.setattr(sensitivity, "PROBED_LAYERS", probed)
    proto = build(
        """g (float[4,N,3] x) => (float[4,N,2] y) {
            z = MatMul(x, w0) h = GRU<hidden_size = 5>(z, w, r, b, steps) s = Squeeze(h, one)
            y = MatMul(s, w1)
        }""",
        w0=normal(3, 6),
        w=normal(1, 15, 6, seed=2),
        r=normal(1, 15, 5, seed=3),
        b=np.zeros((1, 30), np.float32),
        steps=np.array([4, 4], np.int32),
        w1=normal(5, 2, seed=4),
        one=np.array([1]),
    )
    dense = Model(proto)
    batches = [Batch({"x": normal(4, 2, 3, seed=at)}, 2, None) for at in range(8)]
    gradients = OutputGradients(dense, batches, batches, threads=1)
    changed = with_noise(dense)
    plan = stages([layer for layer in dense.layers if layer.prunable])
    names = [layer.name for stage in plan for layer in stage.layers]
    asked: list[int] = []

    def probe_batches(count):
        asked.append(count)
        return batches

    found = movements(gradients, changed, names, plan, probe_batches)
    assert asked == [len(names) - (not probed)]  # of many layers the last is told by its gradient
    assert set(found) == set(names)
    assert all(movement.outputs > 0 for movement in found.values())


def test_several_outputs_count_relative_to_their_sizes() -> None:
    def moved(factor):
        proto = build(
            """g (float[N,4] x) => (float[N,1] y, float[N,1] big) {
                a = MatMul(x, w0) y = MatMul(a, w1) c = MatMul(a, w2) big = Mul(c, f)
            }""",
            w0=normal(4, 5),
            w1=normal(5, 1, seed=1),
            w2=normal(5, 1, seed=2),
            f=np.array([factor], np.float32),
        )
        gradients = gradients_of(proto, normal(64, 4, seed=3))
        return gradients.movements(with_noise(gradients.dense))["a"].outputs

    assert moved(1000) == pytest.approx(moved(1), rel=1e-3)


def test_two_blended_are_their_geometric_mean_by_layer() -> None:
    one = {"a": alone([1.0, 1.0], [1.0]), "b": alone([0.5])}
    two = {"a": alone([4.0, 1.0], [4.0]), "c": alone([2.0])}
    found = blended(one, two)
    size = np.sqrt((4 + 1 + 4) / 3)
    joint = np.concatenate([block.weights for block in found["a"]])
    np.testing.assert_allclose(joint, np.array([2, 1, 2]) / size)
    assert (found["b"], found["c"]) == (one["b"], two["c"])


def test_a_unit_that_nothing_reads_any_more_matters_less_than_before() -> None:
    proto = build(
        "g (float[N,9] x) => (float[N,4] y) { z = MatMul(x, w0) y = MatMul(z, w1) }",
        w0=normal(9, 6),
        w1=normal(6, 4, seed=5),
    )
    gradients = gradients_of(proto, normal(64, 9, seed=3))
    dense = gradients.dense
    first, second = dense.layers
    sparse, (weights,) = dense.clone(), dense.weight(second)[0]
    weights[2] = 0
    sparse.set_weight(second, [weights], None)
    before, after = (gradients.importance(model)[first.name][0] for model in (dense, sparse))
    joint = blended({first.name: [before]}, {first.name: [after]})[first.name][0]
    assert after.weights[2] < 0.1 * before.weights[2]
    assert after.weights[2] < joint.weights[2] < before.weights[2]
    assert np.mean(np.square(joint.weights)) == pytest.approx(1)
    np.testing.assert_allclose(joint.correlation, (before.correlation + after.correlation) / 2)
