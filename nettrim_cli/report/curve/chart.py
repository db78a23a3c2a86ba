"""A small plot of a curve in text: what networks cost, over their sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nettrim_cli.report import formatting
from nettrim_cli.report.curve.result import MEASURED, Curve

ROWS, MOST_COLUMNS, FEWEST_COLUMNS = 8, 72, 20
EIGHTHS = " ▁▂▃▄▅▆▇█"
PLAIN = " ......##"  # where the stream carries no blocks
TALLEST = 4.0  # times the limit, above which costs are cut off
FLAT = 0.25  # of the limit: drops below it everywhere show nothing, and errors are drawn
LEFT, RIGHT = 9, 9  # columns beside the plot


def chart(curve: Curve, width: int, *, plain: bool = False) -> list[str]:
    """Lines of the plot; the last two are its axis.

    Parameters
    ----------
    curve, width
        The curve, and columns of the screen.
    plain
        Whether only ASCII characters may be used.
    """
    trend, limit = curve.trend, curve.trend.limit
    costs, unit = trend.costs, title(curve)
    if curve.has_answers and max(costs) < FLAT * limit:
        costs, limit, unit = trend.errors, math.inf, "output error, %"
    columns = max(FEWEST_COLUMNS, min(MOST_COLUMNS, width - LEFT - RIGHT))
    heights = _sampled(trend.sparsities, finite(costs), columns)
    top = round_scale(min(max(*heights, 1e-12), TALLEST * limit))
    steps = [ROWS * 8 * min(max(height, 0.0), top) / top for height in heights]
    blocks = PLAIN if plain else EIGHTHS
    lines = []
    for row in range(ROWS - 1, -1, -1):
        label = _label(top * (row + 1) / ROWS) if row % 2 or ROWS == 1 else ""
        cells = [blocks[min(8, max(0, math.ceil(step - 8 * row)))] for step in steps]
        lines.append(f"{label:>{LEFT - 1}} {''.join(cells)}".rstrip())
    return [f"{'':>{LEFT}}{unit}", *lines, *_axis(curve, columns, plain=plain)]


def finite(costs: Sequence[float]) -> list[float]:
    """Costs with the largest number in place of those that are none."""
    largest = max((cost for cost in costs if math.isfinite(cost)), default=0.0)
    return [cost if math.isfinite(cost) else largest for cost in costs]


def round_scale(largest: float) -> float:
    """Four times a round number (1, 2, 2.5 or 5 times a power of ten), at least the largest."""
    unit = 10.0 ** math.floor(math.log10(largest / 4))
    return next(4 * unit * step for step in (1, 2, 2.5, 5, 10) if 4 * unit * step >= largest)


def title(curve: Curve) -> str:
    """What a plot is of."""
    if not curve.has_answers:
        return "output error, %"
    return "points of accuracy lost" if curve.labels else "answers changed, %"


def _sampled(sparsities: Sequence[float], costs: Sequence[float], columns: int) -> list[float]:
    """The costs at the middles of so many equal steps of sparsity, from 0 to the last."""
    last = sparsities[-1]
    return [
        interpolated(sparsities, costs, last * (column + 0.5) / columns)
        for column in range(columns)
    ]


def interpolated(sparsities: Sequence[float], costs: Sequence[float], at: float) -> float:
    """A cost between those at ascending sparsities."""
    for number in range(1, len(sparsities)):
        low, high = sparsities[number - 1], sparsities[number]
        if at <= high:
            share = (at - low) / (high - low)
            return costs[number - 1] + share * (costs[number] - costs[number - 1])
    return costs[-1]


def _axis(curve: Curve, columns: int, *, plain: bool) -> list[str]:
    """The line below the plot, with marks where networks are known, and their sparsities."""
    last = curve.trend.sparsities[-1]
    marks, labels = ["-" if plain else "─"] * columns, [" "] * columns
    end = -1
    for point in curve.points:
        place = min(columns - 1, int(columns * point.sparsity / last))
        if point.how == MEASURED and point.sparsity:
            marks[place] = "o" if plain else "●"
        text = formatting.plain_percent(round(point.sparsity, 4))
        start = max(0, min(place - len(text) // 2, columns - len(text)))
        if start > end:
            labels[start : start + len(text)] = text
            end = start + len(text)
    unit = "% zeros" if curve.structure == "zeros" else "% gone"
    return [f"{'':>{LEFT}}{''.join(marks)}", f"{'':>{LEFT}}{''.join(labels).rstrip()} {unit}"]


def _label(value: float) -> str:
    return f"{100 * value:.3g}"
