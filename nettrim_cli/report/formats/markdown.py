"""Documents as Markdown for GitHub: a verdict and one table, and folded parts below."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

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
SIGNS = {True: "✅ ", False: "❌ ", None: ""}
ALERTS = {Severity.CRITICAL: "CAUTION", Severity.WARNING: "WARNING", Severity.NOTE: "NOTE"}


def markdown(document: Document) -> str:
    """A document as the text of a file that fits into a comment on GitHub."""
    parts = [
        f"## {escape(document.title)}",
        f"{SIGNS[document.good]}**{escape(document.headline)}**",
        *map(escape, document.lines),
        _table(document.table),
        *map(_notice, document.notices),
    ]
    size = sum(len(text) + 2 for text in parts)
    for section in document.sections:
        text = _section(section)
        size += len(text) + 2
        if size > MOST_CHARACTERS:
            parts.append("*What follows is too long for a comment; the HTML report has all of it.*")
            break
        parts += [text] if text else []
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """A text that GitHub shows literally; underscores within words need no escape."""
    text = re.sub(r"([\\`*\[\]<>&|~$#!])", r"\\\1", clean(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _section(section: Section) -> str:
    has_pictures = any(isinstance(block, (Figure, Gallery)) for block in section.blocks)
    blocks = _blocks(section.blocks)
    if has_pictures and not any(isinstance(block, Table) for block in section.blocks):
        return ""  # what remains are words on pictures
    if section.folded:
        title = html.escape(clean(section.title))
        blocks = [f"<details>\n<summary>{title}</summary>", *blocks, "</details>"]
    else:
        blocks = [f"### {escape(section.title)}", *blocks]
    return "\n\n".join(blocks)


def _blocks(blocks: Sequence[Block]) -> list[str]:
    return [text for text in map(_block, blocks) if text]


def _block(block: Block) -> str:
    """A part; empty for a picture."""
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Text):
        return escape(block.text)
    return ""


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
