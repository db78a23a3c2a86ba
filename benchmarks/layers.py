"""Error of each layer of the sample models at equal sparsity, by method.

Every layer is pruned on the dense network's signals (parallel), from the same samples, to the
same number of weights, and judged on samples that no method has seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from baselines import magnitude, sparsegpt, wanda
from common import (
    Matrix,
    arguments,
    blas_threads,
    machine,
    print_table,
    recorded_layers,
    write_json,
)

from nettrim_cli.solve.l0 import LayerProblem, solve_l0
from nettrim_cli.solve.refit import refit
from nettrim_cli.solve.task import Task

FLOORS = {"mlp": 1 / 3, "lenet": 1 / 3, "resnet": 0.6, "transformer": 0.6}  # at 70 % zeros
OURS = "nettrim l0"


Method = Callable[[Task, int], Matrix]


def without_bias(prune: Callable[[Matrix, Matrix, int], Matrix]) -> Method:
    """A method that prunes the weights from C and keeps the bias, for a task."""

    def method(task: Task, keep: int) -> Matrix:
        C = task.samples.C[:-1, :-1]
        if not task.has_bias:
            return prune(task.W, C, keep)
        return np.vstack([prune(task.W[:-1], C, keep), task.W[-1:]])

    return method


def refitted(prune: Method) -> Method:
    """A method's support with nettrim's linear refit on it, bias included."""

    def method(task: Task, keep: int) -> Matrix:
        found = prune(task, keep)
        problem = LayerProblem.of(task)
        support = (found[:-1] if task.has_bias else found) != 0
        V = refit(problem.system.A, problem.rhs(1.0), support, problem.start)
        return problem.linear_weights(V, 1.0)

    return method


def nettrim(task: Task, keep: int) -> Matrix:
    """The default method of nettrim."""
    return solve_l0(replace(task, keep=keep, epsilon=None), None).U


def methods(block: int) -> dict[str, Method]:
    """Every method by name; ``block`` is SparseGPT's."""
    swept = without_bias(lambda W, C, keep: sparsegpt(W, C, keep, block))
    return {
        "magnitude": without_bias(lambda W, C, keep: magnitude(W, keep)),
        "Wanda": without_bias(wanda),
        "Wanda layer": without_bias(lambda W, C, keep: wanda(W, C, keep, groups="layer")),
        "SparseGPT": swept,
        "SparseGPT+refit": refitted(swept),
        OURS: nettrim,
    }


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.5, 0.7, 0.8, 0.9, 0.95])
    names = list(methods(1))
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument("--block", type=int, default=128, help="inputs in a block of SparseGPT")
    parser.add_argument(
        "--judge",
        choices=("test", "held"),
        default="test",
        help="by 1,000 samples of test.h5, or by the held-out fifth of calib.h5 that nettrim "
        "also chooses on",
    )
    options = parser.parse_args()
    print(machine(options.threads), "\n")
    cells: list[dict[str, Any]] = []
    with blas_threads(options.threads):
        for model in options.models:
            mine = measure(model, options)
            for sparsity in options.sparsity:
                show(model, sparsity, [c for c in mine if c["sparsity"] == sparsity], options)
            cells += mine
    write_json(options.json, cells)


def measure(model: str, options: Any) -> list[dict[str, Any]]:
    """Errors and seconds of every method on every layer of a model, at every sparsity."""
    cells, known = [], methods(options.block)
    judged = 1000 if options.judge == "test" else 0
    for layer, task, judge in recorded_layers(
        model, threads=options.threads, judged_samples=judged
    ):
        for sparsity in options.sparsity:
            keep = task.weights - round(sparsity * task.weights)
            cell: dict[str, Any] = {
                "model": model,
                "layer": layer.name,
                "shape": list(layer.shape),
                "columns": task.samples.columns,
                "sparsity": sparsity,
                "errors": {},
                "seconds": {},
            }
            for name in options.methods:
                begun = time.perf_counter()
                U = known[name](task, keep)
                cell["seconds"][name] = time.perf_counter() - begun
                cell["errors"][name] = judge.error(U, held=True)
                weights = U[:-1] if task.has_bias else U
                if np.count_nonzero(weights) > keep:
                    raise RuntimeError(f"{name} keeps too many weights in {layer.name}")
            cells.append(cell)
    return cells


def show(model: str, sparsity: float, cells: list[dict[str, Any]], options: Any) -> None:
    """Print a table of one model at one sparsity."""
    names = options.methods
    rows: list[list[Any]] = []
    for cell in cells:
        errors = cell["errors"]
        others = [errors[name] for name in names if name != OURS]
        best = errors[OURS] / min(others) if OURS in errors and others else None
        shape = "x".join(map(str, cell["shape"]))
        row = [cell["layer"], shape, cell["columns"], *(errors[name] for name in names), best]
        rows.append(row)
    means = {name: float(np.mean([c["errors"][name] for c in cells])) for name in names}
    rows.append(["mean", "", None, *means.values(), None])
    if "magnitude" in means:
        rows.append(
            [
                "of magnitude's",
                "",
                None,
                *(each / means["magnitude"] for each in means.values()),
                None,
            ]
        )
    seconds = [sum(c["seconds"][name] for c in cells) for name in names]
    rows.append(["seconds", "", None, *seconds, None])
    print(f"{model}, {sparsity:.0%} zeros in each layer; relative response error ({options.judge})")
    print_table(["layer", "inputs x outputs", "columns", *names, "to best other"], rows)
    if abs(sparsity - 0.7) < 1e-9 and OURS in means and "magnitude" in means:
        ratio, floor = means[OURS] / means["magnitude"], FLOORS[model]
        verdict = "held" if ratio <= floor else "MISSED"
        print(f"{model}: nettrim / magnitude {ratio:.3f}, floor {floor:.3f}: {verdict}\n")


if __name__ == "__main__":
    main()
