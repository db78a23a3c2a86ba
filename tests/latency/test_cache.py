"""Latencies of before: kept by machine, never required."""

from __future__ import annotations

import json

import pytest

from nettrim_cli.latency import cache
from nettrim_cli.latency.cache import LatencyCache


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def filled(**entries):
    latencies = LatencyCache(1)
    for key, values in entries.items():
        latencies.add(key, values)
    latencies.save()
    return latencies.path


def test_what_was_measured_is_there_again() -> None:
    path = filled(a=[3, 4])
    filled(b=[5])
    again = LatencyCache(1)
    assert again.get("a", 2) == [3, 4]
    assert again.get("b", 1) == [5]
    assert again.get("a", 3) is None
    assert again.get("c", 1) is None
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_other_machines_have_their_own(monkeypatch) -> None:
    filled(a=[3])
    assert LatencyCache(2).get("a", 1) is None
    monkeypatch.setattr(cache, "processor", lambda: "another one")
    assert LatencyCache(1).get("a", 1) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[1, 2]",
        b"[" * 100_000,
        b'{"machine": "x", "latencies": {"a": [1]}}',
        b'{"latencies": 7}',
    ],
)
def test_a_damaged_file_is_as_none(content) -> None:
    path = filled(a=[3])
    path.write_bytes(content)
    assert LatencyCache(1).get("a", 1) is None
    filled(a=[4])
    assert LatencyCache(1).get("a", 1) == [4]


@pytest.mark.parametrize("values", [7, [0], ["1"], [1.5], [True], None])
def test_what_is_no_latency_is_measured_again(values) -> None:
    path = filled(a=[3])
    content = json.loads(path.read_text("utf-8"))
    content["latencies"]["a"] = values
    path.write_text(json.dumps(content), "utf-8")
    assert LatencyCache(1).get("a", 1) is None


def test_a_cache_that_cannot_be_written_is_no_error(home, monkeypatch) -> None:
    blocked = home / "blocked"
    blocked.write_text("a file, where a folder is wanted", "utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    filled(a=[3])
    assert LatencyCache(1).get("a", 1) is None


def test_the_oldest_go(monkeypatch) -> None:
    monkeypatch.setattr(cache, "MOST", 2)
    filled(a=[1], b=[2], c=[3])
    assert LatencyCache(1).get("a", 1) is None
    assert LatencyCache(1).get("c", 1) == [3]
