"""What layers cost at the outputs: bounds to measured errors, and their share of a run's time.

python -m benchmarks.layer_costs mlp:0.9 mlp:net-trim /folder/minilm:0.5
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.common import MODELS, SAMPLE_MODELS
from nettrim_cli.evaluation.certificate import certificate_of
from nettrim_cli.loading import load_models, open_samples, split_samples
from nettrim_cli.pipeline import PRUNE_RUNS, compare, prune
from nettrim_cli.settings import Settings

CELLS = ("mlp:net-trim", *(f"{name}:{sparsity}" for name in MODELS for sparsity in (0.5, 0.9)))
HEAD = ("cell", "layers", "error", "quick", "full", "by norms", "19 of 20", "time %")


def measured(cell: str, samples: int, folder: Path) -> tuple[str, ...]:
    """Bounds to errors, quick on held-out samples and full on test data, and the time of quick."""
    name, _, target = cell.rpartition(":")
    data, output = SAMPLE_MODELS / name, folder / "pruned.onnx"
    convex = target == "net-trim"
    settings = Settings(
        sparsity=None if convex else float(target),
        method="net-trim" if convex else "l0",
        scheme="parallel" if convex else "cascade",
        samples=samples,
        certificate="none",
        no_delete=True,
        threads=1,
    )
    start = time.process_time()
    prune(data / "model.onnx", data / "calib.h5", output, settings, force=True)
    pruned_at = time.process_time()
    models = load_models([data / "model.onnx", output])
    with open_samples(data / "calib.h5", models[0]) as calibration:
        drawn = split_samples(models[0], calibration, settings, 1)
        begun = time.process_time()
        quick = certificate_of(*models, drawn, "quick", PRUNE_RUNS, threads=1)
        share = (time.process_time() - begun) / (pruned_at - start)
    compared = compare(data / "model.onnx", output, data / "test.h5", certificate="full", threads=1)
    full, error = compared.certificate, compared.outputs[0].error
    ratios = [costs.bound / costs.error for costs in (quick.costs.sums[0], full.costs.sums[0])]
    norms = full.outputs[0].bound
    return (
        *(cell, str(len(full.costs.parts)), f"{error:.4f}", *(f"{ratio:.2f}" for ratio in ratios)),
        "nothing" if norms is None else f"{norms / error:.3g}",
        *(f"{found.error / error:.2f}" for found in compared.new_samples[:1]),
        f"{100 * share:.1f}",
    )


def main() -> None:
    """Print a row for each cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=CELLS, help="model or folder:sparsity")
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    print("{:24} {:>6} {:>7} {:>6} {:>6} {:>9} {:>9} {:>7}".format(*HEAD))
    with tempfile.TemporaryDirectory() as folder:
        for cell in arguments.cells:
            row = measured(cell, arguments.samples, Path(folder))
            print("{:24} {:>6} {:>7} {:>6} {:>6} {:>9} {:>9} {:>7}".format(*row), flush=True)


if __name__ == "__main__":
    main()
