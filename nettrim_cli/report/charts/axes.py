"""Scales of pictures, and the frame that they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from nettrim_cli.report.elements import Child, element

WIDTH, HEIGHT = 280, 176
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 8, 32


@dataclass(frozen=True)
class Scale:
    """Numbers to places between two ends.

    Attributes
    ----------
    low, high
        The numbers at the ends.
    start, end
        The places.
    bend
        Makes numbers evenly spaced; the identity by default.
    """

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = float

    def __call__(self, number: float) -> float:
        """The place of a number; those beyond an end are at the end."""
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(min(max(number, self.low), self.high)) - low) / (high - low)
        return self.start + share * (self.end - self.start)


def across(low: float, high: float) -> Scale:
    """A scale from left to right."""
    return Scale(low, high, LEFT, WIDTH - RIGHT)


def upwards(low: float, high: float, bend: Callable[[float], float] = float) -> Scale:
    """A scale from the bottom to the top."""
    return Scale(low, high, HEIGHT - BOTTOM, TOP, bend)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from one to another, at most so many."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    step = 10.0 ** math.floor(math.log10(span / most))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= most)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)][: most + 1]


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from one number to another, with 2 and 5 between them where they are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(powers) <= 3 else (1,)
    marks = [factor * 10.0**power for power in powers for factor in factors]
    inner = [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
    return inner[:: max(1, math.ceil(len(inner) / 6))]


def short(number: float) -> str:
    """A number at an axis."""
    if number and (abs(number) >= 1e5 or abs(number) < 1e-3):
        mantissa, exponent = f"{number:.0e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{number:,.4g}"


@dataclass(frozen=True)
class Axis:
    """An axis with its scale, the numbers at it and what it shows."""

    scale: Scale
    marks: Sequence[float]
    title: str
    text: Callable[[float], str] = short


def frame(x: Axis, y: Axis, title: str, *shapes: Child) -> Element:
    """A picture with axes.

    Parameters
    ----------
    x, y
        The axes.
    title
        What it shows, for those who do not see it.
    shapes
        What is drawn in it.
    """
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    rules = "".join(f"M{LEFT} {y.scale(mark):.1f}H{right}" for mark in y.marks)
    texts = [
        element("text", y.text(mark), x=LEFT - 5, y=y.scale(mark) + 3.5, text_anchor="end")
        for mark in y.marks
    ]
    texts += [
        element("text", x.text(mark), x=x.scale(mark), y=bottom + 14, text_anchor="middle")
        for mark in x.marks
    ]
    middle = (TOP + bottom) / 2
    texts += [
        element("text", x.title, x=(LEFT + right) / 2, y=HEIGHT - 3, text_anchor="middle"),
        element(
            *("text", y.title),
            x=0,
            y=0,
            text_anchor="middle",
            transform=f"translate(9 {middle:.1f}) rotate(-90)",
        ),
    ]
    return element(
        "svg",
        element("title", title),
        element("path", class_="grid", d=rules) if rules else None,
        element("path", class_="axis", d=f"M{LEFT} {bottom}H{right}"),
        *shapes,
        *texts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def line(points: Sequence[tuple[float, float]]) -> str:
    """The path of a line through places."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
