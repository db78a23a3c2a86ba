"""The layers of a model as a table and as plain values, for ``nettrim inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, sample_hint, text_table
from nettrim_cli.report.model_summary import SHARES, Axes, LayerFacts, ModelSummary, TensorFacts
from nettrim_cli.report.terminal import GOOD, WARN
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console

COST_GROUP = "output error % with zeros"


def show_summary(summary: ModelSummary, console: Console) -> None:
    """Print a model's layers as nettrim sees them, totals, and what its samples look like."""
    layers = summary.layers
    text_table.line(formatting.clean(summary.path), console, "bold")
    for note in summary.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    text_table.blank(console)
    if layers:
        refusals = [
            formatting.clean(f"no: {layer.refusal}") if layer.refusal else "" for layer in layers
        ]
        columns = text_table.fit(listing_columns(summary), console.width)
        text_table.show(columns, console, refusals)
        text_table.blank(console)
    text_table.pairs(listing_totals(summary), console)
    if summary.inputs or summary.outputs:
        text_table.blank(console)
        text_table.show(text_table.fit(tensor_columns(summary), console.width), console)
    if summary.inputs and not has_costs(summary):
        text_table.blank(console)
        line = formatting.clean(sample_hint.command(summary.path, summary.inputs))
        text_table.line(f"{sample_hint.FILE} is made by such a line, or from Python:", console)
        for text in (line, *sample_hint.script(summary.inputs)):
            text_table.line(f"    {formatting.clean(text)}", console)


def listing_columns(summary: ModelSummary) -> list[Column]:
    """A row for each layer."""
    layers = summary.layers
    prunable = ["if named by --include" if layer.depthwise else "yes" for layer in layers]
    styles = [WARN if layer.depthwise else GOOD for layer in layers]
    names = [formatting.clean(layer.name) for layer in layers]
    ops = [formatting.clean(layer.op) for layer in layers]
    shapes = [_shape(layer) for layer in layers]
    weights = [formatting.count(layer.weights) for layer in layers]
    sparsities = [formatting.percent(layer.sparsity) for layer in layers]
    follows = [formatting.clean(layer.follows) for layer in layers]
    return [
        Column("layer", names, right=False, lead=True),
        Column("op", ops, priority=45, right=False, lead=True),
        Column("shape", shapes, priority=60, lead=True),
        Column("weights", weights, priority=40, lead=True),
        Column("sparsity %", sparsities, priority=49),
        *_cost_columns(summary),
        Column("prunable", prunable, priority=5, right=False, styles=styles),
        Column("follows", follows, priority=10, right=False),
    ]


def _cost_columns(summary: ModelSummary) -> list[Column]:
    """What layers cost at the outputs, where that was measured."""
    costs = [layer.costs for layer in summary.layers]
    return [
        Column(
            f"{formatting.plain_percent(share)} %",
            [formatting.error(each[number].error) if each else "" for each in costs],
            COST_GROUP,
            ESSENTIAL + number,
        )
        for number, share in enumerate(SHARES if has_costs(summary) else ())
    ]


def has_costs(summary: ModelSummary) -> bool:
    """Whether it was measured what layers cost."""
    return any(layer.costs for layer in summary.layers)


def tensor_columns(summary: ModelSummary) -> list[Column]:
    """The inputs and outputs, with the datasets that feed inputs."""
    tensors = [*summary.inputs, *summary.outputs]
    kinds = ["input"] * len(summary.inputs) + ["output"] * len(summary.outputs)
    return [
        Column("", kinds, right=False),
        Column("name", [formatting.clean(tensor.name) for tensor in tensors], right=False),
        Column("shape", [_axes(tensor.shape) for tensor in tensors], right=False),
        Column("type", [tensor.dtype for tensor in tensors], right=False),
        Column(
            f"dataset in {sample_hint.FILE}",
            ["" if tensor.dataset is None else _dataset(tensor) for tensor in tensors],
            right=False,
        ),
    ]


def _dataset(tensor: TensorFacts) -> str:
    return "any shape" if tensor.shape is None else _axes(tensor.dataset)


def _axes(axes: Axes | None) -> str:
    """A shape with its free axes."""
    if axes is None:
        return "any"
    return " x ".join("?" if axis is None else formatting.clean(str(axis)) for axis in axes) or "()"


def listing_totals(summary: ModelSummary) -> list[tuple[str, str, str, str]]:
    """Sums over the layers, as for ``text_table.pairs``."""
    totals = summary.totals
    share = f"{formatting.percent(totals.prunable_share)} %"
    depthwise = sum(layer.prunable and layer.depthwise for layer in summary.layers)
    remark = (
        f"{formatting.count(depthwise)} of them only if --include names them" if depthwise else ""
    )
    return [
        ("layers", "", formatting.count(totals.layers), ""),
        ("prunable", "", formatting.count(totals.prunable_layers), remark),
        (
            "weights",
            "",
            formatting.count(totals.prunable_weights),
            f"prunable, {share} of all parameters",
        ),
    ]


def _shape(layer: LayerFacts) -> str:
    return formatting.shape(layer.shape if any(layer.shape) else layer.weight_shape)
