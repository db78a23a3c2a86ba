"""Layers solved in several processes against one: ratios of times, and what the seam costs.

For each model, curves are measured and a pass is made over the layers, in one process and in
workers, by turns: wall times of each, and their ratio.  What the rest of a run does, such as the
refit and the certificate, is left out: it has no workers.  The seam is what it takes to give a job
to an executor in this process, and a parcel's way to a worker and back.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from benchmarks.common import arguments, cores, machine, sample_file
from nettrim_cli.execution.executor import in_order, silent
from nettrim_cli.execution.processes import ProcessExecutor
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.preview.opened_run import dense_model, opened_run
from nettrim_cli.pruning.layerwise import prune_pass
from nettrim_cli.pruning.measurement import starting_point
from nettrim_cli.report.progress.listener import Silent
from nettrim_cli.settings import Settings

PARCEL_BYTES = 32 << 20
JOBS = 20_000


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    print(machine(options.threads), f"load {os.getloadavg()[0]:.1f} at the start")
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
    """Times of each model and scheme, printed as they come."""
    print(f"{'model':12} {'scheme':9} {'part':7} {'1 (s)':>7} {options.workers:>5} (s)  ratio")
    for model, scheme in product(options.models, ("parallel", "cascade")):
        times: dict[int, list[tuple[float, float]]] = {1: [], options.workers: []}
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
        for number, part in enumerate(("curves", "pass")):
            one, several = (
                statistics.median(pair[number] for pair in found) for found in times.values()
            )
            print(
                f"{model:12} {scheme:9} {part:7} {one:7.2f} {several:9.2f}  {one / several:5.2f}",
                flush=True,
            )
            yield {"model": model, "scheme": scheme, "part": part, "one": one, "several": several}


def timed(model: str, settings: Settings) -> tuple[float, float]:
    """Seconds of the curves, and of a pass over the layers."""
    data = sample_file(model, "calib.h5")
    dense = dense_model(sample_file(model, "model.onnx"), data, settings)
    with opened_run(dense, data, settings, Silent()) as run:
        assert run.context.dense_importance is not None  # measured before the time begins
        begun = time.perf_counter()
        first = starting_point(run.context, run.samples)
        measured = time.perf_counter()
        assert first.allocations is not None
        importance = run.context.dense_importance
        prune_pass(run.context, first.samples, first.allocations[0], importance, first.warm)
        return measured - begun, time.perf_counter() - measured


def seam_seconds() -> float:
    """Seconds that a job costs that does nothing, by the executor of this process."""
    begun = time.perf_counter()
    jobs = ((number,) for number in range(JOBS))
    for _ in in_order(SerialExecutor(silent), nothing, jobs):
        pass
    return (time.perf_counter() - begun) / JOBS


def parcel_seconds() -> float:
    """Seconds that a worker's job costs that does nothing but to give an array back."""
    array = np.zeros(PARCEL_BYTES // 4, np.float32)
    with ProcessExecutor(1, 1, (nothing,)) as executor:
        list(executor.map(nothing, [array]))
        begun = time.perf_counter()
        for _ in range(5):
            list(executor.map(nothing, [array]))
        return (time.perf_counter() - begun) / 5


def nothing(job: Any, _: Any) -> Any:
    """A job that gives back what it is given."""
    return job


if __name__ == "__main__":
    main()
