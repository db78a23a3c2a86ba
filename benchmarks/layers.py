"""Error of each layer of the sample models at equal sparsity, by method.

Every layer is pruned on the dense network's signals (parallel), from the same samples, to the
same number of weights, and judged on samples that no method has seen.  The exit code is 1 where
a floor is missed: nettrim best, or within 1 % of the best, in every cell; and at 70 % zeros a mean
error that is a given share of magnitude's.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.baselines import alps, magnitude, sparsegpt, wanda
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
from nettrim_cli.solve.gram.feedback import ErrorFeedback
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.gram.refit import refit
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.problem import LayerProblem

FLOORS = {"mlp": 1 / 3, "lenet": 1 / 3, "resnet": 0.6, "transformer": 0.6}  # at 70 % zeros
OURS = "nettrim l0"
AIM, FLOOR = 0.95, 1.01  # of the best other's error, in every cell
VERDICTS = ("won by 5 %", "won", "within 1 %", "LOST")

Method = Callable[[LayerProblem, int], Matrix]


def without_bias(prune: Callable[[Matrix, Matrix, int], Matrix]) -> Method:
    """A method that prunes the weights from C and keeps the bias, for a task."""

    def method(task: LayerProblem, keep: int) -> Matrix:
        C, X = task.samples.C, task.samples.X[:-1].astype(np.float64)
        C = X @ X.T if C is None else C[:-1, :-1]
        if not task.has_bias:
            return prune(task.W, C, keep)
        return np.vstack([prune(task.W[:-1], C, keep), task.W[-1:]])

    return method


def refitted(prune: Method) -> Method:
    """A method's support with nettrim's linear refit on it, bias included."""

    def method(task: LayerProblem, keep: int) -> Matrix:
        found = prune(task, keep)
        problem = ScaledProblem.of(task)
        support = (found[:-1] if task.has_bias else found) != 0
        V = refit(problem.system.A, problem.rhs(ErrorFeedback()), support, problem.start)
        return problem.linear_weights(V, ErrorFeedback())

    return method


def nettrim(task: LayerProblem, keep: int) -> Matrix:
    """The default method of nettrim."""
    return solve_l0(replace(task, keep=keep, epsilon=None), None).U


def methods(block: int) -> dict[str, Method]:
    """Every method by name; ``block`` is SparseGPT's."""
    swept = without_bias(lambda W, C, keep: sparsegpt(W, C, keep, block))
    solved = without_bias(alps)
    return {
        "magnitude": without_bias(lambda W, C, keep: magnitude(W, keep)),
        "Wanda": without_bias(wanda),
        "Wanda layer": without_bias(lambda W, C, keep: wanda(W, C, keep, groups="layer")),
        "SparseGPT": swept,
        "SparseGPT+refit": refitted(swept),
        "ALPS": solved,
        "ALPS+refit": refitted(solved),
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
    missed = [model for model in options.models if not mean_held(model, cells)]
    if not summary(cells) or missed:
        sys.exit(1)


def measure(model: str, options: Any) -> list[dict[str, Any]]:
    """Errors and seconds of every method on every layer of a model, at every sparsity."""
    cells, known = [], methods(options.block)
    judged = 1000 if options.judge == "test" else 0
    for layer, task, judge in recorded_layers(
        model, threads=options.threads, judged_samples=judged
    ):
        for sparsity in options.sparsity:
            keep = task.weight_count - round(sparsity * task.weight_count)

            def solve(name: str, task: LayerProblem = task, keep: int = keep) -> Matrix:
                U = known[name](task, keep)
                if np.count_nonzero(U[:-1] if task.has_bias else U) > keep:
                    raise RuntimeError(f"{name} keeps too many weights")
                return U

            cell = raced(model, layer, judge, options.methods, solve)
            cell["sparsity"] = sparsity
            cells.append(cell)
    return cells


def best_other(cell: dict[str, Any]) -> tuple[str, float]:
    """The best of the other methods, and nettrim's error as a share of its."""
    others = {name: error for name, error in cell["errors"].items() if name != OURS}
    name = min(others, key=lambda each: others[each])
    mine = cell["errors"][OURS]
    return name, mine / others[name] if others[name] > 0 else 1.0 if mine == 0 else np.inf


def verdict(ratio: float) -> str:
    """One of VERDICTS."""
    return VERDICTS[0 if ratio <= AIM else 1 if ratio < 1 else 2 if ratio <= FLOOR else 3]


def summary(cells: list[dict[str, Any]]) -> bool:
    """Print how many cells were won and lost; whether none was lost."""
    compared = [cell for cell in cells if OURS in cell["errors"] and len(cell["errors"]) > 1]
    if not compared:
        return True
    ratios = [best_other(cell)[1] for cell in compared]
    counts = Counter(verdict(ratio) for ratio in ratios)
    print(f"{len(compared)} cells:", ", ".join(f"{counts[each]} {each}" for each in VERDICTS))
    mean = float(np.exp(np.mean(np.log(ratios))))
    print(f"nettrim to the best other: geometric mean {mean:.3f}, worst {max(ratios):.3f}")
    for cell, ratio in zip(compared, ratios, strict=True):
        if ratio > FLOOR:
            print(f"LOST {cell['model']} {cell['layer']} {cell['sparsity']:.0%}: {ratio:.3f}")
    return counts[VERDICTS[-1]] == 0


def show(model: str, sparsity: float, cells: list[dict[str, Any]], options: Any) -> None:
    """Print a table of one model at one sparsity."""
    names = options.methods
    compared = OURS in names and len(names) > 1
    rows: list[list[Any]] = []
    for cell in cells:
        name, ratio = best_other(cell) if compared else ("", None)
        shape = "x".join(map(str, cell["shape"]))
        errors = [cell["errors"][each] for each in names]
        found = "" if ratio is None else verdict(ratio)
        rows.append([cell["layer"], shape, cell["columns"], *errors, ratio, name, found])
    means = {name: float(np.mean([c["errors"][name] for c in cells])) for name in names}
    rows.append(["mean", "", None, *means.values(), None, "", ""])
    if "magnitude" in means:
        shares = [each / means["magnitude"] for each in means.values()]
        rows.append(["of magnitude's", "", None, *shares, None, "", ""])
    seconds = [sum(c["seconds"][name] for c in cells) for name in names]
    rows.append(["seconds", "", None, *seconds, None, "", ""])
    print(f"{model}, {sparsity:.0%} zeros in each layer; relative response error ({options.judge})")
    headers = ["layer", "inputs x outputs", "columns", *names, "to best other", "which", "verdict"]
    print_table(headers, rows)


def mean_held(model: str, cells: list[dict[str, Any]]) -> bool:
    """Whether the mean error at 70 % zeros is at most FLOORS' share of magnitude's."""
    at = [c["errors"] for c in cells if c["model"] == model and abs(c["sparsity"] - 0.7) < 1e-9]
    if not at or not {OURS, "magnitude"} <= set(at[0]):
        return True
    ratio = sum(each[OURS] for each in at) / sum(each["magnitude"] for each in at)
    held = ratio <= FLOORS[model]
    found = "held" if held else "MISSED"
    print(f"{model}: nettrim / magnitude {ratio:.3f}, floor {FLOORS[model]:.3f}: {found}")
    return held


if __name__ == "__main__":
    main()
