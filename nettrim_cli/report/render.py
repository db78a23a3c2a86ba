"""Reports in files.

A new file format is one function and one line in ``FORMATS``.  JSON and CSV carry machine
numbers (fractions, bytes, seconds); Markdown is for people.  Names come from files of others, so
every format escapes its own syntax in them.  ``--help`` names the formats: what they render is
imported when they are used.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nettrim_cli.report import formatting
from nettrim_cli.report.comparison_result import Certificate

if TYPE_CHECKING:
    from nettrim_cli.report.bench_result import Bench
    from nettrim_cli.report.comparison_result import Comparison
    from nettrim_cli.report.result import Report
    from nettrim_cli.report.text_table import Column


def render(report: Report, suffix: str) -> str:
    """Render a report as the text of a file; write it with ``newline=""``.

    Raises
    ------
    KeyError
        If the suffix (with its dot, in any case) is not in ``FORMATS``.
    """
    return FORMATS[suffix.lower()](report)


def render_comparison(comparison: Comparison, suffix: str) -> str:
    """Render a comparison as the text of a file.

    Raises
    ------
    KeyError
        If the suffix (with its dot, in any case) is not in ``COMPARISON_FORMATS``.
    """
    return COMPARISON_FORMATS[suffix.lower()](comparison)


def render_bench(bench: Bench, suffix: str) -> str:
    """Render timings as the text of a file; write it with ``newline=""``.

    Raises
    ------
    KeyError
        If the suffix (with its dot, in any case) is not in ``BENCH_FORMATS``.
    """
    return BENCH_FORMATS[suffix.lower()](bench)


def as_json(value: Any) -> str:
    """Strict JSON of plain values, sorted and indented; NaN and infinities become null."""
    return json.dumps(_plain(value), indent=2, sort_keys=True, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy scalars and arrays, without importing numpy here
        return _plain(value.tolist())
    return str(value)


def _json(report: Report) -> str:
    return as_json(report.as_dict())


def _csv(report: Report) -> str:
    """One line per layer (RFC 4180), each with the verdict; non-finite numbers are empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_FIELDS)
    digest = report.comparison.candidate.sha256
    for layer in report.as_dict()["layers"]:
        layer_bound = report.certificate.layer(layer["name"])
        proof = dict.fromkeys(CERTIFICATE_FIELDS) if layer_bound is None else asdict(layer_bound)
        sizes = {"inputs": layer["shape"][0], "outputs": layer["shape"][1]}
        target = {"target_met": None if report.target is None else report.target.met}
        run = {"verdict": " ".join(report.verdict.lines), "output_sha256": digest}
        part = report.certificate.costs.layer(layer["name"])
        costs = {
            "cost": None if part is None else part.largest,
            "cost_layers": None if part is None else len(part.layers),
        }
        row = _plain({**proof, **layer, **sizes, **costs, **target, **run})
        writer.writerow([row[field] for field in CSV_FIELDS])
    return text.getvalue()


