"""Structured pruning: nettrim's smaller layers against onnxsim's, at equal numbers of parameters.

onnxsim removes a share of the units of every layer that it understands, by their norms or by
Wanda's score, and refits the readers by ridge regression where asked.  nettrim removes at least as
many parameters of the same model on the same samples.  The error is that of the outputs on test
samples which nobody has seen:

    pip install '.[bench]'
    python -m benchmarks.structured --models mlp resnet --shares .3 .5 --table docs/benchmarks.md
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from benchmarks.common import MODELS, SAMPLE_MODELS, arguments, machine, print_table, write_json
from benchmarks.few_samples import draw, test_error, write_table
from benchmarks.peers import Subject
from benchmarks.peers_methods import batches, with_initializers
from nettrim_cli import Settings, prune
from nettrim_cli.graph.model import Model

NETTRIM = {"shrink": "layers", "shrink, network refit": "network"}
PEERS = ("structured", "structured + ridge", "Wanda", "Wanda + ridge")
FLOOR, AIM = 0.4, 0.15  # error to the best peer's, in each cell


def main() -> None:
    """Run it."""
    parser = arguments(__doc__)
    parser.add_argument("--models", nargs="+", default=[*MODELS])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.3, 0.5, 0.7])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the table here, too")
    options = parser.parse_args()
    print(machine(options.threads))
    rows, figures, worst = [], [], 0.0
    for name in options.models:
        folder = SAMPLE_MODELS / name
        model = Subject(
            name, folder / "model.onnx", folder / "calib.h5", folder / "test.h5", Path()
        )
        for share in options.shares:
            errors, fewer = compared(model, share, options)
            figures.append({"model": name, "share": share, "fewer": fewer, "errors": errors})
            rows.append([name, f"{share:.0%}", f"{fewer:.2f}x", *errors.values()])
            reached = [errors[peer] for peer in PEERS if math.isfinite(errors[peer])]
            best = min(reached, default=math.nan)
            ratio = errors["shrink"] / best
            worst = max(worst, ratio) if math.isfinite(ratio) else worst
            print(rows[-1], f"{ratio:.3f}", flush=True)
    headers = ["model", "units gone", "parameters", *PEERS, *NETTRIM]
    print_table(headers, rows)
    word = "held" if worst <= FLOOR else "MISSED"
    line = f"shrink over the best peer: worst {worst:.3f} (floor {FLOOR}: {word}; aim {AIM})"
    print(line)
    if options.table:
        write_table(options.table, "structured", headers, rows, [line])
    write_json(options.json, figures)


def compared(model: Subject, share: float, options: Any) -> tuple[dict[str, float], float]:
    """Test errors of all methods, and how many times fewer parameters they have."""
    dense = Model.load(model.model)
    total = dense.count_parameters()[0]
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        calibration, output = Path(scratch, "calib.h5"), Path(scratch, "pruned.onnx")
        draw(model.calibration, calibration, options.samples, 0)
        least = total
        for name, pruned in peers(model, share, calibration):
            try:
                onnx.save(pruned(), output)
                left = Model.load(output).count_parameters()[0]
                untouched = left == total
                errors[name] = math.nan if untouched else test_error(model, output, options.threads)
                least = min(least, left)
            except Exception as error:
                print(f"{model.name} {name}: {type(error).__name__}: {str(error)[:100]}")
                errors[name] = math.nan
        weights = sum(layer.parameters for layer in dense.layers if layer.prunable)
        gone = (total - least) / weights
        for name, refit in NETTRIM.items():
            if gone <= 0:  # peers leave the model as it is
                gone = share / 2
            settings = Settings(
                sparsity=gone, structure="shrink", refit=refit, threads=options.threads
            )
            prune(model.model, calibration, output, settings, force=True)
            errors[name] = test_error(model, output, options.threads)
            left = Model.load(output).count_parameters()[0]
    return errors, total / left


def peers(
    model: Subject, share: float, calibration: Path
) -> list[tuple[str, Callable[[], onnx.ModelProto]]]:
    """Onnxsim's methods by name, each ready to run."""
    import onnxsim

    proto, _ = onnxsim.simplify(with_initializers(onnx.load(model.model)))  # it treats more so
    samples = batches(onnx.load(model.model), calibration)

    def structured() -> onnx.ModelProto:
        """By norms."""
        return onnxsim.apply_structured_pruning(proto, sparsity=share)

    def wanda() -> onnx.ModelProto:
        """By norms times activations."""
        return onnxsim.apply_structured_wanda_pruning(
            proto, sparsity=share, calibration_data=samples
        )

    def refitted(pruned: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
        """With its ridge refit of the readers."""
        return onnxsim.apply_pruning_finetune(proto, pruned(), calibration_data=samples)

    return [
        ("structured", structured),
        ("structured + ridge", lambda: refitted(structured)),
        ("Wanda", wanda),
        ("Wanda + ridge", lambda: refitted(wanda)),
    ]


if __name__ == "__main__":
    main()
