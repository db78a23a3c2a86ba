"""What to try after a run: lines to copy, each with what it is good for."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from nettrim_cli.report import formatting

if TYPE_CHECKING:
    from nettrim_cli.report.result import Report

MOST = 3
NOTABLE = 0.01  # loss of accuracy, or share of changed answers, for which another target is told
WORTH = 0.9  # of the file's size, below which the compact form is told of


@dataclass(frozen=True)
class Files:
    """Paths of a run as the user gave them."""

    model: str
    data: str
    output: str


def next_steps(report: Report, files: Files) -> list[tuple[str, str]]:
    """What a line is good for, and the line: so many at most, the most useful first."""
    return [step for _, step in zip(range(MOST), _steps(report, files), strict=False)]


def _steps(report: Report, files: Files) -> Iterator[tuple[str, str]]:
    model, data, output = (shlex.quote(path) for path in (files.model, files.data, files.output))
    name = PurePath(files.model)
    other = shlex.quote(str(name.with_name(f"{name.stem}.small{name.suffix}")))
    if (report.comparison.drop or 0.0) > NOTABLE and report.target_option[0] != "max_drop":
        yield (
            "as many zeros as cost one point at most",
            f"nettrim prune {model} --data {data} --max-drop 1% -o {other}",
        )
    yield (
        "what it costs on samples that were not used here",
        f"nettrim compare {model} {output} --data test.h5",
    )
    for form in report.forms:
        worth = form.raw < WORTH * report.comparison.candidate.bytes_raw
        if form.name == "compact" and worth and not form.written:
            size = formatting.size(form.raw)
            yield f"{size} as it lies, the same bit by bit", f"nettrim pack {output}"
    if report.smaller:
        if not report.latency:
            yield "how much faster it is here", f"nettrim bench {model} {output}"
        return
    yield (
        "faster calls, by layers that are smaller as they lie",
        f"nettrim prune {model} --data {data} --structure shrink {target_words(report)} -o {other}",
    )


def target_words(report: Report) -> str:
    """A target as a command line has it, of which smaller layers can have the same."""
    name, value = report.target_option
    if name == "max_bytes":
        return f"--max-bytes {int(value)}"
    if name in ("sparsity", "max_error", "max_drop", "epsilon"):
        return f"--{name.replace('_', '-')} {formatting.plain_percent(value)}%"
    return "--max-error 5%"