CERTIFICATE_FIELDS = (
    *("error_alone", "error_network", "norm", "bound", "samples_median", "samples_densest"),
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


def _markdown(report: Report) -> str:
    """The verdict and the warnings, then layers and totals as GitHub tables."""
    from nettrim_cli.report.terminal import total_rows

    layers = [
        (
            *(layer.name, layer.op),
            " → ".join(filter(None, (formatting.shape(layer.shape), layer.left))),
            *(formatting.percent(layer.sparsity_before), formatting.percent(layer.sparsity_after)),
            *(formatting.error(layer.error_calibration), formatting.error(layer.error_holdout)),
            *(formatting.count(layer.columns), formatting.count(layer.iterations)),
            *(layer.status, f"{layer.seconds:.1f}", layer.note),
        )
        for layer in report.layers
    ]
    target = report.comparison.candidate.path or "(nothing written)"
    parts = [
        "# nettrim report",
        *([f"**Target missed**: {_escape(report.missed)}"] if report.missed else []),
        f"{_escape(report.comparison.reference.path)} → {_escape(target)}, "
        f"nettrim {_escape(report.version)}, {formatting.duration(report.seconds)}",
        f"**{_escape(report.verdict.outcome)}**",
        _escape(report.verdict.sureness),
        *_warnings(report),
        "## Layers",
        _table(MARKDOWN_FIELDS, "lllrrrrrrlrl", layers),
        "## Totals",
        _table(("", "before", "after", ""), "lrrl", total_rows(report)),
        f"SHA-256 of the output: {report.comparison.candidate.sha256 or formatting.UNKNOWN}",
    ]
    if report.forms:
        rows = [
            (
                f"{form.name}{', as written' if form.written else ''}",
                *(formatting.count(size) for size in (form.raw, form.gzip, form.zstd)),
            )
            for form in report.forms
        ]
        parts += ["## Forms of the file", _table(FORM_FIELDS, "lrrr", rows)]
    parts += [*_cost_parts(report.certificate), *_certificate_parts(report)]
    settings = [(key, json.dumps(_plain(value))) for key, value in report.settings.items()]
    if settings:
        parts += ["## Settings", _table(("setting", "value"), "ll", settings)]
    return "\n\n".join(parts) + "\n"


def _cost_parts(certificate: Certificate | None) -> list[str]:
    """What the layers cost at the outputs."""
    if certificate is None or not certificate.costs.parts:
        return []
    parts, outputs = certificate.costs.parts, certificate.costs.sums
    rows = [
        (", ".join(part.layers), *(formatting.error(part.outputs[o.name]) for o in outputs))
        for part in parts
    ]
    sums = ["?" if o.bound is None else formatting.at_most(o.bound) for o in outputs]
    names = ("layers", *(f"cost at {output.name} %" for output in outputs))
    table = _table(names, "l" + "r" * len(outputs), [*rows, ("together at most", *sums)])
    return [
        "## Costs of layers",
        table,
        f"On {formatting.count(certificate.costs.samples)} samples.",
    ]


def _certificate_parts(report: Report) -> list[str]:
    """What is proved of each layer."""
    if not report.certificate.layers:
        return []
    columns = {layer.name: layer.columns for layer in report.layers}
    bounds = [
        (
            *(
                bound.name,
                formatting.error(bound.error_alone),
                formatting.error(bound.error_network),
            ),
            formatting.UNKNOWN if bound.norm is None else f"{bound.norm:.3g}",
            formatting.UNKNOWN if bound.bound is None else formatting.at_most(bound.bound),
            *(formatting.count(bound.samples_median), formatting.count(bound.samples_densest)),
            formatting.count(columns.get(bound.name)),
        )
        for bound in report.certificate.layers
    ]
    return ["## Certificate", _table(PROVED_FIELDS, "lrrrrrrr", bounds)]


def _warnings(report: Report) -> list[str]:
    lines = [f"- {_escape(warning.text)} ({warning.code})" for warning in report.warnings]
    return ["## Warnings", "\n".join(lines)] if lines else []


MARKDOWN_FIELDS = (
    *("layer", "op", "shape", "sparsity before %", "sparsity after %"),
    *("error calib %", "error held-out %", "columns", "iterations", "status", "seconds", "note"),
)

FORM_FIELDS = ("form", "bytes", "gzipped", "by Zstandard")

PROVED_FIELDS = (
    *("layer", "error alone %", "error in the network %", "norm", "error at most %"),
    *("samples asked, median neuron", "densest neuron", "columns given"),
)


def _table(head: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if letter == "r" else "---" for letter in align]
    lines = [head, rule, *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    """A text that GitHub shows literally; underscores within words need no escape."""
    text = re.sub(r"([\\`*\[\]<>&|~$#!])", r"\\\1", formatting.clean(text))
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def _comparison_markdown(comparison: Comparison) -> str:
    """The checked limits, the paths, then all figures."""
    from nettrim_cli.report.gate import outcome
    from nettrim_cli.report.terminal import comparison_rows

    parts = ["# nettrim comparison"]
    for check in comparison.checks:
        status, text, sureness = outcome(check)
        parts.append(f"**{status}**: {_escape(text)}; {_escape(sureness)}.")
    parts += [f"**Note**: {_escape(note)}" for note in comparison.notes]
    reference, candidate = comparison.reference.path, comparison.candidate.path
    samples = formatting.count(comparison.samples)
    parts.append(f"{_escape(reference)} → {_escape(candidate)}, {samples} samples")
    rows = comparison_rows(comparison)
    parts.append(_table(("", "reference", "candidate", ""), "lrrl", rows))
    parts += _cost_parts(comparison.certificate)
    return "\n\n".join(parts) + "\n"


def _bench_markdown(bench: Bench) -> str:
    """The checked limits, what the timings say of each model, then all figures."""
    from nettrim_cli.report import bench as view
    from nettrim_cli.report.bench_verdict import outcomes, verdicts

    parts = ["# nettrim bench"]
    parts += [f"**{status}**: {_escape(text)}." for status, text in outcomes(bench)]
    parts += [f"**{_escape(text)}**" for text, _ in verdicts(bench)]
    parts += [f"**Note**: {_escape(note)}" for note in bench.notes]
    parts += ["## Latency", _columns(view.latency_columns(bench))]
    parts += ["## Models", _columns(view.model_columns(bench))]
    for timing in bench.batches:
        if timing.ops:
            title = view.ops_title(timing)
            parts += [f"## {title[0].upper()}{title[1:]}", _columns(view.op_columns(bench, timing))]
    parts += ["## Basis", *map(_escape, view.basis(bench))]
    return "\n\n".join(parts) + "\n"


def _columns(columns: Sequence[Column]) -> str:
    """Columns of the terminal as a GitHub table."""
    columns = [column for column in columns if any(column.cells)]
    head = [" ".join(filter(None, (column.title, column.group))) for column in columns]
    align = "".join("r" if column.right else "l" for column in columns)
    return _table(head, align, list(zip(*(column.cells for column in columns), strict=True)))


BENCH_CSV_FIELDS = (
    *("model", "batch", "latency", "latency_low", "latency_high", "ratio", "ratio_low"),
    *("ratio_high", "rounds", "bytes_raw", "parameters", "nonzeros", "load_seconds"),
    *("memory_bytes", "threads", "passed"),
)


def _bench_csv(bench: Bench) -> str:
    """One line per batch size and model (RFC 4180); seconds and bytes."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(BENCH_CSV_FIELDS)
    checks = iter(bench.checks)
    for timing in bench.batches:
        rows = zip(bench.models, timing.latencies, (None, *timing.ratios), strict=True)
        for model, latency, ratio in rows:
            check = None if ratio is None else next(checks, None)
            figures = (None,) * 3 if ratio is None else (ratio.median, ratio.low, ratio.high)
            row = [
                *(model.path, timing.size, latency.median, latency.low, latency.high, *figures),
                *(timing.rounds, model.bytes_raw, model.parameters, model.nonzeros),
                *(model.load_seconds, model.memory_bytes, bench.threads),
                None if check is None else check.passed,
            ]
            writer.writerow(_plain(row))
    return text.getvalue()


FORMATS: dict[str, Callable[[Report], str]] = {".json": _json, ".md": _markdown, ".csv": _csv}
COMPARISON_FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".json": lambda comparison: as_json(comparison.as_dict()),
    ".md": _comparison_markdown,
}
BENCH_FORMATS: dict[str, Callable[[Bench], str]] = {
    ".json": lambda bench: as_json(bench.as_dict()),
    ".md": _bench_markdown,
    ".csv": _bench_csv,
}
