"""Runs on few samples: made ones, rival allocations, what is said of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

import h5py
import numpy as np
import onnx
import pytest

from nettrim_cli import Settings, prune
from nettrim_cli.data.dataset import Batch, Calibration
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.allocation import ErrorModel, Forecast, LayerCurve
from nettrim_cli.pruning.layerwise import PassResult
from nettrim_cli.pruning.passes import (
    DOUBTFUL,
    SURE,
    Contestant,
    Outcome,
    averaged,
    contest,
    excess,
    final_fit,
)
from nettrim_cli.pruning.propagation import stages
from nettrim_cli.pruning.sensitivity import SensitivityProbe
from nettrim_cli.settings import ALLOCATIONS
from nettrim_cli.solve.matrices import relative_error
from tests.support.networks import build, normal
from tests.support.small import run

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
        reference = ReferenceOutputs(dense, lambda: samples.batches(everything, 250), threads=1)
        return reference.compare(Model.load(output)).error


test_error.__test__ = False  # a figure, not a test


@cache
def pruned(folder, **options):
    output = folder / f"{'-'.join(map(str, options.values()))}.onnx"
    plain = {"sparsity": 0.8, "threads": 1, "no_delete": True, "refit": "layers"}
    settings = Settings(**plain, exclude=("*fc1*", "*fc2*"), **options)
    report = prune(folder / "model.onnx", folder / "calib.h5", output, settings, force=True)
    return report, test_error(folder, output)


@pytest.mark.slow
def test_made_samples_lower_the_error_on_new_ones(mlp) -> None:
    made, error = pruned(mlp)
    recorded, without = pruned(mlp, augment="none")
    assert "augmented" in codes(made)
    assert "augmented" not in codes(recorded)
    assert error < 0.8 * without
    # What is said of the samples is said of those in the file.
    assert all("40 were used" in w.text for w in made.warnings if w.code == "few-samples")


def test_a_final_fit_to_all_samples_lowers_the_error_on_new_ones(tmp_path) -> None:
    """Layers with more inputs than samples to fit: those that were held out tell more of them."""
    model, output, ratios = tmp_path / "m.onnx", tmp_path / "o.onnx", []
    for seed in range(4):
        weight, random = normal(24, 8, seed=seed), np.random.default_rng(seed)
        dense = build("g (float[N,24] x) => (float[N,8] y) { y = MatMul(x, w) }", w=weight)
        onnx.save(dense, model)
        mixture = random.standard_normal((24, 24))
        recorded, fresh = (
            (random.standard_normal((count, 24)) @ mixture).astype(np.float32)
            for count in (30, 2000)
        )
        np.save(tmp_path / "x.npy", recorded)
        errors = []
        for mode in ("auto", "none"):
            settings = Settings(sparsity=0.6, threads=1, refit="layers", final_fit=mode)
            prune(model, tmp_path / "x.npy", output, settings, force=True)
            models = onnx.load(output), dense
            answers, wanted = (run(proto, ["y"], {"x": fresh})[0] for proto in models)
            errors.append(relative_error(answers - wanted, wanted))
        ratios.append(errors[0] / errors[1])
    assert np.mean(ratios) < 0.95


@pytest.mark.slow
def test_a_final_fit_to_all_samples_is_told_and_does_no_harm(mlp) -> None:
    final, error = pruned(mlp)
    before, without = pruned(mlp, final_fit="none")
    assert error < 1.2 * without  # .95 to 1.15 with other samples and kernels
    assert (final.final_samples, before.final_samples) == (40, 0)
    assert "final-fit" in codes(final) - codes(before)
    assert "before the final fit to all 40" in final.verdict.sureness
    # What is told of errors is told of the network that had not seen the held-out samples.
    assert final.comparison.outputs == before.comparison.outputs
    assert final.certificate == before.certificate
    assert final.bound == before.bound
    pairs = list(zip(final.layers, before.layers, strict=True))
    assert all(one.error_holdout == other.error_holdout for one, other in pairs)
    for one, other in pairs:  # a unit that becomes idle takes its weights along
        assert one.nonzeros_after == pytest.approx(other.nonzeros_after, rel=1e-3)
    assert final.comparison.candidate.sha256 != before.comparison.candidate.sha256


def test_a_final_fit_is_left_out_where_nothing_is_gained(tmp_path) -> None:
    """Other methods, other targets, and samples that are plenty."""
    dense = build("g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }", w=normal(6, 4))
    onnx.save(dense, tmp_path / "m.onnx")
    fits = {}
    for count in (40, 700):
        np.save(tmp_path / "x.npy", normal(count, 6))
        for options in ({}, {"method": "net-trim"}, {"final_fit": "none"}):
            settings = Settings(sparsity=0.5, threads=1, **options)
            report = prune(tmp_path / "m.onnx", tmp_path / "x.npy", None, settings, force=True)
            fits[(count, *options)] = report.final_samples
    settings = Settings(max_error=0.5, threads=1)
    assert prune(tmp_path / "m.onnx", tmp_path / "x.npy", None, settings, force=True)
    assert fits.pop((40,)) == 40
    assert not any(fits.values())


@pytest.mark.parametrize("better", [True, False])
def test_a_final_fit_that_fails_is_not_kept(tmp_path, better) -> None:
    dense = Model(build("g (float[N,6] x) => (float[N,4] y) { y = MatMul(x, w) }", w=normal(6, 4)))
    np.save(tmp_path / "x.npy", normal(20, 6))
    first = with_weights(dense, 0.8, holdout_error=0.25)
    second = with_weights(dense, 0.9 if better else 0.7, holdout_error=1.0)
    with Calibration.open(tmp_path / "x.npy", dense.inputs) as samples:
        parts = SampleSet(samples, np.arange(16), np.arange(16, 20), 16)
        assert sorted(parts.whole().fitted) == list(range(20))
        reference = ReferenceOutputs(dense, parts.holdout_batches, threads=1)
        fitted = final_fit(first, second, reference)
        outcome = Outcome(fitted, parts)
    assert fitted.judged is (first.model if better else None)
    assert fitted.model is (second.model if better else first.model)
    assert fitted.layers[0].error_holdout == 0.25
    assert outcome.final_samples == (20 if better else 0)


@pytest.mark.slow
def test_the_default_does_not_lose_to_its_alternatives(mlp) -> None:
    _, error = pruned(mlp)
    assert all(error <= 1.05 * pruned(mlp, allocate=kind)[1] for kind in ALLOCATIONS)


@pytest.mark.slow
def test_what_twice_as_many_samples_would_give_is_told_on_request(mlp) -> None:
    report, _ = pruned(mlp, forecast=True, augment="none", final_fit="none", allocate="error")
    (text,) = (warning.text for warning in report.warnings if warning.code == "forecast")
    assert "twice as many samples" in text
    assert any(layer.name in text for layer in report.layers)
    metadata = Model.load(mlp / "True-none-none-error.onnx").proto.metadata_props
    settings = json.loads(next(entry.value for entry in metadata if entry.key == "nettrim"))
    assert settings["forecast"] is True


def curve(layer, squares, sensitivity=1.0) -> LayerCurve:
    return LayerCurve(layer, np.array(squares), 1.0, (), 1.0, sensitivity, sensitivity)


class Layer:
    def __init__(self, name: str) -> None:
        self.name, self.parameters = name, 100


def test_a_forecast_is_the_fall_of_the_error_from_half_of_the_samples() -> None:
    levels, first, second = np.array([0.0, 0.5, 0.9]), Layer("first"), Layer("second")
    now = ErrorModel(levels, [curve(first, [0, 0.04, 0.5]), curve(second, [0, 0.09, 0.5], 2.0)])
    then = ErrorModel(levels, [curve(first, [0, 0.16, 0.5]), curve(second, [0, 0.09, 0.5], 2.0)])
    forecast = Forecast.of(now, then, {"first": 50, "second": 50})
    assert forecast is not None
    assert forecast.ratio == pytest.approx(np.sqrt((0.04 + 0.18) / (0.16 + 0.18)))
    assert (forecast.layer, forecast.layer_ratio) == ("first", pytest.approx(0.5))
    assert (
        Forecast.of(now, ErrorModel(levels, then.curves[:1]), {"first": 50, "second": 50}) is None
    )


@dataclass(frozen=True)
class Row:
    name: str
    error_holdout: float


def with_weights(dense: Model, weights, holdout_error: float = 1.0) -> PassResult:
    """A network with other weights of its only layer, or a multiple of its own."""
    if np.isscalar(weights):
        weights = weights * dense.weight(dense.layers[0])[0][0]
    model = dense.clone()
    model.set_weight(dense.layers[0], [weights], None)
    return PassResult(model, [Row("h", holdout_error)])


def contested(errors) -> dict[str, int]:
    """Who wins of allocations 0, 10, 20 that lead to weights so far from the dense ones.

    Their means lead to the weights of the errors that stand for them.
    """
    text = "g (float[n,4] x) => (float[n,4] y) { h = MatMul(x, w)\n y = Softmax<axis=1>(h) }"
    weight = 20 * normal(4, 4, seed=1)  # all outputs are nearly one or zero
    dense = Model(onnx.ModelProto.FromString(build(text, w=weight).SerializeToString()))
    noise = normal(4, 4, seed=3)
    judges = [Batch({"x": sample}, 1, None) for sample in np.split(normal(32, 4, seed=2), 32)]
    probe = SensitivityProbe(dense, stages(dense.layers)[:1], judges, threads=1)

    def attempt(zeros) -> Contestant:
        result = with_weights(dense, weight + errors[zeros["h"]] * noise)
        return Contestant(zeros, result, probe.differences(result.model))

    first, *rivals = [{"h": zeros} for zeros in errors if zeros in (0, 10, 20)]
    winner = contest(attempt(first), rivals, attempt)
    expected = weight + errors[winner.zeros["h"]] * noise
    assert np.allclose(winner.result.model.weight(dense.layers[0])[0][0], expected)
    return dict(winner.zeros)


@pytest.mark.parametrize("best", [0, 10, 20])
def test_the_network_nearest_to_the_dense_one_wins(best) -> None:
    errors = {zeros: 0.001 if zeros == best else 1 for zeros in (0, 10, 20)}
    assert contested(errors | {10 if best else 15: 1}) == {"h": best}


@pytest.mark.parametrize(("mean", "wins"), [(1.0, 5), (1.5, 0)])
def test_allocations_that_samples_do_not_tell_apart_are_averaged(mean, wins) -> None:
    """Where the mean is no worse; the third, which is surely worse, has no part in it."""
    assert contested({0: 1.0, 10: 1.0, 20: 3.0, 5: mean}) == {"h": wins}


def test_one_odd_sample_does_not_decide() -> None:
    """The rival is much better on it and a little worse on all others, as its sum hides."""
    random = np.random.default_rng(0)
    usual = random.uniform(0.5, 1.5, 13)
    rival = 1.2 * usual
    usual[4], rival[4] = 8.0, 3.0
    assert rival.sum() < 0.9 * usual.sum()
    assert -SURE < excess(rival, usual) < DOUBTFUL
    many = np.tile(usual, 20), np.tile(0.7 * usual, 20)
    assert excess(many[1], many[0]) < -SURE


def test_the_statistic_is_students() -> None:
    random = np.random.default_rng(1)
    one, other = random.random(20), random.random(20)
    more = one - other
    assert excess(one, other) == pytest.approx(more.mean() / (more.std(ddof=1) / np.sqrt(20)))
    assert excess(one, one) == 0
    assert excess(one[:1], other[:1]) == 0  # a single sample tells nothing
    assert excess(one + 1, one) > 1e6
    assert excess(np.array([1.0, np.nan]), one[:2]) == np.inf
    assert excess(one[:2], np.array([1.0, np.inf])) == -np.inf


def test_a_mean_of_allocations_keeps_their_sum_and_bounds() -> None:
    random = np.random.default_rng(2)
    for count in (2, 3):
        several = random.integers(0, 50, (count, 7))
        several[:, -1] += several.sum(axis=1).max() - several.sum(axis=1)
        found = averaged([dict(zip("abcdefg", each.tolist(), strict=True)) for each in several])
        assert sum(found.values()) == several[0].sum()
        values = np.array(list(found.values()))
        assert (several.min(axis=0) <= values).all()
        assert (values <= several.max(axis=0)).all()
    same = {"a": 3, "b": 5}
    assert averaged([same]) == averaged([same, same]) == same
