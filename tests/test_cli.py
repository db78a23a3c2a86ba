"""The command line: what goes to stdout, what to stderr, which files, which exit codes."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from nettrim_cli import __version__, pipeline
from nettrim_cli.cli import run
from nettrim_cli.errors import DiskFailed
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning import context as run_module
from nettrim_cli.report.result import Report
from nettrim_cli.settings import Settings
from tests.support import forked
from tests.support.effort import thinned
from tests.support.options import FAST, PATIENCE, PLAIN, words
from tests.support.small import build

ROOT = Path(__file__).parents[1]


def prune(files, *options: object) -> int:
    return run(["prune", str(files.model), "--data", str(files.data), *FAST, *map(str, options)])


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "nettrim_cli", *map(str, arguments)]


def test_a_run_prints_a_report_and_nothing_on_stderr(files, capsys) -> None:
    assert prune(files) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for layer in Model.load(files.model).layers:
        assert layer.name in out
    assert "written to" in out
    assert "50.0 % sparsity" in out
    assert "720 → 360" in " ".join(out.split())
    assert files.listing == ["calib.h5", "model.onnx", "model.pruned.onnx"]


def test_quiet_says_nothing(files, capsys) -> None:
    assert prune(files, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert files.output.exists()


def test_quiet_still_warns(files, capsys) -> None:
    assert prune(files, "-q", "--samples", 20) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("warning: few samples")
    assert "20 were used" in err
    assert err.count("\n") == 1


def test_verbose_tells_each_layer_on_stderr(files, capsys) -> None:
    assert prune(files, "-v", "--allocate", "network", "--final-fit", "auto") == 0
    out, err = capsys.readouterr()
    stages = [line for line in err.splitlines() if not line.startswith("[")]
    assert "fitting to all 120 samples" in stages
    assert stages[-1] == "writing and checking"
    lines = [line for line in err.splitlines() if line.startswith("[")]
    assert len(lines) == 6  # and once more in the final fit
    for at, (line, layer) in enumerate(zip(lines, Model.load(files.model).layers, strict=False), 1):
        assert line.startswith(f"[{at}/3] {layer.name}: ")
    assert "written to" in out


def test_progress_in_lines_and_a_log(files, capsys) -> None:
    log = files.folder / "run.log"
    assert prune(files, "--progress", "plain", "--log-file", log) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("[") for line in lines) == 3
    assert any(line.startswith("writing") for line in lines)
    written = log.read_text("utf-8").splitlines()
    assert written[0].startswith(f"nettrim {__version__} prune ")
    assert [line.partition("  ")[2] for line in written[1 : len(lines) + 1]] == lines
    assert any("Reached: 50.0 % zeros" in line for line in written)
    assert prune(files, "--force", "--log-file", files.model) == 73
    assert "no log of nettrim" in capsys.readouterr().err


@pytest.mark.parametrize("command_", thinned(["compare", "bench", "data"], 3))
def test_other_commands_tell_what_they_do(files, capsys, command_) -> None:
    rest = {
        "compare": [files.model, files.model, "--data", files.data],
        "bench": [files.model, files.model, "--seconds", "0.1"],
        "data": ["--random", "9", "--model", files.model, "-o", files.folder / "new.h5"],
    }[command_]
    assert run([command_, *map(str, rest), "--progress", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    assert any(event["event"] == "stage" for event in events)
    assert events[0]["text"].startswith(f"nettrim {__version__} {command_} ")


def test_reports_in_every_format(files, capsys) -> None:
    paths = [files.folder / f"report{suffix}" for suffix in (".json", ".md", ".csv", ".html")]
    assert prune(files, *(each for path in paths for each in ("--report", path))) == 0
    written = Model.load(files.output)
    nonzeros = {x.name: int(np.count_nonzero(written.weight(x)[0][0])) for x in written.layers}

    facts = json.loads(paths[0].read_text("utf-8"))
    assert facts["version"] == __version__
    assert {x["name"]: x["nonzeros_after"] for x in facts["layers"]} == nonzeros
    assert facts["sparsity"] == 0.5
    assert facts["weights"] == 720
    assert facts["settings"]["sparsity"] == 0.5
    assert facts["comparison"]["candidate"]["bytes_raw"] == files.output.stat().st_size
    assert facts["comparison"]["reference"]["accuracy"] == 1

    text = paths[1].read_text("utf-8")
    assert text.startswith("## nettrim prune\n\n✅ **Reached: 50.0 % zeros, 50 % asked.")
    for title in ("Layers (3 of 3 pruned)", "Settings"):
        assert f"<summary>{title}</summary>" in text
    assert paths[3].read_text("utf-8").startswith('<!DOCTYPE html>\n<html lang="en"><head>')

    rows = list(csv.DictReader(paths[2].read_text("utf-8").splitlines()))
    assert {row["name"]: int(row["nonzeros_after"]) for row in rows} == nonzeros
    for row, layer in zip(rows, facts["layers"], strict=True):
        assert float(row["error_holdout"]) == pytest.approx(layer["error_holdout"])
    assert "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--no-such-option"],
        ["--epsilon", "0.1"],
        ["--sparsity", "1.5"],
        ["--sparsity", "90"],
        ["--sparsity", "100%"],
        ["--max-drop", "1"],
        ["--holdout", "nan"],
        ["--samples", "1"],
        ["--threads", "0"],
        ["--method", "magic"],
        ["--holdout", "1"],
        ["--max-error", "0.1"],
        ["--max-drop", "0"],
        ["--max-bytes", "many"],
        ["--allocate", "fair"],
        ["--limit", "fc4"],
        ["--sweeps", "0"],
        ["--report", "report.txt"],
        ["--report", "report"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_a_hint(files, capsys, options) -> None:
    assert prune(files, *options) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Error: " in err
    assert options[0].lstrip("-") in err
    assert files.listing == ["calib.h5", "model.onnx"]


@pytest.mark.parametrize(
    "options",
    [["--epsilon", "0.1"], ["--sparsity", "0.5", "--method", "net-trim"]],
    ids=["epsilon", "net-trim"],
)
def test_sweeps_that_would_change_nothing_are_wrong_usage(files, capsys, options) -> None:
    given = ["prune", str(files.model), "--data", str(files.data), "--sweeps", "2", *options]
    assert run(given) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "sweeps need method l0 and a target of the whole network" in said
    assert files.listing == ["calib.h5", "model.onnx"]


def test_every_setting_is_an_option_with_help(capsys) -> None:
    assert run(["prune", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for each in (each for each in fields(Settings) if each.metadata["flag"]):
        name = each.name.replace("_", "-")
        assert f"--{name} " in text
        assert each.metadata["help"] in text


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["prune", "-h"], ["compare", "--help"]])
def test_help(arguments, capsys) -> None:
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Usage: nettrim")
    assert err == ""


def test_help_shows_each_command_on_a_line_of_its_own(capsys) -> None:
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for start in ("prune model.onnx --data", "data photographs", "compare model.onnx"):
        assert any(line.strip().startswith(f"nettrim {start}") for line in lines)


def test_options_stand_under_headings_and_examples_at_the_end(capsys) -> None:
    assert run(["prune", "--help"]) == 0
    text = capsys.readouterr().out
    headings = re.findall(r"^(\w[\w ()]*):$", text, re.MULTILINE)
    assert headings == [
        *("Target (give one)", "Samples", "What may change", "Method", "Output", "Run"),
        "Examples",
    ]
    assert re.search(r"Target \(give one\):\n  --max-drop D", text)
    assert "Sentinel" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_version(capsys) -> None:
    assert run(["--version"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"nettrim {__version__} (Python ")
    assert f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__})" in told


def test_inspect_lists_the_layers(files, capsys) -> None:
    assert run(["inspect", str(files.model)]) == 0
    text = capsys.readouterr().out
    assert "16 x 24" in text
    assert "Relu" in text
    assert run(["inspect", str(files.model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["totals"]["prunable_weights"] == 720
    assert [each["shape"] for each in facts["layers"]] == [[16, 24], [24, 12], [12, 4]]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130),
        (DiskFailed("full"), 74),
        (MemoryError(), 71),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("place", ["certificate_of", "render"])
def test_what_ends_a_run_after_the_output_says_that_it_stands(
    files, capsys, monkeypatch, error, code, place
) -> None:
    def ended(*_: object, **__: object) -> None:
        raise error

    if place == "certificate_of":
        monkeypatch.setattr(pipeline, "certificate_of", ended)
    else:
        monkeypatch.setattr(Report, "render", ended)
    report = files.folder / "report.json"
    assert prune(files, "--report", report) == code
    err = capsys.readouterr().err
    assert f"{files.output} was written, its report was not" in err
    assert "nothing was written" not in err
    assert not report.exists()
    assert len(Model.load(files.output).layers) == 3


def test_a_report_is_no_other_name_of_the_output(files, capsys) -> None:
    link = files.folder / "link.json"
    link.symlink_to(files.output)
    assert prune(files, "--report", link, "--force") == 2
    assert "a file of its own" in capsys.readouterr().err
    twice = files.folder / "sub" / ".." / "r.json"
    (files.folder / "sub").mkdir()
    assert prune(files, "--report", files.folder / "r.json", "--report", twice) == 2


def test_compare_measures_and_gates(files, capsys) -> None:
    assert prune(files) == 0
    capsys.readouterr()
    words = ["compare", str(files.model), str(files.output), "--data", str(files.data)]
    assert run(words) == 0
    assert "accuracy" in capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["samples"] == 120
    error, drop = facts["error"], facts["drop"]
    assert run([*words, "--max-error", str(error * 1.01), "--max-drop", str(drop + 1e-6)]) == 0
    capsys.readouterr()
    assert run([*words, "--max-error", str(error * 0.99)]) == 3
    out, err = capsys.readouterr()
    assert "output error" in out
    assert "--max-error" in err


@pytest.fixture
def gate(files, capsys):
    """The words of a comparison of a model with one pruned from it."""
    assert prune(files) == 0
    capsys.readouterr()
    return ["compare", str(files.model), str(files.output), "--data", str(files.data)]


@pytest.mark.parametrize(
    ("limit", "shown", "both"),
    thinned(
        [
            ("0.01%", [], True),
            ("0.01%", ["--json"], False),
            ("90%", ["--json"], True),
            ("90%", [], False),
        ],
        3,
    ),
)
def test_a_reader_that_leaves_changes_nothing_of_what_was_decided(gate, limit, shown, both) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = command(*gate, "--certificate", "none", "--max-error", limit, *shown)
    stderr = writer if both else subprocess.PIPE
    ended = forked.run(line, stdout=writer, stderr=stderr, timeout=PATIENCE)
    os.close(writer)
    missed = limit == "0.01%"
    assert ended.returncode == (3 if missed else 0)
    if not both:
        assert ended.stderr.count(b"\n") == missed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(("limit", "code"), [("0.01%", 3), ("90%", 74)])
def test_a_full_disk_under_stdout_changes_no_missed_limit(gate, limit, code) -> None:
    with open("/dev/full", "w") as full:
        line = command(*gate, "--certificate", "none", "--max-error", limit)
        ended = forked.run(line, stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE)
    assert ended.returncode == code
    assert ended.stderr.count(b"\n") == 1


def test_the_verdict_stands_first_with_figure_and_limit(gate, capsys) -> None:
    limits = ["--max-error", "90%", "--max-drop", "0.5", "--confidence", "95%"]
    assert run([*gate, *limits]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert first.strip().startswith("passed  error of output")
    assert "within --max-error 90 %, on 120 samples" in first
    assert "on new samples at most" in second
    assert third.strip().startswith("passed  accuracy lost:")
    assert run([*gate, *limits, "--max-error", "0.1%"]) == 3
    out, err = capsys.readouterr()
    assert out.strip().startswith("failed  error of output")
    assert "above --max-error 0.1 %" in out.splitlines()[0]
    assert "above --max-error 0.1 %" in err


@pytest.mark.parametrize(("limit", "code"), [("90%", 0), ("0.1%", 3)])
def test_reports_of_a_comparison_are_written_whatever_came_out(
    files, gate, capsys, limit, code
) -> None:
    paths = [files.folder / f"gate{suffix}" for suffix in (".json", ".md")]
    options = [each for path in paths for each in ("--report", str(path))]
    words = [*gate, "--certificate", "none", "--max-error", limit, *options]
    assert run(words) == code
    facts = json.loads(paths[0].read_text("utf-8"))
    (check,) = facts["checks"]
    assert facts["passed"] == check["passed"] == (code == 0)
    assert check["limit"] == pytest.approx(float(limit[:-1]) / 100)
    assert check["figure"] == facts["error"]
    text = paths[1].read_text("utf-8")
    status = "❌ **Failed" if code else "✅ **Passed"
    assert text.startswith(f"## nettrim compare\n\n{status}: error of output")
    assert f"--max-error {limit[:-1]} %" in text
    assert run(words) == 73  # they exist
    assert run([*words, "--force"]) == code
    capsys.readouterr()
    for wrong in ("x.pdf", "x.txt"):
        assert run([*gate, "--report", wrong]) == 2
    assert run([*gate, "--report", str(files.data.with_suffix(".json"))]) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--confidence", "95%"],
        ["--max-drop", "1%", "--confidence", "95"],
        ["--max-drop", "1%", "--confidence", "0.5"],
        ["--max-drop", "1"],
        ["--max-drop", "nan"],
        ["--max-error", "5"],
        ["--max-error", "-1%"],
    ],
    ids=" ".join,
)
def test_limits_that_make_no_sense_are_wrong_usage(capsys, options) -> None:
    assert run(["compare", "a.onnx", "b.onnx", "--data", "c.npz", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert options[-2] in err


def test_points_are_told_from_shares(capsys) -> None:
    assert run(["compare", "a", "b", "--data", "c", "--max-drop", "1"]) == 2
    assert "one point" in (err := capsys.readouterr().err)
    assert "0.01 or 1%" in err
    assert run(["prune", "a", "--data", "c", "--sparsity", "70"]) == 2
    assert "0.7 or 70%" in capsys.readouterr().err


@pytest.mark.parametrize("command_", ["compare", "prune"])
def test_a_limit_that_cannot_be_checked_is_no_missed_one(tmp_path, capsys, command_) -> None:
    """Of a detector that finds nothing there is no error, and no answer to count."""
    text = """g (float[N,3] x) => (float[M,3] y) {
        h = MatMul(x, w)
        s = ReduceSum<keepdims = 0>(h, a)
        most = Constant<value_float = 1e9>()
        c = Greater(s, most)
        y = Compress<axis = 0>(h, c)
    }"""
    weights = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    model, data = tmp_path / "model.onnx", tmp_path / "x.npy"
    onnx.save(build(text, w=weights, a=np.array([1])), model)
    np.save(data, np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32))
    models = [str(model)] if command_ == "prune" else [str(model)] * 2
    for option in ("--max-error", "--max-drop"):
        assert run([command_, *models, "--data", str(data), option, "1%"]) == 65
        out, err = capsys.readouterr()
        assert out == ""
        assert option in err
    assert sorted(tmp_path.iterdir()) == [model, data]


@pytest.mark.parametrize(
    "options", thinned([["--max-bytes", "100"], ["--max-error", "1e-9"], ["--max-drop", "1e-9"]], 3)
)
def test_reports_are_written_where_nothing_meets_the_target(files, capsys, options) -> None:
    paths = [files.folder / f"report{suffix}" for suffix in (".json", ".md", ".csv")]
    reports = [each for path in paths for each in ("--report", str(path))]
    words = ["prune", str(files.model), "--data", str(files.data), *options, *reports]
    assert run(words) == 3
    err = capsys.readouterr().err
    assert not files.output.exists()
    facts = json.loads(paths[0].read_text("utf-8"))
    assert facts["missed"].startswith(str(files.model))
    assert facts["missed"] in err
    assert facts["target"]["met"] is False
    assert facts["target"]["reached"] in [each["reached"] for each in facts["target"]["rounds"]]
    assert facts["comparison"]["candidate"]["path"] == ""
    sizes = facts["comparison"]["candidate"]  # with metadata, which the dense model has not
    assert 0 < sizes["bytes_gzip"] < sizes["bytes_raw"] < files.model.stat().st_size + 2000
    text = paths[1].read_text("utf-8")
    assert text.startswith("## nettrim prune\n\n❌ **Not reached: ")
    assert "nothing written" in text
    rows = list(csv.DictReader(paths[2].read_text("utf-8").splitlines()))
    assert {row["target_met"] for row in rows} == {"False"}


def test_compare_proves_what_can_be_proved(files, capsys) -> None:
    assert prune(files) == 0
    capsys.readouterr()
    words = ["compare", str(files.model), str(files.output), "--data", str(files.data)]
    assert run([*words, "--certificate", "none"]) == 0
    assert "cost" not in capsys.readouterr().out
    assert run([*words, "--certificate", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] is None
    assert run(words) == 0
    assert "by the costs of layers" in capsys.readouterr().out
    assert run([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (bound,) = facts["certificate"]["outputs"]
    assert facts["outputs"][0]["error"] <= bound["bound_measured"] <= bound["bound"]
    assert [each["name"] for each in facts["certificate"]["layers"]] == [
        layer.name for layer in Model.load(files.model).layers
    ]


def test_of_a_model_of_another_make_nothing_is_proved(files, capsys) -> None:
    proto = onnx.load(files.model)
    last = proto.graph.node[-1]
    proto.graph.node.append(onnx.helper.make_node("Identity", ["before"], [last.output[0]]))
    last.output[0] = "before"
    other = files.folder / "other.onnx"
    onnx.save(proto, other)
    assert run(["compare", str(files.model), str(other), "--data", str(files.data), "--json"]) == 0
    certificate = json.loads(capsys.readouterr().out)["certificate"]
    (bound,), (cost_sum,) = certificate["outputs"], certificate["costs"]["sums"]
    assert bound["reason"] == "nothing is proved: the two models have different nodes"
    assert (cost_sum["bound"], cost_sum["error"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (["--max-error", "0.3"], "max error 30.00 % reached"),
        (["--max-drop", "0.25", "--sweeps", "2"], "max drop 25.00 % reached"),
        (["--max-bytes", "3k", "--allocate", "error"], "max bytes 3.00 kB reached"),
        (["--max-error", "0.3", "--limit", "*=0.1:0.6", "--holdout", "0.4"], "max error 30.00 %"),
    ],
)
def test_targets_of_the_whole_network_are_reported(files, capsys, options, target) -> None:
    files_ = [str(files.model), "--data", str(files.data), "-v"]
    assert run(["prune", *files_, *words(PLAIN), *options]) == 0
    out, _ = capsys.readouterr()
    assert target in " ".join(out.split())
    assert files.output.exists()


def test_an_internal_error_is_one_line_and_a_file(files, capsys, monkeypatch, tmp_path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr(run_module, "stages", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ".."))
    assert prune(files) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "ZeroDivisionError" in err
    path = Path(err.split()[-1])
    assert "a secret of ours" in path.read_text("utf-8")
    path.unlink()
    assert files.listing == ["calib.h5", "model.onnx"]


def test_out_of_memory_says_what_to_do(files, capsys, monkeypatch) -> None:
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run_module, "stages", hungry)
    assert prune(files) == 71
    assert "--samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["inspect", "MODEL"], ["inspect", "MODEL", "--json"]]
)
def test_a_closed_pipe_ends_quietly(files, arguments) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    shown = [str(files.model) if each == "MODEL" else each for each in arguments]
    ended = forked.run(command(*shown), stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_under_stdout_is_told(files) -> None:
    with open("/dev/full", "w") as full:
        ended = forked.run(
            command("inspect", files.model), stdout=full, stderr=subprocess.PIPE, timeout=PATIENCE
        )
    assert ended.returncode == 74
    assert ended.stderr.count(b"\n") == 1


def test_a_terminal_shows_progress_and_a_pipe_does_not(files) -> None:
    ended = subprocess.run(
        command("prune", files.model, "--data", files.data, *FAST),
        capture_output=True,
        timeout=PATIENCE,
        cwd=files.folder,
    )
    assert ended.returncode == 0
    assert ended.stderr == b""
    assert b"\x1b" not in ended.stdout


SLOW = ROOT / "sample_models" / "mlp"


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")
@pytest.mark.skipif(not (SLOW / "model.onnx").is_file(), reason="there are no sample models")
@pytest.mark.parametrize(
    ("number", "stage"),
    thinned(
        [
            (signal.SIGINT, "start"),
            (signal.SIGTERM, "first layer"),
            (signal.SIGHUP, "second layer"),
            (signal.SIGINT, "writing"),
            (signal.SIGTERM, "writing"),
        ],
        2,
    ),
    ids=lambda each: getattr(each, "name", each),
)
def test_signals_end_the_run_and_leave_the_old_output(files, tmp_path, number, stage) -> None:
    """Sent in the midst of the work of a real model, or while a small one's file is written."""
    output = tmp_path / "out" / "out.onnx"
    output.parent.mkdir()
    output.write_bytes(b"old")
    model, data = files.model, files.data
    words = ["--force", "-o", str(output), "--threads", "1", "--epsilon", "0.3"]
    log = tmp_path / "run.log"
    words += ["--progress", "none", "--log-file", str(log)]
    if stage != "writing":
        model, data = SLOW / "model.onnx", SLOW / "calib.h5"
        words += ["--samples", "200", "--include", "*fc[34]*"]
    with forked.Popen(
        [sys.executable, "-c", DRIVER, stage, "prune", str(model), "--data", str(data), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert line == b"here\n", err
    assert process.returncode == 128 + number
    assert b"Traceback" not in err
    assert err.strip().count(b"\n") == 0
    assert b"nothing was written" in err
    assert log.read_bytes().splitlines()[-1].endswith(err.strip().removeprefix(b"nettrim: "))
    assert output.read_bytes() == b"old"
    left = [name for name in os.listdir(output.parent) if not name.endswith(".journal")]
    assert left == ["out.onnx"]


# Says "here" at the stage asked for, then goes on, and waits once the file is written.
DRIVER = """
import os, signal, sys, time
from nettrim_cli import cli
from nettrim_cli.report.progress import session

stage = sys.argv.pop(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup

def here():
    print("here", flush=True)

class Told(session.Progress):
    def stage(self, text):
        if stage == "start" and text.startswith("recording"):
            here()
    def begin(self, layer, index, total):
        if (stage, index) in (("first layer", 0), ("second layer", 1)):
            here()

session.Progress = Told
synced = os.fsync

def sync(file):
    synced(file)
    if stage == "writing":
        here()
    time.sleep(600)  # an output would stand: the signal has to come before

os.fsync = sync
cli.main()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of Unix")
def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from nettrim_cli.process.supervisor import run_supervised\n"
        "ignored = lambda: int(signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN)\n"
        "assert run_supervised(ignored) == 0 and ignored() == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)


def test_curve_tells_and_writes_no_model(files, capsys) -> None:
    words = ["curve", files.model, "--data", files.data, "--at", "50%,70%", "--refit", "layers"]
    words += ["--augment", "none", "--threads", "1"]
    report = files.folder / "curve.svg"
    assert run([*map(str, words), "--report", str(report)]) == 0
    printed = capsys.readouterr()
    assert "zeros cost" in printed.out
    assert "try  nettrim prune" in printed.out
    assert files.listing == ["calib.h5", "curve.svg", "model.onnx"]
    assert run([*map(str, words), "--measured", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [point["sparsity"] for point in told["points"]] == [0, 0.5, 0.7]
    assert {point["how"] for point in told["points"][1:]} == {"predicted"}
    assert run([*map(str, words), "--at", "70"]) == 2
    assert "70%" in capsys.readouterr().err
    assert run([*map(str, words), "--report", str(report)]) == 73


def test_inspect_writes_reports(files, capsys) -> None:
    paths = [files.folder / f"layers{suffix}" for suffix in (".json", ".md", ".csv", ".html")]
    words = ["inspect", str(files.model)]
    for path in paths:
        words += ["--report", str(path)]
    assert run(words) == 0
    names = [layer.name for layer in Model.load(files.model).layers]
    assert [layer["name"] for layer in json.loads(paths[0].read_text("utf-8"))["layers"]] == names
    rows = list(csv.DictReader(paths[2].read_text("utf-8").splitlines()))
    assert [row["name"] for row in rows] == names
    for path in (paths[1], paths[3]):
        assert "3 of 3 layers can be pruned" in path.read_text("utf-8")
    capsys.readouterr()
    assert run(words) == 73  # they exist
