"""Aligned columns for the terminal: fits a table to a width without ever cutting a number.

rich's own tables cut or fold cells when space is short and know no cell that spans columns;
here the least important columns go first, only names are shortened, and a row may end in a
sentence that takes all the space that is left.
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
ESSENTIAL = 50  # columns with this keep or more
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
    keep
        How long to hold on to the column when space is short: the least goes first.
    lead
        Shown in rows that end in a sentence, too.
    styles
        rich style per row; missing ones are plain.
    """

    title: str
    cells: Sequence[str]
    group: str = ""
    keep: int = 0
    right: bool = True
    lead: bool = False
    styles: Sequence[str] = field(default=())

    @property
    def natural(self) -> int:
        """Width in cells that shows everything."""
        return max(_width(each) for each in (self.title, *self.cells))


@dataclass(frozen=True)
class Fitted:
    """Columns with their widths, and the titles of those that had to go."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    dropped: frozenset[str]

    @property
    def total(self) -> int:
        """Width of a row."""
        return 1 + sum(self.widths) + GAP * (len(self.widths) - 1)

    def leading(self, width: int) -> set[str]:
        """Titles of the columns shown before a sentence, so many that it finds space."""
        chosen: set[str] = set()
        taken = 1
        for column, own in zip(self.columns, self.widths):
            taken += own + GAP
            if not column.lead or (chosen and width - taken < SENTENCE_WIDTH):
                break
            chosen.add(column.title)
        return chosen


def fit(columns: Sequence[Column], width: int) -> Fitted:
    """Choose columns and widths for a screen; the first column holds the names and stays."""
    kept = [columns[0]]
    kept += [each for each in columns[1:] if any(c not in ("", UNKNOWN) for c in each.cells)]
    dropped = set()
    wanted = _distinct_width(kept[0])
    while True:
        first, *rest = _widths(kept)
        taken = 1 + sum(rest) + GAP * len(rest)
        if taken + wanted <= width or not rest:
            break
        least = min(kept[1:], key=lambda each: each.keep)
        # Half of the usual space for names is enough before what matters most has to go.
        if least.keep >= ESSENTIAL and taken + min(first, NAME_WIDTH // 2) <= width:
            break
        kept.remove(least)
        dropped.add(least.title)
    room = min(first, max(NAME_WIDTH // 3, width - taken))
    names = replace(kept[0], cells=shorten_all(kept[0].cells, room))
    return Fitted((names, *kept[1:]), (room, *rest), frozenset(dropped))


def show(fitted: Fitted, console: Console, sentences: Sequence[str] = ()) -> None:
    """Print the table; a row with a sentence shows its leading columns, then the sentence."""
    columns, widths = fitted.columns, fitted.widths
    if any(each.group for each in columns):
        emit(_groups(fitted), console)
    titles = [_pad(c.title, w, c.right) for c, w in zip(columns, widths)]
    emit(_text(titles, ["bold"] * len(titles)), console)
    emit(_text(["─" * (fitted.total - 1)], ["dim"]), console)
    leading = fitted.leading(console.width)
    for row in range(len(columns[0].cells)):
        sentence = sentences[row] if row < len(sentences) else ""
        shown = [(c, w) for c, w in zip(columns, widths) if not sentence or c.title in leading]
        cells = [_pad(c.cells[row], w, c.right) for c, w in shown]
        if not sentence:
            styles = [c.styles[row] if row < len(c.styles) else "" for c, _ in shown]
            emit(_text(cells, styles), console)
            continue
        taken = 1 + sum(w + GAP for _, w in shown)
        for part in wrap(sentence, max(console.width - taken, 12)):
            emit(_text([*cells, part], ["dim"] * (len(cells) + 1)), console)
            cells = [" " * w for _, w in shown]


def pairs(rows: Sequence[tuple[str, str, str, str]], console: Console) -> None:
    """Print lines of label, before, after and a remark, aligned; blank before: one value only."""
    label, before, after = (max((_width(each[k]) for each in rows), default=0) for k in range(3))
    for row in rows:
        arrow = ("→" if row[1] else " ") if before else ""
        middle = f"{_pad(row[1], before, True)} {arrow} " if before else ""
        value = _pad(row[2], after, True)
        lead = 1 + label + GAP + _width(middle) + after + GAP
        wrapped = wrap(row[3], max(console.width - lead, 12)) or [""]
        emit(
            _text(
                [_pad(row[0], label, False), middle + value, wrapped[0]],
                ["dim", "", "dim"],
            ),
            console,
        )
        for part in wrapped[1:]:
            emit(_text([" " * (lead - 1 - GAP), part], ["", "dim"]), console)


def paragraph(text: str, console: Console, style: str = "", hanging: int = 1) -> None:
    """Print sentences, wrapped at blanks; a long path within them stays in one piece."""
    lines = wrap(text, max(console.width - hanging, 20), split=False)
    for k, part in enumerate(lines):
        emit(_text([" " * (hanging - 1) * (k > 0) + part], [style]), console)


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
    """Space in which the names can be told apart, or as much of it as is reasonable."""
    last = min(names.natural, 2 * NAME_WIDTH)
    for width in range(min(last, NAME_WIDTH), last):
        if len(set(shorten_all(names.cells, width))) == len(set(names.cells)):
            return width
    return last


def _widths(columns: Sequence[Column]) -> list[int]:
    widths = [each.natural for each in columns]
    for first, last in _runs(columns):
        lack = len(columns[first].group) - sum(widths[first:last]) - GAP * (last - first - 1)
        if columns[first].group and lack > 0:
            widths[first] += lack
    return widths


def _runs(columns: Sequence[Column]) -> list[tuple[int, int]]:
    """First and end index of each stretch of neighbours in the same group."""
    starts = [k for k, each in enumerate(columns) if k == 0 or each.group != columns[k - 1].group]
    return list(zip(starts, [*starts[1:], len(columns)]))


def _groups(fitted: Fitted) -> Text:
    cells = []
    for first, last in _runs(fitted.columns):
        span = sum(fitted.widths[first:last]) + GAP * (last - first - 1)
        cells.append(_pad(fitted.columns[first].group, span, True))
    return _text(cells, ["dim"] * len(cells))


def _text(cells: Sequence[str], styles: Sequence[str]) -> Text:
    from rich.text import Text

    text = Text(" ")
    for k, (cell, style) in enumerate(zip(cells, styles)):
        text.append(" " * GAP if k else "")
        text.append(cell, style=style)
    return text


def _pad(cell: str, width: int, right: bool) -> str:
    blank = " " * (width - _width(cell))
    return blank + cell if right else cell + blank


def _width(cell: str) -> int:
    from rich.cells import cell_len

    return cell_len(cell)
