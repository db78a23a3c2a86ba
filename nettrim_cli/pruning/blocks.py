"""The blocks of a layer together: their errors, and how many zeros they may have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.problem import LayerProblem, Solution


def joint_errors(
    problems: Sequence[LayerProblem], matrices: Sequence[Matrix]
) -> tuple[float, float]:
    """Errors on the columns that were fitted to and on those held out, see ``joint_error``.

    Parameters
    ----------
    matrices
        (N, M) weights of each block, or (N+1, M) with the bias in the last row.
    """
    with np.errstate(all="ignore"):
        return (
            joint_error(problems, matrices, holdout=False),
            joint_error(problems, matrices, holdout=True),
        )


def joint_error(
    problems: Sequence[LayerProblem], matrices: Sequence[Matrix], *, holdout: bool
) -> float:
    """Relative response error of all blocks together, nan where there are no columns.

    Parameters
    ----------
    matrices
        (N, M) weights of each block, or (N+1, M) with the bias in the last row.
    holdout
        Whether the held-out columns count, or those that were fitted to.
    """
    if len(problems) == 1:
        return problems[0].error(matrices[0], holdout=holdout)
    sizes = [response_size(problem, holdout=holdout) for problem in problems]
    errors = [
        problem.error(matrix, holdout=holdout)
        for problem, matrix in zip(problems, matrices, strict=True)
    ]
    size = math.hypot(*sizes)
    moved = math.hypot(
        *(error * size for error, size in zip(errors, sizes, strict=True) if size != 0)
    )
    return moved / size if size != 0 else max(errors)


def weights_of(problem: LayerProblem, matrix: Matrix) -> Matrix:
    """The weights (N, M) without the bias, which may be in the last row."""
    return matrix[:-1] if problem.has_bias else matrix


def nonzeros(matrices: Iterable[NDArray[Any]]) -> int:
    """Entries that are not zero, of the (N, M) weights of all blocks."""
    return sum(int(np.count_nonzero(matrix)) for matrix in matrices)


def response_size(problem: LayerProblem, *, holdout: bool) -> float:
    """Norm of the dense response on the kept columns, ||Y||_F."""
    return norm(problem.dense_response(holdout=holdout))


def within_ceiling(
    problems: Sequence[LayerProblem], solutions: Sequence[Solution], most: int
) -> list[Solution]:
    """The solutions with dense weights put back where a layer has more zeros than it may.

    Inputs that the layers before have silenced leave weights zero that nobody asked for.  Those
    that carry least come back, and the bias makes up for their mean.
    """
    inner = [slice(None, -1) if problem.has_bias else slice(None) for problem in problems]
    zero = [solution.U[rows] == 0 for solution, rows in zip(solutions, inner, strict=True)]
    excess = sum(np.count_nonzero(mask) for mask in zero) - most
    if excess <= 0:
        return list(solutions)
    matrices = [solution.U.copy() for solution in solutions]
    gone = [
        mask & (problem.W[rows] != 0)
        for problem, mask, rows in zip(problems, zero, inner, strict=True)
    ]
    carried = np.concatenate(
        [_carried(problem)[mask] for problem, mask in zip(problems, gone, strict=True)]
    )
    back = np.zeros(carried.size, bool)
    back[np.argsort(carried, kind="stable")[:excess]] = True
    ends = np.cumsum([np.count_nonzero(mask) for mask in gone])[:-1]
    for problem, U, rows, mask, returned in zip(
        problems, matrices, inner, gone, np.split(back, ends), strict=True
    ):
        more = np.zeros(mask.shape, U.dtype)
        more[mask] = np.where(returned, problem.W[rows][mask], 0)
        U[rows] += more
        if problem.has_bias:
            U[-1] -= problem.samples.X[:-1].mean(axis=1) @ more
    return [replace(solution, U=U) for solution, U in zip(solutions, matrices, strict=True)]


def _carried(problem: LayerProblem) -> NDArray[Any]:
    """What each dense weight adds to the results of its output: its root mean square."""
    X = problem.samples.X[:-1]
    size = X.std(axis=1) if problem.has_bias else np.sqrt(np.square(X).mean(axis=1))
    return np.asarray(np.abs(problem.W[: len(X)]) * size[:, None])
