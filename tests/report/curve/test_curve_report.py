"""A curve in words, as a plot in text, as a picture, and in files."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nettrim_cli.report.curve.chart import chart, interpolated, round_scale
from nettrim_cli.report.curve.picture import panels
from nettrim_cli.report.curve.result import (
    CURVE_FORMATS,
    MEASURED,
    PREDICTED,
    Curve,
    CurvePoint,
    Trend,
)
from nettrim_cli.report.curve.screen import show_curve
from nettrim_cli.report.curve.words import advice, basis, verdict
from tests.support.markup import Page, read_markdown
from tests.support.reports import ODD, strict

SHARES, ERRORS, DROPS = (0.0, 0.5, 0.8, 0.9), (0.0, 0.01, 0.04, 0.1), (0.0, 0.002, 0.006, 0.03)


def point(share: float, error: float, drop: float | None, how: str = PREDICTED) -> CurvePoint:
    size = round(1e6 * (1 - share))
    return CurvePoint(share, error, drop, drop, 1_000_000, size, size + 1000, how=how)


def told(**changes: object) -> Curve:
    points = [point(*each) for each in zip(SHARES, ERRORS, DROPS, strict=True)]
    points[2] = replace(points[2], how=MEASURED)
    curve = Curve(
        *("my model.onnx", "calib.h5", tuple(points), Trend(SHARES, ERRORS, DROPS), True, 0.9),
        *(400, 10_000, 11_000, "zeros", 3.5, "0.1.0"),
    )
    return replace(curve, **changes)


def without_answers() -> Curve:
    points = tuple(replace(each, drop=None, drop_bound=None) for each in told().points)
    return told(points=points, trend=Trend(SHARES, ERRORS), labels=False, accuracy=None)


def test_the_verdict_is_read_off_the_trend() -> None:
    curve = told()  # from .006 at 80 % to .03 at 90 %: .01 is a sixth of the way
    assert curve.cheap == pytest.approx(0.8 + 0.1 / 6)
    assert verdict(curve) == "Up to 81 % zeros cost less than 1 point of accuracy."
    assert advice(curve) == "nettrim prune 'my model.onnx' --data calib.h5 --sparsity 81%"
    changed = told(labels=False, accuracy=None)
    assert verdict(changed) == "Up to 81 % zeros cost less than 1 % of the answers."
    errors = without_answers()  # .05 is a sixth of the way from .04 to .1
    assert verdict(errors) == "Up to 81 % zeros cost less than an output error of 5 %."
    dear = told(trend=Trend(SHARES, ERRORS, (0.0, 0.02, 0.03, 0.2)))
    assert verdict(dear) == "Even 50 % zeros cost more than 1 point of accuracy."
    assert advice(dear).endswith("--max-drop 1%")
    trend = Trend(SHARES, ERRORS, (0.0, 0.0, 0.001, 0.002))
    free = told(trend=trend, structure="shrink", options=("--structure", "shrink"))
    assert verdict(free) == "Even 90 % of the weights gone cost less than 1 point of accuracy."
    assert advice(free).endswith("--structure shrink --sparsity 90%")


def test_what_is_measured_and_what_is_predicted_is_told() -> None:
    assert "pruned to 80 %; 400 held-out" in basis(told())
    nothing = tuple(replace(each, how=PREDICTED) for each in told().points)
    assert "nothing was pruned" in basis(told(points=nothing))
    everything = tuple(replace(each, how=MEASURED) for each in told().points)
    assert basis(told(points=everything)).startswith("Every network was pruned")


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=8),
    st.floats(0.01, 0.5),
)
def test_the_largest_cheap_sparsity_against_a_fine_grid(costs, limit) -> None:
    costs = [0.0, *costs]
    shares = [number / len(costs) for number in range(len(costs))]
    trend = Trend(tuple(shares), tuple(costs))
    places = [number / 2000 * shares[-1] for number in range(2001)]
    cheap = 0.0
    for place in places:
        if interpolated(shares, costs, place) > limit + 1e-12:
            break
        cheap = place
    assert trend.within(limit) == pytest.approx(cheap, abs=1.01 * shares[-1] / 2000)


@pytest.mark.parametrize("curve", [told(), without_answers()], ids=["drops", "errors"])
@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("plain", [True, False])
def test_the_plot_in_text_rises_and_fits(curve, width, plain) -> None:
    lines = chart(curve, width, plain=plain)
    assert max(map(len, lines)) <= width
    assert not plain or all(line.isascii() for line in lines)
    rows = [line[9:].ljust(width) for line in lines[1:-2]]
    heights = [sum(row[column] != " " for row in rows) for column in range(len(lines[-2]) - 9)]
    assert heights == sorted(heights)
    assert heights[-1] >= 6
    assert ("o" if plain else "●") in lines[-2]


def test_a_plot_of_drops_that_are_nothing_shows_errors() -> None:
    flat = told(trend=Trend(SHARES, ERRORS, (0.0, 0.0, 0.0, 0.001)))
    assert "output error" in chart(flat, 80)[0]
    assert "accuracy" in chart(told(), 80)[0]


@pytest.mark.parametrize("odd", [math.inf, math.nan])
def test_costs_that_are_no_numbers_break_no_plot(odd) -> None:
    errors, drops = (0.0, 0.01, odd, odd), (0.0, 0.0, 0.0, 0.0)
    for curve in (without_answers(), told(trend=Trend(SHARES, errors, drops))):
        broken = replace(curve, trend=replace(curve.trend, errors=errors))
        assert len(chart(broken, 80)) == 11
        assert "nan" not in broken.render(".svg")
        assert strict(broken.render(".json"))["trend"]["errors"][-1] is None
        assert verdict(broken)


@given(st.floats(1e-9, 1e9))
def test_scales_are_round_and_large_enough(largest) -> None:
    top = round_scale(largest)
    assert largest <= top * (1 + 1e-12)
    assert top < 4.1 * largest
    digits = f"{top / 4:.6e}".split("e")[0]
    assert float(digits) in (1, 2, 2.5, 5)


def test_the_picture_has_a_dot_for_each_figure() -> None:
    root = ElementTree.fromstring(told().render(".svg").split("\n", 1)[1])
    name = "{http://www.w3.org/2000/svg}"
    dots = root.findall(f".//{name}circle")
    series = [each for panel in panels(told()) for each in panel.series]
    assert len(dots) == len(series) * len(SHARES)
    drops = [float(dot.attrib["cy"]) for dot in dots[: len(SHARES)]]
    assert drops == sorted(drops, reverse=True)  # upwards
    top, foot = (float(each.attrib["cy"]) for each in (dots[len(SHARES) - 1], dots[0]))
    scale = (foot - top) / DROPS[-1]
    assert foot - drops[1] == pytest.approx(scale * DROPS[1], abs=0.02)
    said = [dot.findtext(f"{name}title") for dot in dots]
    assert said[2] == "80 % zeros: 0.6, measured"
    assert "predicted" in said[1]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", told().render(".svg"))


def test_files_hold_the_points() -> None:
    curve = told(notes=ODD)
    rows = list(csv.DictReader(io.StringIO(curve.render(".csv"), newline="")))
    assert [float(row["drop"]) for row in rows] == list(DROPS)
    assert [row["how"] for row in rows] == [PREDICTED, PREDICTED, MEASURED, PREDICTED]
    held = strict(curve.render(".json"))
    assert held["schema"] == "nettrim-curve"
    assert held["cheap"] == curve.cheap
    assert [each["error"] for each in held["points"]] == list(ERRORS)
    assert held["trend"]["drops"] == list(DROPS)
    for page in (Page(curve.render(".html")), read_markdown(curve.render(".md"))):
        (table,) = page.tables
        assert len(table) == 1 + len(SHARES)
        assert [row[1] for row in table[1:]] == ["0", "50", "80", "90"]
    assert set(CURVE_FORMATS) == {".html", ".md", ".json", ".csv", ".svg"}
    assert json.loads(told(trend=Trend(SHARES, ERRORS)).render(".json"))["trend"]["drops"] == []


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_screen(width) -> None:
    console = Console(file=io.StringIO(), width=width)
    show_curve(told(notes=("a note",)), console)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == " Up to 81 % zeros cost less than 1 point of accuracy."
    assert any("! a note" in line for line in lines)
    assert all(len(line) <= width for line in lines if not line.startswith(" try"))
    assert sum(line.endswith("predicted") for line in lines) == 2
    assert sum(line.endswith("measured") for line in lines) == 1
