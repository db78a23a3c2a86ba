"""Which ops take the time: onnxruntime's profiler, summed by op type."""

from __future__ import annotations

import json
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.deployed import NO_SIZE, NO_SIZE_FEEDS, DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.statistics import Floats, estimate
from nettrim_cli.process.channel import tell
from nettrim_cli.report.bench_result import Estimate, OpTime

PROFILED_SECONDS, FEWEST_TURNS, MOST_TURNS = 1.0, 6, 40  # of each model
BLOCK_SECONDS, BLOCK_RUNS = 0.01, 10  # of a model's turn, about and at most
EVENTS = 100_000  # of a model's profile, about: each is a long line
MICRO = 1e-6  # seconds; a profile counts in these
KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Profile:
    """What op types take in a model.

    Attributes
    ----------
    seconds
        By op type, seconds of a run in each turn, (turns,).
    calls
        By op type, how often a run computes such a node.
    """

    seconds: dict[str, Floats]
    calls: dict[str, int]

    def without(self, profiler: float, latency: float) -> Profile:
        """The same without what the profiler adds to each node.

        That is what a node takes that does nothing; but what is left is no less than a call
        without the profiler.

        Parameters
        ----------
        profiler
            Seconds of a node that does nothing.
        latency
            Seconds of a call without the profiler.
        """
        total = sum(float(np.median(seconds)) for seconds in self.seconds.values())
        excess = (total - latency) / max(1, sum(self.calls.values()))
        share = max(0.0, min(profiler, excess))
        seconds = {
            op: np.maximum(0, values - share * self.calls[op])
            for op, values in self.seconds.items()
        }
        return Profile(seconds, self.calls)


def profile_ops(
    models: Sequence[Model],
    feeds: Mapping[str, Array],
    threads: int,
    latencies: Sequence[float],
) -> tuple[OpTime, ...]:
    """What each op type takes in each model, the dearest first.

    Parameters
    ----------
    models
        Models in files; the first is the reference.
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
    most_runs = EVENTS // max(1, *(len(model.proto.graph.node) for model in models))
    longest = max(1, min(BLOCK_RUNS, most_runs // FEWEST_TURNS))
    blocks = [max(1, min(longest, int(BLOCK_SECONDS / latency))) for latency in latencies]
    with tempfile.TemporaryDirectory(prefix="nettrim-") as folder:
        tell("temporary", folder)
        sources: list[Path | Runnable] = [NO_SIZE, *(Path(model.path) for model in models)]
        sessions = [
            DeployedModel(source, threads=threads, profile=str(Path(folder, f"profile{number}")))
            for number, source in enumerate(sources)
        ]
        for path in Path(folder).iterdir():
            tell("temporary", path)
        tasks = [(NO_SIZE_FEEDS, BLOCK_RUNS), *((feeds, block) for block in blocks)]
        _run_by_turns(sessions, tasks, most_runs // max(blocks))
        baseline, *profiles = (
            profile_of(json.loads(session.end_profile().read_text("utf-8")), block)
            for session, (_, block) in zip(sessions, tasks, strict=True)
        )
    profiler = max((float(np.median(seconds)) for seconds in baseline.seconds.values()), default=0)
    pairs = zip(profiles, latencies, strict=True)
    return side_by_side([profile.without(profiler, latency) for profile, latency in pairs])


def _run_by_turns(
    sessions: Sequence[DeployedModel],
    tasks: Sequence[tuple[Mapping[str, Array], int]],
    most_turns: int,
) -> None:
    """Run each model on its batch, some calls in each of its turns."""
    start, turns = time.monotonic(), 0
    while turns < FEWEST_TURNS or (
        turns < min(MOST_TURNS, most_turns)
        and time.monotonic() - start < len(tasks) * PROFILED_SECONDS
    ):
        for session, (feeds, calls) in zip(sessions, tasks, strict=True):
            session.durations(feeds, calls, time.monotonic)
        turns += 1


def side_by_side(profiles: Sequence[Profile]) -> tuple[OpTime, ...]:
    """What op types take in models that were profiled by turns, the dearest first."""
    rows = []
    for op in dict.fromkeys(op for profile in profiles for op in profile.seconds):
        reference, *candidates = (profile.seconds.get(op) for profile in profiles)
        rows.append(
            OpTime(
                op,
                tuple(float(np.median(profile.seconds.get(op, 0.0))) for profile in profiles),
                tuple(profile.calls.get(op, 0) for profile in profiles),
                tuple(_ratio(reference, seconds) for seconds in candidates),
            )
        )
    return tuple(sorted(rows, key=lambda row: -max(row.seconds)))


def _ratio(reference: Floats | None, seconds: Floats | None) -> Estimate | None:
    """Ratio of what an op type takes in the same turns; None where one takes nothing."""
    if reference is None or seconds is None or len(reference) != len(seconds):
        return None
    if not (reference.all() and seconds.all()):
        return None
    return estimate(seconds / reference)


def profile_of(events: Sequence[Mapping[str, Any]], block: int) -> Profile:
    """What op types take, from the events of onnxruntime's profile.

    Parameters
    ----------
    events
        The events.
    block
        Runs in a turn; the first of several is not counted.
    """
    run_ends = sorted(
        event["ts"] + event["dur"] for event in events if event.get("name") == "model_run"
    )
    durations: list[Counter[str]] = [Counter() for _ in run_ends]
    calls: list[Counter[str]] = [Counter() for _ in run_ends]
    for op, start, duration in _own_times(events):
        run = bisect_left(run_ends, start)
        if run < len(run_ends):
            durations[run][op] += duration
            calls[run][op] += 1
    first = min(1, block - 1)
    turns = [
        slice(start + first, start + block) for start in range(0, len(run_ends) - block + 1, block)
    ]
    ops = dict.fromkeys(op for run in durations for op in run)
    ticks = {op: [np.median([run[op] for run in durations[turn]]) for turn in turns] for op in ops}
    return Profile(
        {op: MICRO * np.array(medians) for op, medians in ticks.items()},
        {op: round(float(np.median([run[op] for run in calls]))) for op in ops},
    )


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
