"""Progress in lines: each event one, and a sign of life where nothing happens."""

from __future__ import annotations

import io
import json
import math
import threading
from dataclasses import replace

import pytest

from nettrim_cli.report.progress.lines import JsonLines, Lines
from tests.support.options import PATIENCE
from tests.support.progress import layer, play


class Paper(io.StringIO):
    """A stream that tells when so many lines have been written."""

    def __init__(self, lines: int = 0) -> None:
        super().__init__()
        self.missing, self.full = lines, threading.Event()

    def write(self, text: str) -> int:
        self.missing -= text.count("\n")
        if self.missing <= 0:
            self.full.set()
        return super().write(text)


def test_each_stage_layer_and_message_has_a_line() -> None:
    paper = Paper()
    with Lines(paper) as listener:
        play(listener)
        listener.end(layer("fc3", "dense", "excluded"))
    stage, *lines = paper.getvalue().splitlines()
    assert stage == "recording [samples]"
    assert len(lines) == 4
    assert lines[0] == (
        "[1/2] fc1: 90.0 % sparsity, error 8.12 % calib, 9.44 % held-out, 212 iterations, "
        "solved, 3.2 s"
    )
    assert lines[1].startswith("[2/2] odd [bold]\\n[/] name: 90.0 %")
    assert lines[2] == "[/] a message"
    assert lines[3] == "[3/3] fc3: left dense: excluded"


def test_a_line_every_few_seconds_tells_that_the_run_lives() -> None:
    paper = Paper(3)
    with Lines(paper, 0.01, events=False) as listener:
        listener.begin("fc1", 0, 2)
        listener.end(layer("fc1"))
        listener.begin("fc2", 1, 2)
        assert paper.full.wait(PATIENCE)
        listener.alive()
    *_, last = paper.getvalue().splitlines()
    assert "layer 2 of 2: fc2, " in last
    assert "50 % done" in last


def test_its_clock_ends_with_the_run() -> None:
    before = set(threading.enumerate())
    paper = Paper(1)
    with Lines(paper, 0.01):
        assert paper.full.wait(PATIENCE)
    assert set(threading.enumerate()) <= before


def test_events_are_strict_json_an_object_a_line() -> None:
    paper = Paper()
    with JsonLines(paper) as listener:
        listener.start("nettrim prune")
        play(listener)
        listener.end(replace(layer("fc3"), error_holdout=math.nan))
        listener.alive()
        listener.conclude("done", ["Reached: all.", "Sure."])
    events = [
        json.loads(line, parse_constant=pytest.fail) for line in paper.getvalue().splitlines()
    ]
    kinds = ["start", "stage", "layer", "layer", "message", "layer", "progress", "end"]
    assert [event["event"] for event in events] == kinds
    assert all(event.keys() >= {"time", "seconds"} for event in events)
    first, last = events[2], events[5]
    assert (first["name"], first["number"], first["of"], first["sparsity"]) == ("fc1", 1, 2, 0.9)
    assert last["error_holdout"] is None
    assert (events[-1]["outcome"], events[-1]["text"]) == ("done", "Reached: all. Sure.")


def test_a_stream_that_fails_stops_nothing() -> None:
    paper = Paper()
    with Lines(paper) as listener:
        paper.close()
        play(listener)
        listener.alive()
