"""What is proved, in every report: beside the measured error, never rounded in its own favour."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nettrim_cli.report import formatting
from nettrim_cli.report.certificate_result import (
    Certificate,
    CostSum,
    LayerBound,
    LayerCost,
    LayerCosts,
    OutputBound,
)
from nettrim_cli.report.comparison_result import NewSampleError, OutputFacts
from nettrim_cli.report.result import Report
from nettrim_cli.report.terminal import show_comparison, show_report
from tests.support.reports import comparison, dense, solved, whole

LAYER = LayerBound("fc1", 0.05, 0.0812, 4.5678, 0.31415, 212, 1044, 5210)
ENDED = "nothing is proved behind MatMul 'attn': it multiplies two changed tensors"


COSTS = LayerCosts(
    (LayerCost(("fc1",), {"logits": 0.2}), LayerCost(("fc2", "fc3"), {"logits": 0.11415})),
    (CostSum("logits", 0.31415, 0.1432),),
    400,
)


def certified(*outputs: OutputBound, costs: LayerCosts = COSTS, **changes: object) -> Report:
    layers = LAYER, replace(LAYER, name="fc2", norm=None, bound=None)
    certificate = Certificate(outputs, layers, costs)
    report = whole(solved("fc1"), solved("fc2"), dense("fc3"), certificate=certificate)
    return replace(report, **changes)


def printed(report: Report, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, markup=False, highlight=False)
    show_report(report, console)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.31415, "31.5"),
        (0.31, "31.0"),
        (2.66688, "267"),
        (3493.63, "350,000"),
        (0.0099999, "1.00"),
        (1e-6, "1.00e-4"),
        (0.125, "12.5"),
        (1.0, "100"),
        (12345678.0, "1.24e+9"),
        (0.0, "0"),
    ],
)
def test_bounds_are_rounded_up(share: float, text: str) -> None:
    assert formatting.at_most(share) == text


@given(st.floats(1e-12, 1e12))
def test_no_bound_is_printed_below_itself(share: float) -> None:
    shown = Decimal(formatting.at_most(share).replace(",", ""))
    exact = 100 * Decimal(share)
    assert exact <= shown <= exact * Decimal("1.01")


def test_the_bound_stands_beside_the_measured_error_on_one_line() -> None:
    lines = printed(certified(OutputBound("logits", 0.31415, 0.1432))).splitlines()
    (line,) = (each for each in lines if each.startswith(" output error"))
    assert re.search(r"output error +14\.32 % +at most 31\.5 % by the costs of layers$", line)
    plain = printed(whole(solved("fc1"), solved("fc2"), dense("fc3"))).splitlines()
    assert len(lines) == len(plain)


def test_a_reason_for_no_costs_is_said_and_wrapped() -> None:
    for width in (60, 80, 120):
        text = printed(certified(costs=LayerCosts(reason=ENDED)), width)
        assert ENDED in re.sub(r"\s+", " ", text)
        assert max(map(len, text.splitlines())) <= width


def test_samples_stand_before_what_layers_cost_on_them() -> None:
    report = certified(costs=LayerCosts(reason=ENDED))
    report = replace(report, comparison=replace(report.comparison, **unscored(report)))
    text = re.sub(r"\s+", " ", printed(report))
    assert f"on {report.comparison.samples} held-out samples, {ENDED}" in text


def unscored(report: Report) -> dict[str, object]:
    """What a comparison without labels differs by."""
    sides = ("reference", "candidate")
    return {each: replace(getattr(report.comparison, each), accuracy=None) for each in sides}


def test_several_outputs_are_told_apart_and_exact_ones_have_no_costs() -> None:
    found = (OutputFacts("a", 0.1), OutputFacts("b", 0.0), OutputFacts("c\x1b", 0.2))
    sums = CostSum("a", 0.5, 0.1), CostSum("b", 0.0, 0.0), CostSum("c\x1b", 0.75, 0.2)
    report = certified(costs=LayerCosts((), sums, 400))
    text = printed(replace(report, comparison=comparison(outputs=found)))
    rows = [
        line.split("output error")[1].strip()
        for line in text.splitlines()
        if line.startswith(" output e")
    ]
    assert [re.sub(r"\s+", " ", row) for row in rows] == [
        "10.00 % a, at most 50.0 % by the costs of layers",
        "0 % b",
        "20.00 % c\\x1b, at most 75.0 % by the costs of layers",
    ]


def compared(**changes: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    show_comparison(comparison(**changes), console)
    return console.file.getvalue()


def test_a_comparison_names_the_costliest_layers() -> None:
    assert "cost" not in compared()
    text = compared(certificate=Certificate(costs=COSTS))
    assert re.search(r"costliest layer +20\.00 % +fc1; then fc2 \+ fc3 11\.42 %", text)


def test_costs_on_fewer_samples_say_so() -> None:
    text = printed(certified(costs=replace(COSTS, samples=64)))
    assert "at most 31.5 % by the costs of layers, on 64 samples with an error of 14.32 %" in text


def test_the_table_of_layers_has_their_costs() -> None:
    head, _, *rows = printed(certified()).splitlines()[4:9]
    end = head.index("output") + len("output")
    assert [row[:end].split()[-1] for row in rows[:2]] == ["20.00", "11.42"]
    layers = [solved(name) for name in ("fc1", "fc2", "fc3")]
    shared = printed(replace(certified(), layers=tuple(layers))).splitlines()[8]
    assert shared[:end].split()[-1] == '"'


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "9.13 % at most, for 19 of 20 of them (95 % sure)"),
        ({"error": None, "samples": 40}, "– 59 samples are needed to tell what 19 of 20 do not"),
    ],
)
def test_what_new_samples_do_not_exceed(changes, text) -> None:
    bound = replace(NewSampleError("logits", 0.09123, 0.95, 0.95, 400, 59), **changes)
    assert f"new samples {text}" in re.sub(r"\s+", " ", compared(new_samples=(bound,)))


def test_a_run_without_unused_samples_tells_what_to_do() -> None:
    bound = NewSampleError("logits", None, 0.95, 0.95, 0, 59)
    report = replace(certified(), comparison=comparison(new_samples=(bound,)))
    assert "nettrim compare with 59 unused samples tells what 19 of 20" in printed(report)
    bound = replace(bound, error=0.2, samples=400)
    report = replace(certified(), comparison=comparison(new_samples=(bound,)))
    assert "(95 % sure), by 400 unused samples" in printed(report)


def test_files_carry_every_number() -> None:
    report = certified(OutputBound("logits", 0.31415, 0.1432))
    found = json.loads(report.render(".json"))["certificate"]
    assert found["outputs"] == [
        {"name": "logits", "bound": 0.31415, "bound_measured": 0.1432, "reason": ""}
    ]
    assert found["layers"][0]["samples_densest"] == 1044
    assert found["costs"]["parts"][1] == {
        "layers": ["fc2", "fc3"],
        "outputs": {"logits": 0.11415},
    }
    assert found["costs"]["sums"] == [{"name": "logits", "bound": 0.31415, "error": 0.1432}]
    one, two, three = csv.DictReader(io.StringIO(report.render(".csv")))
    assert (one["error_alone"], one["error_network"], one["norm"]) == ("0.05", "0.0812", "4.5678")
    assert (one["bound"], one["samples_median"], one["samples_densest"]) == (
        "0.31415",
        "212",
        "1044",
    )
    assert (two["norm"], two["bound"]) == ("", "")
    assert {three[key] for key in ("error_alone", "norm", "bound", "samples_median")} == {""}
    assert [(row["cost"], row["cost_layers"]) for row in (one, two, three)] == [
        ("0.2", "1"),
        ("0.11415", "2"),
        ("0.11415", "2"),
    ]
    text = report.render(".md")
    assert "| fc2, fc3 | 11.42 |\n| together at most | 31.5 |" in text
    assert "| fc1 | 5.00 | 8.12 | 4.57 | 31.5 | 212 | 1,044 | 5,210 | 1,600 |" in text
    assert "| fc2 | 5.00 | 8.12 | – | – | 212 | 1,044 | 5,210 | 1,600 |" in text
    assert "## Certificate" not in whole(solved("fc1")).render(".md")
