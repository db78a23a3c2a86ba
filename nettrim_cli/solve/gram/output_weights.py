"""How much an error of each output matters to the response after the activation."""

from __future__ import annotations

import numpy as np

from nettrim_cli.solve.gram.feedback import ESTIMATE_COLUMNS
from nettrim_cli.solve.matrices import Matrix, evenly_spaced
from nettrim_cli.solve.problem import LayerProblem

LEAST = 1e-3  # share of an output's squared error that the activation passes on, at least
TRUST = 0.75  # power of that share, below 1 as errors also activate inactive units
STEP = 1e-2  # for slopes of activations, whose arguments are of the size of 1


def output_weights(problem: LayerProblem) -> Matrix:
    """(M,) weights of the outputs' linear errors: how much of them the activation passes on.

    A weight is nearly the root mean square of the activation's slope at the dense responses.  For
    a ReLU this is the square root of the share of samples on which the output is active.
    """
    slopes = _slopes(problem)
    if slopes is None:
        return np.ones(problem.W.shape[1])
    passed = np.mean(slopes * slopes, axis=1)
    return np.asarray(np.maximum(passed, LEAST) ** (TRUST / 2), np.float64)


def linear_correlation(problem: LayerProblem) -> Matrix | None:
    """(M, M) of what linear errors of two outputs do, as their weights are positive; or None.

    Errors meet behind the activation only where both pass: the correlation there is multiplied by
    that of the slopes.
    """
    correlation = problem.correlation
    if correlation is None:
        return None
    slopes = _slopes(problem)
    if slopes is not None:
        slopes = slopes.astype(np.float32)
        products = slopes @ slopes.T / np.float32(slopes.shape[1])
        size = np.sqrt(np.maximum(products.diagonal(), LEAST))
        correlation = correlation * (products / np.outer(size, size))
    if problem.scale is not None:
        signs = np.where(problem.scale < 0, -1, 1)
        correlation = correlation * np.outer(signs, signs)
    correlation = correlation.astype(np.float32)
    np.fill_diagonal(correlation, 1)
    return correlation


def _slopes(problem: LayerProblem) -> Matrix | None:
    """(M, P') of the activation at some of the dense responses; None where they all are 1."""
    if not problem.relu and problem.activation is None:
        return None
    columns = evenly_spaced(problem.samples.Z.shape[1], ESTIMATE_COLUMNS)
    skip = problem.samples.skip
    A = problem.pre_activation(
        problem.samples.Z[:, columns], None if skip is None else skip.dense[:, columns]
    )
    if problem.activation is None:
        return np.asarray((problem.floor < A) & (problem.ceiling > A))
    step = np.float32(STEP)
    rise = problem.activation(A + step) - problem.activation(A - step)
    return np.asarray(rise / (2 * step))
