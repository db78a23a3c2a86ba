"""One layer as a job: a pure function from what was recorded of it to its sparse weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nettrim_cli.pruning.allocation import share_zeros
from nettrim_cli.pruning.executors import Callback, silent
from nettrim_cli.pruning.layer_reports import weights_of
from nettrim_cli.pruning.selection import nonzeros, within_ceiling
from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.penalties import pattern
from nettrim_cli.solve.problem import LayerProblem, Solution, Status


@dataclass(frozen=True)
class LayerJob:
    """A layer to prune, block by block.

    Attributes
    ----------
    problems
        One for each block; with ``epsilon`` where ``zeros`` is None.
    zeros
        Zeros of all blocks together; None where epsilon is the target.
    bounds
        Fewest and most zeros of all blocks together.
    method
        Key of ``solve.methods.METHODS``.
    pattern
        Where the zeros may stand; None for anywhere.
    """

    problems: tuple[LayerProblem, ...]
    zeros: int | None
    bounds: tuple[int, int]
    method: str
    pattern: str | None = None


@dataclass(frozen=True)
class LayerResult:
    """What came of a job: a solution for each block, and the seconds that all of them took."""

    solutions: tuple[Solution, ...]
    seconds: float


def solve_layer(job: LayerJob, progress: Callback = silent) -> LayerResult:
    """Solve all blocks of a layer.  Equal jobs give equal weights, wherever they are solved."""
    start = time.monotonic()
    solutions = within_ceiling(job.problems, _solve_blocks(job, progress), job.bounds[1])
    return LayerResult(tuple(solutions), time.monotonic() - start)


def _solve_blocks(job: LayerJob, progress: Callback) -> Sequence[Solution]:
    """Weights of each block, with so many zeros or as epsilon allows within the bounds."""
    zeros = job.zeros
    if zeros is None:
        solutions = [_solve(job, problem, progress) for problem in job.problems]
        zeros = sum(problem.weight_count for problem in job.problems)
        zeros -= sum(
            nonzeros([weights_of(problem, solution.U)])
            for problem, solution in zip(job.problems, solutions, strict=True)
        )
        nearest = min(max(zeros, job.bounds[0]), job.bounds[1])
        if nearest == zeros:
            return solutions
        zeros = nearest
    shares = share_zeros(job.problems, zeros)
    return [
        _solve(job, replace(problem, epsilon=None, keep=problem.weight_count - share), progress)
        for problem, share in zip(job.problems, shares, strict=True)
    ]


def _solve(job: LayerJob, problem: LayerProblem, progress: Callback) -> Solution:
    try:
        # Numbers that are not finite are judged by the status, and told in the report.
        with np.errstate(all="ignore"):
            if job.pattern is None or problem.keep is None:
                return METHODS[job.method](problem, progress)
            shape = problem.weight_count // problem.W.shape[1], problem.W.shape[1]
            penalty = pattern(job.pattern, shape, problem.keep)
            return solve_l0(problem, progress, penalty=penalty)
    except np.linalg.LinAlgError as error:
        return Solution(problem.W, Status.DENSE, note=f"not solved: {error}")
