"""What people read of a result, as parts that Markdown and HTML show each in their own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from nettrim_cli.report.diagnostic import Severity


@dataclass(frozen=True)
class Bar:
    """A number in a table, with a bar in HTML.

    Attributes
    ----------
    text
        The number.
    share
        Length of the bar, from 0 to 1.
    mark
        A place in the bar, from 0 to 1; None without one.
    tone
        ``main``, ``cost`` or ``before``.
    """

    text: str
    share: float
    mark: float | None = None
    tone: str = "main"


Cell = str | Bar


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    head
        Titles of the columns.
    align
        A letter for each column: ``l``, ``r``, or ``b`` for bars.
    rows
        Cells of each row.
    minor
        Titles of the columns that narrow screens leave out.
    """

    head: Sequence[str]
    align: str
    rows: Sequence[Sequence[Cell]]
    minor: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Text:
    """A paragraph; a faint one explains."""

    text: str
    faint: bool = False


@dataclass(frozen=True)
class Notice:
    """Something that a reader should know, with its code if it has one."""

    text: str
    severity: Severity = Severity.WARNING
    code: str = ""


@dataclass(frozen=True)
class Tile:
    """A figure that is told at a glance; in HTML alone."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture; in HTML alone.

    Attributes
    ----------
    title, caption
        Words above and below it.
    draw
        Makes its element.
    legend
        Tones, as of ``Bar``, and what they stand for.
    """

    title: str
    draw: Callable[[], Element]
    caption: str = ""
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side; in HTML alone."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Measure:
    """A size before and after, such as bytes, as a pair of bars; in HTML alone.

    Attributes
    ----------
    label, remark
        What it is, and how it changed.
    reference, candidate
        Both sizes.
    reference_text, candidate_text
        The same in words.
    """

    label: str
    reference: float
    candidate: float
    reference_text: str
    candidate_text: str
    remark: str = ""


Block = Table | Text | Figure | Gallery


@dataclass(frozen=True)
class Section:
    """A part with a title.

    Attributes
    ----------
    folded
        Whether Markdown shows the title alone until it is clicked.
    closed
        Whether HTML does so.
    """

    title: str
    blocks: Sequence[Block]
    folded: bool = True
    closed: bool = False


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes
    ----------
    title
        In a few words.
    good
        Whether it is good news; None where it is neither.
    headline
        The verdict.
    lines
        What goes with it.
    table
        The figures that are asked for first.
    tiles, measures, picture
        The same as pictures; in HTML alone.
    measured
        What the two bars of a measure are of.
    notices
        What a reader should know first.
    sections
        Everything else.
    """

    title: str
    headline: str
    table: Table
    good: bool | None = None
    lines: Sequence[str] = ()
    tiles: Sequence[Tile] = ()
    measures: Sequence[Measure] = ()
    measured: tuple[str, str] = ("before", "after")
    picture: Figure | None = None
    notices: Sequence[Notice] = ()
    sections: Sequence[Section] = ()
