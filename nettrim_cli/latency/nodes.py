"""How long single nodes take at some sizes: measured once on a machine, then looked up."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.data.deployed import NO_SIZE, NO_SIZE_FEEDS, DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.graph.channels.alone import LoneNode
from nettrim_cli.graph.layer import Runnable
from nettrim_cli.latency.cache import LatencyCache
from nettrim_cli.latency.timing import Calls, Clock

ROW_SECONDS = 0.05  # for all sizes of a row, about
FEWEST_ROUNDS, MOST_ROUNDS = 3, 15
NODE_SECONDS = 1e-6  # what a node takes beside its work
LEAST_SECONDS = 2e-7

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NodeLatencies:
    """Seconds of a node, by the rows and columns of its weight.

    Attributes
    ----------
    rows, columns
        (R,), (C,) sizes that were measured, ascending.
    seconds
        (R, C) of a call, without what a call takes beside the node.
    """

    rows: Floats
    columns: Floats
    seconds: Floats

    def at(self, rows: object, columns: object) -> Floats:
        """Seconds for arrays of sizes, in between by interpolation along both."""
        wide, tall = np.broadcast_arrays(np.asarray(columns, float), np.asarray(rows, float))
        low, high, share = _between(self.rows, tall)
        left, right, part = _between(self.columns, wide)
        lower, upper = (
            (1 - part) * self.seconds[row, left] + part * self.seconds[row, right]
            for row in (low, high)
        )
        return np.asarray((1 - share) * lower + share * upper)


def _between(grid: Floats, values: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The places of the grid around values, and how far from the lower to the upper they are."""
    places = np.interp(values, grid, np.arange(len(grid)))
    low = np.floor(places).astype(np.intp)
    return low, np.minimum(low + 1, len(grid) - 1), places - low


def node_latencies(
    node: LoneNode, rows: Sequence[int], columns: Sequence[int], threads: int, cache: LatencyCache
) -> NodeLatencies:
    """Measure a node at some sizes, or look them up.

    Parameters
    ----------
    rows, columns
        Sizes of its weight, ascending.
    threads
        Threads of the engine.
    cache
        What was measured before; new latencies are added.

    Raises
    ------
    EngineFailed
        onnxruntime cannot run it.
    """
    key = f"{node.key} {list(rows)} {list(columns)}"
    nanoseconds = cache.get(key, len(rows) * len(columns))
    if nanoseconds is None:
        seconds = np.array([_row(node, size, columns, threads) for size in rows])
        nanoseconds = [max(1, round(1e9 * value)) for value in seconds.ravel()]
        cache.add(key, nanoseconds)
    shape = len(rows), len(columns)
    return NodeLatencies(
        np.array(rows, float), np.array(columns, float), 1e-9 * np.reshape(nanoseconds, shape)
    )


def _row(node: LoneNode, rows: int, columns: Sequence[int], threads: int) -> Floats:
    """Seconds of a node with so many rows at each number of columns."""
    feeds = {"x": np.ones(node.input_shape(rows), np.float32)}
    calls = [_calls(node.model(rows, count), feeds, threads) for count in columns]
    *seconds, beside = brief_seconds([*calls, _calls(NO_SIZE, NO_SIZE_FEEDS, threads)])
    return np.maximum(np.array(seconds) - beside + NODE_SECONDS, LEAST_SECONDS)


def _calls(model: Runnable, feeds: Mapping[str, Array], threads: int) -> Calls:
    deployed = DeployedModel(model, threads=threads)
    return lambda count: deployed.durations(feeds, count)


def brief_seconds(models: Sequence[Calls], *, clock: Clock = time.perf_counter) -> list[float]:
    """Seconds of a call of each model: medians over a few rounds in turns.

    Parameters
    ----------
    models
        What is timed.
    clock
        Tells the seconds that have passed.
    """
    for model in models:
        model(1)
    start = clock()
    rounds = [[min(model(2)) for model in models]]
    count = math.ceil(ROW_SECONDS / max(clock() - start, 1e-9))
    order = range(len(models))
    for number in range(1, min(max(count, FEWEST_ROUNDS), MOST_ROUNDS)):
        seconds = [0.0] * len(models)
        for position in order if number % 2 else reversed(order):
            seconds[position] = min(models[position](2))
        rounds.append(seconds)
    return [float(value) for value in np.median(rounds, axis=0)]
