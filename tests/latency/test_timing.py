"""Rounds: their order, their end, and what they say of models whose speed is known."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.latency import timing
from nettrim_cli.latency.timing import Patience, time_rounds
from tests.support.timers import FakeClock


def noisy(seconds: float, seed: int, noise: float = 0.05):
    random = np.random.default_rng(seed)
    return lambda: seconds * random.lognormal(0, noise)


def test_each_round_has_every_model_once_in_an_order_that_changes() -> None:
    clock = FakeClock()
    models = [clock.model(name, noisy(0.01, seed)) for seed, name in enumerate("abc")]
    rounds = time_rounds(models, Patience(seconds=5), clock=clock)
    count = rounds.seconds.shape[1]
    turns = clock.order[-3 * count :]
    orders = [tuple(turns[at : at + 3]) for at in range(0, len(turns), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) == 6


def test_ratios_are_found_in_spite_of_a_clock_that_slows_down() -> None:
    clock = FakeClock()
    speed = iter(np.linspace(1, 4, 100_000))
    random = np.random.default_rng(0)

    def calls(seconds: float):
        return lambda: seconds * next(speed) * random.lognormal(0, 0.02)

    models = [clock.model("a", calls(0.004)), clock.model("b", calls(0.003))]
    rounds = time_rounds(models, Patience(seconds=60), clock=clock)
    (ratio,) = rounds.ratios
    assert ratio.median == pytest.approx(0.75, rel=0.01)
    assert ratio.low < ratio.median < ratio.high
    assert timing.spread(ratio) <= 0.01
    assert clock.now < 60


def test_timing_ends_at_its_time_where_a_machine_is_noisy() -> None:
    clock = FakeClock()
    models = [clock.model(name, noisy(0.02, seed, 2.0)) for seed, name in enumerate("ab")]
    rounds = time_rounds(models, Patience(seconds=3), clock=clock)
    assert clock.now >= 3
    assert timing.spread(rounds.ratios[0]) > 0.05


def test_a_slow_model_runs_at_least_once() -> None:
    clock = FakeClock()
    models = [clock.model(name, lambda: 100.0) for name in "ab"]
    rounds = time_rounds(models, Patience(seconds=1), clock=clock)
    assert rounds.seconds.shape == (2, 1)
    assert sorted(clock.order) == ["a", "a", "b", "b"]  # once to warm up
    assert rounds.ratios[0].high == float("inf")


def test_a_quick_model_runs_often_and_its_first_call_of_a_round_does_not_count() -> None:
    clock = FakeClock()
    counts: list[int] = []

    def calls(count: int) -> list[float]:
        counts.append(count)
        clock.now += 1e-4 * count
        return [1.0, *[1e-4] * (count - 1)] if count > 1 else [1e-4]

    rounds = time_rounds([calls], Patience(seconds=1), clock=clock)
    assert max(counts) == 21  # 2 ms and one
    assert rounds.latencies[0].median == pytest.approx(1e-4)


def test_a_limit_that_is_near_makes_timing_go_on() -> None:
    def rounds(limit: float | None) -> int:
        clock = FakeClock()
        models = [clock.model(name, noisy(0.01, seed, 0.01)) for seed, name in enumerate("ab")]
        patience = Patience(seconds=60, limit=limit)
        return time_rounds(models, patience, clock=clock).seconds.shape[1]

    assert rounds(None) == rounds(2.0) == timing.FEWEST_ROUNDS
    assert rounds(1.0) > timing.FEWEST_ROUNDS


def test_one_model_alone_is_timed_until_its_latency_is_known() -> None:
    clock = FakeClock()
    rounds = time_rounds([clock.model("a", noisy(0.01, 0))], Patience(), clock=clock)
    assert rounds.ratios == ()
    assert timing.spread(rounds.latencies[0]) <= 0.01
