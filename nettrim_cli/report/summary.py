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
    severe = [each for each in report.warnings if each.severity < Severity.NOTE]
    notes = [
        each for each in report.warnings if each not in severe and not told(each.brief, report)
    ]
    show_verdict(verdict, console)
    show_warnings(severe, console)
    text_table.blank(console)
    show_layers(report, console)
    text_table.pairs(rows(report), console)
    show_warnings(notes, console)
    text_table.blank(console)
    text_table.line("to try next", console, "bold")
    for what, line in next_steps(report, files):
        text_table.line(f"   # {what}", console, FAINT)
        text_table.line(f"   {formatting.clean(line)}", console)
    text_table.blank(console)
    path = formatting.clean(files.output)
    text_table.line(f"written to {path} in {formatting.duration(report.seconds)}", console, "bold")


def told(brief: str, report: Report) -> bool:
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
    sentences = ["" if each.pruned else f"left dense: {reason(each)}" for each in shown]
    text_table.show(fitted, console, sentences)
    for line in rest(report, shown):
        text_table.paragraph(line, console, FAINT, hanging=3)
    text_table.blank(console)


def listed_layers(report: Report) -> list[LayerReport]:
    """The layers of the table, in their order: of many, those that cost most, or are largest."""
    pruned = list(report.pruned)
    if len(pruned) > MOST_LAYERS:
        figures = {
            part: row.largest or 0.0
            for row in report.certificate.costs.parts
            for part in row.layers
        }
        pruned = sorted(pruned, key=lambda each: (-figures.get(each.name, 0.0), -each.weights))
        pruned = pruned[:MOST_LAYERS]
    dense = [each for each in report.layers if not each.pruned]
    names = {each.name for each in (*pruned, *(dense if len(dense) <= MOST_DENSE else []))}
    return [each for each in report.layers if each.name in names]


def columns(shown: Sequence[LayerReport], costs: dict[str, str], *, smaller: bool) -> list[Column]:
    """The five columns: the layer, its shape, what is kept, the zeros, what that costs."""
    zeros = "gone %" if smaller else "zeros %"
    kept = [each.left if smaller else formatting.count(each.nonzeros_after) for each in shown]
    after = [formatting.percent(each.sparsity_after) if each.pruned else "" for each in shown]
    cost = [costs.get(each.name, "") if each.pruned else "" for each in shown]
    cost_title = "cost %"
    if not any(cost):
        cost_title = "error %"
        cost = [formatting.error(each.error_holdout) if each.pruned else "" for each in shown]
    return [
        Column("layer", [formatting.clean(each.name) for each in shown], right=False, lead=True),
        Column("shape", [formatting.shape(each.shape) for each in shown], priority=1, lead=True),
        Column("kept", kept, priority=ESSENTIAL, styles=["bold"] * len(shown)),
        Column(zeros, after, priority=ESSENTIAL),
        Column(cost_title, cost, priority=ESSENTIAL),
    ]


def reason(layer: LayerReport) -> str:
    """Why a layer stays dense."""
    return formatting.clean(layer.note) or "no reason given"


def rest(report: Report, shown: Sequence[LayerReport]) -> list[str]:
    """What the table leaves out, in sentences."""
    names = {each.name for each in shown}
    missing = [each for each in report.layers if each.name not in names]
    pruned = [each for each in missing if each.pruned]
    lines = []
    if pruned:
        weights = sum(each.weights for each in pruned)
        zeros = 1 - sum(each.nonzeros_after for each in pruned) / weights if weights else 0.0
        verb = "cost less" if report.certificate.costs.parts else "are smaller"
        lines.append(
            f"{len(pruned)} more layers {verb}, with {formatting.percent(zeros)} % zeros: -v lists "
            "them"
        )
    groups: dict[str, list[str]] = {}
    for each in missing:
        if not each.pruned:
            groups.setdefault(reason(each), []).append(formatting.clean(each.name))
    lines += [
        f"{len(group)} left dense, such as {group[0]}: {why}" for why, group in groups.items()
    ]
    return lines


def rows(report: Report) -> list[Row]:
    """Sizes, speed, and what was lost: label, before, after, remark."""
    before = sum(layer.nonzeros_before for layer in report.pruned)
    word = "gone" if report.smaller else "sparsity"
    parts = [f"{formatting.percent(report.sparsity)} % {word}"]
    if len(report.pruned) < len(report.layers):
        parts.append(f"in {len(report.pruned)} of {len(report.layers)} layers")
    if count := report.deleted_units:
        parts.append(f"{formatting.count(count)} hidden unit{'s' if count > 1 else ''} deleted")
    label = "weights left" if report.smaller else "non-zeros"
    counts = formatting.count(before), formatting.count(report.nonzeros)
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
    found = quality_rows(report.comparison, "held-out samples", bound=report.bound)
    kept = [row for row in found if row[2] != formatting.UNKNOWN]
    if report.comparison.reference.accuracy is None:
        return kept
    return [row for row in kept if not row[0].startswith("same ")]
