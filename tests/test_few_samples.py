"""Runs on few samples: made ones, rival allocations, what is said of them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import onnx
import pytest
from networks import build, normal

from nettrim_cli import Settings, prune
from nettrim_cli.allocation import Costs, Curve, Forecast
from nettrim_cli.comparison import Reference
from nettrim_cli.data.calibration import Calibration
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import ALLOCATIONS
from nettrim_cli.sweeps import contest

SAMPLES = "sample_models"


def codes(report) -> set[str]:
    return {warning.code for warning in report.warnings}


@pytest.fixture(scope="module")
def mlp(tmp_path_factory, request):
    """The sample model with 40 samples to prune with, and 1,000 others to judge by."""
    folder, home = tmp_path_factory.mktemp("few"), request.config.rootpath / SAMPLES / "mlp"
    (folder / "model.onnx").write_bytes((home / "model.onnx").read_bytes())
    with h5py.File(home / "calib.h5") as file:
        images = file["image"][()]
    for name, part in (("calib.h5", slice(0, 40)), ("test.h5", slice(1000, 2000))):
        with h5py.File(folder / name, "w") as file:
            file["image"] = images[part]
    return folder


def test_error(folder, output) -> float:
    dense = Model.load(folder / "model.onnx")
    with Calibration.open(folder / "test.h5", dense.inputs) as samples:
        everything = np.arange(samples.samples)
        reference = Reference(dense, lambda: samples.batches(everything, 250), threads=1)
        return reference.against(Model.load(output)).error


test_error.__test__ = False  # a figure, not a test


def pruned(folder, **options):
    output = folder / f"{'-'.join(map(str, options.values()))}.onnx"
    settings = Settings(sparsity=0.8, threads=1, exclude=("*fc1*", "*fc2*"), **options)
    report = prune(folder / "model.onnx", folder / "calib.h5", output, settings, force=True)
    return report, test_error(folder, output)


def test_made_samples_lower_the_error_on_new_ones(mlp) -> None:
    made, error = pruned(mlp)
    recorded, without = pruned(mlp, augment="none")
    assert "augmented" in codes(made)
    assert "augmented" not in codes(recorded)
    assert error < 0.8 * without
    # What is said of the samples is said of those in the file.
    assert all("40 were used" in w.text for w in made.warnings if w.code == "few-samples")


def test_the_default_does_not_lose_to_its_alternatives(mlp) -> None:
    _, error = pruned(mlp)
    assert all(error <= 1.05 * pruned(mlp, allocate=kind)[1] for kind in ALLOCATIONS)


def test_what_twice_as_many_samples_would_give_is_told_on_request(mlp) -> None:
    report, _ = pruned(mlp, forecast=True)
    (text,) = (warning.text for warning in report.warnings if warning.code == "forecast")
    assert "twice as many samples" in text
    assert any(layer.name in text for layer in report.layers)
    metadata = Model.load(mlp / "True.onnx").proto.metadata_props
    settings = json.loads(next(entry.value for entry in metadata if entry.key == "nettrim"))
    assert settings["forecast"] is True


def curve(layer, squares, sensitivity=1.0) -> Curve:
    return Curve(layer, np.array(squares), 1.0, sensitivity, sensitivity, ())


class Layer:
    def __init__(self, name: str) -> None:
        self.name, self.parameters = name, 100


def test_a_forecast_is_the_fall_of_the_error_from_half_of_the_samples() -> None:
    levels, first, second = np.array([0.0, 0.5, 0.9]), Layer("first"), Layer("second")
    now = Costs(levels, [curve(first, [0, 0.04, 0.5]), curve(second, [0, 0.09, 0.5], 2.0)])
    then = Costs(levels, [curve(first, [0, 0.16, 0.5]), curve(second, [0, 0.09, 0.5], 2.0)])
    forecast = Forecast.of(now, then, {"first": 50, "second": 50})
    assert forecast is not None
    assert forecast.ratio == pytest.approx(np.sqrt((0.04 + 0.18) / (0.16 + 0.18)))
    assert (forecast.layer, forecast.layer_ratio) == ("first", pytest.approx(0.5))
    assert Forecast.of(now, Costs(levels, then.curves[:1]), {"first": 50, "second": 50}) is None


class Contestants:
    """A run whose allocations lead to given weights."""

    def __init__(self, dense: Model, weights) -> None:
        from nettrim_cli.walk import stages

        self.dense, self.threads, self.plan = dense, 1, stages(dense.layers)
        self.weights, self.listener, self.pruned = weights, Listener(), dense

    def prune_layers(self, batches, zeros, *, again):
        assert again
        self.pruned = self.dense.clone()
        self.pruned.set_weight(self.dense.layers[0], [self.weights[zeros["h"]]], None)
        return [zeros]


class Listener:
    def stage(self, text: str) -> None:
        assert text


class Held:
    @staticmethod
    def flagged_batches():
        raise AssertionError("nothing is solved here")

    @staticmethod
    def holdout_batches():
        from nettrim_cli.data.calibration import Batch

        yield Batch({"x": normal(32, 4, seed=2)}, 32, None)


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_network_nearest_to_the_dense_one_wins(best) -> None:
    text = "g (float[n,4] x) => (float[n,4] y) { h = MatMul(x, w)\n y = Softmax<axis=1>(h) }"
    weight = 20 * normal(4, 4, seed=1)  # all outputs are nearly one or zero
    dense = Model(onnx.ModelProto.FromString(build(text, w=weight).SerializeToString()))
    noise = normal(4, 4, seed=3)
    weights = [weight + (0.001 if at == best else 1) * noise for at in range(3)]
    run = Contestants(dense, weights)
    name = dense.layers[0].name
    allocations = [{"h": at, name: at} for at in range(3)]
    run.prune_layers(None, allocations[0], again=True)
    from nettrim_cli.run import Reached

    winner, zeros = contest(run, Held, allocations, Reached(run.pruned, [allocations[0]]))
    assert zeros == allocations[best]
    assert np.allclose(winner.model.weight(dense.layers[0])[0][0], weights[best])
