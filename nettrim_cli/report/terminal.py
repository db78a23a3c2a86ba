"""Reports on the terminal, in per cent and with thousands separators."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.bench_result import BatchTiming
from nettrim_cli.report.bench_verdict import WORDS, at_batch, show_ratio, speed
from nettrim_cli.report.certificate_result import Certificate, LayerCosts
from nettrim_cli.report.comparison_result import Comparison, Conversion
from nettrim_cli.report.cost_view import (
    cost_cells,
    cost_remark,
    costliest_row,
    new_sample_rows,
)
from nettrim_cli.report.diagnostic import Diagnostic, Severity
from nettrim_cli.report.formatting import milliseconds
from nettrim_cli.report.gate import outcome
from nettrim_cli.report.result import LayerReport, Report, Target
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console

    from nettrim_cli.report.verdict import Verdict

PIPE_WIDTH = 120
JOINT = "together; layers' errors are of before"
GOOD, WARN, BAD, FAINT = "green", "magenta", "red", "dim"  # legible on black and on white


def console_for_stdout() -> Console:
    """A console for results on stdout: 120 columns where it is not a terminal.

    ``NO_COLOR``, ``FORCE_COLOR`` and ``COLUMNS`` are respected; a file or a pipe gets plain text.
    """
    console = patient_console(stderr=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PIPE_WIDTH
    return console


def patient_console(*, stderr: bool, terminal: bool | None = None) -> Console:
    """A console that falls silent when its reader leaves; rich itself would end the process.

    ``terminal`` says whether it is one, where that is not to be asked of the stream.
    """
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            """Fall silent: the reader (head, say) has enough, and the exit code stays."""
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if stderr else 1)

    return Patient(
        stderr=stderr, force_terminal=terminal, highlight=False, markup=False, emoji=False
    )


def show_report(report: Report, console: Console, output: str | None = None) -> None:
    """Print all of a run: the verdict and its severe warnings, layers, totals, other warnings.

    ``output`` is the written file, if it is another than ``report.comparison.candidate.path``.
    """
    layers = report.layers
    show_verdict(report.verdict, console)
    notes = [warning for warning in report.warnings if warning.severity >= Severity.NOTE]
    show_warnings([warning for warning in report.warnings if warning not in notes], console)
    text_table.blank(console)
    sentences = ["" if layer.pruned else f"left dense: {_note(layer)}" for layer in layers]
    if layers:
        fitted = text_table.fit(_layer_columns(layers, report.certificate.costs), console.width)
        text_table.show(fitted, console, sentences)
        if "note" in fitted.dropped:
            _show_notes(layers, console)
        text_table.blank(console)
    rows = total_rows(report)
    *pruned, remark = rows[0]
    rows[0] = (
        pruned[0],
        pruned[1],
        pruned[2],
        f"{remark}, in {formatting.duration(report.seconds)}",
    )
    text_table.pairs(rows, console)
    show_warnings(notes, console)
    text_table.blank(console)
    path = formatting.clean(report.comparison.candidate.path if output is None else output)
    text_table.line(f"written to {path}", console, "bold")


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print both lines of a verdict."""
    style = f"bold {GOOD if verdict.reached else WARN}"
    text_table.paragraph(verdict.outcome, console, style, hanging=3)
    text_table.paragraph(verdict.sureness, console, hanging=3)


