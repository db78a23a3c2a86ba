"""Tables for the terminal that fit a width without ever cutting a number.

rich's own tables cut or fold cells when space is short, and have no cell that spans columns.
Here the least important columns go first, only names are shortened, and a row may end in a
sentence that takes the remaining space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nettrim_cli.report.formatting import UNKNOWN, shorten_all, wrap

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

GAP = 2
NAME_WIDTH = 24  # for long names; more, up to the double, where they would look alike
SENTENCE_WIDTH = 36
ESSENTIAL = 50  # columns with this priority or more
PLAIN = str.maketrans({"→": ">", "…": "~", "─": "-", "–": "-"})


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    cells
        One text per row; a column without any content is left out.
    group
        A heading over neighbouring columns of the same group.
    priority
        Importance of the column: where space is short the least important goes first.
    lead
        Whether rows that end in a sentence show the column, too.
    styles
        rich style per row; missing ones are plain.
    """

    title: str
    cells: Sequence[str]
    group: str = ""
    priority: int = 0
    right: bool = True
    lead: bool = False
    styles: Sequence[str] = field(default=())

    @property
    def natural(self) -> int:
        """Width in cells that shows everything."""
        return max(_width(text) for text in (self.title, *self.cells))


@dataclass(frozen=True)
class Fitted:
    """Columns with their widths, and the titles of the dropped columns."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    dropped: frozenset[str]

    @property
    def total(self) -> int:
        """Width of a row."""
        return 1 + sum(self.widths) + GAP * (len(self.widths) - 1)

    def leading(self, width: int) -> set[str]:
        """Titles of the columns shown before a sentence, as many as leave space for it."""
        chosen: set[str] = set()
        used = 1
        for column, column_width in zip(self.columns, self.widths, strict=True):
            used += column_width + GAP
            if not column.lead or (chosen and width - used < SENTENCE_WIDTH):
                break
            chosen.add(column.title)
        return chosen


def fit(columns: Sequence[Column], width: int) -> Fitted:
    """Choose columns and their widths; the first column holds the names and stays."""
    shown = [columns[0]]
    shown += [
        column for column in columns[1:] if any(cell not in ("", UNKNOWN) for cell in column.cells)
    ]
    dropped = set()
    name_width = _distinct_width(shown[0])
    while True:
        first_width, *other_widths = _widths(shown)
        used = 1 + sum(other_widths) + GAP * len(other_widths)
        if used + name_width <= width or not other_widths:
            break
        least_important = min(shown[1:], key=lambda column: column.priority)
        # Half of the usual space for names is enough before what matters most has to go.
        if (
            least_important.priority >= ESSENTIAL
            and used + min(first_width, NAME_WIDTH // 2) <= width
        ):
            break
        shown.remove(least_important)
        dropped.add(least_important.title)
    first_width = min(first_width, max(NAME_WIDTH // 3, width - used))
    names = replace(shown[0], cells=shorten_all(shown[0].cells, first_width))
    return Fitted((names, *shown[1:]), (first_width, *other_widths), frozenset(dropped))


def show(fitted: Fitted, console: Console, sentences: Sequence[str] = ()) -> None:
    """Print the table; a row with a sentence shows its leading columns, then the sentence."""
    columns, widths = fitted.columns, fitted.widths
    if any(column.group for column in columns):
        emit(_groups(fitted), console)
    visible_columns = list(zip(columns, widths, strict=True))
    titles = [
        _pad(column.title, column_width, column.right) for column, column_width in visible_columns
    ]
    emit(_text(titles, ["bold"] * len(titles)), console)
    emit(_text(["─" * (fitted.total - 1)], ["dim"]), console)
    leading = fitted.leading(console.width)
    for row in range(len(columns[0].cells)):
        sentence = sentences[row] if row < len(sentences) else ""
        visible = [pair for pair in visible_columns if not sentence or pair[0].title in leading]
        cells = [
            _pad(column.cells[row], column_width, column.right) for column, column_width in visible
        ]
        if not sentence:
            styles = [
                column.styles[row] if row < len(column.styles) else "" for column, _ in visible
            ]
            emit(_text(cells, styles), console)
            continue
        used = 1 + sum(column_width + GAP for _, column_width in visible)
        for line in wrap(sentence, max(console.width - used, 12)):
            emit(_text([*cells, line], ["dim"] * (len(cells) + 1)), console)
            cells = [" " * column_width for _, column_width in visible]


def pairs(rows: Sequence[tuple[str, str, str, str]], console: Console) -> None:
    """Print aligned lines of label, before, after and remark; before may be empty."""
    label_width, before_width, after_width = (
        max((_width(row[k]) for row in rows), default=0) for k in range(3)
    )
    for row in rows:
        arrow = ("→" if row[1] else " ") if before_width else ""
        middle = f"{_pad(row[1], before_width, True)} {arrow} " if before_width else ""
        value = _pad(row[2], after_width, True)
        lead = 1 + label_width + GAP + _width(middle) + after_width + GAP
        wrapped = wrap(row[3], max(console.width - lead, 12)) or [""]
        emit(
            _text(
                [_pad(row[0], label_width, False), middle + value, wrapped[0]],
                ["dim", "", "dim"],
            ),
            console,
        )
        for line in wrapped[1:]:
            emit(_text([" " * (lead - 1 - GAP), line], ["", "dim"]), console)


def paragraph(text: str, console: Console, style: str = "", hanging: int = 1) -> None:
    """Print sentences, wrapped at blanks; a long path within them stays in one piece.

    Parameters
    ----------
    text, console
        The sentences, and where to print them.
    style
        A style of rich.
    hanging
        Indent of the lines after the first, plus 1.
    """
    lines = wrap(text, max(console.width - hanging, 20), split=False)
    for k, line in enumerate(lines):
        emit(_text([" " * (hanging - 1) * (k > 0) + line], [style]), console)


def line(text: str, console: Console, style: str = "") -> None:
    """Print a line in one piece, however long: a path to be copied."""
    emit(_text([text], [style]), console)


def blank(console: Console) -> None:
    """Print an empty line."""
    from rich.text import Text

    emit(Text(), console)


def emit(text: Text, console: Console) -> None:
    """Print one line as it is, in the characters that the stream can carry."""
    from rich.text import Text

    text.rstrip()
    if not console.encoding.lower().startswith("utf"):
        plain = text.plain.translate(PLAIN).encode(console.encoding, "replace")
        spans = text.spans
        text = Text(plain.decode(console.encoding), spans=spans)
    console.print(text, soft_wrap=True, highlight=False)


def _distinct_width(names: Column) -> int:
    """Width in which the names can be told apart, up to twice the usual one."""
    last = min(names.natural, 2 * NAME_WIDTH)
    for width in range(min(last, NAME_WIDTH), last):
        if len(set(shorten_all(names.cells, width))) == len(set(names.cells)):
            return width
    return last


def _widths(columns: Sequence[Column]) -> list[int]:
    widths = [column.natural for column in columns]
    for first, last in _runs(columns):
        lack = len(columns[first].group) - sum(widths[first:last]) - GAP * (last - first - 1)
        if columns[first].group and lack > 0:
            widths[first] += lack
    return widths


def _runs(columns: Sequence[Column]) -> list[tuple[int, int]]:
    """First and end index of each stretch of neighbours in the same group."""
    starts = [
        k for k, column in enumerate(columns) if k == 0 or column.group != columns[k - 1].group
    ]
    return list(zip(starts, [*starts[1:], len(columns)], strict=True))


def _groups(fitted: Fitted) -> Text:
    cells = []
    for first, last in _runs(fitted.columns):
        span = sum(fitted.widths[first:last]) + GAP * (last - first - 1)
        cells.append(_pad(fitted.columns[first].group, span, True))
    return _text(cells, ["dim"] * len(cells))


def _text(cells: Sequence[str], styles: Sequence[str]) -> Text:
    from rich.text import Text

    text = Text(" ")
    for k, (cell, style) in enumerate(zip(cells, styles, strict=True)):
        text.append(" " * GAP if k else "")
        text.append(cell, style=style)
    return text


def _pad(cell: str, width: int, right: bool) -> str:
    blank = " " * (width - _width(cell))
    return blank + cell if right else cell + blank


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return cell_len(cell)
