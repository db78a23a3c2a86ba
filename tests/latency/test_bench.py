"""``nettrim bench``: what it prints and writes, and with which exit code it ends."""

from __future__ import annotations

import csv
import json
import os
import re

import numpy as np
import onnx
import pytest

from nettrim_cli import bench
from nettrim_cli.cli import run
from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph.model import Model
from nettrim_cli.latency import bench as bench_module
from nettrim_cli.latency.bench import noise
from nettrim_cli.latency.footprint import peak_memory
from nettrim_cli.latency.measure import latency, latency_ratio
from nettrim_cli.latency.timing import Patience
from nettrim_cli.report.bench_result import Estimate
from nettrim_cli.settings import BenchSettings
from tests.support.networks import mlp, save_model
from tests.support.options import FAST
from tests.support.small import build
from tests.support.timers import about, hurry, timed

AT_ONCE = Patience(seconds=0.0)


@pytest.fixture
def pair(files, monkeypatch):
    """Two models that answer alike, benched without any patience."""
    hurry(monkeypatch)
    monkeypatch.setattr(bench_module, "peak_memory", lambda paths, *_: [None for _ in paths])
    return [str(files.model), str(save_model(files.folder / "other.onnx", mlp(seed=3)))]


def told(capsys) -> str:
    return " ".join("".join(capsys.readouterr()).split())


def test_models_are_timed_on_made_inputs(pair, capsys) -> None:
    assert run(["bench", *pair, "--seconds", "0.1", "--batch", "1", "--batch", "4"]) == 0
    out = told(capsys)
    assert out.count("ratio") >= 2
    assert "x (batch x 16, float32): standard normal." in out
    assert "op types at batch 4" in out
    assert "1 thread" in out


