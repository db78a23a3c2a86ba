"""Error of each layer of the sample models after whole inputs are removed, by method.

An input of a convolution is a channel, with all taps of its kernel.  Every layer reads the dense
network's signals (parallel), keeps the same number of inputs by every method, and is judged on
samples that no method has seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common import (
    Matrix,
    arguments,
    blas_threads,
    machine,
    print_table,
    raced,
    recorded_layers,
    write_json,
)
from nettrim_cli.graph.layer import Layer
from nettrim_cli.solve.gram.feedback import ErrorFeedback
from nettrim_cli.solve.gram.row_groups import METHODS, refit_rows, remove_groups
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.top_k import block_sums, top_k_mask

Method = Callable[[ScaledProblem, Matrix, int, int], Matrix]


def by_norm(problem: ScaledProblem, rhs: Matrix, keep: int, size: int, *, refit: bool) -> Matrix:
    """The groups of largest dense weights times root mean square of their inputs."""
    mask = top_k_mask(block_sums(problem.start**2, size, None), keep)
    rows = np.flatnonzero(np.repeat(mask, size))
    if refit:
        return refit_rows(problem.system.A, rhs, rows)
    V = np.zeros_like(problem.start)
    V[rows] = problem.start[rows]
    return V


def chosen(method: str) -> Method:
    """A method of ``nettrim_cli.solve.gram.row_groups``, its inverses computed anew."""

    def solve(problem: ScaledProblem, rhs: Matrix, keep: int, size: int) -> Matrix:
        return remove_groups(problem.system.A, rhs, keep, groups=size, method=method)[0]

    return solve


METHODS_BY_NAME: dict[str, Method] = {
    "norm": lambda *given: by_norm(*given, refit=False),
    "norm+refit": lambda *given: by_norm(*given, refit=True),
    **{name: chosen(name) for name in METHODS},
}


def group_size(layer: Layer) -> int:
    """Rows of the matrix that belong to one input: the taps of a convolution's kernel."""
    return math.prod(layer.geometry.attributes.get("kernel_shape", (1,)))


def main() -> None:
    """Run it."""
    parser = arguments(__doc__, models=True)
    parser.set_defaults(models=["mlp", "lenet", "transformer"])
    parser.add_argument("--removed", nargs="+", type=float, default=[0.5, 0.7, 0.9])
    names = list(METHODS_BY_NAME)
    parser.add_argument("--methods", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--largest", type=int, default=10**6, metavar="N", help="leave wider layers out"
    )
    options = parser.parse_args()
    print(machine(options.threads), "\n")
    cells: list[dict[str, Any]] = []
    with blas_threads(options.threads):
        for model in options.models:
            mine = measure(model, options)
            for removed in options.removed:
                show(model, removed, [c for c in mine if c["removed"] == removed], options)
            cells += mine
    write_json(options.json, cells)


def measure(model: str, options: Any) -> list[dict[str, Any]]:
    """Errors and seconds of every method on every layer with more than four inputs."""
    cells = []
    for layer, task, judge in recorded_layers(model, threads=options.threads):
        size = group_size(layer)
        inputs = layer.shape[0] // size
        if inputs <= 4 or layer.shape[0] > options.largest:
            continue
        if task.samples.C is None:
            print(f"{model}: {layer.name} is left out: too wide for its samples to be summed up")
            continue
        problem = ScaledProblem.of(task)
        rhs = problem.rhs(ErrorFeedback())
        for removed in options.removed:
            keep = inputs - round(removed * inputs)

            def solve(
                name: str,
                problem: ScaledProblem = problem,
                rhs: Matrix = rhs,
                keep: int = keep,
                size: int = size,
            ) -> Matrix:
                V = METHODS_BY_NAME[name](problem, rhs, keep, size)
                if np.count_nonzero(block_sums(V**2, size, None)) > keep:
                    raise RuntimeError(f"{name} keeps too many inputs")
                return problem.linear_weights(V, ErrorFeedback())

            cell = raced(model, layer, judge, options.methods, solve)
            cell |= {"inputs": inputs, "removed": removed}
            cells.append(cell)
    return cells


def show(model: str, removed: float, cells: list[dict[str, Any]], options: Any) -> None:
    """Print a table of one model at one share of inputs removed."""
    names = options.methods
    rows: list[list[Any]] = []
    for cell in cells:
        shape = "x".join(map(str, cell["shape"]))
        errors = [cell["errors"][name] for name in names]
        rows.append([cell["layer"], shape, cell["inputs"], cell["columns"], *errors])
    means = [float(np.mean([c["errors"][name] for c in cells])) for name in names]
    seconds = [sum(c["seconds"][name] for c in cells) for name in names]
    rows.append(["mean", "", None, None, *means])
    rows.append(["seconds", "", None, None, *seconds])
    print(f"{model}, {removed:.0%} of the inputs of each layer removed; relative response error")
    print_table(["layer", "rows x outputs", "inputs", "columns", *names], rows)


if __name__ == "__main__":
    main()
