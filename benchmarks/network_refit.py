"""``--refit auto`` or ``network`` on test data: output error and processor time to ``layers``.

python -m benchmarks.network_refit mlp:0.9 transformer:0.9:256 lenet:0.5:5000:units --refit auto
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.common import SAMPLE_MODELS
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import Settings

CELLS = (
    *(f"mlp:{sparsity}" for sparsity in (0.9, 0.95, 0.98)),
    *("lenet:0.95", "lenet:0.98", "resnet:0.7", "resnet:0.9", "transformer:0.9"),
    *(f"{cell}:{samples}" for samples in (64, 256) for cell in ("mlp:0.9", "lenet:0.95")),
    *(f"transformer:0.9:{samples}" for samples in (64, 256)),
)


def measured(cell: str, refit: str, folder: Path) -> tuple[float, float]:
    """Output error on test data, and processor seconds of the run."""
    name, sparsity, samples, structure = (*cell.split(":"), "", "")[:4]
    data, output = SAMPLE_MODELS / name, folder / f"{refit}.onnx"
    settings = Settings(
        sparsity=float(sparsity),
        samples=int(samples or 5000),
        structure=structure or "zeros",
        refit=refit,
        threads=1,
    )
    start = time.process_time()
    prune(data / "model.onnx", data / "calib.h5", output, settings, force=True)
    seconds = time.process_time() - start
    compared = compare(data / "model.onnx", output, data / "test.h5", threads=1)
    return float(compared.outputs[0].error), seconds


def main() -> None:
    """Print a row for each cell, and the geometric means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cells", nargs="*", default=CELLS, help="model:sparsity:samples:structure")
    parser.add_argument("--refit", default="auto", choices=("auto", "network"))
    chosen, rows = parser.parse_args(), []
    print(f"{'cell':24} {'without':>8} {'with':>8} {'error':>6} {'time':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for cell in chosen.cells:
            kinds = ("layers", chosen.refit)
            layers, network = (measured(cell, kind, Path(folder)) for kind in kinds)
            ratios = network[0] / layers[0], network[1] / layers[1]
            rows.append(ratios)
            print(f"{cell:24} {layers[0]:8.4f} {network[0]:8.4f} {ratios[0]:6.3f} {ratios[1]:6.2f}")
    means = np.exp(np.mean(np.log(rows), axis=0))
    print(f"{'geometric mean':42} {means[0]:6.3f} {means[1]:6.2f}")


if __name__ == "__main__":
    main()