def show_warnings(warnings: Sequence[Diagnostic], console: Console) -> None:
    """Print warnings, behind an empty line if there are any."""
    if warnings:
        text_table.blank(console)
    for warning in warnings:
        text_table.paragraph(f"! {formatting.clean(warning.text)}", console, WARN, hanging=3)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print the checked limits, two models side by side, and the distance of their outputs."""
    for check in sorted(comparison.checks, key=lambda check: check.passed):
        status, text, sureness = outcome(check)
        text_table.paragraph(f"{status}  {text}", console, GOOD if check.passed else BAD, hanging=9)
        text_table.paragraph(f"        {sureness}", console, FAINT, hanging=9)
    for note in comparison.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    if comparison.checks or comparison.notes:
        text_table.blank(console)
    text_table.line(f"reference  {formatting.clean(comparison.reference.path)}", console)
    text_table.line(f"candidate  {formatting.clean(comparison.candidate.path)}", console)
    text_table.blank(console)
    text_table.pairs([("", "reference", "candidate", ""), *comparison_rows(comparison)], console)


def show_conversion(conversion: Conversion, console: Console) -> None:
    """Print the sizes of a file in two forms."""
    before, after = conversion.before, conversion.after
    rows = [
        _size_row("file", before.bytes_raw, after.bytes_raw),
        _size_row("gzipped", before.bytes_gzip, after.bytes_gzip),
        (
            "parameters",
            "",
            formatting.count(after.parameters),
            f"{formatting.percent(after.sparsity)} % zeros, every constant the same bit by bit",
        ),
    ]
    text_table.pairs(rows, console)
    text_table.blank(console)
    text_table.line(f"written to {formatting.clean(after.path)}", console, "bold")


def comparison_rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Rows of a comparison as text: label, reference, candidate, remark."""
    reference, candidate = comparison.reference, comparison.candidate
    parameters = (
        "parameters",
        formatting.count(reference.parameters),
        formatting.count(candidate.parameters),
        formatting.factor(reference.parameters, candidate.parameters).replace(
            "same size", "same number"
        ),
    )
    nonzeros = (
        "non-zeros",
        formatting.count(reference.nonzeros),
        formatting.count(candidate.nonzeros),
        f"{formatting.percent(reference.sparsity)} → "
        f"{formatting.percent(candidate.sparsity)} % sparsity",
    )
    quality = quality_rows(comparison, "samples", comparison.certificate)
    costliest = costliest_row(comparison.certificate)
    return [*file_rows(comparison), parameters, nonzeros, *quality, *costliest]


def total_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Rows of a run's totals as text: label, before, after, remark."""
    pruned = report.pruned
    nonzeros_before = sum(layer.nonzeros_before for layer in pruned)
    word = "gone" if report.smaller else "sparsity"
    sparsity = f"{formatting.percent(report.sparsity)} % {word}"
    return [
        ("layers pruned", "", formatting.count(len(pruned)), f"of {len(report.layers)}"),
        *([("samples", "", "made", report.samples_made)] if report.samples_made else []),
        ("weights", "", formatting.count(report.weights), "in the pruned layers"),
        (
            "weights left" if report.smaller else "non-zeros",
            formatting.count(nonzeros_before),
            formatting.count(report.nonzeros),
            sparsity,
        ),
        *_deletion_rows(report.deleted_units),
        *([("fitted", "", "all layers", JOINT)] if report.joint_fit else []),
        *file_rows(report.comparison),
        *form_rows(report),
        *quality_rows(
            report.comparison, "held-out samples", report.certificate, bound=report.bound
        ),
        *_target_rows(report.target),
        *latency_rows(report.latency),
    ]


