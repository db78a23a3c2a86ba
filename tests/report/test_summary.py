"""The screen of a run: verdict, five columns, sizes, speed, costs, and what to try next."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace

import click
import pytest

from nettrim_cli import cli
from nettrim_cli.report.bench_result import BatchTiming, Estimate
from nettrim_cli.report.certificate_result import Certificate, LayerCost, LayerCosts
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.next_steps import MOST, Files, next_steps
from nettrim_cli.report.result import FileForm, Report
from nettrim_cli.report.summary import show_summary
from tests.support.reports import comparison, dense, screen, solved, whole

FILES = Files("my models/a.onnx", "calib.h5", "out.onnx")


def shown(report: Report, width: int = 100) -> str:
    console = screen(width)
    show_summary(report, console, FILES)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def costing(*costs: tuple[str, float]) -> Certificate:
    parts = tuple(LayerCost((name,), {"y": cost}) for name, cost in costs)
    return Certificate(costs=LayerCosts(parts=parts))


def head(text: str) -> list[str]:
    return next(
        re.split(r"  +", line.strip()) for line in text.splitlines() if line.startswith(" layer ")
    )


def test_five_columns_tell_what_is_kept_and_what_it_costs() -> None:
    report = whole(solved("fc1"), solved("fc2", nonzeros_after=20_000))
    text = shown(replace(report, certificate=costing(("fc1", 0.02), ("fc2", 0.03))))
    assert head(text) == ["layer", "shape", "kept", "zeros %", "cost %"]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "fc1 300 x 1000 30,000 90.0 2.00" in lines
    assert "fc2 300 x 1000 20,000 93.3 3.00" in lines


def test_without_costs_the_error_of_the_layer_is_told() -> None:
    text = shown(whole(solved("fc1")))
    assert head(text)[-1] == "error %"
    assert re.search(r"fc1 .* 12\.44\n", text)


def test_of_smaller_layers_the_shape_that_is_left_is_told() -> None:
    text = shown(whole(solved("fc1", remaining=(200, 500), rank=16)))
    assert head(text) == ["layer", "shape", "kept", "gone %", "error %"]
    assert "200 - 16 - 500" in text


def test_of_many_layers_those_are_listed_that_cost_most() -> None:
    layers = [solved(f"l{k}") for k in range(50)]
    costs = costing(*((f"l{k}", 0.001 * k) for k in range(50)))
    text = shown(replace(whole(*layers), certificate=costs))
    listed = re.findall(r"^ (l\d+) ", text, re.MULTILINE)
    assert listed == [f"l{k}" for k in range(30, 50)]
    assert "30 more layers cost less, with 90.0 % zeros: -v lists them" in text


def test_dense_layers_have_their_reason_each_or_together() -> None:
    text = shown(whole(solved("a"), dense("b", "excluded")))
    assert re.search(r"b +10 x 10 +left dense: excluded", text)
    text = shown(whole(solved("a"), *(dense(f"b{k}", "excluded") for k in range(5))))
    assert "5 left dense, such as b0: excluded" in text
    assert "in 1 of 6 layers" in text


@pytest.mark.parametrize("width", [60, 80, 140])
def test_lines_fit_but_for_those_to_be_copied(width: int) -> None:
    names = ["/model/encoder/layers.11/self_attn/out_proj/MatMul", "b", "c"]
    told = (Diagnostic("few-samples", "few " * 30, "few samples"),)
    report = whole(*map(solved, names), dense("d", "why " * 20), warnings=told, deleted_units=3)
    lines = shown(report, width).splitlines()
    assert [
        line for line in lines if len(line) > width and not line.startswith("    nettrim")
    ] == []
    assert lines[0].startswith(" Reached: ")
    assert lines[-1] == " written to out.onnx in 18.4 s"


def test_what_the_verdict_says_is_not_said_twice() -> None:
    told = (Diagnostic("few-samples", "text of it", "few samples for layer a"),)
    text = shown(whole(solved("a"), warnings=told))
    assert "Limited by few samples for layer a" in text
    assert "text of it" not in text
    severe = (Diagnostic("not-solved", "severe text", "brief"),)
    assert "! severe text" in shown(whole(solved("a"), warnings=severe))


def test_speed_is_told_or_how_it_is_measured() -> None:
    report = whole(solved("a"))
    assert re.search(r"latency +not timed +scattered zeros make no call faster", shown(report))
    deleted = shown(replace(report, deleted_units=2))
    assert re.search(r"latency +not timed +smaller .*--bench", deleted)
    figures = Estimate(0.002, 0.002, 0.002), Estimate(0.001, 0.001, 0.001)
    timing = BatchTiming(1, figures, (Estimate(0.5, 0.49, 0.51),), 9)
    timed = shown(replace(report, latency=(timing,)))
    assert re.search(r"latency +2\.00 ms → +1\.00 ms  is faster", timed)


def test_agreement_is_told_only_without_labels() -> None:
    assert "same top-1" not in shown(whole(solved("a")))
    unlabelled = comparison(
        reference=replace(comparison().reference, accuracy=None),
        candidate=replace(comparison().candidate, accuracy=None),
    )
    assert "same top-1" in shown(whole(solved("a"), comparison=unlabelled))


def test_where_much_is_lost_a_target_for_that_comes_first() -> None:
    worse = comparison(candidate=replace(comparison().candidate, accuracy=0.8))
    report = whole(solved("a"), comparison=worse, target_option=("sparsity", 0.9))
    assert "--max-drop 1% " in next_steps(report, FILES)[0][1]
    report = replace(report, target_option=("max_drop", 0.1))
    assert "compare" in next_steps(report, FILES)[0][1]


@pytest.mark.parametrize("target", [("sparsity", 0.9), ("max_drop", 0.01), ("max_bytes", 5e5)])
@pytest.mark.parametrize("smaller", [False, True])
def test_next_steps_are_lines_that_are_understood(target, smaller) -> None:
    layer = solved("a", remaining=(200, 500)) if smaller else solved("a")
    forms = (FileForm("compact", 1000, 900, None), FileForm("plain", 9000, 900, None, True))
    report = replace(whole(layer), forms=forms, target_option=target)
    steps = next_steps(report, FILES)
    assert 2 <= len(steps) <= MOST
    for _, line in steps:
        _, name, *words = shlex.split(line)
        parent = click.Context(cli.nettrim, **cli.CONTEXT)
        params = cli.nettrim.all_commands()[name].make_context(name, words, parent=parent).params
        if name == "prune":
            assert params[target[0]] == pytest.approx(target[1])
            assert str(params["model"]) == FILES.model
    names = [line.split()[1] for _, line in steps]
    assert not any("--max-drop 1%" in line for _, line in steps) or target[0] == "max_drop"
    assert names == ["compare", "pack", "bench" if smaller else "prune"]
