"""HTML and Markdown read back, as a browser and GitHub would."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser

from markdown_it import MarkdownIt

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """A page that was read, every element closed in its order.

    Attributes
    ----------
    elements
        Tag and attributes of all elements.
    tables
        Texts of cells, by table and row.
    texts
        Text of elements of each tag, in order.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"nothing is open at </{tag}>"
        assert self.open[-1] == tag, f"</{tag}> closes {self.open[-1]}"
        self.open.pop()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is no HTML")

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        self.texts.append((inside, data))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all_of(self, tag: str) -> Iterator[str]:
        """Texts that stand directly in elements of a tag."""
        return (text for inside, text in self.texts if inside == tag)


def read_markdown(text: str) -> Page:
    """The page that GitHub makes of Markdown."""
    return Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
