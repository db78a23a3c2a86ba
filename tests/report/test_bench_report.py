"""Timings as sentences, tables and files."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from rich.cells import cell_len

from nettrim_cli.report.bench import op_columns, show_bench
from nettrim_cli.report.bench_result import Estimate, LatencyCheck, OpTime, short_names
from nettrim_cli.report.bench_verdict import complaint, outcomes, speed, verdicts
from nettrim_cli.report.formatting import milliseconds
from tests.support.reports import screen
from tests.support.timers import about, benched, timed


def said(*ratios: Estimate, nonzeros: int = 1000) -> str:
    """The sentence on a model with these ratios, each at a larger batch."""
    timings = [timed(ratio, size=10**k) for k, ratio in enumerate(ratios)]
    ((text, _),) = verdicts(benched(*timings, nonzeros=nonzeros))
    return text


@pytest.mark.parametrize(
    ("ratio", "word"),
    [
        (about(0.5), "faster"),
        (about(0.97), "same"),
        (about(1.0), "same"),
        (Estimate(1.01, 0.99, 1.03), "same"),
        (about(1.3), "slower"),
        (Estimate(0.9, 0.7, 1.1), "unclear"),
        (Estimate(1.0, 0.0, math.inf), "unclear"),
    ],
)
def test_a_ratio_with_its_interval_says(ratio, word) -> None:
    assert speed(ratio) == word


def test_a_model_that_is_smaller_on_paper_only_is_told() -> None:
    text = said(Estimate(1.01, 0.99, 1.03), nonzeros=100)
    assert text == (
        "pruned.onnx has 90 % fewer non-zero weights but is not faster than dense.onnx: "
        "ratio 1.01 (0.99 to 1.03)."
    )
    assert "has" not in said(about(0.5), nonzeros=100)
    assert "has" not in said(about(1.0), nonzeros=990)


def test_a_smaller_file_is_told_where_the_weights_are_as_many() -> None:
    bench = benched(timed(about(1.0)), nonzeros=1000)
    small = replace(bench.models[1], bytes_raw=2000)
    ((text, is_faster),) = verdicts(replace(bench, models=(bench.models[0], small)))
    assert text.startswith("pruned.onnx has a file 50 % smaller but is not faster")
    assert not is_faster


def test_models_without_parameters_have_none_to_lose() -> None:
    bench = benched(timed(about(1.0)))
    empty = tuple(replace(model, parameters=0, nonzeros=0) for model in bench.models)
    ((text, _),) = verdicts(replace(bench, models=empty))
    assert text.startswith("pruned.onnx is not faster")


def test_each_batch_size_has_its_ratio() -> None:
    assert said(about(0.5), about(0.25)) == (
        "pruned.onnx is faster than dense.onnx: ratio 0.50 (0.49 to 0.51) at batch 1, "
        "0.250 (0.247 to 0.253) at batch 10."
    )
    text = said(about(1.0), about(0.5), nonzeros=100)
    assert text.startswith("pruned.onnx is not faster than dense.onnx: ratio 1.00")
    assert "; it is faster: ratio 0.50" in text


def checked(*ratios: Estimate, limit: float = 0.8):
    timings = [timed(ratio, size=10**k) for k, ratio in enumerate(ratios)]
    checks = [LatencyCheck("pruned.onnx", t.size, limit, t.ratios[0]) for t in timings]
    return benched(*timings, checks=tuple(checks))


def test_limits_that_are_missed_stand_first() -> None:
    bench = checked(about(0.5), about(0.9), about(0.8))
    assert bench.passed is False
    assert [status for status, _ in outcomes(bench)] == ["failed", "passed", "unsure"]
    assert complaint(bench).count("above --max-latency-ratio 0.8") == 1
    assert "cannot be checked" in complaint(checked(about(0.5), about(0.8)))
    assert checked(about(0.5), about(0.8)).passed is None
    assert checked(about(0.5), about(0.7)).passed is True
    assert complaint(checked(about(0.5))) == ""


def test_names_are_as_long_as_tells_them_apart() -> None:
    assert short_names(["a/model.onnx", "b.onnx"]) == ["model.onnx", "b.onnx"]
    assert short_names(["a/m.onnx", "b/m.onnx"]) == ["a/m.onnx", "b/m.onnx"]
    assert short_names(["x/a/m.onnx", "x/b/m.onnx", "y.onnx"])[:2] == ["a/m.onnx", "b/m.onnx"]
    assert short_names(["m.onnx", "m.onnx"]) == ["m.onnx", "m.onnx"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.234567e-4, "0.123"), (0.00456, "4.56"), (0.0456, "45.6"), (1.5, "1,500"), (0, "0")],
)
def test_milliseconds(seconds, text) -> None:
    assert milliseconds(seconds) == text


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("models", [1, 2, 3])
def test_the_screen_keeps_its_width(width, models) -> None:
    ratios = [about(0.5), about(1.0)][: models - 1]
    ops = tuple(OpTime(f"Op{k}", (1e-5 * (20 - k),) * models, (k,) * models) for k in range(15))
    timings = [replace(timed(*ratios, size=size), ops=ops) for size in (1, 64)]
    bench = benched(*timings, notes=("The machine is busy.",))
    odd = replace(bench.models[-1], name="\x1b[31m深度/層" * 9)
    bench = replace(bench, models=(*bench.models[:-1], odd))
    console = screen(width)
    show_bench(bench, console)
    text = console.file.getvalue()
    assert "\x1b" not in text
    lines = text.splitlines()
    tables = [line for line in lines if "─" in line or "Op1" in line or "MB" in line]
    assert max(cell_len(line) for line in tables) <= width
    assert "7 others" in text
    assert text.count("op types") == 2
    assert "! The machine is busy." in text


def test_a_ratio_of_an_op_stands_where_it_is_surely_not_1() -> None:
    timing = timed(about(0.5))
    sure = OpTime("Gemm", (2e-3, 1e-3), (1, 1), (about(0.5),))
    unsure = OpTime("Conv", (2e-3, 1e-3), (1, 1), (Estimate(0.5, 0.2, 1.2),))
    alone = OpTime("Relu", (0.0, 1e-3), (0, 1), (None,))
    bench = benched(replace(timing, ops=(sure, unsure, alone)))
    (ratio,) = (column for column in op_columns(bench, bench.batches[0]) if column.title == "ratio")
    assert ratio.cells == ["0.50", "", ""]


def test_files_hold_the_figures() -> None:
    bench = checked(about(0.5), Estimate(0.9, 0.0, math.inf))
    facts = json.loads(bench.render(".json"))
    assert [check["passed"] for check in facts["checks"]] == [True, None]
    assert facts["batches"][1]["ratios"][0]["high"] is None
    rows = list(csv.DictReader(io.StringIO(bench.render(".CSV"), newline="")))
    assert [row["batch"] for row in rows] == ["1", "1", "10", "10"]
    assert [row["passed"] for row in rows] == ["", "True", "", ""]
    assert float(rows[1]["ratio_low"]) == 0.495
    text = bench.render(".md")
    assert text.startswith("## nettrim bench\n")
    assert "**Passed: pruned.onnx: ratio 0.500" in text
    assert "| pruned.onnx | 10 |" in text
    assert "unknown" in text
