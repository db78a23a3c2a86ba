"""What files weigh as they lie, and what that costs: compact form against plain, bit by bit equal.

Each sample model is pruned on `calib.h5` with weights of all bits and of fewer, and written plain
and in compact form.  Both run in stock onnxruntime by turns; `test.h5` tells what fewer bits lose.
With `--whole` the smallest files are searched for that smaller layers, zeros and few bits make.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.common import (
    arguments,
    machine,
    print_table,
    sample_file,
    verdict,
    write_json,
)
from nettrim_cli import Settings, prune
from nettrim_cli.data.engine import silent_onnxruntime
from nettrim_cli.evaluation.comparison import sizes
from nettrim_cli.pipeline import compare, convert

PEAK = """import sys
from benchmarks.peak import peak_bytes
from nettrim_cli.data.engine import silent_onnxruntime
onnxruntime = silent_onnxruntime()
before = peak_bytes()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(peak_bytes() - before)
"""
ROUNDS, BATCH = 60, 64


FLOORS = {None: (0.135, 0.125), 16: (0.082, 0.078), 8: (0.06, 0.045)}
"""Bytes of dense at 90 % zeros, mlp and lenet: floor and aim, by bits."""

WHOLE = {
    "mlp": (0.018, 0.012),
    "lenet": (0.03, 0.015),
    "resnet": (0.12, 0.08),
    "transformer": (0.1, 0.06),
}
"""Bytes of the smallest files, of the dense one's."""

COLUMNS = ("plain gz", "compact", "compact gz", "error", "drop", "latency", "load", "peak")
"""Bytes and latency over those of the dense file; ms more to load and peak bytes, per MB of it."""


def main() -> None:
    """Print the table, and whether the floors hold."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9])
    parser.add_argument("--whole", action="store_true", help="the table of smallest files")
    options = parser.parse_args()
    print(machine(options.threads), end="\n\n")
    if options.whole:
        smallest_files(options.models, options.threads, options.json)
        return
    figures = [
        measured(model, sparsity, bits, options.threads)
        for model in options.models
        for sparsity in options.sparsity
        for bits in (None, 16, 8, 6, 4, 3)
    ]
    print_table(
        ("model", "zeros", "bits", *COLUMNS),
        [
            [row["model"], row["sparsity"], row["bits"] or "all", *(row[key] for key in COLUMNS)]
            for row in figures
        ],
    )
    whole: dict[str, float] = {}
    for row in figures:
        title = f"{row['model']}, {row['sparsity']:.0%} zeros, {row['bits'] or 'all'} bits"
        if row["bits"] is None:
            whole[row["model"]] = row["drop"]
        elif row["bits"] >= 8:
            added = 100 * (row["drop"] - whole[row["model"]])
            print(f"{title}, points lost more: {verdict(added, 0.1, 0.0)}")
        if row["model"] in ("mlp", "lenet") and row["sparsity"] == 0.9 and row["bits"] in FLOORS:
            print(f"{title}, bytes of dense: {verdict(row['compact'], *FLOORS[row['bits']])}")
        print(f"{title}, latency of plain: {verdict(row['latency'], 1.03, 1.0)}")
        print(f"{title}, ms more a MB to load: {verdict(row['load'], 2.0, 1.0)}")
    write_json(options.json, figures)


def smallest_files(models: Sequence[str], threads: int, json: Path | None) -> None:
    """Print what is left of each model at some sizes of its compact file."""
    figures = [
        whole(model, share, structure, threads)
        for model in models
        for share in WHOLE[model]
        for structure in ("zeros", "shrink", "shrink+zeros")
    ]
    columns = ("model", "structure", "bits", "zeros", "left", "bytes", "error", "drop")
    print_table(columns, [[row[column] for column in columns] for row in figures])
    fits = [row["bytes"] for row in figures if row["model"] == "mlp" and row["drop"] <= 0.005]
    if fits:
        print(f"mlp within .5 points, bytes: {verdict(min(fits), 66e3, 45e3)}")
    write_json(json, figures)


def whole(model: str, share: float, structure: str, threads: int) -> dict[str, Any]:
    """Figures of the best network whose compact file is a share of the dense one's."""
    dense = sample_file(model, "model.onnx")
    settings = Settings(
        max_bytes=round(share * dense.stat().st_size),
        structure=structure,
        bits="auto",
        refit="network",
        store="compact",
        threads=threads,
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "small.onnx")
        report = prune(dense, sample_file(model, "calib.h5"), output, settings)
        compared = compare(dense, output, sample_file(model, "test.h5"), threads=threads)
        size = output.stat().st_size
    return {
        "model": model,
        "structure": structure,
        "bits": report.mix.bits,
        "zeros": report.mix.zeros,
        "left": 1 - report.sparsity,
        "bytes": size,
        "error": compared.error,
        "drop": compared.drop,
    }


def measured(model: str, sparsity: float, bits: int | None, threads: int) -> dict[str, Any]:
    """Figures of one model."""
    dense, test = sample_file(model, "model.onnx"), sample_file(model, "test.h5")
    with tempfile.TemporaryDirectory() as folder:
        plain, compact = Path(folder, "plain.onnx"), Path(folder, "compact.onnx")
        settings = Settings(sparsity=sparsity, bits=bits, threads=threads)
        prune(dense, sample_file(model, "calib.h5"), plain, settings)
        convert(plain, compact, compact=True)
        whole = dense.stat().st_size
        (_, plain_gzip), (compact_raw, compact_gzip) = (sizes([path]) for path in (plain, compact))
        latency, load = timed(plain, compact, test, threads)
        peaks = [peak(path) for path in (plain, compact)]
        compared = compare(dense, compact, test, threads=threads)
    figures = {
        "plain gz": plain_gzip / whole,
        "compact": compact_raw / whole,
        "compact gz": compact_gzip / whole,
        "error": compared.error,
        "drop": compared.drop,
        "latency": latency,
        "load": load / (whole / 1e6),
        "peak": (peaks[1] - peaks[0]) / whole,
    }
    return {"model": model, "sparsity": sparsity, "bits": bits, **figures}


def timed(plain: Path, compact: Path, data: Path, threads: int) -> tuple[float, float]:
    """Latency of the compact file over the plain one's, and how many ms more it takes to load."""
    onnxruntime = silent_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    sessions, loads, runs = [], [[], []], [[], []]
    for _ in range(9):
        sessions = []
        for path, seconds in zip((plain, compact), loads, strict=True):
            begun = time.process_time()  # a busy machine interrupts
            sessions.append(onnxruntime.InferenceSession(str(path), options))
            seconds.append(time.process_time() - begun)
    name = sessions[0].get_inputs()[0].name
    with h5py.File(data) as file:
        feeds = {name: file[name][:BATCH].astype(np.float32)}
    for _ in range(ROUNDS):
        for session, seconds in zip(sessions, runs, strict=True):
            begun = time.perf_counter()
            session.run(None, feeds)
            seconds.append(time.perf_counter() - begun)
    latency = np.median(np.array(runs[1]) / np.array(runs[0]))
    first, second = (float(np.median(seconds)) for seconds in loads)
    return float(latency), 1000 * (second - first)


def peak(path: Path) -> int:
    """Bytes that loading a model adds to the peak of a new process."""
    command = [sys.executable, "-c", PEAK, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stdout)


if __name__ == "__main__":
    main()
