"""What op types take, from onnxruntime's profiles."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
import pytest

from nettrim_cli.latency.profile import costs_of, profile_ops, without_profiler
from tests.support.networks import attention, mlp, save_model
from tests.support.timers import hurry


def node(op: str, start: int, duration: int) -> dict[str, Any]:
    event = {"cat": "Node", "name": f"/{op}_kernel_time", "ts": start, "dur": duration}
    return {**event, "args": {"op_name": op}}


def run(start: int, duration: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


def test_the_first_run_is_left_out_and_the_others_are_averaged() -> None:
    events = [node("Gemm", 1, 900), run(0, 1000)]
    for start in range(2000, 10000, 1000):
        events += [
            node("Gemm", start, 30),
            node("Gemm", start + 40, 50),
            node("Relu", start + 95, 4),
        ]
        events.append(run(start, 100))
    costs = costs_of(events)
    assert costs["Gemm"] == (pytest.approx(80e-6), 2)
    assert costs["Relu"] == (pytest.approx(4e-6), 1)


def test_what_nodes_inside_of_a_subgraph_take_counts_once() -> None:
    events = [node("Loop", 0, 100), node("Add", 10, 20), node("Add", 40, 20), run(0, 110)]
    assert costs_of(events) == {"Loop": (pytest.approx(60e-6), 1), "Add": (pytest.approx(40e-6), 2)}


def test_a_profile_without_runs_tells_nothing() -> None:
    assert costs_of([]) == {}


def test_what_the_profiler_adds_to_a_node_is_taken_off() -> None:
    profiled = {"Gemm": (30e-6, 3), "Reshape": (4e-6, 2)}
    nothing = {"Identity": (3e-6, 1)}
    costs = without_profiler(profiled, nothing, 15e-6)
    assert costs["Gemm"] == (pytest.approx(21e-6), 3)
    assert costs["Reshape"] == (0, 2)
    costs = without_profiler(profiled, nothing, 29e-6)
    assert sum(seconds for seconds, _ in costs.values()) == pytest.approx(29e-6)
    assert without_profiler(profiled, nothing, 40e-6) == profiled


def test_models_are_profiled_side_by_side_and_no_file_is_left(tmp_path, monkeypatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths = [
        save_model(tmp_path / "a.onnx", attention()),
        save_model(tmp_path / "b.onnx", attention()),
    ]
    feeds = {"x": np.ones((2, 5, 8), np.float32)}
    ops = {row.op: row for row in profile_ops(paths, feeds, 1, [1e-4, 1e-4])}
    assert ops["Softmax"].calls == (1, 1)
    assert all(seconds >= 0 for row in ops.values() for seconds in row.seconds)
    assert sorted(os.listdir(tmp_path)) == ["a.onnx", "b.onnx"]


def test_ops_of_one_model_alone_stand_beside_nothing(tmp_path, monkeypatch) -> None:
    hurry(monkeypatch)
    changed = mlp()
    changed.graph.node[1].op_type = "Sin"
    paths = [save_model(tmp_path / "a.onnx", mlp()), save_model(tmp_path / "b.onnx", changed)]
    feeds = {"x": np.ones((1, 16), np.float32)}
    ops = {row.op: row for row in profile_ops(paths, feeds, 1, [1, 1])}
    assert ops["Sin"].calls == (0, 1)
    assert ops["Sin"].seconds[0] == 0
