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
from nettrim_cli.report.comparison_result import Certificate, LayerBound, OutputBound, OutputFacts
from nettrim_cli.report.render import render
from nettrim_cli.report.result import Report
from nettrim_cli.report.terminal import show_comparison, show_report
from tests.support.reports import comparison, dense, solved, whole

LAYER = LayerBound("fc1", 0.05, 0.0812, 4.5678, 0.31415, 212, 1044)
ENDED = "nothing is proved behind MatMul 'attn': it multiplies two changed tensors"


def certified(*outputs: OutputBound, **changes: object) -> Report:
    certificate = Certificate(outputs, (LAYER, replace(LAYER, name="fc2", norm=None, bound=None)))
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
    assert re.search(
        r"output error +14\.32 % +proved from the layers alone: at most 31\.5 %$", line
    )
    plain = printed(whole(solved("fc1"), solved("fc2"), dense("fc3"))).splitlines()
    assert len(lines) == len(plain)


def test_the_end_of_a_proof_is_said_and_wrapped() -> None:
    for width in (60, 80, 120):
        text = printed(certified(OutputBound("logits", reason=ENDED)), width)
        assert ENDED in re.sub(r"\s+", " ", text)
        assert max(map(len, text.splitlines())) <= width


def test_samples_stand_before_what_is_proved_on_them() -> None:
    report = certified(OutputBound("logits", reason=ENDED))
    report = replace(report, comparison=replace(report.comparison, **unscored(report)))
    text = re.sub(r"\s+", " ", printed(report))
    assert f"on {report.comparison.samples} held-out samples, {ENDED}" in text


def unscored(report: Report) -> dict[str, object]:
    """What a comparison without labels differs by."""
    sides = ("reference", "candidate")
    return {each: replace(getattr(report.comparison, each), accuracy=None) for each in sides}


def test_several_outputs_are_told_apart_and_exact_ones_need_no_proof() -> None:
    found = (OutputFacts("a", 0.1), OutputFacts("b", 0.0), OutputFacts("c\x1b", 0.2))
    report = certified(
        OutputBound("a", 0.5), OutputBound("b", 0.0), OutputBound("c\x1b", reason="behind c\x1b")
    )
    text = printed(replace(report, comparison=comparison(outputs=found)))
    rows = [
        line.split("output error")[1].strip()
        for line in text.splitlines()
        if line.startswith(" output e")
    ]
    assert [re.sub(r"\s+", " ", row) for row in rows] == [
        "10.00 % a, proved from the layers alone: at most 50.0 %",
        "0 % b",
        "20.00 % c\\x1b, behind c\\x1b",
    ]


def test_a_plain_comparison_proves_nothing() -> None:
    console = Console(file=io.StringIO(), width=120)
    show_comparison(comparison(), console)
    assert "proved" not in console.file.getvalue()


def test_files_carry_every_number() -> None:
    report = certified(OutputBound("logits", 0.31415, 0.1432))
    found = json.loads(render(report, ".json"))["certificate"]
    assert found["outputs"] == [
        {"name": "logits", "bound": 0.31415, "bound_measured": 0.1432, "reason": ""}
    ]
    assert found["layers"][0]["samples_densest"] == 1044
    one, two, three = csv.DictReader(io.StringIO(render(report, ".csv")))
    assert (one["error_alone"], one["error_network"], one["norm"]) == ("0.05", "0.0812", "4.5678")
    assert (one["bound"], one["samples_median"], one["samples_densest"]) == (
        "0.31415",
        "212",
        "1044",
    )
    assert (two["norm"], two["bound"]) == ("", "")
    assert {three[key] for key in ("error_alone", "norm", "bound", "samples_median")} == {""}
    text = render(report, ".md")
    assert "| fc1 | 5.00 | 8.12 | 4.57 | 31.5 | 212 | 1,044 | 1,600 |" in text
    assert "| fc2 | 5.00 | 8.12 | – | – | 212 | 1,044 | 1,600 |" in text
    assert "at most 31.5 %" in text
    assert "## Certificate" not in render(whole(solved("fc1")), ".md")
