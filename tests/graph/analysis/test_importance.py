"""Influence of a layer's outputs against the Jacobian of what follows, entry by entry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nettrim_cli.graph.analysis.importance import blended, output_importance
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.ops.importance_rules import fitted
from tests.support.small import build, normal, run

BATCH_NORMALIZATION = {"g": normal(6, seed=1), "b": normal(6, seed=2), "m": normal(6, seed=3)}
BATCH_NORMALIZATION["v"] = normal(6, seed=4) ** 2 + 0.5
ROW = {"x": "float[N,9] x", "z": (1, 6), "first": "z = MatMul(x, w0)", "w0": normal(9, 6)}
IMAGE = {"x": "float[N,2,14,14] x", "z": (1, 6, 14, 14), "w0": normal(6, 2, 3, 3)}
IMAGE["first"] = "z = Conv<pads = [1, 1, 1, 1]>(x, w0)"
TAILS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "matmul": (ROW, "y = MatMul(z, w1)", {"w1": normal(6, 4, seed=5)}),
    "gemm, turned": (ROW, "y = Gemm<transB = 1>(z, w1)", {"w1": normal(4, 6, seed=5)}),
    "scaled by constants": (
        ROW,
        "a = Mul(z, g) c = Div(a, b) y = MatMul(c, w1)",
        {"g": normal(6, seed=1), "b": 1 + normal(6, seed=2) ** 2, "w1": normal(6, 4, seed=5)},
    ),
    "two readers": (
        ROW,
        "a = MatMul(z, w1) b = MatMul(z, w2) y = Concat<axis = 1>(a, b)",
        {"w1": normal(6, 4, seed=5), "w2": normal(6, 3, seed=6)},
    ),
    "a sum of two, one of them known by channel": (
        ROW,
        "a = MatMul(z, w1) b = Identity(z) y = Concat<axis = 1>(a, b)",
        {"w1": normal(6, 4, seed=5)},
    ),
    "split": (
        ROW,
        "p, q = Split<axis = 1>(z, sizes) a = MatMul(p, w1) b = MatMul(q, w2) y = Add(a, b)",
        {"sizes": np.array([2, 4]), "w1": normal(2, 4, seed=5), "w2": normal(4, 4, seed=6)},
    ),
    "joined": (
        ROW,
        "a = MatMul(z, w1) c = Concat<axis = 1>(a, z) y = MatMul(c, w2)",
        {"w1": normal(6, 6, seed=5), "w2": np.diag(np.arange(1.0, 13))},
    ),
    "convolution": (
        IMAGE,
        "y = Conv<pads = [1, 1, 1, 1]>(z, w1)",
        {"w1": normal(4, 6, 3, 3, seed=5)},
    ),
    "groups": (
        IMAGE,
        "y = Conv<group = 2>(z, w1)",
        {"w1": normal(4, 3, 1, 1, seed=5)},
    ),
    "transposed convolution": (
        IMAGE,
        "y = ConvTranspose(z, w1)",
        {"w1": normal(6, 4, 3, 3, seed=5)},
    ),
    "batch normalization": (
        IMAGE,
        "a = BatchNormalization(z, g, b, m, v) y = Conv(a, w1)",
        {**BATCH_NORMALIZATION, "w1": normal(4, 6, 1, 1, seed=5)},
    ),
    "pooled and flattened": (
        IMAGE,
        "a = AveragePool<kernel_shape = [7, 7], strides = [7, 7]>(z) "
        "f = Flatten(a) y = MatMul(f, w1)",
        {"w1": normal(24, 4, seed=5)},
    ),
    "mean over positions": (
        IMAGE,
        "a = ReduceMean<axes = [2, 3], keepdims = 0>(z) y = MatMul(a, w1)",
        {"w1": normal(6, 4, seed=5)},
    ),
}


def behind(kind):
    """The whole model, and the Jacobian's squared norm for each channel of z."""
    head, tail, tensors = TAILS[kind]
    ready = {k: v if v.dtype == np.int64 else v.astype(np.float32) for k, v in tensors.items()}
    text = f"g ({head['x']}) => (float[N,K] y) {{ {head['first']} {tail} }}"
    whole = build(text, w0=head["w0"], **ready)
    shape = head["z"]
    declared = "float[" + ",".join(map(str, shape)) + "] z"
    after = build(f"g ({declared}) => (float[N,K] y) {{ {tail} }}", **ready)
    at = normal(*shape, seed=9)
    (start,) = run(after, ["y"], {"z": at})
    energy = np.zeros(shape)
    for place in np.ndindex(*shape):
        if len(shape) == 4 and not {3, 10}.issuperset(place[2:]):
            continue  # one position in each window stands for all
        moved = at.copy()
        moved[place] += 1
        energy[place] = np.square(run(after, ["y"], {"z": moved})[0] - start).sum()
    return whole, energy.reshape(6, -1).sum(axis=1)


