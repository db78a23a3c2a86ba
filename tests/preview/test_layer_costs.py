"""What single layers are told to cost, against networks with zeros in them alone."""

from __future__ import annotations

import pytest

from nettrim_cli import pipeline
from nettrim_cli.preview.inspection import inspect
from nettrim_cli.report.model_summary import SHARES
from nettrim_cli.settings import Settings
from tests.support.options import PLAIN


def test_costs_are_about_those_of_a_prune_of_the_layer_alone(files) -> None:
    summary = inspect(files.model, files.data, Settings(threads=1, augment="none"))
    names = [layer.name for layer in summary.layers]
    assert list(summary.costs) == names
    assert files.listing == ["calib.h5", "model.onnx"]
    for name in names:
        costs = summary.costs[name]
        assert list(costs) == sorted(costs)
        settings = Settings(**PLAIN, sparsity=SHARES[1], include=(name,))
        report = pipeline.prune(files.model, files.data, files.output, settings, force=True)
        assert costs[1] == pytest.approx(report.comparison.error, rel=0.5)


def test_without_samples_nothing_is_measured(files) -> None:
    summary = inspect(files.model)
    assert summary.costs == {}
    assert [(each.name, each.shape) for each in summary.inputs] == [("x", ("N", 16))]
    assert [(each.name, each.shape) for each in summary.outputs] == [("y", ("N", 4))]
