"""The paper's program to the letter: l1 under the strict ReLU set, bias included, no refit.

    minimise ||U||_1   subject to   U'X in the strict set of the layer's responses

(Aghasi, Abdi, Romberg, "Fast Convex Pruning of Deep Neural Networks", arXiv 1806.06457.)  A layer
that no ReLU follows has the set ``||U'X - Z||_F <= epsilon``.

Parallel, and where nothing before the layer was pruned: epsilon is a share of ||Y||_F and inactive
results stay below V = 0.  Cascade: X is what the pruned layers deliver, V = W'X, and epsilon is
gamma times the error that W itself makes on Omega, so that W is feasible.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from nettrim_cli.reasons import NO_REASON, Reason
from nettrim_cli.solve.admm import Progress, admm
from nettrim_cli.solve.convex.layer_program import LayerProgram, as_program
from nettrim_cli.solve.convex.program import Outcome, solve
from nettrim_cli.solve.convex.sample_space import ALPHA, UNIT, CheapRow, SampleResponse
from nettrim_cli.solve.levels import smallest_epsilon
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import LogSum, WeightedL1
from nettrim_cli.solve.problem import LayerProblem, Solution, Status
from nettrim_cli.solve.responses import NormBall

PROBE_ITERATIONS = 40
RHO = 17.0
ROUNDING = 1e-5  # of a norm in float32, relative
SLACK = 0.4  # of the tolerance, by which weights are to be inside of epsilon
FURTHER = 2.0  # times what weights are outside of epsilon, that they are asked to be nearer then
MORE = (0.02, 0.1, 0.3, 1.0)  # steps of epsilon towards ||Y||, where weights are too many


def solve_net_trim(
    problem: LayerProblem,
    progress: Progress | None = None,
    *,
    one_sided: bool = False,
    rounds: int = 1,
) -> Solution:
    """Solve the paper's program for a layer.

    Parameters
    ----------
    problem
        The layer's problem.
    progress
        Called after iterations.
    one_sided
        Epsilon is for all entries together, the inactive ones included: the same guarantee with
        a larger set, so the l1 norm is never larger.
    rounds
        More than one for reweighted l1: each round is a convex program.  Its prices are the
        tangent of a sum of logarithms at the weights of the round before (see LogSum).

    Returns
    -------
    Solution
        ``solved`` with gap and violation within the problem's tolerance, else another status; gap
        is relative to the objective, violation to epsilon.  With ``problem.keep`` epsilon is
        searched for, to within half a per cent of the weights.
    """
    if problem.samples.unusable_reason:
        return Solution.dense(problem, problem.samples.unusable_reason)
    if problem.keep is not None and problem.keep >= problem.weight_count:
        return Solution(problem.W, Status.SOLVED, note="kept whole: no zeros are asked for")
    layer, started = as_program(problem), time.monotonic()
    with _blas().limit(limits=1):
        if problem.keep is not None:
            epsilon = _epsilon_for(problem, layer, problem.keep, progress, one_sided=one_sided)
            if epsilon == layer.size and time.monotonic() - started > problem.limits.seconds:
                text = "not solved: the time ended in the search for an epsilon"
                return Solution.dense(problem, Reason("limit", text))
        elif problem.samples.inputs_exact or layer.dense_error == 0:
            assert problem.epsilon is not None
            epsilon = problem.epsilon * layer.size
        else:
            epsilon = problem.gamma * layer.dense_error
        programs = Programs.of(problem, layer, progress, one_sided=one_sided, rounds=rounds)
        programs.started = started
        outcome = programs.solve(epsilon)
        if problem.keep is None:
            outside = programs.outside(outcome)
            if 0 < outside < math.inf and not outcome.status.leaves_dense:
                outcome = programs.solve(epsilon, FURTHER * outside, outcome)
        else:
            for share in MORE:
                if _count(problem, programs.weights(outcome)) <= problem.keep:
                    break
                epsilon += share * (layer.size - epsilon)
                outcome = programs.solve(epsilon)
        if failure := programs.failure(outcome):
            status = outcome.status if outcome.status.leaves_dense else Status.DENSE
            dense = Solution.dense(problem, failure)
            return replace(dense, status=status, iterations=outcome.iterations)
        U, violation = programs.weights(outcome), programs.violation(outcome)
    status, reason = outcome.status, NO_REASON
    if problem.keep is not None and _count(problem, U) > problem.keep:
        status = Status.INACCURATE
        text = f"its constraints need more weights than the {problem.keep:,} asked for"
        reason = Reason("more-weights", text)
    return Solution(
        *(U, status, outcome.iterations, outcome.gap, violation),
        note=reason.text,
        reason=reason.code,
    )


@dataclass
class Programs:
    """The convex programs of one layer, at one epsilon after the other.

    Attributes
    ----------
    problem, layer
        The layer's problem, and its data as a program.
    response
        The response set; its ball is that of the last epsilon.
    progress
        Called after iterations.
    rounds
        Programs at each epsilon, each with the tangent at the weights of the one before.
    started
        When; the time limit is that of all programs.
    """

    problem: LayerProblem
    layer: LayerProgram
    response: SampleResponse
    progress: Progress | None
    rounds: int
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def of(
        cls,
        problem: LayerProblem,
        layer: LayerProgram,
        progress: Progress | None,
        *,
        one_sided: bool,
        rounds: int,
    ) -> Programs:
        """Those of a layer.

        Parameters
        ----------
        problem, progress, one_sided, rounds
            As for ``solve_net_trim``.
        layer
            The problem's data.
        """
        ball, threads = NormBall(layer.size), problem.threads
        sets, strict = layer.intervals, not one_sided
        response = SampleResponse(layer.X, sets, ball, strict=strict, threads=threads)
        return cls(problem, layer, response, progress, rounds)

    def solve(self, epsilon: float, nearer: float = 0.0, start: Outcome | None = None) -> Outcome:
        """Solve for the weights within epsilon.

        They come to epsilon less a part of the tolerance, so that those of a program that is
        solved are inside.

        Parameters
        ----------
        epsilon
            Absolute Frobenius error.
        nearer
            A share of it by which weights are to be nearer, beside the tolerance.
        start
            An outcome to begin at.
        """
        tolerance = self.problem.limits.tolerance
        slack = 0.0 if self.problem.keep is not None else SLACK * tolerance + nearer
        self.response.loss = NormBall(epsilon, min(slack, 0.5))
        prices = self.layer.prices / self.response.unit
        nothing = Outcome(np.zeros(prices.shape, np.float32), Status.SOLVED, gap=0.0, violation=0.0)
        if self.outside(nothing) == 0:
            return nothing
        outcome = self._solve(WeightedL1(prices), None if start is None else start.S)
        for _ in range(self.rounds - 1):
            if outcome.status.leaves_dense:
                break
            iterations = outcome.iterations
            tangent = LogSum.of(outcome.S, prices).tangent(outcome.S)
            outcome = self._solve(tangent, outcome.S)
            outcome.iterations += iterations
        if start is not None:
            outcome.iterations += start.iterations
        return outcome

    def _solve(self, penalty: WeightedL1, start: Matrix | None) -> Outcome:
        """Solve one of the programs."""
        layer, response, limits = self.layer, self.response, self.problem.limits
        limits = replace(limits, seconds=limits.seconds - (time.monotonic() - self.started))
        response.cheap = CheapRow.of(response.X, layer.intervals.active, penalty.weights)
        dense = self.problem.W[:, layer.live] * layer.row_scale
        feasible_value = float((np.abs(dense) * layer.prices).sum())
        rho = start_rho(response, layer)
        return solve(response, penalty, rho, self.progress, limits, feasible_value, start)

    def weights(self, outcome: Outcome) -> Matrix:
        """The problem's U of an outcome."""
        return _weights(self.problem, self.layer, self.response, outcome.S)

    def outside(self, outcome: Outcome) -> float:
        """By how much the responses' error exceeds epsilon, relative to it; 0 for its rounding.

        Of an epsilon so small that float32 tells no share of it the tolerance is left.
        """
        residual, unit = self.response.residual(outcome.S), self.response.violation_unit
        error, tiny = math.hypot(residual.shared, residual.exact), unit > self._epsilon
        allowed = self._epsilon + unit * (self.problem.limits.tolerance if tiny else ROUNDING)
        return max(0.0, error - allowed) / max(unit, 1e-30)

    def violation(self, outcome: Outcome) -> float:
        """Distance of the responses from the set, relative to epsilon."""
        residual, unit = self.response.residual(outcome.S), self.response.violation_unit
        shared = max(0.0, residual.shared - self._epsilon)
        return math.hypot(shared, residual.exact) / max(unit, 1e-30)

    @property
    def _epsilon(self) -> float:
        assert isinstance(self.response.loss, NormBall)
        return self.response.loss.epsilon

    def failure(self, outcome: Outcome) -> Reason:
        """Why the dense weights stay in place of an outcome's; empty where they do not."""
        if outcome.status is Status.INFEASIBLE:
            return Reason(
                "infeasible",
                "proved: weights that keep its responses within epsilon have an l1 norm above "
                f"{outcome.bound:.3g}",
            )
        if outcome.status is Status.NOT_FINITE:
            return Reason("solver-not-finite", "the solver left the range of numbers")
        outside = self.outside(outcome) if self.problem.keep is None else 0.0
        if outside > 0:
            return Reason(  # the dense weights keep epsilon, whichever it is
                "limit",
                f"not solved: after {outcome.iterations} iterations {outside:.2%} outside of "
                "epsilon, within which the dense weights are",
            )
        return NO_REASON


