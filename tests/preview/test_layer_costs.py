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
    assert files.listing == ["calib.h5", "model.onnx"]
    for layer in summary.layers:
        assert tuple(cost.sparsity for cost in layer.costs) == SHARES
        costs = [cost.error for cost in layer.costs]
        assert costs == sorted(costs)
        settings = Settings(**PLAIN, sparsity=SHARES[1], include=(layer.name,))
        report = pipeline.prune(files.model, files.data, files.output, settings, force=True)
        assert costs[1] == pytest.approx(report.comparison.error, rel=0.5)


def test_without_samples_nothing_is_measured(files) -> None:
    summary = inspect(files.model)
    assert [layer.costs for layer in summary.layers] == [()] * 3
    assert [(each.name, each.shape) for each in summary.inputs] == [("x", ("N", 16))]
    assert [(each.name, each.shape) for each in summary.outputs] == [("y", ("N", 4))]
