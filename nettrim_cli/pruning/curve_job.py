"""What zeros cost in one layer: a pure function of what was recorded of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nettrim_cli.execution.executor import Callback, silent
from nettrim_cli.pruning.blocks import response_size
from nettrim_cli.solve.gram.l0 import error_curve
from nettrim_cli.solve.levels import allocate, interpolate, refine_levels
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem

DENSITIES = (5.0, 2.2, 1.0, 0.5, 0.22)
ALL_DENSITIES = (0.9, 0.6, 0.35, 0.2, 0.1, 0.05, 0.025, 0.01)
PROBED = 0.1  # error of a layer at which it is probed where no sparsity is given


@dataclass(frozen=True)
class CurveJob:
    """A layer whose curve is to be measured, block by block.

    Attributes
    ----------
    problems
        One for each block, without a target.
    sparsity
        Around which the curve is taken; over the whole range if None.
    """

    problems: tuple[LayerProblem, ...]
    sparsity: float | None


@dataclass(frozen=True)
class MeasuredCurve:
    """What came of a job: squares and more of a ``LayerCurve``, and the weights of each block.

    Attributes
    ----------
    weights
        Those by which the layer is weighed, as ``LayerProblem.W``.
    """

    squares: NDArray[np.float64]
    size: float
    deltas: tuple[float | None, ...]
    changed: float
    weights: tuple[Matrix, ...]

    @property
    def facts(self) -> tuple[NDArray[np.float64], float, tuple[float | None, ...], float]:
        """What a ``LayerCurve`` has of it; the weights that came with it may be freed."""
        return self.squares.copy(), self.size, self.deltas, self.changed


def measure_curve(job: CurveJob, _: Callback = silent) -> MeasuredCurve | None:
    """A layer's curve, and the weights by which it is weighed; None where it has none."""
    try:
        return _curve(job.problems, sparsity_levels(job.sparsity), job.sparsity)
    except np.linalg.LinAlgError:
        return None


def _curve(
    problems: Sequence[LayerProblem], levels: NDArray[np.float64], sparsity: float | None
) -> MeasuredCurve:
    nearest_level = None if sparsity is None else int(np.argmin(np.abs(levels - sparsity)))
    probed = range(len(levels)) if nearest_level is None else (nearest_level,)
    block_curves = [_squares(problem, levels, probed) for problem in problems]
    squares = np.sum([block.squares for block in block_curves], axis=0)
    has_holdout = problems[0].samples.holdout_X.shape[1] > 0
    size = sum(response_size(problem, holdout=has_holdout) ** 2 for problem in problems)
    number = nearest_level
    if number is None:
        with np.errstate(divide="ignore"):
            number = int(
                np.argmin(np.abs(np.log(squares) - math.log(max(size, 1e-300) * PROBED**2)))
            )
    weights = tuple(block.weights[number] for block in block_curves)
    deltas = tuple(block.delta for block in block_curves)
    squares = np.asarray(squares, np.float64)
    return MeasuredCurve(squares, size, deltas, float(squares[number]), weights)


def share_zeros(problems: Sequence[LayerProblem], zeros: int) -> list[int]:
    """Zeros of each block of a layer that bring the layer's response least error together."""
    if len(problems) == 1:
        return [zeros]
    sizes = [problem.weight_count for problem in problems]
    levels = sparsity_levels(min(max(zeros / sum(sizes), 1e-6), 1 - 1e-6))
    fine = refine_levels(levels)
    curves = [
        interpolate(levels, _squares(problem, levels, ()).squares, fine) for problem in problems
    ]
    return allocate(curves, sizes, fine, zeros)


def sparsity_levels(sparsity: float | None) -> NDArray[np.float64]:
    """Where the curves are taken: none, and densities around the one asked for, or all."""
    densities: Sequence[float] = ALL_DENSITIES
    if sparsity is not None:
        densities = [min(1.0, (1 - sparsity) * density) for density in DENSITIES]
    return np.array([0.0, *(1 - density for density in densities if density < 1)])


class _Squares(NamedTuple):
    squares: NDArray[np.float64]
    weights: dict[int, Matrix]
    delta: float | None


@np.errstate(all="ignore")  # what comes out is looked at
def _squares(problem: LayerProblem, levels: NDArray[np.float64], probed: Sequence[int]) -> _Squares:
    """Squared response error of a block at each sparsity, not relative; and some weights.

    Parameters
    ----------
    probed
        The levels, by number, whose weights are wanted.
    """
    keeps = [problem.weight_count - round(level * problem.weight_count) for level in levels]
    curve = error_curve(problem, keeps, [keeps[number] for number in probed])
    errors = np.where(
        np.isfinite(curve.errors), curve.errors, 1.0
    )  # no number: all of the response is lost
    size = response_size(problem, holdout=problem.samples.holdout_X.shape[1] > 0)
    squares = np.square(errors * (size if math.isfinite(size) else 1.0))
    return _Squares(
        squares, {number: curve.weights[keeps[number]] for number in probed}, curve.delta
    )
