"""Which ops take the time: onnxruntime's profiler, summed by op type."""

from __future__ import annotations

import json
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nettrim_cli.data.deployed import NO_SIZE, NO_SIZE_FEEDS, DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.latency.statistics import middle_mean
from nettrim_cli.process.channel import tell
from nettrim_cli.report.bench_result import OpTime

PROFILED_SECONDS, FEWEST_TURNS, MOST_TURNS = 0.5, 5, 20  # of each model; the first run warms up
BLOCK_SECONDS, BLOCK_RUNS = 0.01, 10  # of a model's turn, about and at most
MICRO = 1e-6  # seconds; a profile counts in these
KERNEL = "_kernel_time"

OpCosts = dict[str, tuple[float, int]]
"""By op type: seconds of a run, and how often such a node was computed."""


def profile_ops(
    paths: Sequence[Path],
    feeds: Mapping[str, Array],
    threads: int,
    latencies: Sequence[float],
) -> tuple[OpTime, ...]:
    """What each op type takes in each model, the dearest first.

    Parameters
    ----------
    paths
        The models' files.
    feeds
        A batch, by input.
    threads
        Threads inside an operator.
    latencies
        Seconds of a call without the profiler, for each model.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run a model.
    """
    with tempfile.TemporaryDirectory(prefix="nettrim-") as folder:
        tell("temporary", folder)
        models: list[Path | Runnable] = [NO_SIZE, *paths]
        sessions = [
            DeployedModel(model, threads=threads, profile=str(Path(folder, f"profile{number}")))
            for number, model in enumerate(models)
        ]
        for path in Path(folder).iterdir():
            tell("temporary", path)
        _run_by_turns(sessions, feeds, latencies)
        baseline, *costs = (
            costs_of(json.loads(session.end_profile().read_text("utf-8"))) for session in sessions
        )
    pairs = zip(costs, latencies, strict=True)
    return _side_by_side([without_profiler(cost, baseline, latency) for cost, latency in pairs])


def _run_by_turns(
    sessions: Sequence[DeployedModel], feeds: Mapping[str, Array], latencies: Sequence[float]
) -> None:
    """Run a model of no size and the models, each some calls in turn."""
    calls = [max(1, min(BLOCK_RUNS, int(BLOCK_SECONDS / latency))) for latency in latencies]
    tasks = [(NO_SIZE_FEEDS, BLOCK_RUNS), *((feeds, count) for count in calls)]
    start, turns = time.monotonic(), 0
    while turns < FEWEST_TURNS or (
        turns < MOST_TURNS and time.monotonic() - start < len(latencies) * PROFILED_SECONDS
    ):
        for session, (batch, count) in zip(sessions, tasks, strict=True):
            session.durations(batch, count, time.monotonic)
        turns += 1


def _side_by_side(costs: Sequence[OpCosts]) -> tuple[OpTime, ...]:
    nothing = (0.0, 0)
    rows = []
    for op in dict.fromkeys(op for cost in costs for op in cost):
        seconds, calls = zip(*(cost.get(op, nothing) for cost in costs), strict=True)
        rows.append(OpTime(op, seconds, calls))
    return tuple(sorted(rows, key=lambda row: -max(row.seconds)))


def without_profiler(costs: OpCosts, baseline: OpCosts, latency: float) -> OpCosts:
    """Costs without what the profiler adds to each node.

    That is what a node takes that does nothing; but what is left is no less than a call without
    the profiler.

    Parameters
    ----------
    costs
        Of a model.
    baseline
        Of a model that does nothing.
    latency
        Seconds of a call of the model without the profiler.
    """
    nodes = sum(calls for _, calls in costs.values())
    excess = sum(seconds for seconds, _ in costs.values()) - latency
    nothing = max((seconds / calls for seconds, calls in baseline.values() if calls), default=0.0)
    share = max(0.0, min(nothing, excess / max(1, nodes)))
    return {
        op: (max(0.0, seconds - share * calls), calls) for op, (seconds, calls) in costs.items()
    }


def costs_of(events: Sequence[Mapping[str, Any]]) -> OpCosts:
    """Seconds and nodes of a run by op type, from the events of a profile.

    The first run is left out where there are others.
    """
    run_ends = sorted(
        event["ts"] + event["dur"] for event in events if event.get("name") == "model_run"
    )
    runs: list[Counter[str]] = [Counter() for _ in run_ends]
    calls: list[Counter[str]] = [Counter() for _ in run_ends]
    for op, start, duration in _own_times(events):
        run = bisect_left(run_ends, start)
        if run < len(run_ends):
            runs[run][op] += duration
            calls[run][op] += 1
    counted = slice(1 if len(runs) > 1 else 0, None)
    ops = dict.fromkeys(op for run in runs[counted] for op in run)
    return {
        op: (
            MICRO * middle_mean([run[op] for run in runs[counted]]),
            round(middle_mean([run[op] for run in calls[counted]])),
        )
        for op in ops
    }


def _own_times(events: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, int]]:
    """Op type, start and duration of each computed node, without those of its subgraphs' nodes."""
    nodes = [
        event
        for event in events
        if event.get("cat") == "Node" and str(event.get("name")).endswith(KERNEL)
    ]
    nodes.sort(key=lambda event: (event["ts"], -event["dur"]))
    own = [event["dur"] for event in nodes]
    open_nodes: list[tuple[int, int]] = []  # end and number of those that others may be inside of
    for number, event in enumerate(nodes):
        end = event["ts"] + event["dur"]
        while open_nodes and open_nodes[-1][0] < end:
            open_nodes.pop()
        if open_nodes:
            own[open_nodes[-1][1]] -= event["dur"]
        open_nodes.append((end, number))
    for event, duration in zip(nodes, own, strict=True):
        yield str(event["args"].get("op_name", "")), event["ts"], max(0, duration)
