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
    Measure,
    Notice,
    Section,
    Table,
    Text,
    Tile,
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
    body = element("body", _article(document), class_="page")
    return f"<!DOCTYPE html>\n{markup(element('html', head, body, lang='en'))}\n"


def fragment(document: Document) -> str:
    """A part of a page, with its style."""
    article = _article(document)
    article.insert(0, _style())
    return markup(article)


def _style() -> Element:
    style = Element("style")
    style.text = STYLE.read_text("utf-8")
    return style


def _article(document: Document) -> Element:
    return element(
        "article",
        element("h1", document.title),
        element("p", document.headline, class_=VERDICTS[document.good]),
        *(element("p", line) for line in document.lines),
        element("div", *map(_tile, document.tiles), class_="tiles") if document.tiles else None,
        *map(_notice, document.notices),
        _measures(document.measures, document.measured) if document.measures else None,
        _figure(document.picture, "wide") if document.picture else None,
        _table(document.table),
        *(inner for section in document.sections for inner in _section(section)),
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


def _tile(tile: Tile) -> Element:
    return element(
        "div",
        element("div", tile.label, class_="label"),
        element("div", tile.value, class_="value"),
        element("div", tile.remark, class_="remark") if tile.remark else None,
        class_="tile",
    )


def _figure(figure: Figure, class_: str | None = None) -> Element:
    title = element("h3", _name(figure.title)) if figure.title else None
    caption = element("figcaption", figure.caption) if figure.caption else None
    legend = _legend(figure.legend) if figure.legend else None
    return element("figure", title, legend, figure.draw(), caption, class_=class_)


def _legend(tones: Sequence[tuple[str, str]]) -> Element:
    keys = (element("span", element("i", class_=tone), text) for tone, text in tones)
    return element("div", *keys, class_="legend")


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
    kind = "figures" if len(table.head) == 4 and table.head[0] == table.head[-1] == "" else None
    table_element = element("table", element("thead", titles), element("tbody", *rows), class_=kind)
    return element("div", table_element, class_="scroll")


def _cell(cell: Cell, class_: str | None) -> Element:
    if not isinstance(cell, Bar):
        return element("td", _name(cell) if cell else None, class_=class_)
    names = " ".join(filter(None, ("bars", class_)))
    return element("td", element("span", cell.text, class_="number"), _bar(cell), class_=names)


def _name(text: str) -> Element:
    """A text of any direction, which may break behind a slash."""
    start, *words = text.split("/")
    pieces = (piece for word in words for piece in ("/", element("i", class_="slash"), word))
    return element("bdi", start, *pieces)


def _bar(bar: Bar) -> Element:
    fill = element("i", class_=bar.tone, style=f"width:{_percent(bar.share)}")
    mark = element("u", style=f"left:{_percent(bar.mark)}") if bar.mark is not None else None
    return element("span", fill, mark, class_="bar")


def _measures(measures: Sequence[Measure], names: tuple[str, str]) -> Element:
    """Pairs of bars below each other, with the numbers behind them."""
    parts: list[Child] = [_legend(tuple(zip(("before", "main"), names, strict=True)))]
    for measure in measures:
        remark = element("small", measure.remark) if measure.remark else None
        name = element("div", measure.label, remark, class_="name")
        pair = element("div", name, class_="measure")
        parts.append(pair)
        longest = max(measure.reference, measure.candidate) or 1.0
        for size, text, tone in (
            (measure.reference, measure.reference_text, "before"),
            (measure.candidate, measure.candidate_text, "main"),
        ):
            # The number behind the bar needs some room, too.
            width = f"width:calc((100% - 6em) * {size / longest:.4f})"
            bar = element("i", class_=tone, style=width)
            pair.append(element("div", bar, text, class_="track"))
    return element("div", *parts)


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"
