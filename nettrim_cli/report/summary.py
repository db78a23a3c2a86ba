"""A run on the terminal, for people who want to know whether they can use the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.cost_view import Row, cost_cells
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.next_steps import Files, next_steps
from nettrim_cli.report.terminal import (
    FAINT,
    file_rows,
    form_rows,
    latency_rows,
    quality_rows,
    show_verdict,
    show_warnings,
)
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console

    from nettrim_cli.report.result import LayerReport, Report

MOST_LAYERS, MOST_DENSE = 20, 3  # that the table shows
UNTIMED = "not timed"
NO_FASTER = "scattered zeros make no call faster"
FASTER = "smaller matrices make calls faster; --bench measures how much"


def show_summary(report: Report, console: Console, files: Files) -> None:
    """Print the verdict, the layers in five columns, sizes, speed, costs, and what to try next."""
    verdict = report.verdict
    severe = [warning for warning in report.warnings if warning.severity < Severity.NOTE]
    notes = [
        warning
        for warning in report.warnings
        if warning not in severe and not in_verdict(warning.brief, report)
    ]
    show_verdict(verdict, console)
    show_warnings(severe, console)
    text_table.blank(console)
    show_layers(report, console)
    text_table.pairs(rows(report), console)
    show_warnings(notes, console)
    text_table.blank(console)
    text_table.line("to try next", console, "bold")
    for purpose, line in next_steps(report, files):
        text_table.line(f"   # {purpose}", console, FAINT)
        text_table.line(f"   {formatting.clean(line)}", console)
    text_table.blank(console)
    path = formatting.clean(files.output)
    text_table.line(f"written to {path} in {formatting.duration(report.seconds)}", console, "bold")


def in_verdict(brief: str, report: Report) -> bool:
    """Whether the verdict says it already."""
    return bool(brief) and brief in report.verdict.sureness


def show_layers(report: Report, console: Console) -> None:
    """Print the table of layers; of many, those that cost most."""
    names = [layer.name for layer in report.layers]
    cells = cost_cells(report.certificate.costs, names)
    costs = dict(zip(names, cells, strict=True))
    shown = listed_layers(report)
    if not shown:
        return
    fitted = text_table.fit(columns(shown, costs, smaller=report.smaller), console.width)
    sentences = ["" if layer.pruned else f"left dense: {reason(layer)}" for layer in shown]
    text_table.show(fitted, console, sentences)
    for line in rest(report, shown):
        text_table.paragraph(line, console, FAINT, hanging=3)
    text_table.blank(console)


def listed_layers(report: Report) -> list[LayerReport]:
    """The layers of the table, in their order: of many, those that cost most, or are largest."""
    pruned = list(report.pruned)
    if len(pruned) > MOST_LAYERS:
        figures = {
            name: row.largest or 0.0
            for row in report.certificate.costs.parts
            for name in row.layers
        }
        pruned = sorted(pruned, key=lambda layer: (-figures.get(layer.name, 0.0), -layer.weights))
        pruned = pruned[:MOST_LAYERS]
    dense = [layer for layer in report.layers if not layer.pruned]
    names = {layer.name for layer in (*pruned, *(dense if len(dense) <= MOST_DENSE else []))}
    return [layer for layer in report.layers if layer.name in names]


def columns(shown: Sequence[LayerReport], costs: dict[str, str], *, smaller: bool) -> list[Column]:
    """The five columns: the layer, its shape, what is kept, the zeros, what that costs."""
    zeros = "gone %" if smaller else "zeros %"
    weights = [
        (smaller and layer.left) or formatting.count(layer.nonzeros_after) for layer in shown
    ]
    shares = [formatting.percent(layer.sparsity_after) if layer.pruned else "" for layer in shown]
    cost = [costs.get(layer.name, "") if layer.pruned else "" for layer in shown]
    cost_title = "cost %"
    if not any(cost):
        cost_title = "error %"
        cost = [formatting.error(layer.error_holdout) if layer.pruned else "" for layer in shown]
    return [
        Column("layer", [formatting.clean(layer.name) for layer in shown], right=False, lead=True),
        Column("shape", [formatting.shape(layer.shape) for layer in shown], priority=1, lead=True),
        Column("kept", weights, priority=ESSENTIAL, styles=["bold"] * len(shown)),
        Column(zeros, shares, priority=ESSENTIAL),
        Column(cost_title, cost, priority=ESSENTIAL),
    ]


def reason(layer: LayerReport) -> str:
    """Why a layer stays dense."""
    return formatting.clean(layer.note) or "no reason given"


def rest(report: Report, shown: Sequence[LayerReport]) -> list[str]:
    """What the table leaves out, in sentences."""
    names = {layer.name for layer in shown}
    missing = [layer for layer in report.layers if layer.name not in names]
    pruned = [layer for layer in missing if layer.pruned]
    lines = []
    if pruned:
        weights = sum(layer.weights for layer in pruned)
        zeros = 1 - sum(layer.nonzeros_after for layer in pruned) / weights if weights else 0.0
        verb = "cost less" if report.certificate.costs.parts else "are smaller"
        lines.append(
            f"{len(pruned)} more layers {verb}, with {formatting.percent(zeros)} % zeros: -v lists "
            "them"
        )
    groups: dict[str, list[str]] = {}
    for layer in missing:
        if not layer.pruned:
            groups.setdefault(reason(layer), []).append(formatting.clean(layer.name))
    lines += [
        f"{len(group)} left dense, such as {group[0]}: {why}" for why, group in groups.items()
    ]
    return lines


def rows(report: Report) -> list[Row]:
    """Sizes, speed, and what was lost: label, before, after, remark."""
    nonzeros = sum(layer.nonzeros_before for layer in report.pruned)
    word = "gone" if report.smaller else "sparsity"
    parts = [f"{formatting.percent(report.sparsity)} % {word}"]
    if len(report.pruned) < len(report.layers):
        parts.append(f"in {len(report.pruned)} of {len(report.layers)} layers")
    if count := report.deleted_units:
        parts.append(f"{formatting.count(count)} hidden unit{'s' if count > 1 else ''} deleted")
    label = "weights left" if report.smaller else "non-zeros"
    counts = formatting.count(nonzeros), formatting.count(report.nonzeros)
    speed = FASTER if report.smaller or report.deleted_units else NO_FASTER
    return [
        *([("samples", "", "made", report.samples_made)] if report.samples_made else []),
        (label, *counts, ", ".join(parts)),
        *file_rows(report.comparison),
        *form_rows(report),
        *(latency_rows(report.latency) or [("latency", "", UNTIMED, speed)]),
        *losses(report),
    ]


def losses(report: Report) -> list[Row]:
    """What was lost on the held-out samples: accuracy, or without labels answers, and the error."""
    quality = quality_rows(report.comparison, "held-out samples", bound=report.bound)
    measured = [row for row in quality if row[2] != formatting.UNKNOWN]
    if report.comparison.reference.accuracy is None:
        return measured
    return [row for row in measured if not row[0].startswith("same ")]
