"""A curve on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.curve.chart import chart
from nettrim_cli.report.curve.result import Curve
from nettrim_cli.report.curve.words import advice, basis, columns, is_cheap, verdict
from nettrim_cli.report.terminal import GOOD, WARN

if TYPE_CHECKING:
    from rich.console import Console


def show_curve(curve: Curve, console: Console) -> None:
    """Print how much can be pruned, a small plot, the points, and what to try."""
    style = GOOD if is_cheap(curve) else WARN
    text_table.paragraph(verdict(curve), console, f"bold {style}", hanging=3)
    text_table.paragraph(basis(curve), console, hanging=3)
    for note in curve.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    text_table.blank(console)
    plain = not console.encoding.lower().startswith("utf")
    for line in chart(curve, console.width, plain=plain):
        text_table.line(line, console)
    text_table.blank(console)
    text_table.show(text_table.fit(columns(curve), console.width), console)
    text_table.blank(console)
    text_table.line(f"try  {formatting.clean(advice(curve))}", console, "bold")