def _count(problem: LayerProblem, U: Matrix) -> int:
    """Weights that are not zero, the bias not counted."""
    return int(np.count_nonzero(U[:-1] if problem.has_bias else U))


def _weights(
    problem: LayerProblem, layer: LayerProgram, response: SampleResponse, S: Matrix
) -> Matrix:
    """The problem's U: outputs with scale 0 have no weights, and their dense bias."""
    U = np.zeros(problem.W.shape)
    scale = 1.0 if problem.scale is None else problem.scale[layer.live]
    U[:, layer.live] = S.astype(np.float64) / response.unit / scale / layer.row_scale
    if problem.has_bias:
        U[-1, ~layer.live] = problem.W[-1, ~layer.live]
    return U


def start_rho(response: SampleResponse, layer: LayerProgram) -> float:
    """ADMM's first rho; it does not depend on the units of X and Y.

    Multipliers of weights are of the size of the prices, weights of the size of the responses;
    RHO is for responses a quarter as large (root mean square) as the largest input.
    """
    size, largest = layer.size / math.sqrt(max(1, layer.prices.shape[1])), response.unit / UNIT
    price = float(np.median(layer.prices)) if layer.prices.size else 1.0
    ratio = price * largest / (4 * size) if size > 0 else 1.0
    return RHO / response.unit**2 * ratio


