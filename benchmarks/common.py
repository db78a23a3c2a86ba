"""What the benchmarks share: the sample models, their recorded layers, tables, the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Batch, Calibration, split
from nettrim_cli.graph.layer import Layer
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import layer_problem, propagate, stages
from nettrim_cli.solve.problem import LayerProblem

Matrix = NDArray[Any]
SAMPLE_MODELS = Path(__file__).resolve().parent.parent / "sample_models"
MODELS = ("mlp", "lenet", "resnet", "transformer")


def arguments(description: str | None, *, models: bool = False) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=(description or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--threads", type=int, default=1, help="threads of BLAS")
    if models:
        parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    return parser


def sample_file(model: str, name: str) -> Path:
    """``model.onnx``, ``calib.h5`` or ``test.h5`` of a sample model."""
    return SAMPLE_MODELS / model / name


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine(threads: int) -> str:
    """One line on where the figures come from."""
    return (
        f"{platform.machine()}, {cores()} cores, {threads} BLAS threads, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )


def gemm_rate(seconds: float = 0.5, size: int = 1024) -> float:
    """Best rate of float32 matrix products on this machine now, in GFLOP/s."""
    random = np.random.default_rng(0)
    A = random.standard_normal((size, size), np.float32)
    B = random.standard_normal((size, size), np.float32)
    out = A @ B
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        np.matmul(A, B, out=out)
        best = max(best, 2e-9 * size**3 / (time.perf_counter() - begun))
    return best


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Hold BLAS to a number of threads."""
    with threadpool_limits(count):
        yield


def recorded_layers(
    name: str, *, threads: int, seed: int = 0, judged_samples: int = 1000
) -> Iterator[tuple[Layer, LayerProblem, LayerProblem]]:
    """Every prunable layer of a sample model with its samples in the dense network.

    Parameters
    ----------
    name
        Folder of the sample model.
    threads, seed
        Threads of onnxruntime; what decides which samples are held out.
    judged_samples
        Samples of ``test.h5`` to judge by; 0 judges by the part of ``calib.h5`` held out.

    Yields
    ------
    layer, task, judge
        The task as nettrim's pipeline makes it from ``calib.h5``, a fifth of it held out, and
        the same with the held-out samples replaced by those to judge by.
    """
    model = Model.load(sample_file(name, "model.onnx"))
    plan = stages([layer for layer in model.layers if layer.prunable])
    options = {"threads": threads, "seed": seed}
    with (
        Calibration.open(sample_file(name, "calib.h5"), model.inputs) as calibration,
        Calibration.open(sample_file(name, "test.h5"), model.inputs) as test,
    ):
        fitted, held = split(calibration.samples, calibration.samples, 0.2, seed)
        size = batch_size(calibration, model, threads)
        own = [
            *_flagged(calibration, fitted, size, False),
            *_flagged(calibration, held, size, True),
        ]
        unseen = np.arange(min(judged_samples, test.samples))
        for_judging = _flagged(test, unseen, size, True)
        others = (
            propagate(model, None, plan, for_judging, **options)
            if judged_samples
            else propagate(model, None, plan, own, **options)
        )
        for stage, strange_stage in zip(
            propagate(model, None, plan, own, **options), others, strict=True
        ):
            for (layer, (samples,)), (_, (stranger,)) in zip(stage, strange_stage, strict=True):
                offset = samples.skip
                if offset is not None and stranger.skip is not None:
                    held = stranger.skip.holdout_pruned
                    offset = replace(offset, holdout_pruned=held, holdout_dense=held)
                strange = replace(
                    samples,
                    holdout_X=stranger.holdout_X,
                    holdout_Z=stranger.holdout_Z,
                    skip=offset,
                )
                yield (
                    layer,
                    layer_problem(model, layer, samples),
                    layer_problem(model, layer, strange),
                )


def _flagged(
    samples: Calibration, indices: NDArray[np.int64], size: int, held_out: bool
) -> list[tuple[Batch, bool]]:
    return [(batch, held_out) for batch in samples.batches(indices, size)]


def raced(
    model: str,
    layer: Layer,
    judge: LayerProblem,
    names: Sequence[str],
    solve: Callable[[str], Matrix],
) -> dict[str, Any]:
    """A benchmark's cell: errors on the judged samples and seconds of each method by name."""
    errors, seconds = {}, {}
    for name in names:
        begun = time.perf_counter()
        U = solve(name)
        seconds[name] = time.perf_counter() - begun
        errors[name] = judge.error(U, holdout=True)
    columns = judge.samples.columns
    return {
        "model": model,
        "layer": layer.name,
        "shape": list(layer.shape),
        "columns": columns,
        "errors": errors,
        "seconds": seconds,
    }


def verdict(figure: float, floor: float, aim: float) -> str:
    """A figure beside what it must not exceed and what it is to come down to."""
    word = "aim reached" if figure <= aim else "held" if figure <= floor else "MISSED"
    return f"{figure:.3f}, floor {floor:.2f}, aim {aim:.2f}: {word}"


def print_table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print columns: text to the left, numbers to the right."""
    cells = [[_spell(each) for each in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    left = [not rows or isinstance(each, str) for each in (rows[0] if rows else headers)]
    print("  ".join(_pad(*each) for each in zip(headers, widths, left, strict=True)).rstrip())
    print("  ".join("-" * width for width in widths))
    for row in cells:
        print("  ".join(_pad(*each) for each in zip(row, widths, left, strict=True)).rstrip())
    print(flush=True)


def write_json(path: Path | None, figures: Any) -> None:
    """Write the figures, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n")


def _spell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) >= 1000 or 0 < abs(value) < 0.001 else f"{value:.4f}"
    return "" if value is None else str(value)


def _pad(text: str, width: int, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)


def echo(job: Any, _: Any) -> Any:
    """A job of an executor that gives back what it is given."""
    return job
