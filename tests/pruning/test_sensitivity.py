"""What a probe tells is what the whole network does, wherever the layer is."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.engine import Engine
from nettrim_cli.data.stream import SpilledTensor
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning import sensitivity as module
from nettrim_cli.pruning.propagation import stages
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from tests.support.networks import NETWORKS, input_samples, mlp
from tests.support.places import PLACES
from tests.support.small import build, normal

TIED = """g (float[N,16] x) => (float[N,16] y, float[N,16] early) {
    a = MatMul(x, w1) p = Relu(a)
    b = MatMul(p, w2) q = Tanh(b) early = Neg(p)
    y = MatMul(q, w1)
}"""


def batches_of(x, size=16):
    parts = np.array_split(x, max(1, len(x) // size))
    return [Batch({"x": each}, len(each), None) for each in parts]


def changed_weights(dense, layer):
    """Weights of the layer with noise, as the probe takes them and in a model of their own."""
    matrices, biases = dense.weight(layer)
    noise = np.random.default_rng(0)
    matrices = [each * noise.uniform(0.5, 1, each.shape).astype(each.dtype) for each in matrices]
    changed = dense.clone()
    if biases is None:
        changed.set_weight(layer, matrices, None)
        return matrices, changed
    biases = [each + np.float32(0.1) for each in biases]
    changed.set_weight(layer, matrices, biases)
    return [np.vstack([m, b[None]]) for m, b in zip(matrices, biases, strict=True)], changed


def moved(dense, changed, batches):
    """Sum over the outputs of their relative squared change, from whole runs."""
    total = 0.0
    runs = [
        [Engine(m.runnable(), threads=1).run(b.feeds) for b in batches] for m in (dense, changed)
    ]
    for one, two in zip(*(zip(*each, strict=True) for each in runs), strict=True):
        pairs = [(np.float64(a), np.float64(b)) for a, b in zip(one, two, strict=True)]
        size = sum(np.square(a).sum() for a, _ in pairs)
        total += sum(np.square(a - b).sum() for a, b in pairs) / size if size else 0
    return total


def check_every_layer(proto, batches):
    dense = Model(proto)
    plan = stages([layer for layer in dense.layers if layer.prunable])
    probe = SensitivityProbe(dense, plan, batches, threads=1)
    total = 0.0
    for number, stage in enumerate(plan):
        for layer in stage.layers:
            matrices, changed = changed_weights(dense, layer)
            found, before = probe.movement(number, layer, matrices)
            assert before == found
            assert found == pytest.approx(moved(dense, changed, batches), rel=1e-3)
            total += found
            same, _ = dense.weight(layer)
            assert all(
                np.array_equal(a, b)
                for a, b in zip(same, Model(proto).weight(layer)[0], strict=True)
            )
    assert total > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_it_tells_what_the_whole_network_does(name) -> None:
    proto = NETWORKS[name]()
    check_every_layer(proto, batches_of(input_samples(proto, 48)))


@pytest.mark.parametrize("name", PLACES)
def test_it_does_so_wherever_the_weight_is(name) -> None:
    parts = [np.abs(normal(*((5, 3) if name == "left" else (4, 3)), seed=at)) for at in range(3)]
    check_every_layer(PLACES[name].model(), [Batch({"x": each}, 1, None) for each in parts])


def test_a_weight_that_is_read_again_later_moves_both_places() -> None:
    proto = build(TIED, w1=normal(16, 16, seed=1), w2=normal(16, 16, seed=2))
    check_every_layer(proto, batches_of(normal(32, 16, seed=3)))


SPELLED_OUT = """e = Exp(z) t = ReduceSum<keepdims = 1>(e, one) p = Div(e, t)"""
SHIFTED = """m = ReduceMax<axes = [1], keepdims = 0>(z) c = Max(low, m) r = Unsqueeze(c, one)
    d = Sub(z, r) e = Exp(d) t = ReduceSum<keepdims = 0>(e, one) u = Unsqueeze(t, one)
    p = Div(e, u)"""


@pytest.mark.parametrize(
    "op", ["p = Softmax(z)", "p = Sigmoid(z)", SPELLED_OUT, SHIFTED], ids=lambda op: op[:9]
)
def test_what_is_flattened_at_the_end_is_told_as_it_was_before(op) -> None:
    text = "g (float[N,8] x) => (float[N,1,4] y) { s = Cast<to = 1>(x) z = MatMul(s, w) %s }"
    low = np.array(-1e30, np.float32)
    tensors = {"w": normal(8, 4, seed=1), "one": np.array([1]), "low": low}
    proto = build(text % f"{op} y = Unsqueeze(p, one)", **tensors)
    plain = build(text % "y = Unsqueeze(z, one)", **tensors)
    batches, found = batches_of(5 * normal(32, 8, seed=2)), []
    for each in (proto, plain):
        dense = Model(each)
        probe = SensitivityProbe(dense, stages(dense.layers), batches, threads=1)
        matrices, changed = changed_weights(dense, dense.layers[0])
        found.append(probe.movement(0, dense.layers[0], matrices))
        assert found[-1].outputs == pytest.approx(moved(dense, changed, batches), rel=1e-3)
    assert found[0].unflattened == pytest.approx(found[1].outputs, rel=1e-6)
    assert found[0].outputs != pytest.approx(found[0].unflattened, rel=0.05)


def test_what_lies_before_a_layer_does_not_run_again() -> None:
    proto = mlp()
    dense = Model(proto)
    plan = stages(dense.layers)
    probe = SensitivityProbe(dense, plan, batches_of(input_samples(proto, 32)), threads=1)
    rest = [len(probe.segments.remainder(number + 1).positions) for number in range(len(plan))]
    assert rest == sorted(rest, reverse=True)
    assert rest[-1] == 1 < rest[0] == len(probe.capture.schedule)
    assert probe.movement(len(plan) - 1, dense.layers[-1], weights(dense, -1)) == (0, 0)
    assert not {"x"} & set(probe.stream.batches[0].tensors)


def test_unchanged_weights_in_half_precision_move_nothing() -> None:
    text = """g (float[N,8] x) => (float16[N,4] y) {
        h = Cast<to = 10>(x) a = Mul(h, f) z = MatMul(a, w1) y = MatMul(z, w2)
    }"""
    half = {
        "f": normal(8, seed=5, dtype=np.float16),
        "w1": normal(8, 8, seed=1, dtype=np.float16),
        "w2": normal(8, 4, seed=2, dtype=np.float16),
    }
    dense = Model(build(text, **half))
    probe = SensitivityProbe(
        dense, stages(dense.layers), batches_of(normal(32, 8, seed=3)), threads=1
    )
    layer = dense.layers[0]
    assert probe.movement(0, layer, dense.weight(layer)[0]) == (0, 0)


def test_its_samples_wait_on_disk_beyond_the_budget(monkeypatch) -> None:
    dense = Model(mlp())
    batches = batches_of(np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32), 10)
    found = []
    for budget in (1 << 20, 0):
        monkeypatch.setattr(module, "MEMORY_BYTES", budget)
        probe = SensitivityProbe(dense, stages(dense.layers), batches, threads=1)
        kept = [*probe.start.batches[0].tensors.values(), *probe.expected[0]]
        assert all(isinstance(each, SpilledTensor) == (budget == 0) for each in kept)
        found.append(probe.movement(1, dense.layers[1], [weights(dense, 1)[0] / 2]))
    assert found[0] == found[1] > (0, 0)


def weights(dense, at):
    matrices, biases = dense.weight(dense.layers[at])
    return [np.vstack([m, b[None]]) for m, b in zip(matrices, biases, strict=True)]
