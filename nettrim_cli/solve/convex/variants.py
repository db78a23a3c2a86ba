"""The convex program as a run asks for it: with a fixed bias, and with a risk in the last layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from nettrim_cli.solve.admm import Progress
from nettrim_cli.solve.convex.net_trim import solve_net_trim
from nettrim_cli.solve.problem import LayerProblem, Solution


def solve_convex(
    problem: LayerProblem,
    progress: Progress | None = None,
    *,
    one_sided: bool = False,
    rounds: int = 1,
) -> Solution:
    """Solve a layer's convex program.

    A fixed bias (``problem.fixed_bias``) is part of the response, ``U'X + b``, has no price and
    stays as it is, as in the authors' code for convolutions.  Otherwise it is a row of U, as in
    their code for other layers.

    Parameters
    ----------
    problem
        The layer's problem.
    progress, one_sided, rounds
        As for ``solve_net_trim``.
    """
    if problem.fixed_bias and problem.has_bias:
        weights = solve_convex(without_bias(problem), progress, one_sided=one_sided, rounds=rounds)
        return replace(weights, U=np.vstack([weights.U, problem.W[-1:]]))
    solve = partial(solve_net_trim, progress=progress, one_sided=one_sided, rounds=rounds)
    if problem.risk == 1 or problem.samples.inputs_exact or problem.keep is not None:
        return solve(problem)
    risked = replace(problem, gamma=problem.risk * problem.gamma)
    solution = solve(risked)
    if not solution.status.leaves_dense:
        return solution
    note = f"no weights were found within {problem.risk:g} of its epsilon, so it has all of it"
    whole = solve(problem)
    return whole if whole.note else replace(whole, note=note)


def without_bias(problem: LayerProblem) -> LayerProblem:
    """The same problem for the weights alone: the bias moves from the results to the shift."""
    bias = problem.W[-1].astype(np.float64)
    scale = 1.0 if problem.scale is None else problem.scale
    shift = 0.0 if problem.shift is None else problem.shift
    column = bias.astype(np.float32)[:, None]
    samples = problem.samples
    return replace(
        problem,
        W=problem.W[:-1],
        has_bias=False,
        samples=replace(samples, Z=samples.Z - column, holdout_Z=samples.holdout_Z - column),
        shift=np.asarray(shift + scale * bias),
        start=None if problem.start is None else problem.start[:-1],
    )
