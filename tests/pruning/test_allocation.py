"""Zeros go where the network's output suffers least, and add up to the target."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.execution.executor import silent
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning.allocation import measure_error_model
from nettrim_cli.pruning.curve_job import sparsity_levels
from nettrim_cli.pruning.output_gradients import OutputGradients
from nettrim_cli.pruning.propagation import propagate, stages
from nettrim_cli.pruning.sensitivity import movements
from nettrim_cli.settings import Settings
from tests.support.networks import NETWORKS, input_samples, save_model
from tests.support.small import build, normal


def batches_of(x, size=16):
    def batches():
        for at in range(0, len(x), size):
            yield Batch({"x": x[at : at + size]}, len(x[at : at + size]), None), at % 3 == 0

    return batches


def measure(proto, sparsity, samples=96):
    dense = Model(proto)
    batches = batches_of(input_samples(proto, samples))
    plan = stages(dense.layers)
    recorded = propagate(dense, None, plan, batches(), threads=1, seed=0)
    sparse = dense.clone()
    error_model = measure_error_model(dense, recorded, sparsity, sparse, SerialExecutor(silent))
    judges = [batch for batch, _ in batches()]
    gradients = OutputGradients(dense, judges, judges, threads=1)
    names = {curve.layer.name for curve in error_model.curves}
    return dense, error_model.weighed(movements(gradients, sparse, names, plan, lambda _: judges))


def share_out(proto, sparsity, kind="network", limits=None):
    dense, error_model = measure(proto, sparsity)
    bounds = {each.name: (0, each.parameters) for each in dense.layers} | (limits or {})
    return dense, error_model.allocate(sparsity, bounds, kind=kind)


@pytest.mark.parametrize("sparsity", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("name", NETWORKS)
def test_zeros_add_up_to_the_target(name, sparsity) -> None:
    dense, zeros = share_out(NETWORKS[name](), sparsity)
    sizes = {layer.name: layer.parameters for layer in dense.layers}
    assert set(zeros) == set(sizes)
    assert all(0 <= zeros[each] <= sizes[each] for each in sizes)
    assert sum(zeros.values()) == round(sparsity * sum(sizes.values()))


def test_a_layer_that_hardly_matters_gives_more() -> None:
    def network(factor):
        return build(
            """g (float[N,16] x) => (float[N,16] y) {
                a = MatMul(x, w1) p = Relu(a)
                b = MatMul(x, w2) q = Relu(b)
                s = Mul(q, f) y = Add(p, s)
            }""",
            w1=normal(16, 16, seed=1),
            w2=normal(16, 16, seed=2),
            f=np.float32(factor),
        )

    even, whisper = share_out(network(1.0), 0.5)[1], share_out(network(0.01), 0.5)[1]
    assert 0.7 * even["a"] < even["b"] < even["a"] / 0.7
    assert whisper["b"] > 3 * whisper["a"]


def test_samples_may_be_in_the_order_of_their_classes(tmp_path) -> None:
    proto = build(
        """g (float[N,16] x, float[N,16] z) => (float[N,16] y) {
            a = MatMul(x, w1) p = Relu(a)
            b = MatMul(z, w2) q = Relu(b)
            y = Add(p, q)
        }""",
        w1=normal(16, 16, seed=5),
        w2=normal(16, 16, seed=6),
    )
    model = save_model(tmp_path / "model.onnx", proto)
    late = np.arange(800)[:, None] >= 400  # beyond what the probes take
    x, z = normal(800, 16, seed=3) * ~late, normal(800, 16, seed=4) * late
    np.savez(tmp_path / "calib.npz", x=x.astype(np.float32), z=z.astype(np.float32))
    report = prune(
        model, tmp_path / "calib.npz", settings=Settings(sparsity=0.5, threads=1, refit="layers")
    )
    first, second = (each.nonzeros_after for each in report.layers)
    assert 0.5 < first / second < 2


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.999])
def test_levels_rise_from_none_to_beyond_the_target(sparsity) -> None:
    levels = sparsity_levels(sparsity)
    assert levels[0] == 0
    assert np.all(np.diff(levels) > 0)
    assert levels[-1] > sparsity
    assert levels[-1] < 1
