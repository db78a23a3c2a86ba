"""A curve as a picture, in reports and as a file of its own (SVG)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, tostring

from nettrim_cli.report import formatting
from nettrim_cli.report.curve.chart import finite, interpolated, round_scale, title
from nettrim_cli.report.curve.result import MEASURED, Curve
from nettrim_cli.report.curve.words import noun, verdict
from nettrim_cli.report.elements import element

WIDTH, LEFT, RIGHT = 820.0, 78.0, 24.0
PANEL, GAP, TOP, HEAD = 130.0, 62.0, 28.0, 40.0  # heights: a panel, between them, above, the title
TICKS = 4
TONES = ("main", "cost")  # of the lines of a panel
STYLE = """
svg { --ink: #1c2128; --soft: #5b6570; --line: #d9dee4; --main: #2563c9; --cost: #b4561a;
  --paper: #ffffff; background: var(--paper); }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6eaef; --soft: #9aa5b1; --line: #343c46; --main: #6ea0f5; --cost: #e2915c;
    --paper: #14181d; }
}
text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--line); }
"""


@dataclass(frozen=True)
class Series:
    """Values over the sparsity.

    Attributes
    ----------
    line
        Sparsities and values of the line.
    dots
        Sparsities, values, and whether they are measured.
    """

    name: str
    line: Sequence[tuple[float, float]]
    dots: Sequence[tuple[float, float, bool]]


@dataclass(frozen=True)
class Panel:
    """One of the plots above each other.

    Attributes
    ----------
    unit
        What a value of 1 is shown as: 100 for per cent; 0 where values are bytes.
    limit
        A value that is marked; None for none.
    """

    series: Sequence[Series]
    unit: float
    limit: float | None = None

    @property
    def top(self) -> float:
        """The largest value of the axis."""
        values = [value for series in self.series for _, value in series.line]
        return round_scale(max(*values, 1e-12)) if self.unit else max(values)

    def label(self, value: float) -> str:
        """A value of the axis as text."""
        return f"{self.unit * value:.3g}" if self.unit else formatting.size(round(value))


def svg(curve: Curve) -> str:
    """The picture as the text of a file."""
    drawn = drawing(curve)
    drawn.set("xmlns", "http://www.w3.org/2000/svg")
    height = TOP + len(panels(curve)) * (PANEL + GAP)
    drawn.set("viewBox", f"0 {-HEAD:g} {WIDTH:g} {height + HEAD:g}")
    words = {"x": "20", "y": "-12", "style": "font-size: 16px; font-weight: 600; fill: var(--ink)"}
    drawn.insert(0, element("text", verdict(curve), **words))
    drawn.insert(0, element("style", STYLE.replace("\n", " ")))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(drawn, encoding="unicode")}\n'


def drawing(curve: Curve) -> Element:
    """The plots above each other, in colours of the page around them."""
    drawn = panels(curve)
    height = TOP + len(drawn) * (PANEL + GAP)
    parts = [
        part
        for number, panel in enumerate(drawn)
        for part in _panel(panel, TOP + number * (PANEL + GAP), curve)
    ]
    box = f"0 0 {WIDTH:g} {height:g}"
    described = {"role": "img", "aria_label": verdict(curve), "viewBox": box}
    return element("svg", *parts, **described, style=f"max-width: {WIDTH:g}px")


def panels(curve: Curve) -> list[Panel]:
    """The plots: what networks cost, their output error, their bytes, and their time."""
    trend, points = curve.trend, curve.points
    shares = [point.sparsity for point in points]
    measured = [point.how == MEASURED for point in points]

    def by_trend(name: str, costs: Sequence[float]) -> Series:
        """A line through the trend with dots at the points."""
        drawn = finite(costs)
        values = [interpolated(trend.sparsities, drawn, share) for share in shares]
        dots = list(zip(shares, values, measured, strict=True))
        return Series(name, list(zip(trend.sparsities, drawn, strict=True)), dots)

    def by_points(name: str, values: Sequence[float]) -> Series:
        """A line through the points themselves."""
        line = list(zip(shares, values, strict=True))
        return Series(name, line, list(zip(shares, values, measured, strict=True)))

    drawn = [Panel([by_trend("output error, %", trend.errors)], 100)]
    if curve.has_answers:
        lost = [max(drop, 0.0) for drop in trend.drops]
        drawn.insert(0, Panel([by_trend(title(curve), lost)], 100, trend.limit))
    files = {
        "gzipped file": [point.bytes_gzip for point in points],
        "compact file": [point.bytes_compact for point in points],
    }
    drawn.append(Panel([by_points(name, sizes) for name, sizes in files.items()], 0))
    if curve.structure != "zeros":
        ratios = [1.0 if point.latency_ratio is None else point.latency_ratio for point in points]
        drawn.append(Panel([by_points("time of a call, dense = 1", ratios)], 1))
    return drawn


def _panel(panel: Panel, y: float, curve: Curve) -> Iterator[Element]:
    """A plot whose upper edge is at y."""
    last, top = curve.trend.sparsities[-1], panel.top

    def place(sparsity: float, value: float) -> tuple[float, float]:
        """Where a value stands."""
        across = LEFT + (WIDTH - LEFT - RIGHT) * sparsity / last
        return across, y + PANEL * (1 - min(value, top) / top)

    names = [
        element("tspan", f"{', ' if number else ''}{series.name}", style=_fill(number, panel))
        for number, series in enumerate(panel.series)
    ]
    yield element("text", *names, x=LEFT, y=y - 11, style="font-size: 13px")
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        _, height = place(0, value)
        yield element("line", class_="grid", x1=LEFT, y1=height, x2=WIDTH - RIGHT, y2=height)
        yield _text(LEFT - 8, height + 4, panel.label(value), "end")
    for point in curve.points:
        across, foot = place(point.sparsity, 0)
        yield _text(across, foot + 17, formatting.plain_percent(round(point.sparsity, 4)))
    if panel.limit is not None and panel.limit <= top:
        (start, height), (end, _) = place(0, panel.limit), place(last, panel.limit)
        dashes = "stroke: var(--cost); stroke-dasharray: 5 4"
        yield element("line", style=dashes, x1=start, y1=height, x2=end, y2=height)
    for tone, series in zip(TONES, panel.series, strict=False):
        steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*pair) for pair in series.line))
        stroke = f"fill: none; stroke: var(--{tone}); stroke-width: 2"
        yield element("path", style=stroke, d=f"M{steps}")
        for sparsity, value, is_measured in series.dots:
            x, height = place(sparsity, value)
            hint = f"{formatting.plain_percent(round(sparsity, 4))} % {noun(curve)}: "
            hint += f"{panel.label(value)}, {'measured' if is_measured else 'predicted'}"
            fill = f"fill: var(--{tone if is_measured else 'paper'}); stroke: var(--{tone})"
            style = f"{fill}; stroke-width: 2"
            yield element("circle", element("title", hint), style=style, cx=x, cy=height, r=3.5)


def _fill(number: int, panel: Panel) -> str:
    """The colour of a series' name: that of its line, where there are several."""
    tone = TONES[number] if len(panel.series) > 1 else "ink"
    return f"fill: var(--{tone})"


def _text(x: float, y: float, text: str, anchor: str = "middle") -> Element:
    return element("text", text, x=x, y=y, text_anchor=anchor)
