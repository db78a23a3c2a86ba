"""A curve as a picture (SVG), and as a page with it (HTML); both need no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from nettrim_cli.report import formatting
from nettrim_cli.report.curve.chart import interpolated, round_scale, title
from nettrim_cli.report.curve.result import MEASURED, Curve
from nettrim_cli.report.curve.words import advice, basis, columns, noun, verdict

WIDTH, LEFT, RIGHT = 720, 78, 24
PANEL, GAP, TOP = 130, 62, 78  # heights of a panel, between panels, and above the first
TICKS = 4
STYLE = """
.curve { color-scheme: light dark; --ink: #1d2329; --faint: #69727c; --rule: #dfe3e7;
  --line: #0b6e4f; --second: #b5543a; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  .curve { --ink: #e7ebef; --faint: #98a2ad; --rule: #333b43; --line: #4cc395;
    --second: #e58b6c; --paper: #14181c; }
}
.curve text { font: 12px system-ui, sans-serif; fill: var(--faint); }
.curve .verdict { font-size: 17px; font-weight: 600; fill: var(--ink); }
.curve .panel { font-size: 13px; fill: var(--ink); }
.curve .first { fill: var(--line); } .curve .second { fill: var(--second); }
.curve .rule { stroke: var(--rule); }
.curve .limit { stroke: var(--second); stroke-dasharray: 5 4; }
.curve path, .curve path.second { fill: none; stroke: var(--line); stroke-width: 2; }
.curve path.second { stroke: var(--second); }
.curve circle, .curve circle.second { fill: var(--paper); stroke: var(--line); stroke-width: 2; }
.curve circle.second { stroke: var(--second); }
.curve circle.measured { fill: var(--line); }
.curve circle.second.measured { fill: var(--second); }
"""
PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 780px;
  color: var(--ink); background: var(--paper); }
svg { width: 100%; height: auto; } h1 { font-size: 1.35rem; line-height: 1.3; }
.table { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
th { color: var(--faint); font-weight: 500; } td:last-child, th:last-child { text-align: left; }
code { display: block; overflow-x: auto; white-space: pre; padding: .7rem; border: 1px solid var(--rule);
  border-radius: 6px; } .note { color: var(--second); } .faint { color: var(--faint); }
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

    line: Sequence[tuple[float, float]]
    dots: Sequence[tuple[float, float, bool]]


@dataclass(frozen=True)
class Panel:
    """One of the plots above each other.

    Attributes
    ----------
    unit
        What a value of 1 is shown as: 100 for per cent, or a size in bytes where that is 0.
    limit
        A value that is marked; None for none.
    names
        Of the series, where there are several.
    """

    title: str
    series: Sequence[Series]
    unit: float
    limit: float | None = None
    names: Sequence[str] = ()

    @property
    def top(self) -> float:
        """The largest value of the axis."""
        values = [value for series in self.series for _, value in series.line]
        return round_scale(max(*values, 1e-12)) if self.unit else max(values)

    def label(self, value: float) -> str:
        """A value of the axis as text."""
        return f"{self.unit * value:.3g}" if self.unit else formatting.size(round(value))


def svg(curve: Curve) -> str:
    """The picture as a file of its own."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_drawing(curve, standalone=True)}\n'


def html(curve: Curve) -> str:
    """A page with the verdict, the picture, the points, and the command to try."""
    shown = [column for column in columns(curve) if any(column.cells)]
    head = [", ".join(filter(None, (column.group, column.title))) for column in shown]
    rows = zip(*(column.cells for column in shown), strict=True)
    notes = "".join(f'<p class="note">{escape(formatting.clean(note))}</p>' for note in curve.notes)
    body = "".join(f"<tr>{_cells('td', row)}</tr>\n" for row in rows)
    return f"""<!DOCTYPE html>
<html lang="en" class="curve">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nettrim curve: {escape(formatting.clean(curve.model))}</title>
<style>{STYLE}{PAGE_STYLE}</style>
</head>
<body>
<h1>{escape(verdict(curve))}</h1>
<p>{escape(basis(curve))}</p>
{notes}
{_drawing(curve, standalone=False)}
<div class="table"><table>
<thead><tr>{_cells("th", head)}</tr></thead>
<tbody>
{body}</tbody>
</table></div>
<p>Try:</p>
<code>{escape(formatting.clean(advice(curve)))}</code>
<p class="faint">{escape(formatting.clean(curve.model))}, nettrim {escape(curve.version)}</p>
</body>
</html>
"""


