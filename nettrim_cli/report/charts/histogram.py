"""Sizes of a layer's weights before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from nettrim_cli.report.charts.axes import Axis, Scale, across, frame, ticks, upwards
from nettrim_cli.report.elements import element


def histogram_chart(
    ends: tuple[float, float], dense: Sequence[int], pruned: Sequence[int], title: str
) -> Element:
    """Draw both histograms over each other; heights are square roots, as many weights go.

    Parameters
    ----------
    ends
        Of the bins.
    dense, pruned
        (B,) number of weights in each bin.
    title
        What it shows.
    """
    most = max(*dense, *pruned, 1)
    x, y = across(*ends), upwards(0, most, math.sqrt)
    marks = [most * share for share in (0.0, 0.25, 1.0)]
    return frame(
        Axis(x, ticks(*ends, 4), "weight"),
        Axis(y, marks, "weights", lambda count: compact(round(count))),
        title,
        element("path", class_="fill-before", d=steps(x, y, dense)),
        element("path", class_="outline", d=steps(x, y, pruned)),
    )


def steps(x: Scale, y: Scale, counts: Sequence[int]) -> str:
    """The path around the bars of a histogram."""
    width = (x.high - x.low) / len(counts)
    parts = [f"M{x(x.low):.1f} {y(0):.1f}"]
    for number, count in enumerate(counts):
        parts.append(f"V{y(count):.1f}H{x(x.low + (number + 1) * width):.1f}")
    return "".join([*parts, f"V{y(0):.1f}Z"])


def compact(count: int) -> str:
    """A count at an axis: ``950``, ``38k``, ``1.2M``."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:.{0 if count >= 10 * size else 1}f}{unit}"
    return str(count)
