"""What people read of files: of models, of samples, and of weights in another form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.data_listing import dataset_columns, summary_rows
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import Document, Notice, Section, Table
from nettrim_cli.report.documents.parts import as_table, figures, settings_section, size_measure
from nettrim_cli.report.layer_listing import listing_columns, listing_totals, tensor_columns
from nettrim_cli.report.model_summary import SHARES, LayerFacts

if TYPE_CHECKING:
    from nettrim_cli.report.comparison_result import Conversion
    from nettrim_cli.report.data_result import DataSummary
    from nettrim_cli.report.model_summary import ModelSummary

COSTS = tuple(f"error_{share:g}" for share in SHARES)


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


def summary_document(summary: ModelSummary) -> Document:
    """The layers of a model, its inputs and outputs."""
    totals = summary.totals
    count = f"{totals.prunable_layers} of {totals.layers} layers can be pruned"
    share = f"{formatting.percent(totals.prunable_share)} % of all parameters"
    sections = [
        Section("Sums", [figures(listing_totals(summary), ("", ""))], folded=False),
        Section("Inputs and outputs", [as_table(tensor_columns(summary))], folded=False),
        left_dense_section(summary),
    ]
    return Document(
        "nettrim inspect",
        f"{summary.path}: {count}, with {share}.",
        as_table(listing_columns(summary)),
        notices=[Notice(note, Severity.NOTE) for note in summary.notes],
        sections=[section for section in sections if section is not None],
    )


def left_dense_section(summary: ModelSummary) -> Section | None:
    """Layers that cannot be pruned, and why."""
    rows = [(layer.name, layer.refusal) for layer in summary.layers if layer.refusal]
    return Section("What cannot be pruned", [Table(("layer", "why"), "ll", rows)]) if rows else None


def listing_rows(summary: ModelSummary) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each layer in machine numbers; costs in a column for each share of zeros."""
    names = [field.name for field in fields(LayerFacts) if field.name != "costs"]
    rows = []
    for layer in summary.layers:
        values = {**layer.as_dict(), **dict.fromkeys(COSTS)}
        values |= {f"error_{cost.sparsity:g}": cost.error for cost in layer.costs}
        for shape in ("shape", "weight_shape"):
            values[shape] = " x ".join(map(str, values[shape]))
        rows.append([values[name] for name in (*names, *COSTS)])
    return (*names, *COSTS), rows
