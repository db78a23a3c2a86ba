"""The verdict: what was asked, reached and lost, how sure, and what limits it, first everywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from nettrim_cli.report import formatting
from nettrim_cli.report.comparison_result import ModelFacts, OutputFacts
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import Target
from tests.support.reports import comparison, shown, solved, whole

NO_LABELS = {
    side: ModelFacts(f"{side}.onnx", 100, 90, 80, 70) for side in ("reference", "candidate")
}
CASES = [
    (("sparsity", 0.9), None, True, "90.0 % zeros, 90 % asked"),
    (("sparsity", 0.95), None, False, "90.0 % zeros, 95 % asked"),
    (("epsilon", 0.1), None, True, "each layer allowed an error of 10 %"),
    (("max_error", 0.15), (0.1432, None), True, "within an output error of 15 %"),
    (("max_error", 0.14), (0.1432, None), False, "within an output error of 14 %"),
    (("max_drop", 0.005), (0.0025, 0.0049), True, "for at most 0.5 points of accuracy"),
    (("max_drop", 0.005), (0.0025, 0.0051), False, "for at most 0.5 points of accuracy"),
    (("max_bytes", 500_000), (401_234, None), True, "401 kB gzipped, 500 kB allowed"),
]


@pytest.mark.parametrize(("asked", "figures", "reached", "text"), CASES)
def test_what_was_asked_and_whether_it_is_reached(asked, figures, reached, text) -> None:
    target = figures and Target(*asked, *figures, 0.9)
    found = whole(solved("a"), target_option=asked, target=target).verdict
    assert found.reached is reached
    assert found.outcome.startswith("Reached: " if reached else "Not reached: ")
    assert text in found.outcome
    assert "0.25 points of accuracy lost, output error 14.32 %." in found.outcome


def test_more_zeros_than_asked_for_are_explained() -> None:
    """Units that nothing reads are deleted with weights that were kept."""
    report = whole(solved("a"), target_option=("sparsity", 0.89))
    assert "90.0 % zeros, 89 % asked." in report.verdict.outcome
    report = replace(report, deleted_units=3)
    assert (
        "90.0 % zeros, 89 % asked (more with units that nothing reads)." in report.verdict.outcome
    )
    report = replace(report, target_option=("sparsity", 0.9))
    assert "90.0 % zeros, 90 % asked." in report.verdict.outcome


def test_less_than_a_weight_is_not_missing() -> None:
    layer = replace(solved("a"), weights=64, nonzeros_before=64, nonzeros_after=2)
    assert whole(layer, target_option=("sparsity", 0.97)).verdict.reached
    assert not whole(layer, target_option=("sparsity", 0.99)).verdict.reached


def test_a_layer_that_was_not_solved_does_not_reach_its_epsilon() -> None:
    told = (Diagnostic("not-solved", "text"),)
    assert not whole(solved("a"), warnings=told).verdict.reached


def test_without_labels_answers_are_what_is_lost() -> None:
    found = whole(solved("a"), comparison=comparison(**NO_LABELS), bound=0.045).verdict
    assert "2.75 % of answers changed" in found.outcome
    assert "at most 4.50 % of answers change (95 %)" in found.sureness
    same = comparison(outputs=(OutputFacts("y", 0.1, 1.0),), **NO_LABELS)
    assert "No answers changed" in whole(solved("a"), comparison=same).verdict.outcome


def test_how_sure_and_what_limits_it() -> None:
    told = [Diagnostic("few-samples", f"text {k}", f"limit {k}") for k in range(3)]
    found = whole(solved("a"), bound=0.0312, warnings=tuple(told)).verdict
    assert found.sureness == (
        "Measured on 400 held-out samples; on new ones at most 3.12 points are lost (95 %). "
        "Limited by limit 0; limit 1."
    )
    worse = Diagnostic("labels-at-chance", "text", "labels answered by chance")
    found = whole(solved("a"), warnings=(worse, *told)).verdict
    assert "Not to be relied on: labels answered by chance." in found.sureness


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_verdict_is_first_on_the_screen_with_what_calls_it_into_question(width) -> None:
    told = (Diagnostic("labels-at-chance", "chance"), Diagnostic("few-samples", "few"))
    report = whole(solved("a"), warnings=told)
    text = shown(report, width)
    assert text.startswith((" Reached: ", " Not reached: "))
    assert text.index(" ! chance") < text.index("layers pruned") < text.index(" ! few")


def test_the_verdict_is_first_in_the_files() -> None:
    report = whole(solved("a"))
    held = json.loads(report.render(".json"))["verdict"]
    assert held == vars(report.verdict)
    text = report.render(".md")
    assert text.index("**") < text.index("Layers (1 of 1 pruned)")


def test_one_statement_of_95_per_cent_on_a_screen() -> None:
    interval = {"accuracy_drop_interval": (-0.01, 0.03)}
    sure = comparison(outputs=(OutputFacts("y", 0.1, 0.9, (0.8, 0.95)),), **interval)
    target = Target("max_drop", 0.02, 0.0025, 0.0123, 0.9)
    for labels in ({}, NO_LABELS):
        report = whole(
            solved("a"),
            comparison=replace(sure, **labels),
            target=target,
            target_option=("max_drop", 0.02),
            bound=0.0123,
        )
        found = re.findall(r"at most ([0-9.]+)[^.]*\(95 %\)|95 %: at most ([0-9.]+)", shown(report))
        assert {each for pair in found for each in pair if each} == {"1.23"}
        assert shown(report).count("95 %") == len(found) == 2


@pytest.mark.parametrize(
    ("number", "text"), [(7, "7"), (99.2, "100"), (101, "110"), (4133, "4,200"), (0.4, "1")]
)
def test_counts_of_two_digits_are_rounded_up(number, text) -> None:
    assert formatting.about(number) == text