def _layer_columns(layers: Sequence[LayerReport], costs: LayerCosts) -> list[Column]:
    def cells(text_of: Callable[[LayerReport], str]) -> list[str]:
        """Texts of the pruned layers; empty for the others."""
        return [text_of(layer) if layer.pruned else "" for layer in layers]

    smaller = any(layer.left for layer in layers)
    iterations = 0 if costs.parts else 30  # costs tell more
    zeros, error = "gone %" if smaller else "sparsity %", "error %"
    left = [layer.left for layer in layers]
    bold, faint = ["bold"] * len(layers), [FAINT] * len(layers)
    status_styles = [GOOD if layer.status == "solved" else WARN for layer in layers]
    names = [formatting.clean(layer.name) for layer in layers]
    ops = [formatting.clean(layer.op) for layer in layers]
    shapes = [formatting.shape(layer.shape) for layer in layers]
    before = [formatting.percent(layer.sparsity_before) for layer in layers]
    after = cells(lambda layer: formatting.percent(layer.sparsity_after))
    calibration = cells(lambda layer: formatting.error(layer.error_calibration))
    holdout = cells(lambda layer: formatting.error(layer.error_holdout))
    return [
        Column("layer", names, right=False, lead=True),
        Column("op", ops, priority=20, right=False, lead=True),
        Column("shape", shapes, priority=ESSENTIAL + 1, lead=True),
        *([Column("left", left, priority=ESSENTIAL + 2, styles=bold)] if smaller else []),
        Column("before", before, zeros, priority=ESSENTIAL, lead=True),
        Column("after", after, zeros, priority=ESSENTIAL + 9, styles=bold),
        Column("calib", calibration, error, priority=ESSENTIAL - 1),
        Column("held-out", holdout, error, priority=ESSENTIAL + 8),
        Column("output", cost_cells(costs, [layer.name for layer in layers]), error, priority=28),
        Column("gap %", cells(lambda layer: formatting.error(layer.gap)), priority=26),
        Column("viol. %", cells(lambda layer: formatting.error(layer.violation)), priority=25),
        Column("columns", cells(lambda layer: formatting.count(layer.columns)), priority=10),
        Column(
            "iter", cells(lambda layer: formatting.count(layer.iterations)), priority=iterations
        ),
        Column("sec", cells(lambda layer: f"{layer.seconds:.1f}"), priority=35),
        Column(
            "status",
            cells(lambda layer: formatting.clean(layer.status).replace("iterations", "iter")),
            "",
            40,
            False,
            styles=status_styles,
        ),
        Column(
            "note", cells(lambda layer: formatting.clean(layer.note)), "", 1, False, styles=faint
        ),
    ]


def _note(layer: LayerReport) -> str:
    return formatting.clean(layer.note) or "no reason given"


def _show_notes(layers: Sequence[LayerReport], console: Console) -> None:
    """Print the notes for which the table had no column, each once with its layers."""
    names_by_note: dict[str, list[str]] = {}
    for layer in layers:
        if layer.pruned and layer.note:
            names = names_by_note.setdefault(formatting.clean(layer.note), [])
            names.append(formatting.clean(layer.name))
    for note, names in names_by_note.items():
        subject = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
        text_table.paragraph(f"{subject}: {note}", console, FAINT, hanging=3)


def file_rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Rows of the files' sizes."""
    reference, candidate = comparison.reference, comparison.candidate
    return [
        _size_row("file", reference.bytes_raw, candidate.bytes_raw),
        _size_row("gzipped", reference.bytes_gzip, candidate.bytes_gzip),
    ]


def _deletion_rows(count: int) -> list[tuple[str, str, str, str]]:
    """How many hidden units are no longer there."""
    text = f"hidden unit{'s' if count > 1 else ''} without weights"
    return [("deleted", "", formatting.count(count), text)] if count else []


def form_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """What the compact form would give, where that is less than what was written."""
    if report.settings.get("store") == "compact":
        return []
    dense, size = report.comparison.reference.bytes_raw, report.comparison.candidate.bytes_raw
    return [
        (
            *("if compact", "", formatting.size(form.raw)),
            f"{formatting.factor(dense, form.raw)}, by --store compact",
        )
        for form in report.forms
        if form.name == "compact" and not form.written and form.raw < size
    ]


def _size_row(label: str, reference: int, candidate: int) -> tuple[str, str, str, str]:
    change = formatting.factor(reference, candidate)
    return label, formatting.size(reference), formatting.size(candidate), change


