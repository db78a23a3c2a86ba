"""A figure of every layer as a row of bars, as wide as the page."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from nettrim_cli.report.elements import element

WIDTH, HEIGHT, GAP = 1_000.0, 64.0, 0.18


def strip_chart(shares: Sequence[float], names: Sequence[str], title: str, class_: str) -> Element:
    """Draw a bar for each layer, with its name for the pointer.

    Parameters
    ----------
    shares
        Heights, from 0 to 1.
    names
        What is shown at each bar.
    title
        What it shows.
    class_
        Of the bars.
    """
    room = WIDTH / max(1, len(shares))
    bars = [
        element(
            "rect",
            element("title", name),
            class_=class_,
            x=k * room + room * GAP / 2,
            y=HEIGHT * (1 - min(max(share, 0.0), 1.0)),
            width=room * (1 - GAP),
            height=HEIGHT * min(max(share, 0.0), 1.0),
        )
        for k, (share, name) in enumerate(zip(shares, names, strict=True))
    ]
    return element(
        "svg",
        element("title", title),
        element("path", class_="grid", d=f"M0 0H{WIDTH:.0f}M0 {HEIGHT / 2}H{WIDTH:.0f}"),
        element("path", class_="axis", d=f"M0 {HEIGHT}H{WIDTH:.0f}"),
        *bars,
        viewBox=f"0 0 {WIDTH:.0f} {HEIGHT:.0f}",
        preserveAspectRatio="none",
        class_="strip",
        role="img",
    )
