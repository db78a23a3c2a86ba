"""Layers of a run: a table with bars, and rows for CSV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.cost_view import cost_cells
from nettrim_cli.report.document import Bar, Cell, Section, Table
from nettrim_cli.report.documents.pictures import strips

if TYPE_CHECKING:
    from nettrim_cli.report.result import LayerReport, Report

HEAD = (
    *("layer", "op", "shape", "zeros before %", "zeros after %", "error held-out %"),
    *("cost at output %", "note"),
)
MINOR = frozenset(("op", "shape", "zeros before %", "error held-out %", "note"))
SEEN = 5e-4  # share of zeros from which on it is shown
ALIGN = "lllrbrbl"


def layers_section(report: Report) -> Section:
    """A row for each layer."""
    costs = report.certificate.costs
    cells = cost_cells(costs, [layer.name for layer in report.layers])
    largest = max((row_cost.largest or 0.0 for row_cost in costs.parts), default=0.0) or 1.0
    rows = []
    for layer, text in zip(report.layers, cells, strict=True):
        row_cost = costs.layer(layer.name)
        share = (row_cost.largest or 0.0) / largest if row_cost is not None else 0.0
        cost: Cell = Bar(text, share, tone="cost") if text else ""
        rows.append(_row(layer, cost))
    shown = [k for k in range(len(HEAD)) if any(row[k] for row in rows) or k == 0]
    align = [ALIGN[k] for k in shown]
    table = Table(
        [HEAD[k] for k in shown], "".join(align), [[r[k] for k in shown] for r in rows], MINOR
    )
    title = f"Layers ({len(report.pruned)} of {len(report.layers)} pruned)"
    return Section(title, [*strips(report), table])


def _row(layer: LayerReport, cost: Cell) -> list[Cell]:
    dense, pruned = layer.sparsity_before, layer.sparsity_after
    tone = "main" if layer.pruned else "before"
    status = "" if layer.status in ("solved", "dense") else layer.status
    return [
        *(layer.name, layer.op),
        " → ".join(filter(None, (formatting.shape(layer.shape), layer.left))),
        formatting.percent(dense) if dense >= SEEN else "",
        Bar(formatting.percent(pruned), pruned, dense or None, tone),
        formatting.error(layer.error_holdout) if layer.pruned else "",
        *(cost, "; ".join(filter(None, (status, layer.note)))),
    ]


def layer_rows(report: Report) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each layer in machine numbers, each with the verdict."""
    digest = report.comparison.candidate.sha256
    run = {
        "verdict": " ".join(report.verdict.lines),
        "target_met": None if report.target is None else report.target.met,
        "output_sha256": digest,
    }
    rows = []
    for layer in report.layers:
        bound = report.certificate.layer(layer.name)
        proof = dict.fromkeys(CERTIFICATE_FIELDS) if bound is None else asdict(bound)
        row_cost = report.certificate.costs.layer(layer.name)
        extra = {
            "inputs": layer.shape[0],
            "outputs": layer.shape[1],
            "cost": None if row_cost is None else row_cost.largest,
            "cost_layers": None if row_cost is None else len(row_cost.layers),
        }
        values = {**proof, **layer.as_dict(), **extra, **run}
        rows.append([values[name] for name in CSV_FIELDS])
    return CSV_FIELDS, rows


CERTIFICATE_FIELDS = (
    *("error_alone", "error_network", "norm", "bound", "samples_median", "samples_densest"),
    "samples_theorem",
)
CSV_FIELDS = (
    "verdict",
    *("name", "op", "inputs", "outputs", "weights", "nonzeros_before", "nonzeros_after"),
    *("sparsity_before", "sparsity_after", "error_calibration", "error_holdout", "columns"),
    *("iterations", "status", "seconds", "gap", "violation", "note"),
    "reason",
    "left",
    *CERTIFICATE_FIELDS,
    *("cost", "cost_layers"),
    "target_met",
    "output_sha256",
)