@pytest.mark.parametrize("kind", TAILS)
def test_influence_is_the_size_of_the_jacobian(kind) -> None:
    proto, energy = behind(kind)
    model = Model(proto)
    (found,) = output_importance(model)[model.layers[0].name]
    scale = model.layers[0].response.scale
    wanted = np.sqrt(energy) if scale is None else np.sqrt(energy) / np.abs(scale)
    wanted /= np.sqrt(np.mean(np.square(wanted)))
    assert np.allclose(found, wanted, rtol=2e-3, atol=0.01)


def test_the_values_of_attention_are_followed_and_its_queries_are_not() -> None:
    proto = build(
        """g (float[N,5,6] x) => (float[N,5,4] y) {
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
            q4 = Reshape(q, heads) k4 = Reshape(k, heads) v4 = Reshape(v, heads)
            qh = Transpose<perm = [0, 2, 1, 3]>(q4) kh = Transpose<perm = [0, 2, 3, 1]>(k4)
            vh = Transpose<perm = [0, 2, 1, 3]>(v4)
            s = MatMul(qh, kh) p = Softmax<axis = -1>(s) o = MatMul(p, vh)
            oh = Transpose<perm = [0, 2, 1, 3]>(o) f = Reshape(oh, flat) y = MatMul(f, wo)
        }""",
        **{f"w{each}": normal(6, 6, seed=at) for at, each in enumerate("qkv")},
        wo=normal(6, 4, seed=7) * np.arange(1, 7, dtype=np.float32)[:, None],
        heads=np.array([0, 0, 2, 3]),
        flat=np.array([0, 0, 6]),
    )
    found = output_importance(Model(proto))
    assert set(found) == {"v"}
    wanted = np.linalg.norm(normal(6, 4, seed=7) * np.arange(1, 7)[:, None], axis=1)
    assert np.allclose(found["v"][0] / found["v"][0][0], wanted / wanted[0], rtol=1e-4)


def test_a_recurrent_layer_reads_through_its_gates() -> None:
    proto = build(
        """g (float[4,N,3] x) => (float[4,1,N,5] y) { z = MatMul(x, w0) y = LSTM<hidden_size = 5>
        (z, w, r) }""",
        w0=normal(3, 6),
        w=normal(1, 20, 6, seed=1),
        r=normal(1, 20, 5, seed=2),
    )
    found = output_importance(Model(proto))
    assert set(found) == {"z"}  # what the LSTM's gates read of each channel
    wanted = np.linalg.norm(normal(1, 20, 6, seed=1)[0], axis=0)
    assert np.allclose(found["z"][0] / found["z"][0][0], wanted / wanted[0], rtol=1e-4)


def test_a_constant_without_values_says_nothing() -> None:
    proto = build(
        "g (float[N,6] x) => (float[M,4] y) "
        "{ z = MatMul(x, w0) a = Mul(z, none) y = MatMul(a, w1) }",
        w0=normal(6, 6),
        none=np.empty((0, 6), np.float32),
        w1=normal(6, 4, seed=1),
    )
    (found,) = output_importance(Model(proto))["z"]
    wanted = np.linalg.norm(normal(6, 4, seed=1), axis=1)
    assert np.allclose(found / found[0], wanted / wanted[0], rtol=1e-4)


@pytest.mark.parametrize(("size", "channels"), [(1, 6), (6, 6), (24, 6), (7, 6)])
def test_energies_keep_their_sum(size, channels) -> None:
    energy = np.arange(1.0, size + 1)
    found = fitted(energy, channels)
    assert found.size in (1, channels)
    if size == 24:
        assert found.sum() == energy.sum()
        assert found[0] == energy[:4].sum()
    if size == 7:
        assert found == energy.mean()


def test_two_blended_are_their_geometric_mean_by_layer() -> None:
    one = {"a": [np.array([1.0, 1.0]), np.array([1.0])], "b": [np.array([0.5])]}
    two = {"a": [np.array([4.0, 1.0]), np.array([4.0])], "c": [np.array([2.0])]}
    found = blended(one, two)
    size = np.sqrt((4 + 1 + 4) / 3)
    np.testing.assert_allclose(np.concatenate(found["a"]), np.array([2, 1, 2]) / size)
    assert (found["b"], found["c"]) == (one["b"], two["c"])


def test_a_unit_that_nothing_reads_any_more_matters_less_than_before() -> None:
    proto = build(
        "g (float[N,9] x) => (float[N,4] y) { z = MatMul(x, w0) y = MatMul(z, w1) }",
        w0=normal(9, 6),
        w1=normal(6, 4, seed=5),
    )
    dense = Model(proto)
    first, second = dense.layers
    sparse, (weights,) = dense.clone(), dense.weight(second)[0]
    weights[2] = 0
    sparse.set_weight(second, [weights], None)
    before, after = (output_importance(each)[first.name][0] for each in (dense, sparse))
    joint = blended({first.name: [before]}, {first.name: [after]})[first.name][0]
    assert after[2] < 0.1 * before[2]
    assert after[2] < joint[2] < before[2]
    assert np.mean(np.square(joint)) == pytest.approx(1)
