"""Load times of models, and the peak memory of each in a process of its own."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import nettrim_cli
from nettrim_cli.data.deployed import DeployedModel
from nettrim_cli.data.engine import Array
from nettrim_cli.latency.timing import Clock, Patience, time_rounds

WORKER = "nettrim_cli.latency.memory_process"
PATIENT_SECONDS = 600  # of a process that measures memory
LOADING = Patience(seconds=2.0, precision=0.05)


def load_seconds(
    paths: Sequence[Path], threads: int, *, clock: Clock = time.perf_counter
) -> list[float]:
    """Median seconds that it takes to make a session of each model's file, by turns.

    Raises
    ------
    EngineFailed
        onnxruntime cannot load a model.
    """

    def load(path: Path, count: int) -> list[float]:
        """Seconds of some loads."""
        seconds = []
        for _ in range(count):
            start = clock()
            DeployedModel(path, threads=threads)
            seconds.append(clock() - start)
        return seconds

    loads = [lambda count, path=path: load(path, count) for path in paths]
    return [latency.median for latency in time_rounds(loads, LOADING, clock=clock).latencies]


def peak_memory(
    paths: Sequence[Path], feeds: Mapping[str, Array], threads: int
) -> list[int | None]:
    """Bytes that a process takes to load and run each model, beyond one with a model of no size.

    None stands for what could not be measured.

    Parameters
    ----------
    paths
        The models' files.
    feeds
        The batch that they run on.
    threads
        Threads inside an operator.
    """
    baseline = _peak_of(None, feeds, threads)
    peaks = [_peak_of(path, feeds, threads) for path in paths]
    return [None if peak is None or baseline is None else max(0, peak - baseline) for peak in peaks]


def _peak_of(path: Path | None, feeds: Mapping[str, Array], threads: int) -> int | None:
    """Peak memory of a new process that loads and runs one model; None for one of no size."""
    packages = str(Path(nettrim_cli.__file__).parents[1])
    python_path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    try:
        ended = subprocess.run(
            [sys.executable, "-m", WORKER, str(os.getpid())],
            input=pickle.dumps((path, dict(feeds), threads)),
            capture_output=True,
            check=True,
            timeout=PATIENT_SECONDS,
            env={**os.environ, "PYTHONPATH": python_path},
        )
        return int(ended.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
