"""The report's own arithmetic."""

from __future__ import annotations

import pytest

from nettrim_cli.report.comparison_result import Comparison, ModelFacts, OutputFacts
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Report
from nettrim_cli.solve.problem import Status


def layer(name: str, weights: int, before: int, after: int, status: str = "solved") -> LayerReport:
    return LayerReport(name, "Gemm", (weights, 1), weights, before, after, status=status)


def comparison(
    accuracies: tuple[float | None, float | None] = (None, None),
    outputs: tuple[OutputFacts, ...] = (),
) -> Comparison:
    one, two = (ModelFacts(f"{k}.onnx", 10, 5, 4, 3, a) for k, a in enumerate(accuracies))
    return Comparison(one, two, outputs, 100)


def test_sparsity_counts_only_the_treated_layers() -> None:
    layers = (layer("a", 100, 90, 20), layer("b", 300, 300, 60), layer("c", 50, 50, 50, "dense"))
    report = Report(layers, comparison(), {}, "0", 1.0)
    assert [each.name for each in report.pruned] == ["a", "b"]
    assert (report.weights, report.nonzeros) == (400, 80)
    assert report.sparsity == pytest.approx(0.8)
    assert layers[0].sparsity_before == pytest.approx(0.1)
    assert layers[0].sparsity_after == pytest.approx(0.8)


@pytest.mark.parametrize("status", Status)
def test_layers_are_pruned_unless_their_status_leaves_them_dense(status) -> None:
    report = LayerReport("fc", "Gemm", (4, 1), 4, 4, 2, status=status.value)
    assert report.pruned is not status.leaves_dense


def test_nothing_pruned_and_nothing_there_are_no_division_by_zero() -> None:
    report = Report((layer("a", 0, 0, 0, "dense"),), comparison(), {}, "0", 0.0)
    assert (report.weights, report.nonzeros, report.sparsity) == (0, 0, 0.0)
    assert report.layers[0].sparsity_after == 0.0
    assert Report((), comparison(), {}, "0", 0.0).as_dict()["layers"] == []


@pytest.mark.parametrize(
    ("accuracies", "agreements", "drop"),
    [
        ((0.9, 0.85), (0.5,), 0.05),
        ((0.85, 0.9), (), -0.05),
        ((0.9, None), (0.97, 0.95), 0.05),
        ((None, None), (0.97, None), 0.03),
        ((None, None), (None,), None),
        ((0.0, 0.0), (0.5,), 0.0),
    ],
)
def test_drop_prefers_labels_and_takes_the_worst_output(accuracies, agreements, drop) -> None:  # type: ignore[no-untyped-def]
    outputs = tuple(OutputFacts(str(k), 0.1, a) for k, a in enumerate(agreements))
    found = comparison(accuracies, outputs).drop
    assert found is None if drop is None else found == pytest.approx(drop)


def test_error_is_the_largest_of_the_outputs() -> None:
    outputs = (OutputFacts("a", 0.1), OutputFacts("b", 0.3), OutputFacts("c", 0.2))
    assert comparison(outputs=outputs).error == 0.3
    assert comparison().error == 0.0


def test_as_dict_carries_what_the_dataclasses_know() -> None:
    report = Report(
        (layer("a", 100, 90, 20),),
        comparison((0.9, 0.8)),
        {"seed": 1},
        "7",
        2.5,
        (Diagnostic("few-samples", "w"),),
    )
    held = report.as_dict()
    assert held["layers"][0]["sparsity_after"] == pytest.approx(0.8)
    assert held["layers"][0]["nonzeros_before"] == 90
    assert held["comparison"]["drop"] == pytest.approx(0.1)
    assert held["comparison"]["reference"]["path"] == "0.onnx"
    assert (held["settings"], held["version"], held["seconds"]) == ({"seed": 1}, "7", 2.5)
    assert held["warnings"] == [
        {"code": "few-samples", "severity": "note", "text": "w", "brief": ""}
    ]
