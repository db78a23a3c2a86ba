"""The default method: fewest weights by ADMM in Gram space, then the best weights on them.

1. Supports are found by ADMM with the prox of the penalty (keep-k by default) on the linear
   response, over-relaxed, rho growing from .02 to 1.2, so that early iterations exchange weights
   freely and late ones settle.
2. The kept weights are refitted, exactly for the linear response and, where a ReLU follows,
   also with the inactive responses free to be anything below zero.
3. In a cascade the target may ask the layer to repair all, half or none of the error that
   arrives from earlier layers.
4. The held-out samples choose: the damping where samples are few, the target of the cascade, the
   kind of refit, or none: the dense weights of largest scaled magnitude as they are.

A layer that gives no zeros may still be refitted to the same targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nettrim_cli.solve.gram.scaled_problem import (
    GLANCE,
    SHORT,
    ErrorFeedback,
    Look,
    ScaledProblem,
    judged,
    middle,
    repairs,
    rising,
)
from nettrim_cli.solve.levels import fewest
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import KeepLargest, Penalty
from nettrim_cli.solve.problem import LayerProblem, Solution, Status, TunedOptions

UNFITTED = "not refitted"
WHOLE = "kept whole: zeros cost less elsewhere"

Candidate = tuple[float, Matrix, str, TunedOptions | None]  # held-out error, U, what it is


def solve_l0(
    task: LayerProblem, look: Look | None = None, *, penalty: Penalty | None = None
) -> Solution:
    """Prune a layer to ``task.keep`` weights, or to the fewest within ``task.epsilon``.

    Parameters
    ----------
    look
        Told the iteration and their number.
    penalty
        Which supports are allowed, in place of both targets; the task's count by default.

    Returns
    -------
    Solution
        ``solved`` with at most ``keep`` weights, or with calibration and held-out error within
        epsilon; ``dense`` where no sparser weights are.
    """
    if task.samples.unusable_reason:
        return Solution(task.W, Status.DENSE, note=task.samples.unusable_reason)
    keep, solves, allowed = task.keep, 0, math.inf
    found: list[Candidate] = []
    if penalty is None:
        if keep is None:
            allowed = _allowed(task)
            keep, solves, found = _search(task, allowed, look)
        if keep >= task.nonzeros:
            if task.keep is None:
                return Solution(task.W, Status.DENSE, note="no sparser weights within epsilon")
            _, U, note, choice = min(_kept_whole(task), key=lambda each: each[0])
            return Solution(U, Status.SOLVED, note=note, tuned=choice)
        penalty = KeepLargest(keep)
    problem = ScaledProblem.chosen(task, penalty)
    found += candidates(problem, penalty, look)
    found = [each for each in found if math.isfinite(each[0])]
    if allowed < math.inf:  # the search's own weights are among them
        found = [each for each in found if task.error(each[1], holdout=False) <= allowed]
    if not found:
        return Solution(task.W, Status.DENSE, note="the error of sparser weights is no number")
    _, U, note, choice = min(found, key=lambda each: each[0])
    rounds = len(problem.schedule) * min(2, len(repairs(task)))
    rounds += solves * len(rising(SHORT, *problem.start.shape))
    return Solution(U, Status.SOLVED, rounds, note=note, tuned=choice)


class ErrorCurve(NamedTuple):
    """A layer's held-out error at several counts, weights for some, and the damping of both."""

    errors: list[float]
    weights: dict[int, Matrix]
    delta: float | None


