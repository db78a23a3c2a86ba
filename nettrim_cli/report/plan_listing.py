"""What a run would do, on the terminal and for reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.document import Document, Notice
from nettrim_cli.report.documents.parts import as_table
from nettrim_cli.report.plan_result import Plan
from nettrim_cli.report.terminal import FAINT, WARN
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console


def show_plan(plan: Plan, console: Console) -> None:
    """Print what a run would do, what is predicted of it, and each layer."""
    text_table.paragraph(outcome(plan), console, "bold", hanging=3)
    for text in (prediction(plan), effort(plan)):
        text_table.paragraph(text, console, hanging=3)
    for note in plan.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    text_table.blank(console)
    sentences = [f"stays dense: {layer.note}" if layer.note else "" for layer in plan.layers]
    text_table.show(text_table.fit(_columns(plan), console.width), console, sentences)
    text_table.blank(console)
    text_table.line(f"would write {formatting.clean(plan.output)}", console, FAINT)


def plan_document(plan: Plan) -> Document:
    """What people read of it in files."""
    return Document(
        title="nettrim prune --dry-run",
        headline=outcome(plan),
        table=as_table([*_columns(plan), _notes(plan)]),
        lines=[prediction(plan), effort(plan)],
        notices=[Notice(note) for note in plan.notes],
    )


def outcome(plan: Plan) -> str:
    """What would be done, in a sentence."""
    layers = f"{formatting.count(len(plan.planned))} of {formatting.count(len(plan.layers))} layers"
    if plan.sparsity is None:
        return f"Dry run: {layers} would be pruned; nothing is written."
    noun = "zeros" if plan.structure == "zeros" else "of their weights gone"
    share = formatting.percent(plan.sparsity)
    return f"Dry run: {layers} would be pruned, with {share} % {noun}; nothing is written."


def prediction(plan: Plan) -> str:
    """What would come out, in a sentence."""
    if plan.error is None or plan.bytes_gzip is None or plan.bytes_compact is None:
        return "What would come out is not predicted for these options."
    parts = [f"output error {formatting.error(plan.error)} %"]
    if plan.drop is not None:
        drop = formatting.percent(plan.drop, 2)
        parts.append(f"{drop} points lost" if plan.labels else f"{drop} % of answers changed")
    parts.append(f"{formatting.size(plan.bytes_gzip)} gzipped")
    parts.append(f"{formatting.size(plan.bytes_compact)} compact")
    return f"Predicted, not measured: {', '.join(parts)}."


def effort(plan: Plan) -> str:
    """What the run would take, in a sentence."""
    parts = []
    if plan.seconds is not None:
        low, high = (formatting.duration(seconds) for seconds in plan.seconds)
        parts.append(f"{low} to {high}, by what the measurement took")
    if plan.memory_bytes is not None:
        parts.append(f"about {formatting.size(plan.memory_bytes)} of memory")
    text = "; ".join(parts) or "as much as its method takes"
    return (
        f"With {formatting.count(plan.fitted)} samples, and {formatting.count(plan.holdout)} held "
        f"out, a run takes {text}."
    )


def _columns(plan: Plan) -> list[Column]:
    layers = plan.layers
    zeros = [1 - layer.nonzeros / layer.weights if layer.weights else 0.0 for layer in layers]
    planned = ["" if layer.note else formatting.percent(layer.sparsity) for layer in layers]
    alone = ["" if layer.error is None else formatting.error(layer.error) for layer in layers]
    return [
        Column("layer", [formatting.clean(layer.name) for layer in layers], right=False, lead=True),
        Column("op", [formatting.clean(layer.op) for layer in layers], "", 20, False, lead=True),
        Column("shape", [formatting.shape(layer.shape) for layer in layers], "", 51, lead=True),
        Column("weights", [formatting.count(layer.weights) for layer in layers], "", 40, lead=True),
        Column("now", list(map(formatting.percent, zeros)), "zeros %", 45),
        Column("about", planned, "zeros %", ESSENTIAL + 9),
        Column("error % alone", alone, "", ESSENTIAL),
    ]


def _notes(plan: Plan) -> Column:
    return Column("stays dense", [formatting.clean(layer.note) for layer in plan.layers])
