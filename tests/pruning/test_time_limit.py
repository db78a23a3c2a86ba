"""Where time is short a run writes the best result so far, and says what was left out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from nettrim_cli.pipeline import prune
from nettrim_cli.process.deadline import limit_process
from nettrim_cli.settings import Settings
from tests.support.options import PLAIN

FEW = {"samples": 40, "threads": 1, "augment": "none"}


@pytest.fixture
def no_time() -> Iterator[None]:
    limit_process(1e-9)
    yield
    limit_process(math.inf)


def left_out(report) -> str:
    (text,) = [warning.text for warning in report.warnings if warning.code == "time-limit"]
    return text


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (PLAIN | {"sparsity": 0.7, "sweeps": 3}, ["sweep 2"]),
        (FEW | {"sparsity": 0.7}, ["the fit to all samples", "steps of the joint fit"]),
        (PLAIN | {"max_error": 0.3}, ["rounds"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_the_best_so_far_is_written(files, no_time, options, steps) -> None:
    report = prune(files.model, files.data, settings=Settings(**options))
    assert files.output.is_file()
    assert all(step in left_out(report) for step in steps)
    assert "sweep 3" not in left_out(report)
    if "sparsity" in options:
        assert report.sparsity == pytest.approx(0.7, abs=0.01)
    else:
        assert report.comparison.error <= 0.3


def test_a_search_goes_on_until_a_round_meets_the_target(files) -> None:
    options = PLAIN | {"max_error": 0.3}
    whole = prune(files.model, files.data, settings=Settings(**options))
    assert whole.target is not None
    limit_process(1e-9)
    try:
        short = prune(files.model, files.data, settings=Settings(**options), force=True)
    finally:
        limit_process(math.inf)
    assert short.target is not None
    rounds = [attempt.figure <= 0.3 for attempt in short.target.rounds]
    assert rounds.index(True) == len(rounds) - 1
    assert len(rounds) < len(whole.target.rounds)
    assert short.sparsity <= whole.sparsity


def test_with_time_enough_nothing_is_left_out(files) -> None:
    limit_process(1e9)
    try:
        report = prune(files.model, files.data, settings=Settings(**PLAIN, sparsity=0.7, sweeps=2))
    finally:
        limit_process(math.inf)
    assert "time-limit" not in {warning.code for warning in report.warnings}
