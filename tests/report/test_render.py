"""Reports in every format and on the screen: right numbers, unbroken by odd names."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from nettrim_cli.report import formatting
from nettrim_cli.report.comparison_result import OutputFacts
from nettrim_cli.report.layer_listing import show_summary
from nettrim_cli.report.model_summary import TensorFacts, layer_facts
from nettrim_cli.report.result import Report, Round, Target
from nettrim_cli.report.terminal import console_for_stdout, show_comparison, show_report
from tests.support.effort import examples
from tests.support.reports import (
    ODD,
    comparison,
    dense,
    few,
    node,
    screen,
    shown,
    solved,
    strict,
    summary,
    whole,
)

WIDTHS = (60, 80, 120, 200)


# --------------------------------------------------------------------------------- screen


def test_report_shows_the_numbers() -> None:
    stuck = solved("fc2", status="max-iterations", error_holdout=None, nonzeros_after=20_000)
    text = shown(whole(solved("fc1"), stuck, dense("fc3", "excluded by [x]"), warnings=few("few")))
    lines = [" ".join(each.split()) for each in text.splitlines()]
    assert "fc1 Gemm 300 x 1000 0.0 90.0 8.12 12.44 1,600 212 3.2 solved" in lines
    assert "fc2 Gemm 300 x 1000 0.0 93.3 8.12 – 1,600 212 3.2 max-iter" in lines
    assert "fc3 Conv 10 x 10 4.0 left dense: excluded by [x]" in lines
    assert "non-zeros 600,000 → 50,000 91.7 % sparsity" in lines
    assert "layers pruned 2 of 3, in 18.4 s" in lines
    assert "gzipped 2.36 MB → 401 kB 5.9 times smaller" in lines
    assert "0.25 points lost, on 400 held-out samples" in text
    assert "output error 14.32 %" in lines
    assert "same top-1 97.25 %" in lines
    assert " ! few" in text
    assert text.endswith("written to pruned.onnx\n")
    assert "gap" not in text
    assert "fitted" not in text


@pytest.mark.parametrize("shape", [shown, lambda report: report.render(".md")])
def test_errors_of_layers_from_before_a_joint_fit_are_told_as_such(shape) -> None:
    text = shape(replace(whole(solved("fc1")), joint_fit=True))
    row = next(line for line in text.splitlines() if "fitted" in line)
    assert "all layers" in row
    assert row.rstrip(" |").endswith("errors are of before")


def test_gap_and_violation_have_columns_only_where_they_are_known() -> None:
    text = shown(whole(solved("fc1"), solved("fc2", gap=0.00123, violation=3e-7)))
    assert "gap %" in text
    assert "viol. %" in text
    assert re.search(r"fc2 .* 0\.12 +3e-05 ", text)
    assert re.search(r"fc1 .* – +– ", text)


def test_nothing_pruned_no_errors_and_nan_are_shown() -> None:
    assert re.search(r"layers pruned +0 +of 1", shown(whole(dense("fc1"))))
    assert "layers pruned" in shown(whole())
    bad = whole(
        solved("fc1", error_calibration=math.nan, error_holdout=math.inf),
        comparison=comparison(outputs=(OutputFacts("a", math.nan), OutputFacts("b", 0.0, 1.0))),
    )
    text = shown(bad)
    assert re.search(r"fc1 .* nan +inf ", text)
    assert re.search(r"output error +nan % +a\n", text)
    assert re.search(r"output error +0 % +b\n", text)
    assert re.search(r"same top-1 +100\.00 % +b\n", text)


def test_a_gain_is_no_loss() -> None:
    better = replace(comparison().candidate, accuracy=0.9)
    text = shown(whole(solved("a"), comparison=comparison(candidate=better)))
    assert "1.24 points gained" in text
    assert "lost" not in text


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("notes", [False, True])
def test_no_line_is_too_long_and_no_name_breaks_the_table(width: int, notes: bool) -> None:
    layers = [solved(n, note=n if notes else "", gap=0.1, violation=0.2) for n in ODD]
    layers += [dense(n, note=n * 3) for n in ODD]
    text = shown(whole(*layers, warnings=few(*ODD)), width)
    lines = text.split("\n")
    assert "\x1b" not in text
    limit = max(
        width, max(cell_len(formatting.clean(word)) for word in " ".join(ODD).split(" ")) + 5
    )
    assert max(cell_len(each) for each in lines) <= limit
    rule = next(k for k, each in enumerate(lines) if each.startswith(" ───"))
    rows = lines[rule + 1 : rule + 1 + len(ODD)]
    column = cell_len(lines[rule - 1]) - len("held-out")
    assert all("90.0" in each and "12.44" in each for each in rows)
    assert len({cell_len(each[: each.index("12.44")]) for each in rows}) == 1
    assert column > 0
    assert max(cell_len(each) for each in lines[: rule + 1 + len(ODD)]) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_columns_go_by_importance(width: int) -> None:
    text = shown(whole(solved("fc1"), dense("fc2")), width)
    head = next(each for each in text.splitlines() if each.startswith(" layer")).split()
    assert {"layer", "shape", "before", "after", "calib", "held-out", "status"} <= set(head)
    assert ("iter" in head, "op" in head) == (width >= 80, width >= 80)
    assert ("columns" in head) == (width >= 120)


def test_the_written_path_stays_in_one_piece() -> None:
    path = "/tmp/my  models/" + "deep [x]/" * 20 + "out.onnx"
    console = screen(60)
    show_report(whole(solved("a")), console, path)
    assert console.file.getvalue().endswith(f"\n written to {path}\n")  # type: ignore[attr-defined]


def test_long_names_stay_apart() -> None:
    names = [
        f"/encoder/layer.{k}/attention/self/{q}/MatMul" for k in "01" for q in ("key", "query")
    ]
    text = shown(whole(*(solved(each) for each in names)), 80)
    firsts = [each.split()[0] for each in text.splitlines() if each.startswith(" /enc")]
    assert len(set(firsts)) == 4
    assert all("…" in each for each in firsts)


def test_colours_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    report = whole(solved("a"), dense("b"))
    assert "\x1b" not in shown(report)
    console = screen(80, force_terminal=True, color_system="standard")
    show_report(report, console)
    coloured = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[32msolved" in coloured
    assert not {"33", "37", "93", "97"} & set(re.findall(r"(?<=[\[;])\d+(?=[;m])", coloured))
    plain = screen(80, force_terminal=True, color_system="standard", no_color=True)
    show_report(report, plain)
    assert "\x1b[32m" not in plain.file.getvalue()  # type: ignore[attr-defined]


def test_a_stream_without_unicode_gets_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=stream, width=80)
    show_report(whole(*(solved(each) for each in ODD)), console)
    stream.flush()
    assert re.search(rb"2,700,000 > +270,000", stream.buffer.getvalue())  # type: ignore[attr-defined]


def test_stdout_console_is_wide_and_plain_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for each in ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(each, raising=False)
    console = console_for_stdout()
    assert (console.width, console.is_terminal) == (120, False)
    show_report(whole(solved("a")), console)
    assert capsys.readouterr().out == shown(whole(solved("a")))
    monkeypatch.setenv("COLUMNS", "90")
    assert console_for_stdout().width == 90


def test_a_reader_that_leaves_early_does_not_change_the_exit_code() -> None:
    code = (
        "import sys; from nettrim_cli.report.layer_listing import show_summary\n"
        "from nettrim_cli.report.model_summary import ModelSummary, layer_totals\n"
        "from nettrim_cli.report.terminal import console_for_stdout; c = console_for_stdout()\n"
        "sys.stdin.read()\nshow_summary(ModelSummary('m', (), layer_totals((), 0)), c)\n"
        "sys.exit(3)"
    )
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **streams) as process:  # type: ignore[call-overload]
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 3


def test_rich_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, nettrim_cli.report.layer_listing, nettrim_cli.report.saving\n"
    code += "import nettrim_cli.report.progress, nettrim_cli.report.terminal\n"
    code += "sys.exit(sum(each in sys.modules for each in ('rich', 'numpy', 'onnx')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_comparison_puts_both_models_side_by_side(width: int) -> None:
    outputs = (OutputFacts("logits [x]", 0.1432, 0.9725), OutputFacts("hidden", 0.0001))
    console = screen(width)
    show_comparison(comparison(outputs=outputs, samples=10_000), console)
    lines = [" ".join(each.split()) for each in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert "reference dense.onnx" in lines
    assert "candidate pruned.onnx" in lines
    assert "parameters 637,610 → 637,610 same number" in lines
    assert "non-zeros 637,600 → 58,123 <0.1 → 90.9 % sparsity" in lines
    assert "output error 14.32 % logits [x]" in lines
    assert "output error 0.01 % hidden" in lines
    assert "same top-1 97.25 % logits [x]" in lines
    accuracy = next(each for each in lines if each.startswith("accuracy"))
    assert accuracy.startswith("accuracy 88.76 % → 88.51 % 0.25 points lost")
    assert "10,000" in " ".join(lines)


def test_comparison_without_labels_names_the_samples_once() -> None:
    blind = comparison(
        reference=replace(comparison().reference, accuracy=None),
        candidate=replace(comparison().candidate, accuracy=None),
    )
    console = screen()
    show_comparison(blind, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "accuracy" not in text
    assert re.search(r"output error +14\.32 % +on 400 samples\n", text)


@pytest.mark.parametrize("width", WIDTHS)
def test_layers_are_listed_with_reasons_and_totals(width: int) -> None:
    layers = [node("fc1"), node("odd [/]\n", "the weight is shared"), node("g", "no shape", (0, 0))]
    console = screen(width)
    show_summary(replace(summary(*layers), path="m[/].onnx"), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(each.split()) for each in text.splitlines()]
    assert lines[0] == "m[/].onnx"
    row = next(each for each in lines if each.startswith("fc1"))
    assert "300 x 100 30,000 50.0" in row
    assert ("BatchNormalization," in row) == (width >= 80)
    assert "no: the weight is shared" in " ".join(text.split())
    assert "odd [/]\\n" in text
    assert "weights 30,000 prunable, 50.0 % of all parameters" in lines
    assert max(map(len, text.splitlines())) <= width


def test_depthwise_layers_are_told_apart_as_they_are_left_dense_unless_named() -> None:
    layers = [node("fc1"), replace(node("dw"), depthwise=True), node("g", "no shape", (0, 0))]
    console = screen()
    show_summary(summary(*layers), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(each.split()) for each in text.splitlines()]
    assert next("if named by --include" in each for each in lines if each.startswith("dw"))
    assert " yes " in next(each for each in lines if each.startswith("fc1"))
    assert "prunable 2 1 of them only if --include names them" in lines
    held = summary(*layers).as_dict()
    assert [each["depthwise"] for each in held["layers"]] == [False, True, False]


def test_layers_as_dict_counts() -> None:
    layers = [node("fc1"), node("g", "no shape", (0, 0))]
    held = strict(summary(*layers, parameters=30_072).render(".json"))
    assert held["totals"] == {
        "layers": 2,
        "parameters": 30_072,
        "prunable_layers": 1,
        "prunable_share": 30_000 / 30_072,
        "prunable_weights": 30_000,
    }
    assert held["layers"][0]["sparsity"] == 0.5
    assert held["layers"][1]["sparsity"] is None
    assert [layer["refusal"] for layer in held["layers"]] == ["", "no shape"]
    assert [layer["reason"] for layer in held["layers"]] == ["", "unsupported"]
    assert summary(parameters=0).as_dict()["totals"]["prunable_share"] == 0.0


@pytest.mark.parametrize("width", WIDTHS)
def test_inputs_outputs_and_costs_are_told(width: int) -> None:
    inputs = (
        TensorFacts("x [/]", "float32", ("N", 3, None, 8), ("samples", 3, None, 8)),
        TensorFacts("any", "float32", None, ()),
    )
    outputs = (TensorFacts("y", "int64", (None,)),)
    told = summary(node("fc1"), inputs=inputs, outputs=outputs)
    console = screen(width)
    show_summary(told, console)
    lines = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    shape = "x [/] N x 3 x ? x 8 float32"
    assert f"input {shape} samples x 3 x ? x 8" in lines or (width < 70)
    assert any(line.startswith("output y ?") for line in lines)
    assert not any("output error" in line for line in lines)
    assert any("--preset imagenet --input 'x [/]' -o calib.h5" in line for line in lines)
    layers = (layer_facts(node("fc1"), 15_000, (0.01, 0.02, 0.3)),)
    console = screen(max(width, 80))
    show_summary(replace(told, layers=layers, notes=("doubt",)), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1.00  2.00  30.00" in text
    assert "! doubt" in text
    assert "h5py" not in text  # who has samples needs no advice on them
    held = strict(replace(told, layers=layers).render(".json"))
    assert [cost["error"] for cost in held["layers"][0]["costs"]] == [0.01, 0.02, 0.3]
    assert held["inputs"][0]["dataset"] == ["samples", 3, None, 8]
    assert held["outputs"] == [{"name": "y", "dtype": "int64", "shape": [None], "dataset": None}]


# ---------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (formatting.percent(0.9), "90.0"),
        (formatting.percent(0.99999), ">99.9"),
        (formatting.percent(0.999999, 2), ">99.99"),
        (formatting.percent(1e-6), "<0.1"),
        (formatting.percent(-1e-9), "0.0"),
        (formatting.percent(None), "–"),
        (formatting.error(0.0812), "8.12"),
        (formatting.error(123.456), "12,346"),
        (formatting.error(3e-7), "3e-05"),
        (formatting.error(0.0), "0"),
        (formatting.size(999), "999 B"),
        (formatting.size(999_499), "999 kB"),
        (formatting.size(999_700), "1.00 MB"),
        (formatting.size(10_000), "10.0 kB"),
        (formatting.size(2**40), "1.10 TB"),
        (formatting.duration(0.4211), "0.42 s"),
        (formatting.duration(59.97), "1 min 00 s"),
        (formatting.duration(3661), "1 h 01 min"),
        (formatting.factor(700, 100), "7.0 times smaller"),
        (formatting.factor(100, 103), "3.0 % larger"),
        (formatting.factor(100, 100), "same size"),
        (formatting.factor(0, 100), ""),
        (formatting.points(0.5, 0.5), "unchanged"),
        (formatting.points(0.5, 0.75), "25.00 points gained"),
        (formatting.points(0.5, None), ""),
    ],
)
def test_words(found: str, wanted: str) -> None:
    assert found == wanted


@examples(100)
@given(st.text("ab/_é深\n\x1b\u200b…", max_size=60), st.integers(3, 40))
def test_shortened_names_fit(name: str, width: int) -> None:
    plain = formatting.clean(name)
    assert plain.isprintable()
    cut = formatting.shorten(plain, width)
    assert cell_len(cut) <= width
    assert cut == plain or "…" in cut


# ---------------------------------------------------------------------- targets and intervals


def squeezed(text: str) -> str:
    return " ".join(text.split())


def searched(name: str, wanted: float, reached: float, bound: float | None, rounds: int) -> Report:
    tries = tuple(Round(0.9 - k / 100, reached, bound) for k in range(rounds))
    return whole(solved("a"), target=Target(name, wanted, reached, bound, 0.9, tries))


@pytest.mark.parametrize(
    ("report", "words_shown"),
    [
        (
            searched("max_error", 0.05, 0.0487, None, 2),
            "max error 5.00 % reached 4.87 %, in 2 rounds",
        ),
        (
            searched("max_bytes", 500_000, 498_765, None, 1),
            "max bytes 500 kB reached 499 kB, in 1 round",
        ),
        (
            searched("max_drop", 0.005, -0.0025, 0.0048, 3),
            "max drop 0.50 % reached -0.25 %, in 3 rounds",
        ),
    ],
    ids=["error", "bytes", "drop"],
)
def test_a_target_is_told_with_what_was_reached(report, words_shown) -> None:
    assert words_shown in squeezed(shown(report))
    cells = (
        words_shown.split("%", 1)[1] if "%" in words_shown[:20] else words_shown.split("kB", 1)[1]
    )
    assert cells.strip() in squeezed(report.render(".md"))
    held = strict(report.render(".json"))["target"]
    assert held["reached"] == report.target.reached
    assert len(held["rounds"]) == len(report.target.rounds)


def test_no_target_is_told_where_none_was_searched_for() -> None:
    assert strict(whole(solved("a")).render(".json"))["target"] is None
    assert "max " not in shown(whole(solved("a")))


def test_intervals_and_margins_are_told_beside_their_figures() -> None:
    output = OutputFacts("logits", 0.1, 0.9725, (0.95123, 0.98765), 5.1234, 0.4321)
    report = whole(
        solved("a"),
        comparison=comparison(outputs=(output,), accuracy_drop_interval=(-0.01, 0.0155)),
    )
    text = squeezed(shown(report))
    assert "0.25 points lost (95 %: -1.00 to 1.55), on 400 held-out samples" in text
    assert "95 %: 95.12 to 98.77; changed ones had a margin of 0.432, all of 5.12" in text


def test_the_interval_of_a_gain_is_told_as_one() -> None:
    assert (
        formatting.points(0.8, 0.81, (-0.02, 0.005)) == "1.00 points gained (95 %: -0.50 to 2.00)"
    )
    assert formatting.points(0.8, 0.8, (-0.02, 0.005)) == "unchanged (95 %: -2.00 to 0.50)"
    assert formatting.points(0.8, 0.79, None) == "1.00 points lost"
    assert formatting.margins(1.0, None) == formatting.margins(None, None) == ""
