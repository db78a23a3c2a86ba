"""One layer as a job: a pure function from what was recorded of it to its sparse weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nettrim_cli.execution.executor import Callback, silent
from nettrim_cli.pruning.blocks import joint_errors, nonzeros, weights_of, within_ceiling
from nettrim_cli.pruning.curve_job import share_zeros
from nettrim_cli.reasons import Reason
from nettrim_cli.solve.gram.l0 import NOT_SPARSER, solve_l0
from nettrim_cli.solve.gram.rounding import round_solution
from nettrim_cli.solve.gram.shrunk import solve_shrunk
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.patterns import pattern
from nettrim_cli.solve.problem import LayerProblem, Solution


@dataclass(frozen=True)
class ErrorBudget:
    """As few weights as a relative response error of ``epsilon`` allows in each block."""

    epsilon: float


@dataclass(frozen=True)
class ZerosBudget:
    """So many zeros in all blocks together, anywhere or in a pattern (``solve.penalties``)."""

    zeros: int
    pattern: str | None = None


@dataclass(frozen=True)
class UnitsBudget:
    """The inputs that stay of each block, and the rank of its weights.

    Attributes
    ----------
    rows
        (n,) numbers of the inputs of each block.
    ranks
        Of each block; None for any.
    folds
        Rows of each block that are put beside each other before the rank is taken.
    """

    rows: tuple[Matrix, ...]
    ranks: tuple[int | None, ...]
    folds: tuple[int, ...]


Budget = ErrorBudget | ZerosBudget | UnitsBudget


@dataclass(frozen=True)
class LayerJob:
    """A layer to prune, block by block.

    Attributes
    ----------
    problems
        One for each block, without a target.
    bounds
        Fewest and most zeros of all blocks together.
    method
        Key of ``solve.methods.METHODS``.
    bits
        Of the weights that stay, see ``solve.gram.rounding``; None for all bits.
    """

    problems: tuple[LayerProblem, ...]
    budget: Budget
    bounds: tuple[int, int]
    method: str
    bits: int | None = None


@dataclass(frozen=True)
class LayerResult:
    """What came of a job.

    Attributes
    ----------
    solutions
        One for each block.
    seconds
        That all of them took.
    errors
        Of all blocks together, on the columns that were fitted to and on those held out, see
        ``blocks.joint_error``.
    """

    solutions: tuple[Solution, ...]
    seconds: float
    errors: tuple[float, float]

    def errors_of(
        self, problems: Sequence[LayerProblem], matrices: Sequence[Matrix]
    ) -> tuple[float, float]:
        """The errors of weights (N, M) of each block, which may be those that were found."""
        pairs = zip(self.solutions, matrices, strict=True)
        if all(np.array_equal(solution.U, matrix) for solution, matrix in pairs):
            return self.errors
        return joint_errors(problems, matrices)


def solve_layer(job: LayerJob, progress: Callback = silent) -> LayerResult:
    """Solve all blocks of a layer.  Equal jobs give equal weights, wherever they are solved."""
    start = time.monotonic()
    solutions = within_ceiling(job.problems, _solve_blocks(job, progress), job.bounds[1])
    rounded = tuple(
        round_solution(problem, solution, job.bits)
        for problem, solution in zip(job.problems, solutions, strict=True)
    )
    seconds = time.monotonic() - start
    found = [np.ascontiguousarray(solution.U) for solution in rounded]
    return LayerResult(rounded, seconds, joint_errors(job.problems, found))


def _solve_blocks(job: LayerJob, progress: Callback) -> Sequence[Solution]:
    """Weights of each block: by its error, or where the bounds forbid that by its zeros."""
    if isinstance(job.budget, ZerosBudget):
        return _with_zeros(job, job.budget, progress)
    if isinstance(job.budget, UnitsBudget):
        budget = job.budget
        blocks = zip(job.problems, budget.rows, budget.ranks, budget.folds, strict=True)
        return [
            _guarded(problem, partial(solve_shrunk, problem, rows, rank, fold))
            for problem, rows, rank, fold in blocks
        ]
    epsilon = job.budget.epsilon
    targets = (replace(problem, epsilon=epsilon) for problem in job.problems)
    solutions = [_solve(job, problem, progress) for problem in targets]
    if job.method != "l0":  # it sees to that itself
        solutions = list(map(_or_dense, job.problems, solutions))
    remaining = nonzeros(
        weights_of(problem, solution.U)
        for problem, solution in zip(job.problems, solutions, strict=True)
    )
    zeros = sum(problem.weight_count for problem in job.problems) - remaining
    allowed = min(max(zeros, job.bounds[0]), job.bounds[1])
    return solutions if allowed == zeros else _with_zeros(job, ZerosBudget(allowed), progress)


def _or_dense(problem: LayerProblem, solution: Solution) -> Solution:
    """Weights of a convex program, or the dense ones where they are no fewer."""
    after, before = (nonzeros([weights_of(problem, U)]) for U in (solution.U, problem.W))
    if after < before or solution.status.leaves_dense:
        return solution
    return replace(Solution.dense(problem, NOT_SPARSER), iterations=solution.iterations)


def _with_zeros(job: LayerJob, budget: ZerosBudget, progress: Callback) -> Sequence[Solution]:
    shares = share_zeros(job.problems, budget.zeros)
    return [
        _solve(job, replace(problem, keep=problem.weight_count - share), progress, budget.pattern)
        for problem, share in zip(job.problems, shares, strict=True)
    ]


def _solve(
    job: LayerJob, problem: LayerProblem, progress: Callback, form: str | None = None
) -> Solution:
    if form is None or problem.keep is None:
        return _guarded(problem, partial(METHODS[job.method], problem, progress))
    shape = problem.weight_count // problem.W.shape[1], problem.W.shape[1]
    penalty = pattern(form, shape, problem.keep)
    return _guarded(problem, partial(solve_l0, problem, progress, penalty=penalty))


def _guarded(problem: LayerProblem, solve: Callable[[], Solution]) -> Solution:
    """The solution, or the dense weights where the numbers break down."""
    try:
        # Numbers that are not finite are judged by the status, and told in the report.
        with np.errstate(all="ignore"):
            return solve()
    except np.linalg.LinAlgError as error:
        return Solution.dense(problem, Reason("not-solved", f"not solved: {error}"))
