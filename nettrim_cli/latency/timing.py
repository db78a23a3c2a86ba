"""Models timed side by side: interleaved rounds in changing order, until their ratios are known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nettrim_cli.data.deployed import DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.latency.statistics import Floats, estimate, paired_ratios, spread
from nettrim_cli.report.bench_result import BatchTiming, Estimate

Clock = Callable[[], float]
Calls = Callable[[int], Sequence[float]]
"""Seconds of so many consecutive calls of a model."""

BLOCK_SECONDS, BLOCK_CALLS = 0.002, 100  # of the calls of one model in a round, about and at most
WARM_SECONDS, WARM_CALLS = 0.1, 3  # before the rounds, at least and at least
FEWEST_ROUNDS, MOST_ROUNDS = 20, 4000
LOOK = 1.25  # times the rounds until the next look at the intervals: seldom looks keep them honest


@dataclass(frozen=True)
class Patience:
    """How long models are timed.

    Attributes
    ----------
    seconds
        At most, but for one round.
    precision
        Half of the width that a ratio's interval shall have, as a share of the ratio.
    limit
        A ratio from which the intervals shall be apart, too; None for none.
    """

    seconds: float = 10.0
    precision: float = 0.01
    limit: float | None = None

    def is_enough(self, estimates: Sequence[Estimate]) -> bool:
        """Whether estimates are precise, and on one side of the limit."""
        return all(
            spread(estimated) <= self.precision
            and (self.limit is None or not estimated.low <= self.limit < estimated.high)
            for estimated in estimates
        )


@dataclass(frozen=True)
class Rounds:
    """Seconds of a call, (models, rounds): in each round the median over a block of calls."""

    seconds: Floats

    @property
    def latencies(self) -> tuple[Estimate, ...]:
        """Seconds of a call of each model."""
        return tuple(map(estimate, self.seconds))

    @property
    def ratios(self) -> tuple[Estimate, ...]:
        """Of all models but the first: the ratio to the first one's seconds."""
        return tuple(map(estimate, paired_ratios(self.seconds)))


def time_rounds(
    models: Sequence[Calls], patience: Patience, *, clock: Clock = time.perf_counter, seed: int = 0
) -> Rounds:
    """Time models in rounds, each once a round and in an order that changes.

    A model's first call in a round finds the caches full of another one's weights.  It is not
    counted where there are more.

    Parameters
    ----------
    models
        What is timed; the first is the reference.
    patience
        When to stop.
    clock
        Tells the seconds.
    seed
        Of the orders.
    """
    start = clock()
    blocks = [_block_of(model, clock) for model in models]
    random = np.random.default_rng(seed)
    rounds: list[list[float]] = []
    next_look = FEWEST_ROUNDS
    while len(rounds) < MOST_ROUNDS:
        seconds = [0.0] * len(models)
        for position in random.permutation(len(models)):
            durations = models[position](blocks[position])
            seconds[position] = float(np.median(durations[1:] or durations))
        rounds.append(seconds)
        if clock() - start >= patience.seconds:
            break
        if len(rounds) >= next_look:
            next_look = math.ceil(LOOK * next_look)
            measured = Rounds(np.array(rounds).T)
            if patience.is_enough(measured.ratios or measured.latencies):
                break
    return Rounds(np.array(rounds).T)


def _block_of(model: Calls, clock: Clock) -> int:
    """Warm a model up, and give the number of its calls in a round."""
    start, durations = clock(), list[float]()
    while len(durations) < WARM_CALLS or clock() - start < WARM_SECONDS:
        durations += model(1)
        if clock() - start >= WARM_CALLS * WARM_SECONDS:
            break
    fastest = max(min(durations), 1e-9)
    calls = min(BLOCK_CALLS, round(BLOCK_SECONDS / fastest))
    return 1 if calls <= 1 else calls + 1


def time_batch(
    models: Sequence[DeployedModel],
    feeds: Mapping[str, Array],
    size: int,
    patience: Patience,
    *,
    clock: Clock | None = None,
) -> BatchTiming:
    """Time models on one batch.

    Parameters
    ----------
    models
        The first is the reference.
    feeds
        The batch, by input.
    size
        Number of samples in it.
    patience
        When to stop.
    clock
        Tells the seconds; by default those of calls are told by ``deployed.call_clock``.
    """
    calls = [lambda count, model=model: model.durations(feeds, count, clock) for model in models]
    rounds = time_rounds(calls, patience, clock=clock or time.perf_counter)
    return BatchTiming(size, rounds.latencies, rounds.ratios, rounds.seconds.shape[1])
