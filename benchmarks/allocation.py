"""What sharing out zeros over the layers brings: output errors by the way of allocation.

Every sample model is pruned on calib.h5 to the same share of zeros with each `--allocate`, and held
against the dense model on test.h5.

    python -m benchmarks.allocation --models mlp lenet --sparsity .9
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import (
    arguments,
    blas_threads,
    machine,
    print_table,
    sample_file,
    verdict,
    write_json,
)
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import ALLOCATIONS, Settings

UNIFORM, OURS = "uniform", "network"
FLOOR, AIM = 0.85, 0.6  # geometric mean of `network` over `uniform` at 90 and 95 % zeros


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.9, 0.95])
    options = parser.parse_args()
    found = [
        {"model": model, "sparsity": sparsity, "errors": errors(model, sparsity, options.threads)}
        for model in options.models
        for sparsity in options.sparsity
    ]
    print(machine(options.threads), "\n")
    print_table(["model", "zeros", *ALLOCATIONS, "network / uniform"], [row(e) for e in found])
    print()
    for other in ALLOCATIONS:
        if other != UNIFORM:
            print(f"{other} / uniform, geometric mean: {mean_ratio(found, other):.3f}")
    print(
        f"error of network allocation over uniform: {verdict(mean_ratio(found, OURS), FLOOR, AIM)}"
    )
    write_json(options.json, found)


def errors(model: str, sparsity: float, threads: int) -> dict[str, float]:
    """Largest relative output error on test.h5 for each way of allocation."""
    dense, calibration = sample_file(model, "model.onnx"), sample_file(model, "calib.h5")
    found = {}
    with tempfile.TemporaryDirectory() as folder, blas_threads(threads):
        pruned = Path(folder) / "pruned.onnx"
        for allocate in ALLOCATIONS:
            settings = Settings(sparsity=sparsity, allocate=allocate, threads=threads)
            prune(dense, calibration, pruned, settings, force=True)
            comparison = compare(dense, pruned, sample_file(model, "test.h5"), threads=threads)
            found[allocate] = comparison.error
    return found


def row(each: dict[str, Any]) -> list[Any]:
    """One line of the table."""
    found = each["errors"]
    ratio = found[OURS] / found[UNIFORM]
    return [each["model"], f"{each['sparsity']:.0%}", *found.values(), ratio]


def mean_ratio(found: list[dict[str, Any]], allocate: str) -> float:
    """Geometric mean of an allocation's error over that of uniform shares."""
    ratios = [each["errors"][allocate] / each["errors"][UNIFORM] for each in found]
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


if __name__ == "__main__":
    main()
