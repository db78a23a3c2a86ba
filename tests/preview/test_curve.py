"""Points of curves against networks that are really pruned."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from nettrim_cli import pipeline
from nettrim_cli.errors import BadInput
from nettrim_cli.preview.curve import curve
from nettrim_cli.report.curve.result import MEASURED, PREDICTED
from nettrim_cli.report.curve.words import advice
from nettrim_cli.settings import Settings
from tests.support.networks import save_data, save_model
from tests.support.options import PLAIN
from tests.support.small import build, normal

PARALLEL = PLAIN | {"scheme": "parallel"}
METADATA = 600  # bytes that a run writes into its model, about
TOLD = Settings(**PLAIN)


@pytest.fixture
def one_layer(tmp_path: Path) -> tuple[Path, Path]:
    """A network of one layer, whose error is that of the network."""
    proto = build(
        "g (float[N,40] x) => (float[N,1,1,30] y) { h = MatMul(x, w)\n y = Reshape(h, s) }",
        w=normal(40, 30, seed=3),
        s=np.array([-1, 1, 1, 30]),
    )
    return save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "c.h5", proto, 400)


def test_of_one_layer_the_prediction_lies_between_the_prune_and_plain_magnitudes(
    one_layer, tmp_path
) -> None:
    model, data = one_layer
    with h5py.File(data) as file:
        x = file["x"][:]
    shares = (0.4, 0.65, 0.8)
    told = curve(model, data, Settings(**PARALLEL), sparsities=shares, measured=0)
    for point, share in zip(told.points[1:], shares, strict=True):
        settings = Settings(**PARALLEL, sparsity=share)
        report = pipeline.prune(model, data, tmp_path / "p.onnx", settings, force=True)
        assert point.sparsity == share
        assert point.how == PREDICTED
        assert 0.95 * report.comparison.error < point.error < by_magnitude(x, share)
        size = report.comparison.candidate.bytes_gzip
        assert point.bytes_gzip == pytest.approx(size, rel=0.05, abs=METADATA)
    assert not told.has_answers
    assert [point.drop for point in told.points] == [None] * 4
    assert told.points[0].error == 0
    assert told.points[0].bytes_raw == model.stat().st_size


def by_magnitude(x: np.ndarray, share: float) -> float:
    """The error of the layer without its smallest weights."""
    weight = normal(40, 30, seed=3)
    pruned = np.where(np.abs(weight) <= np.quantile(np.abs(weight), share), 0, weight)
    return float(np.linalg.norm(x @ (weight - pruned)) / np.linalg.norm(x @ weight))


@pytest.mark.slow
def test_measured_points_are_networks_of_that_many_zeros(files) -> None:
    before = files.listing, files.model.read_bytes()
    told = curve(files.model, files.data, TOLD, sparsities=(0.3, 0.6, 0.8), measured=3)
    assert (files.listing, files.model.read_bytes()) == before  # nothing is written
    assert [point.how for point in told.points] == [MEASURED] * 4
    for point in told.points[1:]:
        settings = Settings(**PLAIN, sparsity=point.sparsity)
        report = pipeline.prune(files.model, files.data, files.output, settings, force=True)
        assert point.error == pytest.approx(report.comparison.error, rel=0.3)
    errors = [point.error for point in told.points]
    assert errors == sorted(errors)
    sizes = [point.bytes_gzip for point in told.points]
    assert sizes == sorted(sizes, reverse=True)
    assert told.accuracy is not None
    assert told.labels


def test_the_first_measured_network_is_where_something_is_lost(files) -> None:
    shares = (0.1, 0.3, 0.5, 0.7, 0.9)
    none = curve(files.model, files.data, TOLD, sparsities=shares, measured=0)
    one = curve(files.model, files.data, TOLD, sparsities=shares)
    (measured,) = (point for point in one.points[1:] if point.how == MEASURED)
    cheap = none.trend.within(0.01)
    assert measured.sparsity == max([share for share in shares if share <= cheap] or shares[:1])
    assert one.trend.sparsities[-1] == 0.9
    assert set(shares) <= set(one.trend.sparsities)


def test_sparsities_that_limits_forbid_are_left_out(files) -> None:
    settings = Settings(**PLAIN, limit=("*=0.2:0.7",))
    told = curve(files.model, files.data, settings, sparsities=(0.1, 0.5, 0.9), measured=0)
    assert [point.sparsity for point in told.points] == [0, 0.5]
    assert "between 20" in told.notes[-1]
    assert " --limit '*=0.2:0.7' " in advice(told)
    with pytest.raises(BadInput, match="names no sparsity"):
        curve(files.model, files.data, settings, sparsities=(0.95,))


def test_a_target_of_the_settings_is_no_matter(files) -> None:
    options = {"sparsities": (0.5,), "measured": 0}
    one = curve(files.model, files.data, Settings(**PLAIN, sparsity=0.9), **options)
    other = curve(files.model, files.data, Settings(**PLAIN, max_drop=0.1), **options)
    assert one.points == other.points


def test_smaller_layers_have_a_time(files) -> None:
    settings = Settings(**(PLAIN | {"no_delete": False}), structure="units", widths="products")
    told = curve(files.model, files.data, settings, sparsities=(0.5,), measured=0)
    dense, half = told.points
    assert dense.latency_ratio is None
    assert half.latency_ratio > 0
    assert half.bytes_raw < dense.bytes_raw


def test_doubts_of_labels_are_told(files) -> None:
    with h5py.File(files.data, "a") as file:
        labels = file["labels"][:]
        file["labels"][:] = (labels + 1) % 4
    told = curve(files.model, files.data, TOLD, sparsities=(0.5,), measured=0)
    assert any("label" in note for note in told.notes)


def test_outputs_that_cannot_be_measured_have_no_curve(tmp_path) -> None:
    text = """g (float[N,8] x) => (float[M,4] y) {
        h = MatMul(x, w)
        y = Slice(h, zero, zero, zero)
    }"""
    proto = build(text, w=normal(8, 4), zero=np.array([0], np.int64))  # nothing is left of it
    model, data = save_model(tmp_path / "m.onnx", proto), tmp_path / "c.npy"
    np.save(data, normal(40, 8))
    with pytest.raises(BadInput, match="no curve can be told, as the error of output 'y'"):
        curve(model, data, TOLD)