def _epsilon_for(
    problem: LayerProblem,
    layer: LayerProgram,
    keep: int,
    progress: Progress | None,
    *,
    one_sided: bool,
) -> float:
    """The smallest epsilon whose solution has at most ``keep`` weights, found by short solves."""
    response = SampleResponse(
        layer.X,
        layer.intervals,
        NormBall(layer.size),
        strict=not one_sided,
        threads=problem.threads,
    )
    prices = layer.prices / response.unit
    V, rho = np.zeros((len(layer.X), prices.shape[1]), np.float32), start_rho(response, layer)
    ends = time.monotonic() + problem.limits.seconds

    def count_at(epsilon: float) -> int:
        """Weights of the solution for a relative epsilon, after some iterations from the last."""
        nonlocal V
        response.loss = NormBall(epsilon * layer.size)
        S, V, _ = admm(
            response,
            WeightedL1(prices),
            start=V,
            schedule=(rho,) * PROBE_ITERATIONS,
            alpha=ALPHA,
            callback=lambda done, *_: progress(done, PROBE_ITERATIONS) if progress else None,
        )
        return _count(problem, _weights(problem, layer, response, S))

    slack = max(1, problem.weight_count // 200)
    return layer.size * smallest_epsilon(count_at, keep, slack, ends=ends)


@cache
def _blas() -> ThreadpoolController:
    """The libraries of NumPy and SciPy; to look for them takes as long as a small layer."""
    return ThreadpoolController()
