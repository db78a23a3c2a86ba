"""A clock that only tests move, and models that take the time they are told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nettrim_cli.latency import footprint, profile, timing
from nettrim_cli.latency.timing import Patience
from nettrim_cli.report.bench_result import BatchTiming, Bench, BenchedModel, Estimate, OpTime


class FakeClock:
    """Seconds that pass when a timed model says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def model(self, name: str, seconds: Callable[[], float]) -> timing.Calls:
        """A model each of whose calls takes what `seconds` tells."""

        def calls(count: int) -> list[float]:
            self.order.append(name)
            durations = [seconds() for _ in range(count)]
            self.now += sum(durations)
            return durations

        return calls


def hurry(monkeypatch: Any) -> None:
    """Let commands spend next to no time on timing; what they measure means nothing."""
    monkeypatch.setattr(timing, "WARM_SECONDS", 0.0)
    monkeypatch.setattr(timing, "BLOCK_CALLS", 2)
    monkeypatch.setattr(footprint, "LOADING", Patience(seconds=0.0))
    monkeypatch.setattr(profile, "PROFILED_SECONDS", 0.0)


def about(median: float, width: float = 0.01) -> Estimate:
    return Estimate(median, median * (1 - width), median * (1 + width))


def timed(*ratios: Estimate, size: int = 1, seconds: float = 1e-4) -> BatchTiming:
    """A reference that takes some seconds, and models of these ratios."""
    latencies = (about(seconds), *(about(seconds * ratio.median) for ratio in ratios))
    count = len(latencies)
    ops = (OpTime("Gemm", (5e-5,) * count, (3,) * count),)
    return BatchTiming(size, latencies, ratios, 40, ops)


def names() -> Iterator[str]:
    yield from ("dense.onnx", "pruned.onnx", "small.onnx")


def benched(*timings: BatchTiming, nonzeros: int = 100, **changes: Any) -> Bench:
    """A bench of models, all but the first of which have so many non-zeros."""
    count = len(timings[0].latencies)
    models = [
        BenchedModel(f"m/{name}", name, 4000, 1000, nonzeros if number else 1000, 0.002, 5_000_000)
        for number, name in zip(range(count), names(), strict=False)
    ]
    return Bench(tuple(models), timings, ("x: ones",), 1, "onnxruntime 1.0", **changes)