def panels(curve: Curve) -> list[Panel]:
    """The plots: what networks cost, their output error, and their bytes."""
    trend, points = curve.trend, curve.points
    shares = [point.sparsity for point in points]

    def by_trend(costs: Sequence[float]) -> Series:
        """A line through the trend with dots at the points."""
        dots = [
            (p.sparsity, interpolated(trend.sparsities, costs, p.sparsity), p.how == MEASURED)
            for p in points
        ]
        return Series(list(zip(trend.sparsities, costs, strict=True)), dots)

    def by_points(values: Sequence[float]) -> Series:
        """A line through the points themselves."""
        measured = [point.how == MEASURED for point in points]
        line = list(zip(shares, values, strict=True))
        return Series(line, list(zip(shares, values, measured, strict=True)))

    drawn = [Panel("output error, %", [by_trend(trend.errors)], 100)]
    if curve.has_answers:
        above = [max(drop, 0.0) for drop in trend.drops]
        drawn.insert(0, Panel(title(curve), [by_trend(above)], 100, trend.limit))
    sizes = [[point.bytes_gzip for point in points], [point.bytes_compact for point in points]]
    names = ("gzipped file", "compact file")
    drawn.append(Panel("", [*map(by_points, sizes)], 0, names=names))
    if any(point.latency_ratio is not None for point in points):
        ratios = [1.0 if point.latency_ratio is None else point.latency_ratio for point in points]
        drawn.append(Panel("time of a call, dense = 1", [by_points(ratios)], 1))
    return drawn


def _drawing(curve: Curve, *, standalone: bool) -> str:
    drawn = panels(curve)
    height = TOP + len(drawn) * (PANEL + GAP)
    parts = [f"<style>{STYLE}</style>"] if standalone else []
    if standalone:
        parts += [
            f'<rect width="{WIDTH}" height="{height}" fill="var(--paper)"/>',
            f'<text class="verdict" x="{LEFT - 58}" y="30">{escape(verdict(curve))}</text>',
        ]
    for number, panel in enumerate(drawn):
        parts += _panel(panel, TOP + number * (PANEL + GAP), curve)
    described = escape(verdict(curve), quote=True)
    start = 0 if standalone else TOP - 40
    return (
        f'<svg class="curve" xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="{described}" viewBox="0 {start} {WIDTH} {height - start}">'
        + "\n".join(parts)
        + "</svg>"
    )


def _panel(panel: Panel, y: float, curve: Curve) -> Iterator[str]:
    """A plot whose upper edge is at y."""
    last, top = curve.trend.sparsities[-1], panel.top

    def place(sparsity: float, value: float) -> tuple[float, float]:
        """Where a value stands."""
        across = LEFT + (WIDTH - LEFT - RIGHT) * sparsity / last
        return round(across, 1), round(y + PANEL * (1 - min(value, top) / top), 1)

    kinds = ("first", "second")
    spans = [
        f'<tspan class="{kind}">{escape(name)}</tspan>'
        for kind, name in zip(kinds, panel.names, strict=False)
    ]
    heading = ", ".join(spans) or escape(panel.title)
    yield f'<text class="panel" x="{LEFT}" y="{y - 12}">{heading}</text>'
    for tick in range(TICKS + 1):
        value = top * tick / TICKS
        _, height = place(0, value)
        yield _rule("rule", LEFT, height, WIDTH - RIGHT, height)
        yield _text(LEFT - 8, height + 4, panel.label(value), "end")
    for point in curve.points:
        across, foot = place(point.sparsity, 0)
        yield _text(across, foot + 17, formatting.plain_percent(round(point.sparsity, 4)))
    if panel.limit is not None and panel.limit <= top:
        (left, height), (right, _) = place(0, panel.limit), place(last, panel.limit)
        yield _rule("limit", left, height, right, height)
    for kind, series in zip(kinds, panel.series, strict=False):
        steps = " L".join(f"{x} {y}" for x, y in (place(*pair) for pair in series.line))
        yield f'<path class="{kind}" d="M{steps}"/>'
        for sparsity, value, measured in series.dots:
            x, height = place(sparsity, value)
            how = MEASURED if measured else "predicted"
            told = f"{formatting.plain_percent(round(sparsity, 4))} % {noun(curve)}: "
            told += f"{panel.label(value)} ({how})"
            yield (
                f'<circle class="{kind} {how}" cx="{x}" cy="{height}" r="3.5">'
                f"<title>{escape(told)}</title></circle>"
            )


def _rule(kind: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="{kind}" x1="{x}" y1="{y}" x2="{to_x}" y2="{to_y}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _cells(tag: str, cells: Sequence[str]) -> str:
    return "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
