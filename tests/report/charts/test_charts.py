"""Pictures: marks stand where the numbers say."""

from __future__ import annotations

import math
import re
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.report.charts.axes import HEIGHT, WIDTH, across, decades, short, ticks, upwards
from nettrim_cli.report.charts.bounds import bounds_chart
from nettrim_cli.report.charts.curve import curve_chart
from nettrim_cli.report.charts.histogram import compact, histogram_chart
from nettrim_cli.report.charts.scatter import scatter_chart
from nettrim_cli.report.charts.strip import strip_chart
from tests.support.effort import examples

NUMBERS = st.floats(-1e9, 1e9)


def marked(svg: Element, kind: str) -> list[Element]:
    """Elements of a class."""
    return [each for each in svg.iter() if each.get("class") == kind]


def places(path: str) -> list[tuple[float, float]]:
    """Pairs of numbers in a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


@examples(100)
@given(st.lists(NUMBERS, min_size=2, max_size=2, unique=True), NUMBERS)
def test_a_scale_keeps_the_order_and_stays_inside(ends, number) -> None:
    scale = across(*sorted(ends))
    low, high = scale(min(ends)), scale(max(ends))
    assert 0 <= low <= scale(number) <= high <= WIDTH


@examples(100)
@given(NUMBERS, st.floats(1e-6, 1e9), st.integers(2, 8))
def test_ticks_are_round_few_and_inside(low, span, most) -> None:
    span = max(span, 1e-6 * abs(low))  # that numbers of so many digits are told apart
    high = low + span
    found = ticks(low, high, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * span <= mark <= high + 1e-6 * span for mark in found)
    steps = {round(two - one, 12) for one, two in zip(found, found[1:], strict=False)}
    if len(found) > 2 and abs(low) < 1e3 * span:
        assert max(steps) - min(steps) <= 1e-6 * max(steps)


def test_ticks_of_decades() -> None:
    assert ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(3, 3) == [3]
    assert decades(0.001, 1) == pytest.approx([0.001, 0.01, 0.1, 1])
    assert decades(0.05, 0.3) == pytest.approx([0.05, 0.1, 0.2])
    assert [short(x) for x in (0, 0.25, 1200, 1e7, 2e-5)] == ["0", "0.25", "1,200", "1e7", "2e-5"]


def test_a_curve_rises_and_the_chosen_point_is_on_its_logarithmic_axis() -> None:
    svg = curve_chart((0.0, 0.5, 0.9), (1e-3, 1e-2, 1e-1), (0.5, 1e-2), "error of fc1")
    (line,) = marked(svg, "line")
    points = places(line.get("d", ""))
    assert len(points) == 3
    heights = [y for _, y in points]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert heights[0] > heights[2]
    (dot,) = marked(svg, "chosen")
    assert (float(dot.get("cx", "")), float(dot.get("cy", ""))) == pytest.approx(points[1], abs=0.1)


@pytest.mark.parametrize("error", [None, math.nan, 0.0, 3e5])
@pytest.mark.parametrize("errors", [(0.0, 0.0, 0.0), (math.nan, 0.1, math.inf), (0.0, 1e-9, 1e9)])
def test_curves_of_odd_numbers_stay_in_the_picture(errors, error) -> None:
    svg = curve_chart((0.0, 0.5, 1.0), errors, (0.97, error), "error")
    for path in marked(svg, "line"):
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places(path.get("d", "")))
    assert len(marked(svg, "chosen")) == (error is not None and math.isfinite(error))
    assert "nan" not in "".join(value for each in svg.iter() for value in each.attrib.values())


def test_a_histogram_has_a_step_for_each_bin_as_high_as_its_root() -> None:
    svg = histogram_chart((-1.0, 1.0), (0, 100, 25, 0), (4, 0, 1, 0), "weights")
    y = upwards(0, 100, math.sqrt)
    for kind, counts in (("fill-before", (0, 100, 25, 0)), ("outline", (4, 0, 1, 0))):
        (path,) = marked(svg, kind)
        heights = [float(found) for found in re.findall(r"V([\d.]+)H", path.get("d", ""))]
        assert heights == pytest.approx([y(count) for count in counts], abs=0.06)
    assert [compact(count) for count in (0, 999, 1500, 38_000, 2_500_000)] == [
        *("0", "999", "1.5k", "38k", "2.5M"),
    ]


def test_histograms_without_weights_are_flat() -> None:
    (path,) = marked(histogram_chart((-0.5, 0.5), (0, 0), (0, 0), "weights"), "outline")
    assert len(set(re.findall(r"V([\d.]+)", path.get("d", "")))) == 1


def test_equal_answers_are_on_the_line_of_a_scatter() -> None:
    svg = scatter_chart((-2.0, 0.0, 5.0), (-2.0, 1.0, 5.0), "values", ("dense", "pruned"))
    (dots,) = marked(svg, "dots")
    first, second, third = places(dots.get("d", ""))
    diagonal = next(each for each in marked(svg, "axis") if "L" in each.get("d", ""))
    (x0, y0), (x1, y1) = places(diagonal.get("d", ""))

    def below(point: tuple[float, float]) -> float:
        """How far a point is below the line."""
        return point[1] - (y0 + (point[0] - x0) * (y1 - y0) / (x1 - x0))

    assert abs(below(first)) < 0.15 > abs(below(third))
    assert below(second) < -5  # the pruned model answers more
    assert scatter_chart((3.0,), (3.0,), "one", ("a", "b")).get("viewBox")


def test_strips_are_as_high_as_their_shares() -> None:
    svg = strip_chart((0.0, 0.5, 1.0, 7.0), ("a", "b", "c", "d"), "zeros", "fill-main")
    bars = marked(svg, "fill-main")
    assert [float(bar.get("height", "")) for bar in bars] == [0, 32, 64, 64]
    assert [bar[0].text for bar in bars] == ["a", "b", "c", "d"]
    right = [float(bar.get("x", "")) + float(bar.get("width", "")) for bar in bars]
    assert right == sorted(right)
    assert right[-1] <= 1000


def test_bounds_stand_right_of_what_was_measured() -> None:
    marks = [("fill-before", 2.0), ("fill-cost", 0.3), ("fill-main", 0.1)]
    svg = bounds_chart([("logits", marks), ("other", [])], "bounds")
    found = [float(marked(svg, kind)[0].get("cx", "")) for kind, _ in marks]
    assert found == sorted(found, reverse=True)
    assert "logits" in [each.text for each in svg.iter("text")]