def quality_rows(
    comparison: Comparison,
    samples: str,
    certificate: Certificate | None = None,
    *,
    bound: float | None = None,
) -> list[tuple[str, str, str, str]]:
    """Rows of accuracy, output errors and agreement, with the number of samples.

    Parameters
    ----------
    samples
        What they are called.
    certificate
        What is known of the errors besides.
    bound
        On what new samples lose; it replaces the intervals.
    """
    rows: list[tuple[str, str, str, str]] = []
    sample_count = f"on {formatting.count(comparison.samples)} {samples}"
    reference_accuracy = comparison.reference.accuracy
    candidate_accuracy = comparison.candidate.accuracy
    if reference_accuracy is not None or candidate_accuracy is not None:
        interval = comparison.accuracy_drop_interval if bound is None else None
        change = formatting.points(reference_accuracy, candidate_accuracy, interval)
        if bound is not None:
            change += f" (95 %: at most {formatting.percent(bound, 2)} lost)"
        remark = ", ".join(filter(None, (change, sample_count)))
        rows.append(("accuracy", _share(reference_accuracy), _share(candidate_accuracy), remark))
    several = len(comparison.outputs) > 1
    for output in comparison.outputs:
        costs = cost_remark(certificate, output.name, comparison.samples) if certificate else ""
        name = formatting.clean(output.name) if several or output.unmeasured else ""
        missing = (
            f"not measured: {formatting.clean(output.unmeasured)}" if output.unmeasured else ""
        )
        remarks = (name, "" if rows else sample_count, missing or costs)
        remark = ", ".join(filter(None, remarks))
        label = "other elements" if output.answers else "output error"
        value = (
            formatting.UNKNOWN if output.error is None else f"{formatting.error(output.error)} %"
        )
        rows.append((label, "", value, remark))
    real = {
        output.name for output in comparison.outputs if not (output.answers or output.error == 0)
    }
    unexceeded = [bound for bound in comparison.new_samples if bound.name in real]
    rows += new_sample_rows(unexceeded, run=samples != "samples")
    for output in comparison.outputs:
        if output.agreement is not None:
            parts = [formatting.clean(output.name) if several else ""]
            if bound is not None and reference_accuracy is None:
                parts.append(f"95 %: at most {formatting.percent(bound, 2)} % change")
            elif bound is None and output.agreement_interval is not None:
                low, high = (formatting.percent(share, 2) for share in output.agreement_interval)
                parts.append(f"95 %: {low} to {high}")
            parts.append(formatting.margins(output.margin, output.margin_changed))
            remark = "; ".join(filter(None, parts))
            label = "same elements" if output.answers else "same top-1"
            rows.append((label, "", _share(output.agreement), remark))
    return rows


def _target_rows(target: Target | None) -> list[tuple[str, str, str, str]]:
    """A row of the target's limit, the figure reached and the number of rounds."""
    if target is None:
        return []

    def show(figure: float) -> str:
        """A figure in the unit of the target."""
        if target.name == "speedup":  # the figure is the part of the time
            return f"{1 / figure:.2f} x"
        return formatting.size(int(figure)) if target.name == "max_bytes" else _share(figure)

    rounds = len(target.rounds)
    duration = f"in {rounds} round{'s' if rounds != 1 else ''}"
    reached = f"reached {show(target.reached)}"
    label = target.name.replace("_", " ")
    return [(label, "", show(target.wanted), f"{reached}, {duration}")]


def latency_rows(timings: Sequence[BatchTiming]) -> list[tuple[str, str, str, str]]:
    """A row for each batch size: both latencies, and their ratio."""
    rows = []
    for timing in timings:
        dense, pruned = (f"{milliseconds(latency.median)} ms" for latency in timing.latencies)
        (ratio,) = timing.ratios
        remark = f"{WORDS[speed(ratio)]}: ratio {show_ratio(ratio)}{at_batch(timing.size)}"
        rows.append(("latency", dense, pruned, remark))
    return rows


def _share(share: float | None) -> str:
    return formatting.UNKNOWN if share is None else f"{formatting.percent(share, 2)} %"
