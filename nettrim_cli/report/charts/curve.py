"""The error of a layer at some sparsities, with the one that was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element

from nettrim_cli.report.charts.axes import Axis, across, decades, frame, line, upwards
from nettrim_cli.report.elements import element

LEAST = 1e-4  # error below which nothing is told apart
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def curve_chart(
    sparsities: Sequence[float],
    errors: Sequence[float],
    chosen: tuple[float, float | None],
    title: str,
) -> Element:
    """Draw a curve with a logarithmic axis of errors.

    Parameters
    ----------
    sparsities, errors
        (L,) shares of zeros, and the error at each.
    chosen
        The sparsity that was chosen, and the error there; None where it was not measured.
    title
        What it shows.
    """
    sparsity, error = chosen
    points = [
        (share, max(value, LEAST))
        for share, value in zip(sparsities, errors, strict=True)
        if math.isfinite(value)
    ]
    has_error = error is not None and math.isfinite(error)
    heights = [value for _, value in points] + ([max(error or 0.0, LEAST)] if has_error else [])
    low = min((value for value in heights if value > LEAST), default=LEAST * 10) / 1.5
    high = max(heights, default=1.0) * 1.3
    if high < 4 * low:
        low, high = high / 8, high
    x, y = across(0.0, 1.0), upwards(low, high, math.log10)
    places = [(x(share), y(value)) for share, value in points]
    bottom = y(low)
    shapes = [
        element("path", class_="line", d=line(places)) if len(places) > 1 else None,
        element("path", class_="chosen-line", d=f"M{x(sparsity):.1f} {bottom:.1f}V8"),
    ]
    if has_error:
        dot = y(max(error or 0.0, LEAST))
        shapes.append(element("circle", class_="chosen", cx=x(sparsity), cy=dot, r=4.5))
    return frame(
        Axis(x, SHARES, "zeros %", percent),
        Axis(y, decades(low, high), "error %", percent),
        title,
        *shapes,
    )


def percent(share: float) -> str:
    """A share at an axis, in per cent."""
    return f"{100 * share:.3g}"
