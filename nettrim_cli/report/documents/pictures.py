"""Pictures of layers and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting
from nettrim_cli.report.charts.bounds import bounds_chart
from nettrim_cli.report.charts.curve import curve_chart
from nettrim_cli.report.charts.histogram import histogram_chart
from nettrim_cli.report.charts.scatter import scatter_chart
from nettrim_cli.report.charts.strip import strip_chart
from nettrim_cli.report.document import Block, Figure, Gallery, Section, Table, Text

if TYPE_CHECKING:
    from nettrim_cli.report.certificate_result import Certificate
    from nettrim_cli.report.comparison_result import Comparison
    from nettrim_cli.report.result import LayerReport, Report

OPEN = 12  # layers whose pictures are shown at once
MOST_HIDDEN = 400  # pictures of each kind behind them, so that no file has many megabytes
MANY = 16  # layers from which on a strip tells more than a table
MOST_OUTPUTS = 12
CURVES = (
    "The line is what zeros do to the layer alone, measured before any layer was pruned. The dot "
    "is the layer as written, within the pruned network, where its inputs carry errors, too."
)
WEIGHTS = (
    "Weights that are not zero: grey before, the blue line after. Heights are square roots of "
    "their number."
)
BOUNDS = (("main", "measured"), ("cost", "at most, by costs of layers"), ("before", "by norms"))
EXPLAINED = (
    "Layers in sum move an output by no more than their costs; what is above the error they make "
    "good for each other. The proof by norms holds whatever the layers do to each other."
)
VALUES = "A dot is a number that both models answered, {} of them. On the line they are equal."


def strips(report: Report) -> list[Block]:
    """Sparsity and cost of every layer at a glance, where there are many."""
    layers = report.layers
    if len(layers) < MANY:
        return []
    sparsities = [layer.sparsity_after for layer in layers]
    names = [
        f"{layer.name}: {formatting.percent(share)} %"
        for layer, share in zip(layers, sparsities, strict=True)
    ]
    draw = partial(strip_chart, sparsities, names, "zeros of each layer", "fill-main")
    blocks: list[Block] = [Figure("Zeros of each layer, from 0 to 100 %", draw)]
    costs = [_cost(report, layer) for layer in layers]
    if largest := max(costs):
        names = [
            f"{layer.name}: {formatting.error(cost)} %"
            for layer, cost in zip(layers, costs, strict=True)
        ]
        shares = [cost / largest for cost in costs]
        draw = partial(strip_chart, shares, names, "cost of each layer", "fill-cost")
        title = f"Cost of each layer at the output, from 0 to {formatting.error(largest)} %"
        blocks.append(Figure(title, draw))
    return blocks


def _cost(report: Report, layer: LayerReport) -> float:
    """What a layer costs at the output; 0 where that is not known."""
    cost_row = report.certificate.costs.layer(layer.name)
    return 0.0 if cost_row is None else cost_row.largest or 0.0


def layer_galleries(report: Report) -> list[Section]:
    """Curves and histograms of all layers; of many those that cost most come first."""
    layers = {layer.name: layer for layer in report.layers}
    ranked = sorted(report.layers, key=lambda layer: -_cost(report, layer))
    first = {layer.name for layer in ranked[:OPEN]} if len(layers) > OPEN else set(layers)
    curves = [
        (item.name, _curve(layers[item.name], item.sparsities, item.errors))
        for item in report.curves
        if item.name in layers
    ]
    weights = [
        (
            item.name,
            Figure(
                item.name,
                partial(
                    histogram_chart,
                    (item.low, item.high),
                    item.dense,
                    item.pruned,
                    f"weights of {item.name}",
                ),
            ),
        )
        for item in report.histograms
    ]
    return [
        *_galleries("Error against sparsity", CURVES, curves, first),
        *_galleries("Weights before and after", WEIGHTS, weights, first),
    ]


def _curve(layer: LayerReport, sparsities: Sequence[float], errors: Sequence[float]) -> Figure:
    chosen = layer.sparsity_after, layer.error_holdout
    words = f"{formatting.percent(layer.sparsity_after)} % zeros"
    if layer.error_holdout is not None:
        words += f", error {formatting.error(layer.error_holdout)} %"
    draw = partial(curve_chart, sparsities, errors, chosen, f"error of {layer.name}")
    return Figure(layer.name, draw, words)


def _galleries(
    title: str, caption: str, figures: Sequence[tuple[str, Figure]], first: set[str]
) -> list[Section]:
    """A section of the first layers, and a closed one of the others."""
    shown = [figure for name, figure in figures if name in first]
    hidden = [figure for name, figure in figures if name not in first][:MOST_HIDDEN]
    if not shown:
        return []
    if hidden:
        caption += f" These are the {len(shown)} layers that cost most."
    sections = [Section(title, [Text(caption, faint=True), Gallery(shown)])]
    if hidden:
        which = "the other" if len(shown) + len(hidden) == len(figures) else "another"
        more = f"{title}: {which} {len(hidden)} layers"
        sections.append(Section(more, [Gallery(hidden)], closed=True))
    return sections


def output_section(comparison: Comparison, names: tuple[str, str]) -> Section | None:
    """Answers of both models side by side; None without numbers."""
    values = comparison.values[:MOST_OUTPUTS]
    if not values:
        return None
    errors = {output.name: output.error for output in comparison.outputs}
    figures = [
        Figure(
            item.name,
            partial(scatter_chart, item.reference, item.candidate, f"values of {item.name}", names),
            f"error {formatting.error(errors.get(item.name))} %",
        )
        for item in values
    ]
    most = max(len(item.reference) for item in values)
    caption = VALUES.format(f"at most {formatting.count(most)}")
    if len(comparison.values) > MOST_OUTPUTS:
        caption += f" These are {MOST_OUTPUTS} of {len(comparison.values)} outputs."
    title = f"Outputs, {names[0]} against {names[1]}"
    return Section(title, [Text(caption, faint=True), Gallery(figures)])


def bounds_section(comparison: Comparison, certificate: Certificate) -> Section | None:
    """What is proved of each output beside its measured error; None where nothing is."""
    rows: list[tuple[str, list[float | None]]] = []
    for output in comparison.outputs:
        proof, cost = certificate.output(output.name), certificate.costs.output(output.name)
        bounds = [None if cost is None else cost.bound, None if proof is None else proof.bound]
        if output.error is not None and any(bound is not None for bound in bounds):
            rows.append((output.name, [output.error, *bounds]))
    if not rows:
        return None
    shown = [k for k in range(len(BOUNDS)) if any(errors[k] is not None for _, errors in rows)]
    drawn = [
        (name, [(f"fill-{BOUNDS[k][0]}", error) for k in reversed(shown) if (error := errors[k])])
        for name, errors in rows[:MOST_OUTPUTS]
    ]
    figure = Figure(
        "",
        partial(bounds_chart, drawn, "errors and bounds of the outputs"),
        legend=[BOUNDS[k] for k in shown],
    )
    basis = f"Costs are measured on {formatting.count(certificate.costs.samples)} samples."
    cells = [[name, *(_error_cell(errors[k], k) for k in shown)] for name, errors in rows]
    head = ["output", *(f"{BOUNDS[k][1]} %" for k in shown)]
    blocks: list[Block] = [
        Text(f"{EXPLAINED} {basis}", faint=True),
        figure,
        Table(head, "l" + "r" * len(shown), cells),
    ]
    return Section("Certificate of the outputs", blocks)


def _error_cell(error: float | None, kind: int) -> str:
    """An error as measured, or a bound, which is rounded up."""
    return formatting.at_most(error) if kind and error is not None else formatting.error(error)
