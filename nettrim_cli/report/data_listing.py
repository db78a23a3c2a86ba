"""A file of samples as a table, for ``nettrim data``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.data_result import DataSummary, made_in_words
from nettrim_cli.report.terminal import WARN
from nettrim_cli.report.text_table import Column

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 5  # classes that are counted one by one


def show_data(summary: DataSummary, console: Console, *, written: bool = False) -> None:
    """Print what a file of samples holds.

    Parameters
    ----------
    summary, console
        The file, and where to print.
    written
        Whether it has been made just now.
    """
    text_table.line(formatting.clean(summary.path), console, "bold")
    if summary.provenance.get("random"):
        text = (
            "! The samples are random numbers: what is measured on them says nothing of real data."
        )
        text_table.paragraph(text, console, WARN, hanging=3)
    for note in summary.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    text_table.blank(console)
    text_table.show(text_table.fit(dataset_columns(summary), console.width), console)
    text_table.blank(console)
    text_table.pairs(summary_rows(summary), console)
    if written:
        text_table.blank(console)
        text_table.line(f"written to {formatting.clean(summary.path)}", console, "bold")


def dataset_columns(summary: DataSummary) -> list[Column]:
    """A row for each dataset."""
    facts = summary.datasets
    figures = {
        "least": [fact.low for fact in facts],
        "largest": [fact.high for fact in facts],
        "mean": [fact.mean for fact in facts],
        "std": [fact.std for fact in facts],
    }
    return [
        Column("dataset", [formatting.clean(fact.name) for fact in facts], right=False, lead=True),
        Column("shape", [formatting.shape(fact.shape) or "scalar" for fact in facts], lead=True),
        Column("type", [fact.dtype for fact in facts], right=False),
        *(
            Column(name, ["–" if value is None else f"{value:.4g}" for value in values])
            for name, values in figures.items()
        ),
        Column("zeros %", [formatting.percent(fact.zeros) for fact in facts]),
        Column("feeds", [formatting.clean(fact.feeds) for fact in facts], right=False),
    ]


def summary_rows(summary: DataSummary) -> list[tuple[str, str, str, str]]:
    """What holds of all datasets, as for ``text_table.pairs``."""
    rows = [("samples", "", formatting.count(summary.samples), "")]
    if summary.labels:
        rows.append(("classes", "", formatting.count(len(summary.labels)), _counts(summary.labels)))
    if summary.provenance:
        rows.append(("made", "", "", made_in_words(summary.provenance)))
    if summary.model:
        rows.append(("fits", "", "yes", f"{formatting.clean(summary.model)} ran on it"))
    if summary.right and summary.right[1]:
        hits, total = summary.right
        share = f"{formatting.percent(hits / total)} %"
        rows.append(("accuracy", "", share, f"of the model, on {total:,} samples"))
    return rows


def _counts(labels: Mapping[int, int]) -> str:
    pairs = sorted(labels.items())
    if len(pairs) <= SHOWN:
        return ", ".join(f"{count:,} of class {number}" for number, count in pairs)
    return f"{min(labels.values()):,} to {max(labels.values()):,} samples of each"
