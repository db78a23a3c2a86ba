"""The default method: fewest weights by ADMM in Gram space, then the best weights on them.

1. ADMM with the prox of the penalty (keep-k by default) finds a support for the linear response.
   It is over-relaxed, and rho grows from .02 to 1.2, so that early iterations exchange weights
   freely and late ones settle.
2. The weights on the support are refitted: exactly for the linear response and, where an
   activation follows, also for the response after it.
3. In a cascade the target may ask the layer to repair all, half or none of the error that
   arrives from earlier layers.
4. The held-out samples choose: the damping where samples are few, the target of the cascade, the
   kind of refit, or none: the dense weights of largest scaled magnitude as they are.

A layer that keeps all weights may still be refitted to the same targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nettrim_cli.reasons import Reason
from nettrim_cli.solve.admm import Progress
from nettrim_cli.solve.gram.feedback import (
    ESTIMATE_COLUMNS,
    ErrorFeedback,
    describe_feedback,
    estimated_error,
    feedback_options,
    holdout_error,
    middle_feedback,
)
from nettrim_cli.solve.gram.scaled_problem import ScaledProblem
from nettrim_cli.solve.gram.schedules import SEARCH_ITERATIONS, rho_schedule
from nettrim_cli.solve.levels import fewest_weights
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import KeepLargest, Penalty
from nettrim_cli.solve.problem import LayerProblem, Solution, Status, TunedOptions

NOT_REFITTED = "not refitted"
UNPRUNED = "kept whole: zeros cost less elsewhere"
NOT_SPARSER = Reason("not-sparser", "no sparser weights within epsilon")
NO_NUMBER = Reason("errors-not-finite", "the error of sparser weights is no number")


class Candidate(NamedTuple):
    """Weights that may be a layer's.

    Attributes
    ----------
    error
        Held-out error, by which candidates are compared.
    U
        Shape of the problem's W.
    note
        How the weights came about.
    tuned
        The same for a next solve; None where no refit is to be repeated.
    """

    error: float
    U: Matrix
    note: str
    tuned: TunedOptions | None = None


def solve_l0(
    problem: LayerProblem, progress: Progress | None = None, *, penalty: Penalty | None = None
) -> Solution:
    """Prune a layer to ``problem.keep`` weights, or to the fewest within ``problem.epsilon``.

    Parameters
    ----------
    problem
        The layer's problem.
    progress
        Called after each iteration.
    penalty
        The supports that are allowed, in place of both targets; the problem's count by default.

    Returns
    -------
    Solution
        ``solved`` with at most ``keep`` weights, or with calibration and held-out error within
        epsilon; ``dense`` where no sparser weights are.
    """
    if problem.samples.unusable_reason:
        return Solution.dense(problem, problem.samples.unusable_reason)
    keep, solves, allowed = problem.keep, 0, math.inf
    rivals: list[Candidate] = []
    if penalty is None:
        if keep is None:
            allowed = _allowed(problem)
            keep, solves, rivals = _search(problem, allowed, progress)
        if keep >= problem.nonzeros:
            if problem.keep is None:
                return Solution.dense(problem, NOT_SPARSER)
            best = min(_unpruned(problem), key=lambda rival: rival.error)
            return Solution(best.U, Status.SOLVED, note=best.note, tuned=best.tuned)
        penalty = KeepLargest(keep)
    scaled = ScaledProblem.tuned(problem, penalty)
    rivals += candidates(scaled, penalty, progress)
    rivals = [rival for rival in rivals if math.isfinite(rival.error)]
    if allowed < math.inf:  # the search's own weights are among them
        rivals = [rival for rival in rivals if problem.error(rival.U, holdout=False) <= allowed]
    if not rivals:
        return Solution.dense(problem, NO_NUMBER)
    best = min(rivals, key=lambda rival: rival.error)
    iterations = len(scaled.schedule) * min(2, len(feedback_options(problem)))
    iterations += solves * len(rho_schedule(SEARCH_ITERATIONS, *scaled.start.shape))
    return Solution(best.U, Status.SOLVED, iterations, note=best.note, tuned=best.tuned)


class ErrorCurve(NamedTuple):
    """A layer's held-out error at several counts, weights for some, and the damping of both."""

    errors: list[float]
    weights: dict[int, Matrix]
    delta: float | None


