"""Timings of models side by side, on the terminal and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting, text_table
from nettrim_cli.report.bench_result import BatchTiming, Bench, Estimate, OpTime
from nettrim_cli.report.bench_verdict import differs, interval, outcomes, show, verdicts
from nettrim_cli.report.formatting import milliseconds
from nettrim_cli.report.terminal import BAD, FAINT, GOOD, WARN
from nettrim_cli.report.text_table import ESSENTIAL, Column

if TYPE_CHECKING:
    from rich.console import Console

MOST_OPS = 8  # rows of a table of op types
LEAST_SHARE = 0.01  # of a model's time, below which an op type stands among the others
TITLE_WIDTH = 24
LATENCY = "latency ms"
NOTABLE = 1.2  # times as fast, from which on the speed is told, too
STYLES = {"passed": GOOD, "failed": BAD, "unsure": WARN}


def show_bench(bench: Bench, console: Console) -> None:
    """Print the limits, what the timings say of each model, then the tables."""
    for status, text in outcomes(bench):
        text_table.paragraph(f"{status}  {text}", console, STYLES[status], hanging=9)
    for text, is_faster in verdicts(bench):
        text_table.paragraph(text, console, f"bold {GOOD if is_faster else WARN}", hanging=3)
    for note in bench.notes:
        text_table.paragraph(f"! {formatting.clean(note)}", console, WARN, hanging=3)
    if bench.checks or bench.notes or len(bench.models) > 1:
        text_table.blank(console)
    for columns in (latency_columns(bench), model_columns(bench)):
        text_table.show(text_table.fit(columns, console.width), console)
        text_table.blank(console)
    for timing in bench.batches:
        if timing.ops:
            text_table.line(ops_title(timing), console, FAINT)
            columns = op_columns(bench, timing)
            text_table.show(text_table.fit(columns, console.width), console)
            text_table.blank(console)
    for text in basis(bench):
        text_table.paragraph(text, console, FAINT, hanging=3)


def basis(bench: Bench) -> list[str]:
    """What was run on, in sentences."""
    threads = f"{bench.threads} thread{'s' * (bench.threads > 1)}"
    rounds = " and ".join(f"{timing.rounds:,}" for timing in bench.batches)
    origins = "; ".join(formatting.clean(text) for text in bench.inputs) or "none"
    return [
        f"{bench.runtime}, {threads}; medians and 95 % intervals over {rounds} rounds.",
        f"Inputs: {origins}.",
    ]


def ops_title(timing: BatchTiming) -> str:
    """Heading of a table of op types."""
    return f"op types at batch {formatting.count(timing.size)}, ms a call"


def latency_columns(bench: Bench) -> list[Column]:
    """A row for each batch size and model: latency, and its ratio to the reference."""
    rows = [
        (model.name, timing.size, latency, ratio)
        for timing in bench.batches
        for model, latency, ratio in zip(
            bench.models, timing.latencies, (None, *timing.ratios), strict=True
        )
    ]
    ratios = [ratio for _, _, _, ratio in rows]
    return [
        Column("model", [formatting.clean(name) for name, _, _, _ in rows], right=False),
        Column("batch", [formatting.count(size) for _, size, _, _ in rows], priority=ESSENTIAL),
        Column(
            *("median", [milliseconds(latency.median) for _, _, latency, _ in rows], LATENCY),
            priority=ESSENTIAL + 2,
        ),
        Column("95 %", [_milliseconds(latency) for _, _, latency, _ in rows], LATENCY, 10),
        Column(
            *("median", ["" if r is None else show(r) for r in ratios], "ratio"),
            priority=ESSENTIAL + 3,
            styles=["bold"] * len(rows),
        ),
        Column("95 %", ["" if r is None else interval(r) for r in ratios], "ratio", ESSENTIAL + 1),
        Column("speed", ["" if r is None else _times(r.median) for r in ratios], "", 5),
    ]


def model_columns(bench: Bench) -> list[Column]:
    """A row for each model: sizes, load time and memory."""
    models = bench.models
    unknown = formatting.UNKNOWN
    loads = [model.load_seconds for model in models]
    memories = [model.memory_bytes for model in models]
    return [
        Column("model", [formatting.clean(model.name) for model in models], right=False),
        Column("file", [formatting.size(model.bytes_raw) for model in models], priority=40),
        Column("parameters", [formatting.count(model.parameters) for model in models], priority=20),
        Column("non-zeros", [formatting.count(model.nonzeros) for model in models], priority=30),
        Column(
            "load ms",
            [unknown if load is None else milliseconds(load) for load in loads],
            priority=36,
        ),
        Column(
            "peak memory",
            [unknown if memory is None else formatting.size(memory) for memory in memories],
            priority=35,
        ),
    ]


def op_columns(bench: Bench, timing: BatchTiming) -> list[Column]:
    """A row for each op type: what its nodes take in each model."""
    rows = _shown_ops(timing.ops)
    names = [formatting.clean(model.name) for model in bench.models]
    titles = formatting.shorten_all(names, TITLE_WIDTH)
    times = [
        Column(
            title,
            [milliseconds(row.seconds[k]) if row.calls[k] else "" for row in rows],
            priority=ESSENTIAL + len(titles) - k,
        )
        for k, title in enumerate(titles)
    ]
    columns = [Column("op", [formatting.clean(row.op) for row in rows], right=False), *times]
    columns.append(Column("nodes", [_nodes(row.calls) for row in rows], priority=5))
    if len(titles) == 2:
        ratios = [row.ratios[0] if row.ratios else None for row in rows]
        cells = ["" if ratio is None or not differs(ratio) else show(ratio) for ratio in ratios]
        columns.insert(3, Column("ratio", cells, priority=ESSENTIAL))
    return columns


def _shown_ops(ops: Sequence[OpTime]) -> list[OpTime]:
    """The op types that take the most, and the sum of the others."""
    totals = [sum(seconds) for seconds in zip(*(row.seconds for row in ops), strict=True)]

    def matters(row: OpTime) -> bool:
        """Whether a row takes a share of some model's time."""
        pairs = zip(row.seconds, totals, strict=True)
        return any(seconds > LEAST_SHARE * total for seconds, total in pairs)

    shown = [row for row in ops if matters(row)][:MOST_OPS]
    minor = [row for row in ops if row not in shown]
    if len(minor) > 1:
        seconds = zip(*(row.seconds for row in minor), strict=True)
        calls = zip(*(row.calls for row in minor), strict=True)
        name = f"{len(minor)} others"
        minor = [OpTime(name, tuple(map(sum, seconds)), tuple(map(sum, calls)))]
    return [*shown, *minor]


def _nodes(calls: Sequence[int]) -> str:
    return str(calls[0]) if len(set(calls)) == 1 else ", ".join(map(str, calls))


def _milliseconds(latency: Estimate) -> str:
    if not math.isfinite(latency.high):
        return "unknown"
    return f"{milliseconds(latency.low)} to {milliseconds(latency.high)}"


def _times(ratio: float) -> str:
    """A ratio as a speed: ``2.1x``; empty where there is little between."""
    return f"{1 / ratio:.1f}x" if ratio <= 1 / NOTABLE else ""
