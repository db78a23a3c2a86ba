"""Models side by side: latencies and ratios, ops, load time, memory, and whether a limit holds."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from nettrim_cli.data.deployed import DeployedModel
from nettrim_cli.data.engine import runtime
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import EngineFailed, OutOfMemory
from nettrim_cli.graph.model import Model
from nettrim_cli.latency.footprint import load_seconds, peak_memory
from nettrim_cli.latency.inputs import BenchInputs, file_inputs, made_inputs
from nettrim_cli.latency.profile import profile_ops
from nettrim_cli.latency.statistics import spread
from nettrim_cli.latency.timing import Clock, Patience, time_batch
from nettrim_cli.loading import check_same_inputs, load_models, open_samples
from nettrim_cli.process.channel import tell
from nettrim_cli.report.bench_result import (
    BatchTiming,
    Bench,
    BenchedModel,
    LatencyCheck,
    short_names,
)
from nettrim_cli.settings import BenchSettings

LARGER_BATCH = 64  # of a run's report, besides single samples
REPORTED = Patience(seconds=3.0, precision=0.02)
NOISE = 0.05  # half of an interval's width, as a share of the median, that is worth a note
PathLike = str | os.PathLike[str]
Stage = Callable[[str], None]


def bench(
    models: Sequence[PathLike],
    data: PathLike | None = None,
    settings: BenchSettings | None = None,
    *,
    stage: Stage | None = None,
) -> Bench:
    """Time models side by side; the first is the reference.

    Parameters
    ----------
    models
        ONNX files.
    data
        File with samples; without one they are made from the declared inputs.
    settings
        How the models are timed.
    stage
        Is told what is done now.

    Raises
    ------
    NettrimError
        One of its kinds: a file is missing or bad, or the models do not take the same inputs.
    """
    settings, stage = settings or BenchSettings(), stage or partial(tell, "doing")
    tell("about", " or ".join(map(str, models)))
    loaded = load_models(models, data)
    for model in loaded[1:]:
        check_same_inputs(loaded[0], model)
    if data is None:
        inputs = made_inputs(loaded[0], settings.batch, settings.shapes)
        return bench_models(loaded, inputs, settings, stage)
    with open_samples(data, loaded[0]) as samples:
        return bench_models(loaded, file_inputs(samples, settings.batch), settings, stage)


def bench_models(
    models: Sequence[Model],
    inputs: BenchInputs,
    settings: BenchSettings,
    stage: Stage = lambda _: None,
    *,
    clock: Clock | None = None,
) -> Bench:
    """Measure models on the same batches.

    Parameters
    ----------
    models
        Models in files, which take the same inputs; the first is the reference.
    inputs
        The batches.
    settings
        How they are timed.
    stage
        Is told what is done now.
    clock
        Tells the seconds.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run a model; the message names it.
    """
    patience = Patience(settings.seconds, limit=settings.max_latency_ratio)
    paths = [Path(model.path) for model in models]
    timings = time_batches(paths, inputs, settings.threads, patience, stage, clock=clock)
    stage("profiling ops")
    batches = _profiled(timings, models, inputs, settings.threads)
    names = short_names([str(model.path) for model in models])
    benched = _benched(models, names, inputs, settings.threads, stage, clock=clock)
    limit = settings.max_latency_ratio
    checks = [
        LatencyCheck(name, timing.size, limit, ratio)
        for timing in batches
        for name, ratio in zip(names[1:], timing.ratios, strict=True)
        if limit is not None
    ]
    return Bench(
        models=benched,
        batches=batches,
        inputs=inputs.origins,
        threads=settings.threads,
        runtime=runtime(),
        checks=tuple(checks),
        notes=tuple(noise(batches, names)),
    )


def time_batches(
    paths: Sequence[Path],
    inputs: BenchInputs,
    threads: int,
    patience: Patience,
    stage: Stage = lambda _: None,
    *,
    clock: Clock | None = None,
) -> tuple[BatchTiming, ...]:
    """Time models on each batch.

    Parameters
    ----------
    paths
        The models' files; the first is the reference.
    inputs
        The batches.
    threads
        Threads inside an operator.
    patience
        How long each batch may take.
    stage
        Is told what is done now.
    clock
        Tells the seconds.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run a model; the message names it.
    """
    stage("loading the models")
    sessions = []
    for path in paths:
        try:
            sessions.append(DeployedModel(path, threads=threads))
            for batch in inputs.batches:
                sessions[-1].durations(batch.feeds, 1, clock)
        except (EngineFailed, OutOfMemory) as error:
            raise type(error)(f"{path}: {error}") from error
    timings = []
    for batch in inputs.batches:
        stage(f"timing at batch {batch.count:,}, for {patience.seconds:g} s at most")
        timings.append(time_batch(sessions, batch.feeds, batch.count, patience, clock=clock))
    return tuple(timings)


def held_out_latency(
    paths: Sequence[Path], samples: SampleSet, stage: Stage = lambda _: None
) -> tuple[BatchTiming, ...]:
    """Time models on held-out samples: one by one, and in a larger batch.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load or run a model; the message names it.
    """
    sizes = (1, LARGER_BATCH) if samples.calibration.fixed_batch is None else ()
    inputs = file_inputs(samples.calibration, sizes, samples.holdout)
    return time_batches(paths, inputs, 1, REPORTED, stage)


def _profiled(
    timings: Sequence[BatchTiming], models: Sequence[Model], inputs: BenchInputs, threads: int
) -> tuple[BatchTiming, ...]:
    """Timings with what each op type takes."""
    profiled = []
    for timing, batch in zip(timings, inputs.batches, strict=True):
        latencies = [latency.median for latency in timing.latencies]
        ops = profile_ops(models, batch.feeds, threads, latencies)
        profiled.append(replace(timing, ops=ops))
    return tuple(profiled)


def _benched(
    models: Sequence[Model],
    names: Sequence[str],
    inputs: BenchInputs,
    threads: int,
    stage: Stage,
    *,
    clock: Clock | None,
) -> tuple[BenchedModel, ...]:
    """Sizes of models, and what it takes to load them and to run the largest batch."""
    paths = [Path(model.path) for model in models]
    stage("measuring load times")
    loads = load_seconds(paths, threads, clock=clock or time.perf_counter)
    stage("measuring memory")
    largest = max(inputs.batches, key=lambda batch: batch.count)
    peaks = peak_memory(paths, largest.feeds, threads)
    return tuple(
        BenchedModel(
            str(model.path),
            name,
            sum(path.stat().st_size for path in model.files),
            *model.count_parameters(),
            load,
            peak,
        )
        for model, name, load, peak in zip(models, names, loads, peaks, strict=True)
    )


def noise(batches: Sequence[BatchTiming], names: Sequence[str]) -> list[str]:
    """A sentence on ratios that the machine was too busy to tell; none where there are none."""
    figure = "ratio" if len(names) > 1 else "latency"
    doubts = []
    for timing in batches:
        estimates = dict(zip(names[1:], timing.ratios, strict=True))
        estimates = estimates or {names[0]: timing.latencies[0]}
        spreads = {name: spread(estimated) for name, estimated in estimates.items()}
        worst = max(spreads, key=lambda name: spreads[name])
        if spreads[worst] > NOISE:
            finite = math.isfinite(spreads[worst])
            sureness = f"known to {100 * spreads[worst]:.0f} % only" if finite else "not known"
            where = f" at batch {timing.size:,}" if len(batches) > 1 else ""
            doubts.append(f"the {figure} of {worst} is {sureness}{where}")
    if not doubts:
        return []
    rounds = " and ".join(f"{timing.rounds:,}" for timing in batches)
    return [
        f"The machine is busy, or {rounds} rounds are too few: {', '.join(doubts)}. End other "
        "programs, or give more --seconds."
    ]
