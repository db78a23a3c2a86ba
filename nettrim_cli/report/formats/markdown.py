"""Documents as Markdown for GitHub: a verdict and one table, and folded parts below."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import (
    Bar,
    Block,
    Cell,
    Document,
    Figure,
    Gallery,
    Notice,
    Section,
    Table,
    Text,
)
from nettrim_cli.report.formatting import clean

MOST_CHARACTERS = 60_000  # GitHub takes 65,536 in a comment
MOST_OF_NOTICES = 20_000
ROWS = (400, 100, 25, 5)  # of tables, and notices: the first that fits
SIGNS = {True: "✅ ", False: "❌ ", None: ""}
ALERTS = {Severity.CRITICAL: "CAUTION", Severity.WARNING: "WARNING", Severity.NOTE: "NOTE"}


def markdown(document: Document) -> str:
    """A document as the text of a file that fits into a comment on GitHub."""
    parts = [
        f"## {escape(document.title)}",
        f"{SIGNS[document.good]}**{escape(document.headline)}**",
        *map(escape, document.lines),
    ]
    notices = _fitting(partial(_notices, document.notices), parts, MOST_OF_NOTICES)
    table = _fitting(partial(_block, document.table), [*parts, notices])
    parts += [table, notices]
    for section in document.sections:
        parts.append(_fitting(partial(_section, section), parts))
    return "\n\n".join(filter(None, parts)) + "\n"


def _fitting(
    show: Callable[[int], str], parts: Sequence[str], most_characters: int = MOST_CHARACTERS
) -> str:
    """A part with as many rows as there is room for beside others; empty where there is none."""
    room = most_characters - sum(len(text) + 2 for text in parts)
    return next((text for text in map(show, ROWS) if len(text) <= room), "")


def escape(text: str) -> str:
    """A text that GitHub shows literally; underscores within words need no escape."""
    text = re.sub(r"([\\`*\[\]<>&|~$#!])", r"\\\1", clean(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _section(section: Section, most_rows: int) -> str:
    has_pictures = any(isinstance(block, (Figure, Gallery)) for block in section.blocks)
    blocks = [text for text in (_block(block, most_rows) for block in section.blocks) if text]
    if has_pictures and not any(isinstance(block, Table) for block in section.blocks):
        return ""  # what remains are words on pictures
    if section.folded:
        title = html.escape(clean(section.title))
        blocks = [f"<details>\n<summary>{title}</summary>", *blocks, "</details>"]
    else:
        blocks = [f"### {escape(section.title)}", *blocks]
    return "\n\n".join(blocks)


def _block(block: Block, most_rows: int) -> str:
    """A part; empty for a picture."""
    if isinstance(block, Table):
        cut = _table(replace(block, rows=block.rows[:most_rows]))
        return cut + _left_out(len(block.rows) - most_rows, "rows")
    if isinstance(block, Text):
        return escape(block.text)
    return ""


def _notices(notices: Sequence[Notice], most_rows: int) -> str:
    """The first notices, each in a box of its own."""
    shown = "\n\n".join(map(_notice, notices[:most_rows]))
    return shown + _left_out(len(notices) - most_rows, "notes")


def _left_out(number: int, noun: str) -> str:
    """Where to find what was left out; empty where nothing was."""
    return f"\n\n*{number:,} more {noun} stand in the HTML report.*" if number > 0 else ""


def _notice(notice: Notice) -> str:
    code = f" ({notice.code})" if notice.code else ""
    alert = ALERTS.get(notice.severity)
    head = f"> [!{alert}]\n> " if alert else "- "
    return f"{head}{escape(notice.text)}{escape(code)}"


def _table(table: Table) -> str:
    rule = ["---" if letter == "l" else "---:" for letter in table.align]
    lines = [[*map(escape, table.head)], rule, *([*map(_cell, row)] for row in table.rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(cell: Cell) -> str:
    return escape(cell.text if isinstance(cell, Bar) else cell)
