"""Reports of runs that never ran, with figures that are easily told apart."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from rich.console import Console

from nettrim_cli.report.comparison_result import Comparison, ModelFacts, OutputFacts
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Report
from nettrim_cli.report.terminal import show_report

ODD = (
    "[bold]x[/bold] [/]",
    'a|b,c"d',
    "line\nbreak\r\ttab",
    "back\\slash\\|pipe",
    "`code` *star* <b>&amp; _u_",
    "\x1b[31mred\x1b[0m",
    "深度/層" * 12,
    "/encoder/layer.0/attention/self/query/MatMul" * 3,
    "",
)


def solved(name: str, **changes: Any) -> LayerReport:
    base = LayerReport(
        *(name, "Gemm", (300, 1000), 300_000, 300_000, 30_000, 0.0812, 0.1244),
        *(1600, 212, "solved", 3.21),
    )
    return replace(base, **changes)


def dense(name: str, note: str = "excluded") -> LayerReport:
    return LayerReport(name, "Conv", (10, 10), 100, 96, 96, note=note)


def comparison(**changes: Any) -> Comparison:
    one = ModelFacts("dense.onnx", 2_552_345, 2_361_234, 637_610, 637_600, 0.8876)
    two = ModelFacts("pruned.onnx", 2_552_641, 401_234, 637_610, 58_123, 0.8851)
    outputs = (OutputFacts("logits", 0.1432, 0.9725),)
    return replace(Comparison(one, two, outputs, 400), **changes)


def whole(*layers: LayerReport, **changes: Any) -> Report:
    return replace(Report(layers, comparison(), {"epsilon": 0.1}, "0.1.0", 18.4), **changes)


def screen(width: int = 120, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, **options)


def shown(report: Report, width: int = 120) -> str:
    console = screen(width)
    show_report(report, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def few(*texts: str) -> tuple[Diagnostic, ...]:
    return tuple(Diagnostic("few-samples", each) for each in texts)


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)
