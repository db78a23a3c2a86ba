"""Layers solved in several processes against one: ratios of times, and what the seam costs.

For each model, curves are measured and a pass is made over the layers, in one process and in
workers, by turns: wall times, their ratio, and the processor time of the process of the run and of
its workers, their start included, which tell more where the machine is busy.  What the rest of a
run does, such as the refit and the certificate, is left out: it has no workers.  The seam is what
it takes to give a job to an executor in this process, and a parcel's way to a worker and back.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import time
from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from benchmarks.common import arguments, cores, echo, machine, sample_file
from nettrim_cli.execution.executor import in_order, silent
from nettrim_cli.execution.processes import ProcessExecutor
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.preview.opened_run import dense_model, opened_run
from nettrim_cli.pruning.layerwise import prune_pass
from nettrim_cli.pruning.measurement import starting_point
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import SCHEMES, Settings

PARCEL_BYTES = 32 << 20
JOBS = 20_000


class Times(NamedTuple):
    """Seconds: of the curves, of a pass, and processor time of the run and of its workers."""

    curves: float
    one_pass: float
    here: float
    workers: float


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--schemes", nargs="+", choices=SCHEMES, default=SCHEMES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    print(f"{machine(options.threads)}, load {os.getloadavg()[0]:.1f} at the start")
    rows = list(ratios(options))
    seam = {"seconds_a_job": seam_seconds(), "seconds_a_parcel": parcel_seconds()}
    print(
        f"seam: {1e6 * seam['seconds_a_job']:.1f} us a job in this process, "
        f"{1000 * seam['seconds_a_parcel']:.0f} ms for {PARCEL_BYTES >> 20} MiB to a worker and "
        "back"
    )
    print(f"load {os.getloadavg()[0]:.1f} at the end, {cores()} cores")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "seam": seam}, indent=1))


def ratios(options: Any) -> Iterator[dict[str, Any]]:
    """Median times of each model and scheme, printed as they come."""
    for model, scheme in product(options.models, options.schemes):
        times: dict[int, list[Times]] = {1: [], options.workers: []}
        for _ in range(options.runs):
            for workers, found in times.items():
                settings = Settings(
                    sparsity=0.7,
                    scheme=scheme,
                    samples=options.samples,
                    threads=options.threads,
                    workers=workers,
                )
                found.append(timed(model, settings))
        medians = {
            workers: Times(*map(statistics.median, zip(*found, strict=True)))
            for workers, found in times.items()
        }
        one, several = medians.values()
        for workers, each in medians.items():
            print(
                f"{model:12} {scheme:9} {workers} processes: curves {each.curves:6.2f} s, pass "
                f"{each.one_pass:6.2f} s; processor time {each.here:6.2f} s, of workers "
                f"{each.workers:6.2f} s",
                flush=True,
            )
        print(
            f"{model:12} {scheme:9} ratio: curves {one.curves / several.curves:.2f}, pass "
            f"{one.one_pass / several.one_pass:.2f}",
            flush=True,
        )
        yield {"model": model, "scheme": scheme, "one": one, "several": several}


def timed(model: str, settings: Settings) -> Times:
    """What a run takes, once its samples are open and its workers have started."""
    data = sample_file(model, "calib.h5")
    dense = dense_model(sample_file(model, "model.onnx"), data, settings)
    children = processor_seconds(resource.RUSAGE_CHILDREN)
    with opened_run(dense, data, settings, Silent()) as run:
        importance = run.context.dense_importance  # before the time begins
        for results in [run.context.executor.map(echo, [0]) for _ in range(settings.workers)]:
            list(results)
        here, begun = processor_seconds(resource.RUSAGE_SELF), time.perf_counter()
        first = starting_point(run.context, run.samples)
        measured = time.perf_counter()
        assert first.allocations is not None
        prune_pass(run.context, first.samples, first.allocations[0], importance, first.warm)
        ended, here = time.perf_counter(), processor_seconds(resource.RUSAGE_SELF) - here
    workers = processor_seconds(resource.RUSAGE_CHILDREN) - children
    return Times(measured - begun, ended - measured, here, workers)


def processor_seconds(who: int) -> float:
    """Processor time of this process, or of those that it has waited for."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def seam_seconds() -> float:
    """Seconds that a job costs that does nothing, by the executor of this process."""
    begun = time.perf_counter()
    groups = ((number,) for number in range(JOBS))
    for _ in in_order(SerialExecutor(silent), echo, groups):
        pass
    return (time.perf_counter() - begun) / JOBS


def parcel_seconds() -> float:
    """Seconds that a worker's job costs that does nothing but to give an array back."""
    array = np.zeros(PARCEL_BYTES // 4, np.float32)
    with ProcessExecutor(1, 1, (echo,)) as executor:
        list(executor.map(echo, [array]))
        begun = time.perf_counter()
        for _ in range(5):
            list(executor.map(echo, [array]))
        return (time.perf_counter() - begun) / 5


if __name__ == "__main__":
    main()
