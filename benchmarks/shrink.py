"""Smaller layers on test data: error, accuracy, parameters and latency beside the dense model.

Each sample model is shrunk at some shares of weights, and run beside the dense one, both with one
thread and in turns.  Ratios are medians over the turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.common import SAMPLE_MODELS
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import STRUCTURES, WIDTHS, Settings

BATCH = {"mlp": 64, "lenet": 32, "resnet": 16, "transformer": 16}
FACTORS = {
    "mlp": (9, 13, 18),
    "lenet": (6, 14, 22),
    "resnet": (1.9, 3.0),
    "transformer": (2.2, 3.0),
}
TURNS = 60


def session(path: Path) -> onnxruntime.InferenceSession:
    """A model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def speedup(dense: Path, small: Path, feeds: dict[str, np.ndarray]) -> float:
    """How many times as fast the small model is: the median over turns of the ratio."""
    sessions = [session(dense), session(small)]
    ratios = []
    for turn in range(TURNS + 5):
        seconds = []
        for model in sessions:
            start = time.perf_counter()
            for _ in range(3):
                model.run(None, feeds)
            seconds.append(time.perf_counter() - start)
        if turn >= 5:
            ratios.append(seconds[0] / seconds[1])
    return float(np.median(ratios))


def feeds_of(path: Path, data: Path, batch: int) -> dict[str, np.ndarray]:
    """The first samples of a file for a model's inputs."""
    import h5py

    with h5py.File(data) as file:
        inputs = onnxruntime.InferenceSession(str(path)).get_inputs()
        names = [name for name in file if name in {value.name for value in inputs}]
        chosen = names or [next(name for name in file if file[name].ndim > 1)]
        return {
            value.name: np.asarray(file[name][:batch]).astype(np.float32)
            for value, name in zip(inputs, chosen, strict=True)
        }


def main() -> None:
    """Print a row for each model and factor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(BATCH))
    parser.add_argument("--structure", default="shrink", choices=STRUCTURES)
    parser.add_argument("--refit", default="layers", choices=("layers", "network"))
    parser.add_argument("--widths", default="auto", choices=WIDTHS)
    parser.add_argument("--factors", type=lambda text: [float(x) for x in text.split(",")])
    parser.add_argument("--samples", type=int, default=5000)
    options = parser.parse_args()
    print("| model | times fewer | error | points lost | latency b1 | batch | time | left |")
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name in options.models:
        folder = SAMPLE_MODELS / name
        dense, data, test = folder / "model.onnx", folder / "calib.h5", folder / "test.h5"
        for factor in options.factors or FACTORS[name]:
            with tempfile.TemporaryDirectory() as scratch:
                small = Path(scratch) / "small.onnx"
                settings = Settings(
                    sparsity=1 - 1 / factor,
                    structure=options.structure,
                    refit=options.refit,
                    widths=options.widths,
                    samples=options.samples,
                    threads=1,
                )
                start = time.process_time()
                report = prune(dense, data, small, settings)
                spent = time.process_time() - start
                result = compare(dense, small, test, threads=1)
                ratio = report.weights / max(1, report.nonzeros)
                times = [
                    speedup(dense, small, feeds_of(dense, test, batch))
                    for batch in (1, BATCH[name])
                ]
                left = ", ".join(layer.left for layer in report.layers if layer.left)
                print(
                    f"| {name} | {ratio:.1f} | {result.error:.4f} | {100 * (result.drop or 0):.2f} "
                    f"| {times[0]:.2f} | {times[1]:.2f} | {spent:.0f} | {left} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
