"""What people read of files: of samples, and of weights in another form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.data_listing import dataset_columns, summary_rows
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import Document, Notice, Section
from nettrim_cli.report.documents.parts import as_table, figures, settings_section, size_measure

if TYPE_CHECKING:
    from nettrim_cli.report.comparison_result import Conversion
    from nettrim_cli.report.data_result import DataSummary


def conversion_document(conversion: Conversion) -> Document:
    """Sizes of a file in two forms."""
    reference, candidate = conversion.before, conversion.after
    measures = [
        size_measure("file", reference.bytes_raw, candidate.bytes_raw),
        size_measure("gzipped", reference.bytes_gzip, candidate.bytes_gzip),
    ]
    rows = [
        (measure.label, measure.reference_text, measure.candidate_text, measure.remark)
        for measure in measures
    ]
    change = formatting.factor(reference.bytes_raw, candidate.bytes_raw)
    return Document(
        "nettrim pack",
        f"{candidate.path} is {change}, with every constant the same bit by bit.",
        figures(rows, ("before", "after")),
        lines=[f"{reference.path} → {candidate.path}"],
        measures=measures,
    )


def conversion_rows(conversion: Conversion) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each file."""
    names = [field.name for field in fields(conversion.before)]
    models = (conversion.before, conversion.after)
    return names, [[getattr(model, name) for name in names] for model in models]


def data_document(summary: DataSummary) -> Document:
    """What a file of samples holds."""
    count = f"{formatting.count(summary.samples)} samples"
    sections = [
        Section("Samples", [figures(summary_rows(summary), ("", ""))], folded=False),
        settings_section(summary.provenance, "How the file was made"),
    ]
    return Document(
        "nettrim data",
        f"{summary.path}: {count}.",
        as_table(dataset_columns(summary)),
        notices=[Notice(note, Severity.NOTE) for note in summary.notes],
        sections=[section for section in sections if section is not None],
    )


def dataset_rows(summary: DataSummary) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each dataset."""
    rows = [dataset.as_dict() for dataset in summary.datasets]
    names = ("name", "shape", "dtype", "low", "high", "mean", "std", "zeros", "feeds")
    return names, [
        [" x ".join(map(str, row[name])) if name == "shape" else row[name] for name in names]
        for row in rows
    ]
