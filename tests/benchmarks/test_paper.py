"""What the paper's experiments are made of does what it says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from benchmarks.paper import noise, page, recovery, spirals
from nettrim_cli.data.engine import Engine


def test_gradients_of_the_spirals_network_are_those_of_differences() -> None:
    random = np.random.default_rng(0)
    weights = [random.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2))]
    points, target = random.standard_normal((9, 2)), np.eye(2)[np.arange(9) % 2]
    kept = [np.full((9, 4), 2.0) * (random.random((9, 4)) < 0.5) for _ in range(2)]

    def loss() -> float:
        signal = points
        for W, mask in zip(weights[:-1], kept, strict=True):
            signal = np.maximum(np.hstack([signal, np.ones((9, 1))]) @ W, 0) * mask
        scores = np.hstack([signal, np.ones((9, 1))]) @ weights[-1]
        return float((np.log(np.exp(scores).sum(axis=1)) - (scores * target).sum(axis=1)).mean())

    for W, gradient in zip(weights, spirals.backward(weights, points, target, kept), strict=True):
        for at in np.ndindex(W.shape):
            W[at] += 1e-5
            above = loss()
            W[at] -= 2e-5
            below = loss()
            W[at] += 1e-5
            assert gradient[at] == pytest.approx((above - below) / 2e-5, abs=1e-6)


def test_the_spirals_network_is_the_one_that_was_trained() -> None:
    random = np.random.default_rng(0)
    weights = [random.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2))]
    model = spirals.as_model(weights)
    onnx.checker.check_model(model)
    points = random.standard_normal((7, 2)).astype(np.float32)
    (scores,) = Engine(model.SerializeToString(), threads=1).run({"x": points})
    signal = points
    for k, W in enumerate(weights):
        signal = np.hstack([signal, np.ones((7, 1))]) @ W
        signal = signal if k == 2 else np.maximum(signal, 0)
    assert np.allclose(scores, signal, atol=1e-4)


def test_noise_has_the_norm_that_is_asked_for() -> None:
    images = np.random.default_rng(0).random((5, 1, 6, 6)).astype(np.float32)
    moved = noise.noisy(images, 1.5, 0) - images
    ratios = [np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(moved, images, strict=True)]
    assert ratios == pytest.approx([1.5] * 5, rel=1e-4)


def test_both_programs_find_a_neuron_from_many_samples_and_not_from_few() -> None:
    assert recovery.both(3, 150, 0) == (True, True)
    assert recovery.both(25, 40, 0) == (False, False)
    assert recovery.half([10, 20, 30], [0.1, 0.4, 0.6]) == 25
    assert recovery.half([10, 20], [0.7, 1.0]) == 10


def test_tables_are_put_between_the_marks(tmp_path, monkeypatch) -> None:
    place = tmp_path / "paper.md"
    place.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\nafter\n")
    monkeypatch.setattr(page, "PAGE", place)
    page.put("a", ("x", "y"), [("1", "2")])
    text = "before\n<!-- a -->\n| x | y |\n| --- | ---: |\n| 1 | 2 |\n<!-- end of a -->\nafter\n"
    assert place.read_text() == text


def test_magnitude_keeps_as_many_of_the_largest(monkeypatch) -> None:
    from benchmarks.paper.networks import Experiment
    from nettrim_cli.graph.model import Model
    from nettrim_cli.pruning.layerwise import PassResult
    from tests.support.networks import mlp

    dense = Model(mlp(sizes=(5, 4, 3)))
    run = SimpleNamespace(context=SimpleNamespace(dense=dense))
    counts = {
        layer.name: SimpleNamespace(name=layer.name, nonzeros_after=7) for layer in dense.layers
    }
    result = PassResult(dense, list(counts.values()))
    rival = Experiment("mlp", run).magnitude(result).model
    for layer in dense.layers:
        ((W,), _), ((U,), _) = dense.weight(layer), rival.weight(layer)
        assert np.count_nonzero(U) == 7
        assert np.array_equal(U[U != 0], W[U != 0])
        assert np.abs(W[U != 0]).min() >= np.abs(W[U == 0]).max()
