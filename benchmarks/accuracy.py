"""Accuracy of whole sample models after pruning, without retraining.

`nettrim_cli.pipeline.prune` on calib.h5, then dense and pruned model side by side on test.h5.
"""

from __future__ import annotations

import tempfile
import time
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
from nettrim_cli.errors import NettrimError
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.settings import METHODS, SCHEMES, Settings

FLOORS = {  # top-1 lost by l0 in a cascade, and what it is to come down to
    ("mlp", 0.8): (0.003, 0.001),
    ("mlp", 0.9): (0.006, 0.003),
    ("mlp", 0.95): (0.012, 0.008),
    ("mlp", 0.97): (0.022, 0.015),
    ("lenet", 0.9): (0.010, 0.010),
}
HEADERS = ("model", "target", "method", "scheme", "zeros", "dense", "pruned", "drop (points)")


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--sparsity", nargs="*", type=float, default=[0.8, 0.9, 0.95, 0.97])
    parser.add_argument("--epsilon", nargs="*", type=float, default=[], help="other targets")
    parser.add_argument("--scheme", nargs="+", choices=SCHEMES, default=["cascade", "parallel"])
    parser.add_argument("--method", nargs="+", choices=METHODS, default=["l0"])
    parser.add_argument("--samples", type=int, default=5000, help="of calib.h5, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    targets = [{"sparsity": each} for each in options.sparsity]
    targets += [{"epsilon": each} for each in options.epsilon]
    found = [
        measure(model, target, method, scheme, options)
        for model in options.models
        for target in targets
        for method in options.method
        for scheme in options.scheme
    ]
    print(machine(options.threads), "\n")
    print_table([*HEADERS, "output error", "seconds"], [row(each) for each in found])
    for each in found:
        judge(each)
    write_json(options.json, found)


def measure(
    model: str, target: dict[str, float], method: str, scheme: str, options: Any
) -> dict[str, Any]:
    """Prune a model into a temporary folder and compare it on test.h5."""
    settings = Settings(
        **target,
        method=method,
        scheme=scheme,
        samples=options.samples,
        seed=options.seed,
        threads=options.threads,
    )
    found: dict[str, Any] = {"model": model, "method": method, "scheme": scheme, **target}
    dense = sample_file(model, "model.onnx")
    with tempfile.TemporaryDirectory() as folder, blas_threads(options.threads):
        pruned = Path(folder) / "pruned.onnx"
        begun = time.perf_counter()
        try:
            report = prune(dense, sample_file(model, "calib.h5"), pruned, settings)
        except NettrimError as error:
            return {**found, "failed": str(error)}
        found["seconds"] = time.perf_counter() - begun
        found["zeros"] = report.sparsity
        result = compare(dense, pruned, sample_file(model, "test.h5"), threads=options.threads)
    found["dense"], found["pruned"] = result.reference.accuracy, result.candidate.accuracy
    found["drop"], found["error"] = result.drop, result.error
    return found


def row(each: dict[str, Any]) -> list[Any]:
    """One line of the table."""
    kind = "sparsity" if "sparsity" in each else "epsilon"
    head = [each["model"], f"{kind} {each[kind]:g}", each["method"], each["scheme"]]
    if "failed" in each:
        return [*head, each["failed"][:40], *[None] * 5]
    return [
        *head,
        f"{each['zeros']:.2%}",
        each["dense"],
        each["pruned"],
        100 * each["drop"],
        each["error"],
        each["seconds"],
    ]


def judge(each: dict[str, Any]) -> None:
    """Hold a result against its floor, if it has one."""
    limits = FLOORS.get((each["model"], each.get("sparsity", 0.0)))
    judged = (each["method"], each["scheme"]) == ("l0", "cascade")
    if limits is None or not judged or "failed" in each:
        return
    found = verdict(100 * each["drop"], *(100 * limit for limit in limits))
    print(f"{each['model']}, {each['sparsity']:.0%}, cascade: top-1 points lost {found}")


if __name__ == "__main__":
    main()