def error_curve(
    problem: LayerProblem, keeps: Sequence[int], with_weights: Sequence[int] | None = None
) -> ErrorCurve:
    """Held-out error at several counts, and weights, from one warm-started path.

    Errors must not rise with the count: where the path found better weights for a smaller count,
    a larger one takes those.

    Parameters
    ----------
    problem
        The layer's problem.
    keeps
        Numbers of weights.
    with_weights
        The counts whose weights are returned, all by default.
    """
    returned = set(keeps if with_weights is None else with_weights)
    nonzeros = problem.nonzeros
    order = sorted({keep for keep in keeps if keep < nonzeros}, reverse=True)
    errors = {
        keep: holdout_error(problem, problem.W, ESTIMATE_COLUMNS)
        for keep in keeps
        if keep >= nonzeros
    }
    weights = dict.fromkeys(returned.intersection(errors), problem.W)
    passed: list[int] = []
    delta = None
    if order:
        scaled = ScaledProblem.tuned(problem, KeepLargest(order[len(order) // 2]))
        delta = scaled.system.delta
        for keep, V in zip(order, scaled.path(scaled.rhs(ErrorFeedback()), order), strict=False):
            U = scaled.linear_weights(V, ErrorFeedback()).astype(problem.W.dtype)
            passed.append(keep)
            errors[keep] = error = holdout_error(problem, U, ESTIMATE_COLUMNS)
            improved = [count for count in passed if error < errors[count] or count == keep]
            errors.update(dict.fromkeys(improved, error))
            weights.update(dict.fromkeys(returned.intersection(improved), U))
    return ErrorCurve([errors[keep] for keep in keeps], weights, delta)


def candidates(
    scaled: ScaledProblem, penalty: Penalty, progress: Progress | None = None
) -> Iterator[Candidate]:
    """Weights for the best error feedback, with each refit and without any.

    The feedbacks are compared on one support, that of their mean, which costs a refit each; the
    best gets a support of its own.  With tuned options only these are tried.
    """
    problem = scaled.problem
    options, feedback = feedback_options(problem), middle_feedback(problem)
    V = scaled.find_support(scaled.rhs(feedback), penalty, progress)
    if len(options) > 1:
        refits = dict(scaled.refits(V, options))
        errors = {
            option: estimated_error(problem, scaled.linear_weights(refits[option], option))
            for option in options
        }
        feedback = min(options, key=lambda option: errors[option])
        if feedback != middle_feedback(problem):
            yield _linear(scaled, feedback, refits[feedback])
            V = scaled.find_support(scaled.rhs(feedback), penalty, progress)
    yield from _refitted(scaled, feedback, V)
    if problem.tuned_sparse is None:
        U = scaled.magnitude_baseline(penalty)
        yield Candidate(holdout_error(problem, U), U, NOT_REFITTED)


def _refitted(scaled: ScaledProblem, feedback: ErrorFeedback, V: Matrix) -> Iterator[Candidate]:
    """Weights on the support of V, and those refitted for the response where it is not linear."""
    problem, tuned = scaled.problem, scaled.problem.tuned_sparse
    if tuned is None or not tuned.after_activation:
        yield _linear(scaled, feedback, V)
    nonlinear = problem.relu or problem.activation is not None
    if nonlinear and (tuned is None or tuned.after_activation):
        U = scaled.response_weights(V, feedback)
        refit = "ReLU refit" if problem.relu else "activation's refit"
        note = f"{describe_feedback(problem, feedback)}, {refit}".lstrip(", ")
        options = _options(scaled, feedback, after_activation=True)
        yield Candidate(_rival_error(problem, U), U, note, options)


def _unpruned(problem: LayerProblem) -> Iterator[Candidate]:
    """All weights as they are, or refitted to repair the errors of earlier layers.

    Their tuned options do not serve fewer weights, which are refitted in other ways, too.
    """
    tuned, exact = problem.tuned_unpruned, problem.samples.inputs_exact
    if tuned is None or not any(tuned.feedback):
        unchanged = TunedOptions((0.0, 0.0), 0.0, False, inputs_exact=exact, unpruned=True)
        yield Candidate(holdout_error(problem, problem.W), problem.W, UNPRUNED, unchanged)
    skip = problem.samples.skip
    if exact and (skip is None or skip.exact):
        return
    scaled = ScaledProblem.of(problem)
    options = feedback_options(problem) if tuned is None else [ErrorFeedback(*tuned.feedback)]
    repairing = [feedback for feedback in options if any(feedback)]
    for feedback, V in scaled.refits(scaled.start, repairing):
        U = scaled.linear_weights(V, feedback, keep_dead=True)
        error = holdout_error(problem, U)
        if math.isfinite(error):
            delta, note = scaled.system.delta, describe_feedback(problem, feedback)
            refitted = TunedOptions(feedback, delta, False, inputs_exact=exact, unpruned=True)
            yield Candidate(error, U, f"kept whole, {note}", refitted)


def _linear(scaled: ScaledProblem, feedback: ErrorFeedback, V: Matrix) -> Candidate:
    """The candidate of weights V that were refitted for the linear response."""
    U = scaled.linear_weights(V, feedback)
    note = describe_feedback(scaled.problem, feedback)
    options = _options(scaled, feedback, after_activation=False)
    return Candidate(_rival_error(scaled.problem, U), U, note, options)


def _rival_error(problem: LayerProblem, U: Matrix) -> float:
    """The held-out error; 0 where tuned options leave no rivals and U is finite."""
    if problem.tuned_sparse is None:
        return holdout_error(problem, U)
    return 0.0 if np.isfinite(U).all() else math.nan


def _options(
    scaled: ScaledProblem, feedback: ErrorFeedback, *, after_activation: bool
) -> TunedOptions:
    exact = scaled.problem.samples.inputs_exact
    return TunedOptions(feedback, scaled.system.delta, after_activation, exact)


def _allowed(problem: LayerProblem) -> float:
    """Epsilon and the error that arrives from earlier layers, as a root of squares."""
    assert problem.epsilon is not None
    return math.hypot(problem.epsilon, holdout_error(problem, problem.W))


def _search(
    problem: LayerProblem, allowed: float, progress: Progress | None
) -> tuple[int, int, list[Candidate]]:
    """Fewest weights whose errors are within ``allowed``, the solves, and the weights found.

    The search tries no weights at all first, as its logarithms never come to 0.
    """
    scaled = ScaledProblem.tuned(problem, KeepLargest(problem.weight_count // 5))
    feedback = middle_feedback(problem)
    rhs, schedule = scaled.rhs(feedback), rho_schedule(SEARCH_ITERATIONS, *scaled.start.shape)
    note = describe_feedback(problem, feedback)
    best: dict[int, Candidate] = {}

    def error_at(keep: int) -> float:
        """The smallest error of a count: the larger of the held-out and the calibration error."""
        penalty, smallest = KeepLargest(keep), math.inf
        V = scaled.find_support(rhs, penalty, progress, schedule)
        for U, how in (
            (scaled.linear_weights(V, feedback), note),
            (scaled.magnitude_baseline(penalty), NOT_REFITTED),
        ):
            error = holdout_error(problem, U)
            larger = max(error, problem.error(U, holdout=False))
            if larger < smallest:
                smallest, best[keep] = larger, Candidate(error, U, how)
        return smallest

    if error_at(0) <= allowed:
        keep, solves = 0, 0
    else:
        keep, solves = fewest_weights(error_at, allowed, problem.weight_count)
    return keep, solves, [best[keep]] if keep in best else []
