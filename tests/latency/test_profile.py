"""What op types take, from onnxruntime's profiles."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import pytest

from nettrim_cli.graph.model import Model
from nettrim_cli.latency.profile import Profile, profile_of, profile_ops, side_by_side
from nettrim_cli.report.bench_result import Estimate
from tests.support.networks import attention, mlp, save_model
from tests.support.timers import hurry


def node(op: str, start: int, duration: int) -> dict[str, Any]:
    event = {"cat": "Node", "name": f"/{op}_kernel_time", "ts": start, "dur": duration}
    return {**event, "args": {"op_name": op}}


def run(start: int, duration: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


def seconds(profile: Profile) -> dict[str, list[float]]:
    """Microseconds of each turn."""
    return {op: (1e6 * values).round(3).tolist() for op, values in profile.seconds.items()}


def test_a_turn_has_the_median_of_its_runs_but_for_the_first() -> None:
    events = []
    for number, duration in enumerate([500, 30, 900, 40, 700, 20, 22, 24]):
        start = 1000 * number
        events += [node("Gemm", start, duration), node("Gemm", start + 901, 8)]
        events += [node("Relu", start + 910, 4), run(start, 950)]
    profile = profile_of(events, 4)
    assert seconds(profile) == {"Gemm": [48, 30], "Relu": [4, 4]}
    assert profile.calls == {"Gemm": 2, "Relu": 1}
    assert seconds(profile_of(events, 1))["Gemm"][:3] == [508, 38, 908]


def test_what_nodes_inside_of_a_subgraph_take_counts_once() -> None:
    events = [node("Loop", 0, 100), node("Add", 10, 20), node("Add", 40, 20), run(0, 110)]
    profile = profile_of(events, 1)
    assert seconds(profile) == {"Loop": [60], "Add": [40]}
    assert profile.calls == {"Loop": 1, "Add": 2}


def test_a_profile_without_runs_tells_nothing() -> None:
    assert profile_of([], 1) == Profile({}, {})


def profile(**ops: tuple[float, int]) -> Profile:
    """Six turns that all take so many seconds for so many nodes."""
    values = {op: np.full(6, seconds) for op, (seconds, _) in ops.items()}
    return Profile(values, {op: calls for op, (_, calls) in ops.items()})


def test_what_the_profiler_adds_to_a_node_is_taken_off() -> None:
    profiled = profile(Gemm=(30e-6, 3), Reshape=(4e-6, 2))
    assert seconds(profiled.without(3e-6, 15e-6)) == {"Gemm": [21] * 6, "Reshape": [0] * 6}
    total = sum(values[0] for values in profiled.without(3e-6, 29e-6).seconds.values())
    assert total == pytest.approx(29e-6)
    assert seconds(profiled.without(3e-6, 40e-6)) == seconds(profiled)


def test_ops_stand_side_by_side_and_are_compared_turn_by_turn() -> None:
    slow = np.array([1.0, 2, 9, 1, 5, 3])
    first = Profile({"Gemm": slow, "Add": slow}, {"Gemm": 2, "Add": 1})
    second = Profile({"Gemm": slow / 2, "Sin": 9 * slow}, {"Gemm": 2, "Sin": 1})
    sin, gemm, add = side_by_side([first, second])
    assert (sin.op, sin.seconds, sin.calls, sin.ratios) == ("Sin", (0, 22.5), (0, 1), (None,))
    assert (gemm.op, gemm.seconds, gemm.calls) == ("Gemm", (2.5, 1.25), (2, 2))
    assert gemm.ratios == (Estimate(0.5, 0.5, 0.5),)
    assert (add.op, add.ratios) == ("Add", (None,))


def test_models_are_profiled_side_by_side_and_no_file_is_left(tmp_path, monkeypatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths = [
        save_model(tmp_path / "a.onnx", attention()),
        save_model(tmp_path / "b.onnx", attention()),
    ]
    feeds = {"x": np.ones((2, 5, 8), np.float32)}
    ops = {
        row.op: row
        for row in profile_ops([Model.load(path) for path in paths], feeds, 1, [1e-4, 1e-4])
    }
    assert ops["Softmax"].calls == (1, 1)
    assert all(seconds >= 0 for row in ops.values() for seconds in row.seconds)
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]


def test_ops_of_one_model_alone_stand_beside_nothing(tmp_path, monkeypatch) -> None:
    hurry(monkeypatch)
    changed = mlp()
    changed.graph.node[1].op_type = "Sin"
    paths = [save_model(tmp_path / "a.onnx", mlp()), save_model(tmp_path / "b.onnx", changed)]
    feeds = {"x": np.ones((1, 16), np.float32)}
    ops = {
        row.op: row for row in profile_ops([Model.load(path) for path in paths], feeds, 1, [1, 1])
    }
    assert ops["Sin"].calls == (0, 1)
    assert ops["Sin"].seconds[0] == 0
