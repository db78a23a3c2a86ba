"""What people read of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.certificate_result import Certificate
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import Document, Notice, Tile
from nettrim_cli.report.documents.parts import (
    certificate_section,
    comparison_tiles,
    cost_section,
    figures,
    file_sizes,
    provenance_section,
    settings_section,
)
from nettrim_cli.report.documents.pictures import bounds_section, output_section
from nettrim_cli.report.gate import outcome
from nettrim_cli.report.terminal import comparison_rows

if TYPE_CHECKING:
    from nettrim_cli.report.comparison_result import Comparison

OUTPUT_FIELDS = (
    *("reference", "candidate", "output", "error", "agreement", "agreement_low"),
    *("agreement_high", "margin", "margin_changed", "samples", "passed"),
)


def comparison_document(comparison: Comparison) -> Document:
    """A whole comparison."""
    reference, candidate = comparison.reference.path, comparison.candidate.path
    samples = f"{formatting.count(comparison.samples)} samples"
    checks = sorted(comparison.checks, key=lambda check: check.passed)
    outcomes = [outcome(check) for check in checks]
    headline = f"Output error {formatting.error(comparison.error)} % on {samples}."
    lines = []
    if outcomes:
        status, text, sureness = outcomes[0]
        headline = f"{status.capitalize()}: {text}."
        lines = [f"{sureness[0].upper()}{sureness[1:]}."]
        lines += [f"{word.capitalize()}: {text}; {sure}." for word, text, sure in outcomes[1:]]
    certificate = comparison.certificate or Certificate()
    sections = [
        output_section(comparison, ("reference", "candidate")),
        bounds_section(comparison, certificate),
        cost_section(certificate.costs),
        certificate_section(certificate, {}),
        settings_section(comparison.settings),
        provenance_section(comparison.provenance),
    ]
    sparsity = Tile(
        "sparsity",
        f"{formatting.percent(comparison.candidate.sparsity)} %",
        f"{formatting.percent(comparison.reference.sparsity)} % before",
    )
    return Document(
        "nettrim compare",
        headline,
        figures(comparison_rows(comparison), ("reference", "candidate")),
        comparison.passed,
        [*lines, f"{reference} → {candidate}, {samples}"],
        tiles=[sparsity, *comparison_tiles(comparison, "samples")],
        measures=file_sizes(comparison),
        measured=("reference", "candidate"),
        notices=[Notice(note, Severity.NOTE) for note in comparison.notes],
        sections=[section for section in sections if section is not None],
    )


def output_rows(comparison: Comparison) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each output in machine numbers."""
    rows = [
        [
            *(comparison.reference.path, comparison.candidate.path, output.name, output.error),
            *(output.agreement, *(output.agreement_interval or (None, None))),
            *(output.margin, output.margin_changed, comparison.samples, comparison.passed),
        ]
        for output in comparison.outputs
    ]
    return OUTPUT_FIELDS, rows
