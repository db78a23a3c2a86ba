"""What the pruned model answers against what the dense one does."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from nettrim_cli.report.charts.axes import Axis, across, frame, ticks, upwards
from nettrim_cli.report.elements import element

MARGIN = 0.04  # of the span, around the dots


def scatter_chart(
    reference: Sequence[float], candidate: Sequence[float], title: str, names: tuple[str, str]
) -> Element:
    """Draw a dot for each pair, with the line of equal answers.

    Parameters
    ----------
    reference, candidate
        (N,) finite numbers.
    title
        What it shows.
    names
        Of both axes.
    """
    low, high = min(*reference, *candidate), max(*reference, *candidate)
    room = MARGIN * (high - low) or abs(high) or 1.0
    low, high = low - room, high + room
    x, y = across(low, high), upwards(low, high)
    pairs = zip(reference, candidate, strict=True)
    dots = "".join(f"M{x(dense):.1f} {y(pruned):.1f}h0" for dense, pruned in pairs)
    marks = ticks(low, high, 6)
    return frame(
        Axis(x, marks, names[0]),
        Axis(y, marks, names[1]),
        title,
        element("path", class_="axis", d=f"M{x(low):.1f} {y(low):.1f}L{x(high):.1f} {y(high):.1f}"),
        element("path", class_="dots", d=dots),
    )
