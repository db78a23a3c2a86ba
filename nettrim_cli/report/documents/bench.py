"""What people read of timings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import bench as view
from nettrim_cli.report.bench_verdict import outcomes, verdicts
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.report.document import Document, Notice, Section, Text
from nettrim_cli.report.documents.parts import as_table, latency_measures

if TYPE_CHECKING:
    from nettrim_cli.report.bench_result import Bench

TIMING_FIELDS = (
    *("model", "batch", "latency", "latency_low", "latency_high", "ratio", "ratio_low"),
    *("ratio_high", "rounds", "bytes_raw", "parameters", "nonzeros", "load_seconds"),
    *("memory_bytes", "threads", "passed"),
)


def bench_document(bench: Bench) -> Document:
    """All timings."""
    sentences = [f"{status.capitalize()}: {text}." for status, text in outcomes(bench)]
    sentences += [text for text, _ in verdicts(bench)]
    headline = sentences[0] if sentences else f"Latency of {bench.models[0].name}."
    sections = [Section("Models", [as_table(view.model_columns(bench))], folded=False)]
    for timing in bench.batches:
        if timing.ops:
            title = view.ops_title(timing)
            table = as_table(view.op_columns(bench, timing))
            sections.append(Section(f"{title[0].upper()}{title[1:]}", [table]))
    basis = [Text(text) for text in view.basis(bench)]
    return Document(
        "nettrim bench",
        headline,
        as_table(view.latency_columns(bench)),
        bench.passed,
        sentences[1:],
        measures=latency_measures(bench.batches, [model.name for model in bench.models[1:]]),
        measured=(bench.models[0].name, "compared with it"),
        notices=[Notice(note, Severity.NOTE) for note in bench.notes],
        sections=[*sections, Section("Basis", basis, folded=False)],
    )


def timing_rows(bench: Bench) -> tuple[Sequence[str], Iterable[Sequence[Any]]]:
    """A row for each batch size and model; seconds and bytes."""
    checks, rows = iter(bench.checks), []
    for timing in bench.batches:
        for model, latency, ratio in zip(
            bench.models, timing.latencies, (None, *timing.ratios), strict=True
        ):
            check = None if ratio is None else next(checks, None)
            ratios = (None,) * 3 if ratio is None else (ratio.median, ratio.low, ratio.high)
            rows.append(
                [
                    *(model.path, timing.size, latency.median, latency.low, latency.high, *ratios),
                    *(timing.rounds, model.bytes_raw, model.parameters, model.nonzeros),
                    *(model.load_seconds, model.memory_bytes, bench.threads),
                    None if check is None else check.passed,
                ]
            )
    return TIMING_FIELDS, rows
