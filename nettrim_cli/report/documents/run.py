"""What people read of a run of ``nettrim prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nettrim_cli.report import formatting
from nettrim_cli.report.bench_verdict import show_ratio
from nettrim_cli.report.document import (
    Block,
    Document,
    Notice,
    Section,
    Table,
    Tile,
    Tiles,
)
from nettrim_cli.report.documents.layers import layers_section
from nettrim_cli.report.documents.parts import (
    certificate_section,
    cost_section,
    figures,
    settings_section,
)
from nettrim_cli.report.terminal import total_rows

if TYPE_CHECKING:
    from nettrim_cli.report.result import Report


def run_document(report: Report) -> Document:
    """A whole report."""
    verdict, comparison = report.verdict, report.comparison
    notices = [Notice(report.missed)] if report.missed else []
    notices += [Notice(each.text, each.severity, each.code) for each in report.warnings]
    blocks: list[Block] = [
        tiles(report),
        figures(total_rows(report), ("before", "after")),
        *notices,
    ]
    columns = {layer.name: layer.columns for layer in report.layers}
    sections = [
        layers_section(report),
        forms_section(report),
        cost_section(report.certificate.costs),
        certificate_section(report.certificate, columns),
        settings_section(report.settings),
    ]
    target = comparison.candidate.path or "(nothing written)"
    origin = (
        f"{comparison.reference.path} → {target}, nettrim {report.version}, "
        f"{formatting.duration(report.seconds)}; SHA-256 of the output: "
        f"{comparison.candidate.sha256 or formatting.UNKNOWN}"
    )
    return Document(
        "nettrim prune",
        verdict.outcome,
        verdict.reached and not report.missed,
        (verdict.sureness, origin),
        blocks,
        [section for section in sections if section is not None],
    )


def tiles(report: Report) -> Tiles:
    """The figures that people ask for first."""
    reference, candidate = report.comparison.reference, report.comparison.candidate
    word = "of the weights gone" if report.smaller else "zeros in the pruned layers"
    tiles = [
        Tile("sparsity", f"{formatting.percent(report.sparsity)} %", word),
        Tile(
            "file, gzipped",
            formatting.size(candidate.bytes_gzip),
            f"{formatting.size(reference.bytes_gzip)} before",
        ),
    ]
    if candidate.accuracy is not None:
        change = formatting.points(reference.accuracy, candidate.accuracy)
        tiles.append(Tile("accuracy", f"{formatting.percent(candidate.accuracy, 2)} %", change))
    if report.comparison.outputs:
        samples = f"on {formatting.count(report.comparison.samples)} held-out samples"
        value = f"{formatting.error(report.comparison.error)} %"
        tiles.append(Tile("output error", value, samples))
    for timing in report.latency[:1]:
        (ratio,) = timing.ratios
        value = f"{formatting.milliseconds(timing.latencies[1].median)} ms"
        tiles.append(Tile("latency", value, f"ratio {show_ratio(ratio)}"))
    return Tiles(tiles)


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