def test_samples_of_a_file_are_read_as_by_compare(pair, files, capsys) -> None:
    assert run(["bench", *pair, "--seconds", "0.1", "--data", str(files.data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["inputs"] == [f"the first samples of {files.data}"]
    assert [model["name"] for model in report["models"]] == ["model.onnx", "other.onnx"]
    assert report["passed"] is None
    (timing,) = report["batches"]
    assert len(timing["latencies"]) == 2
    assert len(timing["ratios"]) == 1


def test_one_model_alone_has_a_latency(pair, capsys) -> None:
    assert run(["bench", pair[0], "--seconds", "0.1"]) == 0
    assert "latency" in capsys.readouterr().out


def test_reports_in_every_format(pair, files, capsys) -> None:
    paths = [files.folder / f"bench{suffix}" for suffix in (".json", ".md", ".csv")]
    words = [word for path in paths for word in ("--report", str(path))]
    assert run(["bench", *pair, "--seconds", "0.1", "--batch", "2", *words]) == 0
    facts = json.loads(paths[0].read_text("utf-8"))
    assert facts["batches"][0]["size"] == 2
    assert "## nettrim bench" in paths[1].read_text("utf-8")
    rows = list(csv.DictReader(paths[2].read_text("utf-8").splitlines()))
    assert [row["model"] for row in rows] == pair
    assert float(rows[1]["ratio"]) == facts["batches"][0]["ratios"][0]["median"]
    assert rows[0]["ratio"] == ""
    assert run(["bench", *pair, "--report", str(paths[0])]) == 73  # never without --force


@pytest.mark.parametrize(
    ("ratios", "code", "message"),
    [
        ((0.7,), 0, ""),
        ((0.9,), 3, "other.onnx: ratio 0.900 .*above --max-latency-ratio 0.8"),
        ((0.8,), 65, "cannot be checked: other.onnx: .*on both sides of .*--seconds"),
        ((0.7, 0.9), 3, "0.900 .* at batch 64, above"),
        ((0.8, 0.9), 3, "0.900 .* at batch 64, above"),
    ],
)
def test_a_limit_decides_by_the_interval(
    pair, capsys, monkeypatch, files, ratios, code, message
) -> None:
    timings = [timed(about(r), size=64 if k else 1) for k, r in enumerate(ratios)]
    monkeypatch.setattr(bench_module, "time_batches", lambda *_, **__: timings)
    sizes = [word for timing in timings for word in ("--batch", str(timing.size))]
    report = files.folder / "gate.md"
    options = ["--max-latency-ratio", "0.8", "--report", str(report)]
    assert run(["bench", *pair, *sizes, *options]) == code
    out, err = capsys.readouterr()
    assert re.search(message, err)
    word = {0: "passed", 3: "failed", 65: "unsure"}[code]
    assert out.lstrip().startswith(word)
    assert f"**{word.title()}: other.onnx" in report.read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "0"], "'--batch'"),
        (["--shape", "x"], "'x' is no shape; write NAME=SIZES"),
        (["--shape", "x=1x0"], "is no shape"),
        (["--max-latency-ratio", "0"], "--max-latency-ratio"),
        (["--threads", "0"], "--threads"),
        (["--seconds", "soon"], "'soon' is no time"),
        (["--shape", "x=1x16", "--data", "calib.h5"], "--shape is for inputs that are made"),
        (["--report", "r.txt"], "suffix"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_exits_2(pair, capsys, options, message) -> None:
    assert run(["bench", *pair, *options]) == 2
    assert message in told(capsys)


def test_a_limit_needs_something_to_compare(pair, capsys) -> None:
    assert run(["bench", pair[0], "--max-latency-ratio", "0.8"]) == 2
    assert "name two or more" in told(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("g (float[N,16] z) => (float[N,16] y) { y = Relu(z) }", "its inputs are z, those of"),
        (
            "g (double[N,16] x) => (double[N,16] y) { y = Relu(x) }",
            "is float64 with 2 axes, that of",
        ),
    ],
)
def test_models_take_the_same_inputs(pair, files, capsys, text, message) -> None:
    other = save_model(files.folder / "other.onnx", build(text))
    assert run(["bench", pair[0], str(other)]) == 65
    assert message in told(capsys)


def test_a_file_that_is_missing_is_told(pair, capsys) -> None:
    assert run(["bench", pair[0], "none.onnx"]) == 66
    assert "none.onnx" in told(capsys)


def test_a_model_that_does_not_run_is_named(pair, files, capsys) -> None:
    text = "g (float[N,16] x) => (float[N,4] y) { y = Reshape(x, s) }"
    other = save_model(files.folder / "other.onnx", build(text, s=np.array([-1, 5])))
    assert run(["bench", pair[0], str(other), "--seconds", "0.1"]) == 69
    assert f"{other}: onnxruntime cannot run the model" in told(capsys)


def test_a_batch_that_a_model_does_not_take_is_told(pair, files, capsys) -> None:
    text = "g (float[2,16] x) => (float[2,16] y) { y = Relu(x) }"
    other = save_model(files.folder / "other.onnx", build(text))
    assert run(["bench", pair[0], str(other), "--batch", "8"]) == 69
    assert "input 'x' has a fixed size of 2 on axis 0, and 8 were fed" in told(capsys)


def test_prune_tells_the_latency_before_and_after(files, capsys, monkeypatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(bench_module, "REPORTED", AT_ONCE)
    report = files.folder / "report.json"
    command = ["prune", str(files.model), "--data", str(files.data), *FAST]
    assert run([*command, "--bench", "--report", str(report)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[1:8] == "latency"]
    assert len(lines) == 2
    assert all(" ms → " in line and "ratio" in line for line in lines)
    timings = json.loads(report.read_text("utf-8"))["latency"]
    assert [timing["size"] for timing in timings] == [1, 64]
    assert run([*command, "--force"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line[1:8] == "latency")
    assert "not timed" in line


def test_noise_is_told() -> None:
    assert noise([timed(about(0.5, 0.01))], ["a", "b"]) == []
    doubtful = timed(about(0.9), Estimate(0.5, 0.4, 0.6), size=64)
    (text,) = noise([timed(about(0.9), about(0.5)), doubtful], ["a", "b", "c"])
    assert "40 and 40 rounds are too few: the ratio of c is known to 20 % only at batch 64." in text
    (text,) = noise([timed(Estimate(0.5, 0, np.inf))], ["a", "b"])
    assert "the ratio of b is not known" in text


def test_a_library_times_models_in_memory_and_files(files, monkeypatch) -> None:
    hurry(monkeypatch)
    model = Model.load(files.model)
    batches = [Batch({"x": np.ones((size, 16), np.float32)}, size, None) for size in (1, 3)]
    timings = latency_ratio([model, model.runnable(), files.model], batches, 1, AT_ONCE)
    assert [timing.size for timing in timings] == [1, 3]
    assert [len(timing.ratios) for timing in timings] == [2, 2]
    assert latency(model, batches[0].feeds, 1, AT_ONCE).median > 0
    result = bench([files.model], settings=BenchSettings(seconds=0.1))
    assert result.models[0].bytes_raw == os.stat(files.model).st_size


@pytest.mark.slow
def test_the_peak_memory_of_a_large_model_is_larger(tmp_path) -> None:
    sizes = {"small": 8, "large": 3000}
    paths = []
    for name, size in sizes.items():
        text = f"g (float[N,8] x) => (float[N,{size}] y) {{ h = MatMul(x, v) y = MatMul(h, w) }}"
        weights = {"v": np.ones((8, size)), "w": np.ones((size, size))}
        proto = build(text, **{key: w.astype(np.float32) for key, w in weights.items()})
        onnx.save(proto, tmp_path / f"{name}.onnx")
        paths.append(tmp_path / f"{name}.onnx")
    small, large = peak_memory([*paths], {"x": np.ones((1, 8), np.float32)}, 1)
    if large is None or small is None:
        pytest.skip("the system does not tell")
    assert large - small > 3000 * 3000 * 4


def test_memory_that_cannot_be_measured_is_left_out(tmp_path) -> None:
    assert peak_memory([tmp_path / "none.onnx"], {}, 1) == [None]
