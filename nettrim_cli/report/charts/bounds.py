"""What is proved of the outputs beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from nettrim_cli.report.charts.axes import Scale, decades, short
from nettrim_cli.report.elements import Child, element

WIDTH, ROW, LEFT, RIGHT, FOOT = 560, 34, 10, 16, 34
LEAST = 1e-6


def bounds_chart(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]], title: str) -> Element:
    """Draw the errors of each output on a logarithmic axis.

    Parameters
    ----------
    rows
        Names of outputs; for each of them pairs of a class of the mark and an error, a share.
    title
        What it shows.
    """
    errors = [max(error, LEAST) for _, marks in rows for _, error in marks]
    low, high = min(errors, default=LEAST) / 1.6, max(errors, default=1.0) * 1.6
    x = Scale(low, high, LEFT, WIDTH - RIGHT, math.log10)
    height = ROW * len(rows) + FOOT
    foot = height - FOOT
    numbers = decades(low, high)
    rules = "".join(f"M{x(mark):.1f} 0V{foot}" for mark in numbers)
    parts: list[Child] = [element("title", title), element("path", class_="grid", d=rules)]
    for number, (name, marks) in enumerate(rows):
        middle = ROW * number + 22
        places = [x(max(error, LEAST)) for _, error in marks]
        if not places:
            continue
        ends = f"M{min(places):.1f} {middle}H{max(places):.1f}"
        parts += [
            element("text", name, x=LEFT, y=middle - 9),
            element("path", class_="axis", d=ends),
        ]
        parts += [
            element("circle", class_=kind, cx=place, cy=middle, r=5)
            for (kind, _), place in zip(marks, places, strict=True)
        ]
    for mark in numbers:
        parts.append(
            element("text", short(100 * mark), x=x(mark), y=foot + 14, text_anchor="middle")
        )
    parts.append(element("text", "error %", x=WIDTH / 2, y=height - 3, text_anchor="middle"))
    return element("svg", *parts, viewBox=f"0 0 {WIDTH} {height}", role="img")
