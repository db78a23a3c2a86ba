"""n:m patterns: nettrim against magnitudes and onnxsim's Wanda and SparseGPT, on the sample models.

All prune the layers that nettrim prunes, to the same pattern along the inputs, on the same samples;
the output error is that on test samples which nobody has seen:

    pip install '.[bench]'
    python -m benchmarks.patterns --models mlp resnet --patterns 2:4 4:8 --table docs/benchmarks.md
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import onnx

from benchmarks.common import MODELS, SAMPLE_MODELS, arguments, machine, print_table, write_json
from benchmarks.few_samples import draw, pruned_layers, test_error, write_table
from benchmarks.peers import Subject
from benchmarks.peers_methods import batches, take_over, with_initializers
from nettrim_cli import Settings, prune

NETTRIM = "nettrim"
PEERS = {
    "magnitude": ("apply_magnitude_pruning", False),
    "onnxsim Wanda": ("apply_wanda_pruning", True),
    "onnxsim SparseGPT": ("apply_sparsegpt_pruning", True),
}
AIM = 1.0  # error to the best peer's, in each cell


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--patterns", nargs="+", default=["2:4", "4:8"])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, too")
    options = parser.parse_args()
    print(machine(options.threads), flush=True)
    rows, figures, worst = [], [], 0.0
    for name in options.models:
        folder = SAMPLE_MODELS / name
        paths = (folder / each for each in ("model.onnx", "calib.h5", "test.h5"))
        model = Subject(name, *paths, home=folder)
        for pattern in options.patterns:
            errors = {}
            for method in (NETTRIM, *PEERS):
                begun = time.process_time()
                errors[method] = error(model, method, pattern, options)
                seconds = time.process_time() - begun
                figures.append({"model": name, "pattern": pattern, "method": method})
                figures[-1] |= {"error": errors[method], "seconds": seconds}
            rows.append([name, pattern, *errors.values()])
            worst = max(worst, errors[NETTRIM] / min(errors[each] for each in PEERS))
    headers = ["model", "pattern", NETTRIM, *PEERS]
    print_table(headers, rows)
    line = f"nettrim over the best peer: worst {worst:.3f} ({'held' if worst < AIM else 'MISSED'})"
    print(line)
    if options.table:
        write_table(options.table, "patterns", headers, rows, [line])
    write_json(options.json, figures)


def error(model: Subject, method: str, pattern: str, options: Any) -> float:
    """Prune by a method, and judge by test samples."""
    with tempfile.TemporaryDirectory() as name:
        calibration, output = Path(name, "calib.h5"), Path(name, "pruned.onnx")
        draw(model.calibration, calibration, options.samples, 0)
        if method == NETTRIM:
            settings = Settings(pattern=pattern, threads=options.threads)
            prune(model.model, calibration, output, settings)
        else:
            import onnxsim

            function, calibrated = PEERS[method]
            n, m = map(int, pattern.split(":"))
            proto = onnx.load(model.model)
            samples = {"calibration_data": batches(proto, calibration)} if calibrated else {}
            found = getattr(onnxsim, function)(with_initializers(proto), n=n, m=m, **samples)
            take_over(proto, found, pruned_layers(model))
            onnx.save(proto, output)
        return test_error(model, output, options.threads)


if __name__ == "__main__":
    main()
