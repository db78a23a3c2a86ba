"""Documents as HTML: one file that needs nothing else, and fragments for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import (
    Bar,
    Block,
    Cell,
    Document,
    Figure,
    Gallery,
    Measures,
    Notice,
    Section,
    Table,
    Text,
    Tiles,
)
from nettrim_cli.report.elements import Child, element, markup

STYLE = Path(__file__).with_name("style.css")
VERDICTS = {True: "headline good", False: "headline bad", None: "headline"}
WORDS = {
    Severity.CRITICAL: "Not to be relied on:",
    Severity.WARNING: "Warning:",
    Severity.NOTE: "Note:",
    Severity.INFORMATION: "",
}


def page(document: Document) -> str:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{document.title}: {document.headline}"),
        _style(),
    )
    body = element("body", _main(document), class_="page")
    return f"<!DOCTYPE html>\n{markup(element('html', head, body, lang='en'))}\n"


def fragment(document: Document) -> str:
    """A part of a page, with its style."""
    main = _main(document)
    main.insert(0, _style())
    return markup(main)


def _style() -> Element:
    style = Element("style")
    style.text = STYLE.read_text("utf-8")
    return style


def _main(document: Document) -> Element:
    return element(
        "main",
        element("h1", document.title),
        element("p", document.headline, class_=VERDICTS[document.good]),
        *(element("p", line) for line in document.lines),
        *_blocks(document.blocks),
        *(part for section in document.sections for part in _section(section)),
        class_="nettrim",
    )


def _section(section: Section) -> list[Element]:
    if section.closed:
        summary = element("summary", section.title)
        return [element("details", summary, *_blocks(section.blocks))]
    return [element("section", element("h2", section.title), *_blocks(section.blocks))]


def _blocks(blocks: Sequence[Block]) -> list[Element]:
    return [_block(block) for block in blocks]


def _block(block: Block) -> Element:
    """A part of a section."""
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Text):
        return element("p", block.text, class_="faint" if block.faint else None)
    if isinstance(block, Notice):
        return _notice(block)
    if isinstance(block, Tiles):
        tiles = (_tile(tile.label, tile.value, tile.remark) for tile in block.tiles)
        return element("div", *tiles, class_="tiles")
    if isinstance(block, Measures):
        return _measures(block)
    if isinstance(block, Gallery):
        return element("div", *(_figure(figure) for figure in block.figures), class_="gallery")
    return _figure(block, "wide")


def _notice(notice: Notice) -> Element:
    return element(
        "div",
        element("b", WORDS[notice.severity]) if WORDS[notice.severity] else None,
        element("span", notice.text),
        element("code", notice.code) if notice.code else None,
        class_=f"notice {notice.severity.name.lower()}",
    )


def _tile(label: str, value: str, remark: str) -> Element:
    return element(
        "div",
        element("div", label, class_="label"),
        element("div", value, class_="value"),
        element("div", remark, class_="remark") if remark else None,
        class_="tile",
    )


def _figure(figure: Figure, class_: str | None = None) -> Element:
    title = element("h3", element("bdi", figure.title)) if figure.title else None
    caption = element("figcaption", figure.caption) if figure.caption else None
    return element("figure", title, figure.draw(), caption, class_=class_)


def _table(table: Table) -> Element:
    classes = [
        " ".join(["r"] * (letter == "r") + ["minor"] * (title in table.minor)) or None
        for title, letter in zip(table.head, table.align, strict=True)
    ]
    head = zip(table.head, classes, strict=True)
    rows = (
        element("tr", *(_cell(cell, kind) for cell, kind in zip(row, classes, strict=True)))
        for row in table.rows
    )
    titles = element("tr", *(element("th", title, class_=kind) for title, kind in head))
    return element("table", element("thead", titles), element("tbody", *rows))


def _cell(cell: Cell, class_: str | None) -> Element:
    if not isinstance(cell, Bar):
        return element("td", element("bdi", cell) if cell else None, class_=class_)
    return element("td", cell.text, _bar(cell), class_=class_)


def _bar(bar: Bar) -> Element:
    fill = element("i", class_=bar.tone, style=f"width:{_percent(bar.share)}")
    mark = element("u", style=f"left:{_percent(bar.before)}") if bar.before is not None else None
    return element("span", fill, mark, class_="bar")


def _measures(measures: Measures) -> Element:
    """Pairs of bars below each other, with the numbers behind them."""
    parts: list[Child] = []
    for measure in measures.measures:
        name = element("small", measure.remark) if measure.remark else None
        parts.append(element("div", measure.label, name, class_="name"))
        longest = max(measure.before, measure.after) or 1.0
        for size, text, tone in (
            (measure.before, measure.before_text, "before"),
            (measure.after, measure.after_text, "main"),
        ):
            # The number behind the bar needs some room, too.
            width = f"width:calc((100% - 9em) * {size / longest:.4f})"
            bar = element("i", class_=tone, style=width)
            parts.append(element("div", bar, text, class_="track"))
    return element("div", *parts, class_="measure")


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"