def error_curve(
    task: LayerProblem, keeps: Sequence[int], wanted: Sequence[int] | None = None
) -> ErrorCurve:
    """Held-out error at several counts, and weights, from one warm-started path.

    Errors do not fall as counts do: where the path found better weights for a smaller count,
    a larger one takes those.

    Parameters
    ----------
    wanted
        The counts whose weights are asked for, all by default.
    """
    asked = set(keeps if wanted is None else wanted)
    there = task.nonzeros
    order = sorted({keep for keep in keeps if keep < there}, reverse=True)
    errors = {keep: judged(task, task.W, GLANCE) for keep in keeps if keep >= there}
    weights = dict.fromkeys(asked.intersection(errors), task.W)
    path: list[int] = []
    delta = None
    if order:
        problem = ScaledProblem.chosen(task, KeepLargest(order[len(order) // 2]))
        delta = problem.system.delta
        for keep, V in zip(order, problem.path(problem.rhs(ErrorFeedback()), order)):
            U = problem.linear_weights(V, ErrorFeedback()).astype(task.W.dtype)
            path.append(keep)
            errors[keep] = error = judged(task, U, GLANCE)
            better = [each for each in path if error < errors[each] or each == keep]
            errors.update(dict.fromkeys(better, error))
            weights.update(dict.fromkeys(asked.intersection(better), U))
    return ErrorCurve([errors[keep] for keep in keeps], weights, delta)


def candidates(
    problem: ScaledProblem, penalty: Penalty, look: Look | None = None
) -> Iterator[Candidate]:
    """Weights for the best target, with each refit and without any: held-out error, U, what it is.

    Targets are compared on one support, that of the middle one, which costs a refit each; the
    best gets a support of its own.  Where all is settled, what lost before is not tried again.
    """
    task = problem.task
    tried, repair = repairs(task), middle(task)
    V = problem.supports(problem.rhs(repair), penalty, look)
    if len(tried) > 1:
        refitted = dict(problem.refits(V, tried))
        repair = min(tried, key=lambda each: _compared(problem, each, refitted[each]))
        if repair != middle(task):
            yield _linear(problem, repair, refitted[repair])
            V = problem.supports(problem.rhs(repair), penalty, look)
    yield from _refitted(problem, repair, V)
    if task.tuned_sparse is None:
        U = problem.unfitted(penalty)
        yield judged(task, U), U, UNFITTED, None


def _refitted(problem: ScaledProblem, repair: ErrorFeedback, V: Matrix) -> Iterator[Candidate]:
    """Weights on the support of V, and those refitted for the response where it is not linear."""
    task, settled = problem.task, problem.task.tuned_sparse
    if settled is None or not settled.after_activation:
        yield _linear(problem, repair, V)
    behind = task.relu or task.activation is not None
    if behind and (settled is None or settled.after_activation):
        U = problem.response_weights(V, repair)
        what = "ReLU refit" if task.relu else "activation's refit"
        note = f"{described(task, repair)}, {what}".lstrip(", ")
        yield _against_others(task, U), U, note, _choice(problem, repair, behind=True)


def _kept_whole(task: LayerProblem) -> Iterator[Candidate]:
    """All weights as they are, or refitted to repair what earlier layers did.

    That is no choice for fewer weights: they are refitted in other ways, too.
    """
    settled, exact = task.tuned_unpruned, task.samples.inputs_exact
    if settled is None or not any(settled.feedback):
        choice = TunedOptions(
            (0.0, 0.0), 0.0, after_activation=False, inputs_exact=exact, unpruned=True
        )
        yield judged(task, task.W), task.W, WHOLE, choice
    offset = task.samples.skip
    if not exact or not (offset is None or offset.exact):
        problem = ScaledProblem.of(task)
        tried = repairs(task) if settled is None else [ErrorFeedback(*settled.feedback)]
        for repair, V in problem.refits(problem.start, [each for each in tried if any(each)]):
            choice = TunedOptions(
                repair,
                problem.system.delta,
                after_activation=False,
                inputs_exact=exact,
                unpruned=True,
            )
            U = problem.linear_weights(V, repair, whole=True)
            error, note = judged(task, U), described(task, repair)
            if math.isfinite(error):
                yield error, U, f"kept whole, {note}", choice


def _linear(problem: ScaledProblem, repair: ErrorFeedback, V: Matrix) -> Candidate:
    U = problem.linear_weights(V, repair)
    choice = _choice(problem, repair, behind=False)
    return _against_others(problem.task, U), U, described(problem.task, repair), choice


def _against_others(task: LayerProblem, U: Matrix) -> float:
    """The held-out error; 0 where there are no others, as all is settled, and U is finite."""
    if task.tuned_sparse is None:
        return judged(task, U)
    return 0.0 if np.isfinite(U).all() else math.nan


def _choice(problem: ScaledProblem, repair: ErrorFeedback, *, behind: bool) -> TunedOptions:
    return TunedOptions(repair, problem.system.delta, behind, problem.task.samples.inputs_exact)


def _compared(problem: ScaledProblem, repair: ErrorFeedback, V: Matrix) -> float:
    """The error on some columns, to compare."""
    found = judged(problem.task, problem.linear_weights(V, repair), GLANCE)
    return found if math.isfinite(found) else math.inf


def described(task: LayerProblem, repair: ErrorFeedback) -> str:
    """Which errors of earlier layers are repaired, in words; empty where there are none."""
    offset = task.samples.skip
    words = [] if task.samples.inputs_exact else [f"repairs {repair.own:.0%}"]
    if offset is not None and not offset.exact:
        words.append(f"{repair.skip:.0%} of the skip's error")
    return ", ".join(words)


def _allowed(task: LayerProblem) -> float:
    """Epsilon beside what earlier layers did to this one's response."""
    assert task.epsilon is not None
    arrived = judged(task, task.W)
    return math.hypot(task.epsilon, arrived)


def _search(
    task: LayerProblem, allowed: float, look: Look | None
) -> tuple[int, int, list[Candidate]]:
    """Fewest weights whose errors are within ``allowed``, the solves, and the weights found.

    None at all are tried first, as the search by logarithms never comes to 0.
    """
    problem = ScaledProblem.chosen(task, KeepLargest(task.weight_count // 5))
    repair = middle(task)
    rhs, schedule = problem.rhs(repair), rising(SHORT, *problem.start.shape)
    note = described(task, repair)
    found: dict[int, Candidate] = {}

    def error(keep: int) -> float:
        penalty, best = KeepLargest(keep), math.inf
        V = problem.supports(rhs, penalty, look, schedule)
        for U, what in (
            (problem.linear_weights(V, repair), note),
            (problem.unfitted(penalty), UNFITTED),
        ):
            held = judged(task, U)
            worse = max(held, task.error(U, holdout=False))
            if worse < best:
                best, found[keep] = worse, (held, U, what, None)
        return best

    none = error(0) <= allowed
    keep, solves = (0, 0) if none else fewest(error, allowed, task.weight_count)
    return keep, solves, [found[keep]] if keep in found else []
