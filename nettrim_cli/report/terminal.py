"""Reports on the screen, in per cent and with thousands separators."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.comparison_result import Certificate, Comparison
from nettrim_cli.report.diagnostic import Diagnostic, Severity
from nettrim_cli.report.gate import outcome
from nettrim_cli.report.result import LayerReport, Report, Target
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console

    from nettrim_cli.graph.layer import Layer

PIPE_WIDTH = 120
GOOD, WARN, BAD, FAINT = "green", "yellow", "red", "dim"


def console_for_stdout() -> Console:
    """A console for results on stdout: 120 columns where it is not a terminal.

    ``NO_COLOR``, ``FORCE_COLOR`` and ``COLUMNS`` are respected; into a file or a pipe goes plain
    text.
    """
    console = patient_console(stderr=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = PIPE_WIDTH
    return console


def patient_console(*, stderr: bool) -> Console:
    """A console that falls silent when its reader leaves, where rich would end the process."""
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            # The reader (head, say) has seen enough: work and exit code stay what they are.
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if stderr else 1)

    return Patient(stderr=stderr, highlight=False, markup=False, emoji=False)


def show_report(report: Report, console: Console, output: str | None = None) -> None:
    """Print a run: the verdict and what calls it into question, layers, totals, other warnings.

    ``output`` is the written file, if another than ``report.comparison.candidate.path``.
    """
    layers, judged = report.layers, report.verdict
    text_table.paragraph(
        judged.outcome, console, f"bold {GOOD if judged.reached else WARN}", hanging=3
    )
    text_table.paragraph(judged.sureness, console, hanging=3)
    notes = [each for each in report.warnings if each.severity >= Severity.NOTE]
    _show_warnings([each for each in report.warnings if each not in notes], console)
    text_table.blank(console)
    sentences = ["" if each.pruned else f"left dense: {_note(each)}" for each in layers]
    if layers:
        fitted = text_table.fit(_layer_columns(layers), console.width)
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
    _show_warnings(notes, console)
    text_table.blank(console)
    path = formatting.clean(report.comparison.candidate.path if output is None else output)
    text_table.line(f"written to {path}", console, "bold")


def _show_warnings(warnings: Sequence[Diagnostic], console: Console) -> None:
    if warnings:
        text_table.blank(console)
    for each in warnings:
        text_table.paragraph(f"! {formatting.clean(each.text)}", console, WARN, hanging=3)


def show_comparison(comparison: Comparison, console: Console) -> None:
    """Print what became of the limits, two models side by side, the distance of their outputs."""
    for each in sorted(comparison.checks, key=lambda check: check.passed):
        status, text, sureness = outcome(each)
        text_table.paragraph(f"{status}  {text}", console, GOOD if each.passed else BAD, hanging=9)
        text_table.paragraph(f"        {sureness}", console, FAINT, hanging=9)
    for note in comparison.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    if comparison.checks or comparison.notes:
        text_table.blank(console)
    text_table.line(f"reference  {formatting.clean(comparison.reference.path)}", console)
    text_table.line(f"candidate  {formatting.clean(comparison.candidate.path)}", console)
    text_table.blank(console)
    text_table.pairs([("", "reference", "candidate", ""), *comparison_rows(comparison)], console)


def comparison_rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    """Two models in words: label, reference, candidate, remark."""
    one, two = comparison.reference, comparison.candidate
    parameters = (
        "parameters",
        formatting.count(one.parameters),
        formatting.count(two.parameters),
        formatting.factor(one.parameters, two.parameters).replace("same size", "same number"),
    )
    nonzeros = (
        "non-zeros",
        formatting.count(one.nonzeros),
        formatting.count(two.nonzeros),
        f"{formatting.percent(_zeros(one.nonzeros, one.parameters))} → "
        f"{formatting.percent(_zeros(two.nonzeros, two.parameters))} % sparsity",
    )
    quality = _quality_rows(comparison, "samples", comparison.certificate)
    return [*_file_rows(comparison), parameters, nonzeros, *quality]


def show_layers(
    path: str,
    layers: Sequence[Layer],
    nonzeros: Mapping[str, int],
    console: Console,
    *,
    parameters: int | None = None,
) -> None:
    """Print a model's layers as nettrim sees them, and totals.

    ``nonzeros`` holds the non-zero weights by layer name, as far as they are known;
    ``parameters`` is the size of the whole model, to which the prunable weights are compared
    (by default the listed layers' weights).
    """
    text_table.line(formatting.clean(path), console, "bold")
    text_table.blank(console)
    if layers:
        ready = ["if named by --include" if each.depthwise else "yes" for each in layers]
        mood = [WARN if each.depthwise else GOOD for each in layers]
        columns = [
            Column(
                "layer", [formatting.clean(each.name) for each in layers], right=False, lead=True
            ),
            Column("op", [formatting.clean(e.op) for e in layers], keep=45, right=False, lead=True),
            Column("shape", [_shape(each) for each in layers], keep=60, lead=True),
            Column("weights", [formatting.count(e.parameters) for e in layers], keep=40, lead=True),
            Column(
                "sparsity %", [formatting.percent(_sparsity(e, nonzeros)) for e in layers], keep=49
            ),
            Column("prunable", ready, keep=5, right=False, styles=mood),
            Column(
                "follows", [formatting.clean(e.response.follows) for e in layers], "", 10, False
            ),
        ]
        refusals = [
            f"no: {formatting.clean(each.refusal)}" if each.refusal else "" for each in layers
        ]
        text_table.show(text_table.fit(columns, console.width), console, refusals)
        text_table.blank(console)
    totals = _layer_totals(layers, parameters)
    share = f"{formatting.percent(totals['prunable_share'])} %"
    whole = "all layers' weights" if parameters is None else "all parameters"
    named = sum(each.prunable and each.depthwise for each in layers)
    remark = f"{formatting.count(named)} of them only if --include names them" if named else ""
    rows = [
        ("layers", "", formatting.count(totals["layers"]), ""),
        ("prunable", "", formatting.count(totals["prunable_layers"]), remark),
        (
            "weights",
            "",
            formatting.count(totals["prunable_weights"]),
            f"prunable, {share} of {whole}",
        ),
    ]
    text_table.pairs(rows, console)


def layers_as_dict(
    path: str,
    layers: Sequence[Layer],
    nonzeros: Mapping[str, int],
    *,
    parameters: int | None = None,
) -> dict[str, Any]:
    """What ``show_layers`` prints, as plain values for JSON; sparsities are fractions."""
    rows = [
        {
            "name": each.name,
            "op": each.op,
            "shape": list(each.shape),
            "weight_shape": list(each.weight_shape),
            "weights": each.parameters,
            "nonzeros": nonzeros.get(each.name),
            "sparsity": _sparsity(each, nonzeros),
            "has_bias": each.has_bias,
            "dtype": each.dtype,
            "follows": each.response.follows,
            "prunable": each.prunable,
            "depthwise": each.depthwise,
            "refusal": each.refusal,
        }
        for each in layers
    ]
    return {"path": path, "layers": rows, "totals": _layer_totals(layers, parameters)}


def total_rows(report: Report) -> list[tuple[str, str, str, str]]:
    """The totals of a run in words: label, before, after, remark."""
    treated = report.pruned
    before = sum(each.nonzeros_before for each in treated)
    sparsity = f"{formatting.percent(report.sparsity)} % sparsity"
    return [
        ("layers pruned", "", formatting.count(len(treated)), f"of {len(report.layers)}"),
        ("weights", "", formatting.count(report.weights), "in the pruned layers"),
        ("non-zeros", formatting.count(before), formatting.count(report.nonzeros), sparsity),
        *_file_rows(report.comparison),
        *_quality_rows(
            report.comparison, "held-out samples", report.certificate, bound=report.bound
        ),
        *_target_rows(report.target),
    ]


def _layer_columns(layers: Sequence[LayerReport]) -> list[Column]:
    def cells(read: Callable[[LayerReport], str]) -> list[str]:
        return [read(each) if each.pruned else "" for each in layers]

    zeros, error = "sparsity %", "error %"
    bold, faint = ["bold"] * len(layers), [FAINT] * len(layers)
    mood = [GOOD if each.status == "solved" else WARN for each in layers]
    names = [formatting.clean(each.name) for each in layers]
    ops = [formatting.clean(each.op) for each in layers]
    shapes = [formatting.shape(each.shape) for each in layers]
    before = [formatting.percent(each.sparsity_before) for each in layers]
    after = cells(lambda each: formatting.percent(each.sparsity_after))
    calibration = cells(lambda each: formatting.error(each.error_calibration))
    holdout = cells(lambda each: formatting.error(each.error_holdout))
    return [
        Column("layer", names, right=False, lead=True),
        Column("op", ops, keep=20, right=False, lead=True),
        Column("shape", shapes, keep=ESSENTIAL + 1, lead=True),
        Column("before", before, zeros, keep=ESSENTIAL, lead=True),
        Column("after", after, zeros, keep=ESSENTIAL + 9, styles=bold),
        Column("calib", calibration, error, keep=ESSENTIAL - 1),
        Column("held-out", holdout, error, keep=ESSENTIAL + 8),
        Column("gap %", cells(lambda each: formatting.error(each.gap)), keep=26),
        Column("viol. %", cells(lambda each: formatting.error(each.violation)), keep=25),
        Column("columns", cells(lambda each: formatting.count(each.columns)), keep=10),
        Column("iter", cells(lambda each: formatting.count(each.iterations)), keep=30),
        Column("sec", cells(lambda each: f"{each.seconds:.1f}"), keep=35),
        Column(
            "status",
            cells(lambda e: formatting.clean(e.status).replace("iterations", "iter")),
            "",
            40,
            False,
            styles=mood,
        ),
        Column("note", cells(lambda e: formatting.clean(e.note)), "", 1, False, styles=faint),
    ]


def _note(layer: LayerReport) -> str:
    return formatting.clean(layer.note) or "no reason given"


def _show_notes(layers: Sequence[LayerReport], console: Console) -> None:
    """Notes for which the table had no column, each once with the layers that it is about."""
    about: dict[str, list[str]] = {}
    for each in layers:
        if each.pruned and each.note:
            about.setdefault(formatting.clean(each.note), []).append(formatting.clean(each.name))
    for note, names in about.items():
        who = ", ".join(names) if len(names) <= 3 else f"{names[0]} and {len(names) - 1} more"
        text_table.paragraph(f"{who}: {note}", console, FAINT, hanging=3)


def _file_rows(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    one, two = comparison.reference, comparison.candidate
    return [
        (label, formatting.size(before), formatting.size(after), formatting.factor(before, after))
        for label, before, after in (
            ("file", one.bytes_raw, two.bytes_raw),
            ("gzipped", one.bytes_gzip, two.bytes_gzip),
        )
    ]


def _quality_rows(
    comparison: Comparison,
    samples: str,
    certificate: Certificate | None = None,
    *,
    bound: float | None = None,
) -> list[tuple[str, str, str, str]]:
    """Accuracy, error of each output and agreement, with the samples that they were taken on.

    With a bound on what new samples lose that is all that is said of them.
    """
    rows: list[tuple[str, str, str, str]] = []
    on = f"on {formatting.count(comparison.samples)} {samples}"
    before, after = comparison.reference.accuracy, comparison.candidate.accuracy
    if before is not None or after is not None:
        lost = comparison.accuracy_drop_interval if bound is None else None
        change = formatting.points(before, after, lost)
        if bound is not None:
            change += f" (95 %: at most {formatting.percent(bound, 2)} lost)"
        remark = ", ".join(filter(None, (change, on)))
        rows.append(("accuracy", _share(before), _share(after), remark))
    several = len(comparison.outputs) > 1
    for each in comparison.outputs:
        found = certificate.output(each.name) if certificate else None
        proved = formatting.proved(found.bound, found.reason) if found else ""
        name = formatting.clean(each.name) if several or each.unmeasured else ""
        missing = f"not measured: {formatting.clean(each.unmeasured)}" if each.unmeasured else ""
        remarks = (name, "" if rows else on, missing or proved)
        remark = ", ".join(filter(None, remarks))
        label = "other elements" if each.answers else "output error"
        value = formatting.UNKNOWN if each.error is None else f"{formatting.error(each.error)} %"
        rows.append((label, "", value, remark))
    for each in comparison.outputs:
        if each.agreement is not None:
            parts = [formatting.clean(each.name) if several else ""]
            if bound is not None and before is None:
                parts.append(f"95 %: at most {formatting.percent(bound, 2)} % change")
            elif bound is None and each.agreement_interval is not None:
                low, high = (formatting.percent(end, 2) for end in each.agreement_interval)
                parts.append(f"95 %: {low} to {high}")
            parts.append(formatting.margins(each.margin, each.margin_changed))
            remark = "; ".join(filter(None, parts))
            label = "same elements" if each.answers else "same top-1"
            rows.append((label, "", _share(each.agreement), remark))
    return rows


def _target_rows(target: Target | None) -> list[tuple[str, str, str, str]]:
    """What was wanted, what was reached, in how many rounds."""
    if target is None:
        return []

    def show(figure: float) -> str:
        return formatting.size(int(figure)) if target.name == "max_bytes" else _share(figure)

    rounds = len(target.rounds)
    found = f"in {rounds} round{'s' if rounds != 1 else ''}"
    reached = f"reached {show(target.reached)}"
    label = target.name.replace("_", " ")
    return [(label, "", show(target.wanted), f"{reached}, {found}")]


def _share(share: float | None) -> str:
    return formatting.UNKNOWN if share is None else f"{formatting.percent(share, 2)} %"


def _zeros(nonzeros: int, parameters: int) -> float:
    return 1 - nonzeros / parameters if parameters else 0.0


def _shape(layer: Layer) -> str:
    return formatting.shape(layer.shape if any(layer.shape) else layer.weight_shape)


def _sparsity(layer: Layer, nonzeros: Mapping[str, int]) -> float | None:
    held = nonzeros.get(layer.name)
    return None if held is None else _zeros(held, layer.parameters)


def _layer_totals(layers: Sequence[Layer], parameters: int | None) -> dict[str, Any]:
    weights = sum(each.parameters for each in layers if each.prunable)
    whole = sum(each.parameters for each in layers) if parameters is None else parameters
    return {
        "layers": len(layers),
        "prunable_layers": sum(each.prunable for each in layers),
        "prunable_weights": weights,
        "parameters": whole,
        "prunable_share": weights / whole if whole else 0.0,
    }
