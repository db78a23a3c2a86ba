"""Reports of runs that never ran, with figures that are easily told apart."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

from rich.console import Console

from nettrim_cli.graph.layer import Geometry, Layer, Response, Site
from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.report.bench_result import BatchTiming, Estimate
from nettrim_cli.report.certificate_result import (
    Certificate,
    CostSum,
    LayerBound,
    LayerCost,
    LayerCosts,
    OutputBound,
)
from nettrim_cli.report.comparison_result import Comparison, ModelFacts, OutputFacts, OutputValues
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.model_summary import ModelSummary, layer_facts, layer_totals
from nettrim_cli.report.provenance_result import FileFacts, Provenance
from nettrim_cli.report.result import ErrorCurve, FileForm, Histogram, LayerReport, Report
from nettrim_cli.report.terminal import show_report

EVEN = Estimate(0.01, 0.0099, 0.0101)
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


def pictured(*names: str) -> Report:
    """A report of layers with all that pictures show."""
    layers = [solved(name, error_holdout=0.02 * (k + 1)) for k, name in enumerate(names)]
    parts = tuple(LayerCost((name,), {"logits": 0.01 * (k + 1)}) for k, name in enumerate(names))
    costs = LayerCosts(parts, (CostSum("logits", 0.2, 0.14),), 256)
    bounds = tuple(LayerBound(name, 0.05, 0.08, 12.3, 5.0, 1200, 3400, 15000) for name in names)
    values = OutputValues("logits", (-1.0, 0.5, 2.0), (-0.9, 0.5, 1.9))
    files = (FileFacts("model", "dense.onnx", 2_552_345, "ab" * 32),)
    return whole(
        *layers,
        comparison=comparison(values=(values,)),
        certificate=Certificate((OutputBound("logits", 7.5, 0.9),), bounds, costs),
        curves=tuple(ErrorCurve(name, (0.0, 0.5, 0.9), (1e-7, 0.01, 0.1)) for name in names),
        histograms=tuple(Histogram(name, -0.2, 0.2, (1, 9, 1), (1, 0, 2)) for name in names),
        latency=(BatchTiming(1, (EVEN, EVEN), (Estimate(0.5, 0.49, 0.51),), 50),),
        forms=(FileForm("plain", 100, 90, None, written=True), FileForm("compact", 80, 70, None)),
        provenance=Provenance(files, {"nettrim": "0.1.0"}, "Linux x86_64", "2026-11-30T08:00:00Z"),
    )


def node(name: str, refusal: str = "", shape: tuple[int, int] = (300, 100)) -> Layer:
    size = shape if any(shape) else (8, 1, 3, 3)
    follows = Response(follows="BatchNormalization, Relu")
    sites = (Site(0, Geometry("Gemm"), {"x": "x"}, "y"),)
    blocks = (shape,) if any(shape) else ()
    reason = Reason("unsupported", refusal) if refusal else NO_REASON
    return Layer(name, "Gemm", size, sites, blocks, True, "float32", follows, refusal=reason)


def summary(*layers: Layer, parameters: int = 60_000, **changes: Any) -> ModelSummary:
    """What is told of a model with these layers, of which fc1 has half of its weights."""
    halves = {"fc1": 15_000}
    facts = tuple(layer_facts(layer, halves.get(layer.name)) for layer in layers)
    return ModelSummary("m.onnx", facts, layer_totals(facts, parameters), **changes)
