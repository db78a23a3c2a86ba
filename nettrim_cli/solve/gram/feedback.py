"""Error feedback: which share of the error from earlier layers a layer is asked to repair."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.problem import LayerProblem

ESTIMATE_COLUMNS = 2048  # enough to estimate an error or a slope


class ErrorFeedback(NamedTuple):
    """Shares of the error from earlier layers that a layer is asked to repair.

    Attributes
    ----------
    own
        Share of the error that the layer's dense weights make of that of its inputs.
    skip
        Share of the error that a residual connection adds to the results.
    """

    own: float = 1.0
    skip: float = 1.0


def feedback_options(problem: LayerProblem) -> tuple[ErrorFeedback, ...]:
    """The error feedbacks to compare on held-out samples; the tuned one alone where it holds."""
    if problem.tuned_sparse is not None:
        return (ErrorFeedback(*problem.tuned_sparse.feedback),)
    skip = problem.samples.skip
    own_shares = (1.0,) if problem.samples.inputs_exact else (1.0, 0.5, 0.0)
    skip_shares = (1.0,) if skip is None or skip.exact else (1.0, 0.0)
    return tuple(ErrorFeedback(own, share) for own in own_shares for share in skip_shares)


def middle_feedback(problem: LayerProblem) -> ErrorFeedback:
    """The mean of the options, which is never far from the best."""
    own, skip = (np.mean(shares) for shares in zip(*feedback_options(problem), strict=True))
    return ErrorFeedback(float(own), float(skip))


def describe_feedback(problem: LayerProblem, feedback: ErrorFeedback) -> str:
    """Which errors of earlier layers the layer repairs, in words; empty where there are none."""
    skip = problem.samples.skip
    words = [] if problem.samples.inputs_exact else [f"repairs {feedback.own:.0%}"]
    if skip is not None and not skip.exact:
        words.append(f"{feedback.skip:.0%} of the skip's error")
    return ", ".join(words)


def holdout_error(problem: LayerProblem, U: Matrix, max_columns: int | None = None) -> float:
    """Relative error on the held-out columns, or on the calibration columns where it is no number.

    Errors of outputs are weighed by what they do to the network together, where that is known.

    Parameters
    ----------
    U
        Weights, (N, M) or (N+1, M) as the problem's W.
    max_columns
        About so many columns are measured, evenly spaced; all by default.
    """
    error = problem.error(U, holdout=True, max_columns=max_columns, at_outputs=True)
    if math.isfinite(error):
        return error
    return problem.error(U, holdout=False, max_columns=max_columns, at_outputs=True)


def estimated_error(problem: LayerProblem, U: Matrix) -> float:
    """``holdout_error`` of U (N, M) on some columns, inf where it is no number."""
    error = holdout_error(problem, U, ESTIMATE_COLUMNS)
    return error if math.isfinite(error) else math.inf
