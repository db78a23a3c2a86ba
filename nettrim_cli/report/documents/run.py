"""What people read of a run of ``nettrim prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting
from nettrim_cli.report.bench_verdict import show_ratio
from nettrim_cli.report.document import (
    Document,
    Measure,
    Notice,
    Section,
    Table,
    Tile,
)
from nettrim_cli.report.documents.layers import layers_section
from nettrim_cli.report.documents.parts import (
    certificate_section,
    comparison_tiles,
    cost_section,
    figures,
    file_sizes,
    latency_measures,
    provenance_section,
    settings_section,
    size_measure,
)
from nettrim_cli.report.documents.pictures import bounds_section, layer_galleries, output_section
from nettrim_cli.report.terminal import total_rows

if TYPE_CHECKING:
    from nettrim_cli.report.result import Report


def run_document(report: Report) -> Document:
    """A whole report."""
    verdict, comparison = report.verdict, report.comparison
    notices = [Notice(report.missed)] if report.missed else []
    notices += [Notice(doubt.text, doubt.severity, doubt.code) for doubt in report.warnings]
    columns = {layer.name: layer.columns for layer in report.layers}
    costs = report.certificate.costs  # those of one output stand in the table of layers
    several = len(costs.sums) > 1 or any(len(row.layers) > 1 for row in costs.parts)
    sections = [
        layers_section(report),
        *layer_galleries(report),
        output_section(comparison, ("dense", "pruned")),
        bounds_section(comparison, report.certificate),
        cost_section(costs) if several else None,
        certificate_section(report.certificate, columns),
        forms_section(report),
        settings_section(report.settings),
        provenance_section(report.provenance),
    ]
    target = comparison.candidate.path or "(nothing written)"
    took = formatting.duration(report.seconds)
    return Document(
        "nettrim prune",
        verdict.outcome,
        figures(total_rows(report), ("before", "after")),
        verdict.reached and not report.missed,
        (
            verdict.sureness,
            f"{comparison.reference.path} → {target}, nettrim {report.version}, {took}",
        ),
        tiles=tiles(report),
        measures=measures(report),
        notices=notices,
        sections=[section for section in sections if section is not None],
    )


def measures(report: Report) -> list[Measure]:
    """Bytes and latencies before and after."""
    pairs = file_sizes(report.comparison)
    for form in report.forms:
        if form.name == "compact" and not form.written:
            dense_bytes = report.comparison.reference.bytes_raw
            pairs.append(size_measure("file, if compact", dense_bytes, form.raw))
    return [*pairs, *latency_measures(report.latency)]


def tiles(report: Report) -> list[Tile]:
    """The figures that people ask for first."""
    word = "of the weights gone" if report.smaller else "zeros in the pruned layers"
    sparsity = Tile("sparsity", f"{formatting.percent(report.sparsity)} %", word)
    latencies = [
        Tile(
            "latency",
            f"{formatting.milliseconds(timing.latencies[1].median)} ms",
            f"ratio {show_ratio(timing.ratios[0])}",
        )
        for timing in report.latency[:1]
    ]
    return [sparsity, *comparison_tiles(report.comparison, "held-out samples"), *latencies]


def forms_section(report: Report) -> Section | None:
    """Sizes of the pruned model in all forms."""
    rows = [
        (
            f"{form.name}{', as written' if form.written else ''}",
            *(formatting.count(size) for size in (form.raw, form.gzip, form.zstd)),
        )
        for form in report.forms
    ]
    if not rows:
        return None
    head = ("form", "bytes", "gzipped", "by Zstandard")
    return Section("Forms of the file", [Table(head, "lrrr", rows)])
