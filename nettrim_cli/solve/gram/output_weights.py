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
    columns = evenly_spaced(problem.samples.Z.shape[1], ESTIMATE_COLUMNS)
    skip = problem.samples.skip
    A = problem.pre_activation(
        problem.samples.Z[:, columns], None if skip is None else skip.dense[:, columns]
    )
    if problem.relu:
        passed = np.mean((problem.floor < A) & (problem.ceiling > A), axis=1)
    elif problem.activation is not None:
        step = np.float32(STEP)
        rise = problem.activation(A + step) - problem.activation(A - step)
        passed = np.mean(np.square(rise / (2 * step)), axis=1)
    else:
        return np.ones(len(A))
    return np.asarray(np.maximum(passed, LEAST) ** (TRUST / 2), np.float64)
