"""How far a run has come, and how long it still takes."""

from __future__ import annotations

import time

import pytest

from nettrim_cli.report.progress.pace import Pace
from nettrim_cli.report.result import LayerReport
from tests.support.progress import layer


def test_share_goes_by_weights_and_never_backwards() -> None:
    pace = Pace()
    assert pace.share == 0.0
    pace.plan({"a": 900, "b": 100})
    pace.begin("a", 0, 2)
    pace.iteration(50, 100)
    assert pace.share == pytest.approx(0.45)
    pace.iteration(1, 100)  # a search starts over
    assert pace.share == pytest.approx(0.45)
    pace.end(layer("a"))
    assert pace.share == pytest.approx(0.9)
    pace.begin("b", 1, 2)
    pace.iteration(200, 100)
    assert pace.share == pytest.approx(1.0)


def test_share_goes_by_layers_without_weights() -> None:
    pace = Pace()
    pace.begin("a", 0, 4)
    pace.end(layer("a"))
    pace.begin("b", 1, 4)
    pace.iteration(0, 0)
    assert pace.share == pytest.approx(0.25)
    pace.iteration(1, 2)
    assert pace.share == pytest.approx(0.375)


def test_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    pace.begin("a", 0, 4)
    assert pace.seconds_left is None
    now = 130.0
    pace.end(layer("a"))
    assert pace.seconds_left == pytest.approx(90.0)
    pace.begin("b", 1, 4)
    assert pace.clock == "1 min 30 s left"


def test_steps_of_a_stage_are_counted_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    pace.begin("a", 0, 1)
    pace.end(layer("a"))
    pace.stage("running")
    assert pace.headline == "running"
    pace.iteration(1_000, 4_000)
    now = 103.0
    pace.iteration(2_000, 4_000)
    assert pace.headline == "running: 2,000 of 4,000"
    assert (pace.share, pace.seconds_left) == (0.5, 3.0)
    pace.stage("writing")
    assert pace.headline == "writing"
    assert pace.clock == ""


def test_a_second_plan_starts_from_the_first_layer_again() -> None:
    pace = Pace()
    pace.plan({"a": 10, "b": 30})
    pace.begin("a", 0, 2)
    pace.end(LayerReport("a", "Gemm", (5, 2), 10, 10, 5, status="solved"))
    assert pace.share == 0.25
    pace.plan({"a": 10, "b": 30})
    assert pace.share == 0
    pace.begin("b", 1, 2)
    assert pace.headline.startswith("layer 1 of 2: b")
