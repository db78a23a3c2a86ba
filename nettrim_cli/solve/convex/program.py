"""The program ``minimise g(U) + h(||R(U'X)||)`` over all samples, to a proved gap where convex.

Three phases, of which any may be the last:

1. ADMM over all samples, a few steps: they tell which weights and entries are likely to matter.
2. For l1, the neurons' small programs, round by round (``working_set``), where these are cheaper.
3. ADMM over all samples from where it was, with a rho that lowers the larger of gap and violation.

Gap and violation are those of the sparse weights themselves, on all samples.  A penalty without a
polar (keep-k and its like) has no bound; it has converged when its support stays.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.solve.admm import Progress, admm
from nettrim_cli.solve.convex.newton import MOST_STEPS
from nettrim_cli.solve.convex.sample_space import ALPHA, Residual, SampleResponse
from nettrim_cli.solve.convex.working_set import WorkingSet
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import ConvexPenalty, SupportConstraint, WeightedL1
from nettrim_cli.solve.problem import Limits, Status
from nettrim_cli.solve.responses import NormBall

WARM = 20  # steps of the first phase
CHECK = 10
INNER = 40, 30  # iterations of the first rounds; the others are Newton's steps
ROUNDS = 40
STEPS_SHARE = 2  # one of so many iterations is over all samples, at most
BALANCED = 5.0  # ratio of violation to gap within which rho is left alone
INACCURATE = 5e-2
FAR = 0.7, 0.3  # largest change of log lam after the first round, and after the others
SLOPE = -0.5  # d log ||R|| / d log lam, before two rounds have measured it
INFEASIBLE = 1e4  # bound that proves infeasibility, relative to a feasible objective
STEADY = 1e-3  # share of a support that may still change between two checks


@dataclass
class Outcome:
    """Weights for the scaled X, and how near the optimum they are.

    Attributes
    ----------
    S
        (N, M) sparse weights.
    gap, violation
        Relative duality gap (0 where there is no bound), and distance from the set relative to
        epsilon.
    bound
        Lower bound on the objective.
    multiplier
        Of the shared ball: a square of this weight in its place has the same solution.
    """

    S: Matrix
    status: Status = Status.MAX_ITERATIONS
    gap: float = math.inf
    violation: float = math.inf
    bound: float = -math.inf
    multiplier: float = math.nan
    iterations: int = 0

    @property
    def worst(self) -> float:
        """The larger of gap and violation."""
        return max(self.gap, self.violation)


@dataclass
class Convergence:
    """The best weights and the best bound so far, and when to stop.

    Attributes
    ----------
    infeasible_bound
        A lower bound above this proves that no useful weights are feasible.
    gap, violation
        Of the last weights.
    """

    response: SampleResponse
    limits: Limits
    infeasible_bound: float
    progress: Progress | None
    best: Outcome
    gap: float = math.inf
    violation: float = math.inf
    started: float = field(default_factory=time.monotonic)

    def report(self, done: int) -> None:
        """Report progress."""
        if self.progress:
            self.progress(done, self.limits.iterations)

    def update_gap(
        self, S: Matrix, value: float, bound: float, residual: Residual, done: int
    ) -> bool:
        """Update with weights, their objective and a bound; whether to stop.

        Parameters
        ----------
        S
            (N, M) weights.
        value
            Their objective.
        bound
            Lower bound on the optimum.
        residual
            Of the weights.
        done
            Iterations so far.
        """
        best = self.best
        best.bound = max(best.bound, bound)
        nothing = 0.0 if best.bound <= 0 else math.inf  # weights of no price, below the bound
        gap = abs(value - best.bound) / value if value > 0 else nothing
        if best.bound > self.infeasible_bound:
            best.iterations, best.status = done, Status.INFEASIBLE
            return True
        return self._end(S, gap, residual, done, settled=True)

    def update_support(
        self, S: Matrix, last_support: Matrix, residual: Residual, done: int
    ) -> bool:
        """Update with weights of a penalty without a bound; whether to stop.

        Parameters
        ----------
        S
            (N, M) weights.
        last_support
            (N, M) bool, the support at the last check.
        residual
            Of the weights.
        done
            Iterations so far.
        """
        support = S != 0
        change = int((support != last_support).sum()) / max(1, int(support.sum()))
        return self._end(S, 0.0, residual, done, settled=change <= STEADY)

    @property
    def _room(self) -> float:
        """Share of the tolerance by which weights may be off a ball that has slack."""
        loss = self.response.loss
        if not isinstance(loss, NormBall) or not loss.slack:
            return 1.0
        return min(1.0, loss.slack / self.limits.tolerance)

    def _end(self, S: Matrix, gap: float, residual: Residual, done: int, *, settled: bool) -> bool:
        best = self.best
        excess = self.response.loss.violation(residual.shared) / self._room
        unit = max(self.response.violation_unit, 1e-30)
        self.gap, self.violation = gap, math.hypot(excess, residual.exact) / unit
        worst = max(self.gap, self.violation)
        best.iterations = done
        if math.isnan(gap) or not math.isfinite(residual.shared + residual.exact):
            best.status = Status.NOT_FINITE
            return True
        if worst < best.worst or not math.isfinite(best.worst):
            best.S, best.gap, best.violation = S.copy(), self.gap, self.violation
        if settled and best.worst <= self.limits.tolerance:
            best.status = Status.SOLVED
        elif time.monotonic() - self.started > self.limits.seconds:
            best.status = Status.TIME_LIMIT
        else:
            near = settled and best.worst <= INACCURATE
            best.status = Status.INACCURATE if near else Status.MAX_ITERATIONS
            return False
        return True


def solve(
    response: SampleResponse,
    penalty: ConvexPenalty | SupportConstraint,
    rho: float,
    progress: Progress | None = None,
    limits: Limits | None = None,
    feasible_value: float = math.inf,
    start: Matrix | None = None,
) -> Outcome:
    """Solve the program; the outcome tells whether it converged.

    Parameters
    ----------
    response
        The response set and its loss.
    penalty
        g, for weights of the scaled X.
    rho
        ADMM's first rho.
    progress
        Called after iterations.
    limits
        When to stop.
    feasible_value
        Objective of weights that should be feasible (the dense ones), inf if there are none.
    start
        (N, M) first weights of the scaled X; zeros by default.

    Returns
    -------
    Outcome
        ``infeasible`` carries its certificate as ``bound``: all feasible weights cost more.
    """
    shape = len(response.X), len(response.G)
    V = np.zeros(shape, np.float32) if start is None else start.astype(np.float32)
    limits = limits or Limits()
    best = Outcome(np.zeros(shape, np.float32))
    convergence = Convergence(response, limits, INFEASIBLE * feasible_value, progress, best)
    most = max(WARM, limits.iterations // STEPS_SHARE)
    steps = min(WARM, limits.iterations)
    may_reduce = isinstance(penalty, WeightedL1) and steps + INNER[0] <= limits.iterations
    V, done, ended = _steps(convergence, penalty, V, rho, 0, steps, deferring=may_reduce)
    if isinstance(penalty, WeightedL1) and may_reduce and not ended:
        working_set = WorkingSet(response, penalty.weights, V)
        if working_set.worthwhile:
            done, ended = _rounds(convergence, working_set, done)
    if not ended:
        more = min(max(most - steps, 2 * CHECK), limits.iterations - done)
        _steps(convergence, penalty, V, rho, done, more)
    return convergence.best


def _rounds(convergence: Convergence, working_set: WorkingSet, done: int) -> tuple[int, bool]:
    """Rounds of the small programs; ``lam`` is changed to bring the norm to epsilon."""
    loss, slope, last_point = convergence.response.loss, SLOPE, (0.0, 0.0)
    for number in range(ROUNDS):
        iterations = INNER[number] if number < len(INNER) else 0
        if done + (iterations or MOST_STEPS) > convergence.limits.iterations:
            break
        try:
            result = working_set.round(iterations)
        except np.linalg.LinAlgError:
            break
        if not math.isfinite(result.value + result.bound):
            break
        done += result.iterations
        convergence.report(done)
        convergence.best.multiplier = working_set.lam
        if convergence.update_gap(
            working_set.U.T, result.value, result.bound, result.residual, done
        ):
            return done, True
        if not isinstance(loss, NormBall):
            continue
        if not 0 < result.residual.shared < math.inf:
            break
        point = math.log(working_set.lam), math.log(result.residual.shared / loss.reach)
        if number and abs(point[0] - last_point[0]) > 1e-4:
            slope = min(-0.2, max(-1.0, (point[1] - last_point[1]) / (point[0] - last_point[0])))
        last_point = point
        far = FAR[number > 0]
        working_set.set_multiplier(math.exp(point[0] - min(far, max(-far, point[1] / slope))))
    return done, False


def _steps(
    convergence: Convergence,
    penalty: ConvexPenalty | SupportConstraint,
    V: Matrix,
    rho: float,
    offset: int,
    steps: int,
    *,
    deferring: bool = False,
) -> tuple[Matrix, int, bool]:
    """ADMM over all samples: V, iterations so far, whether it has converged or must stop.

    With ``deferring`` there are no checks where the shared ball binds: the next phase has them.
    """
    response, ended, next_change, support = convergence.response, False, 3 * WARM, V != 0
    changes = 0

    def _check(done: int, S: Matrix, _: Matrix, rho: float) -> float | None:
        """Check the weights from time to time; see ``admm``."""
        nonlocal ended, next_change, support, changes
        convergence.report(offset + done)
        if deferring and 0 < response.multiplier < math.inf:
            return None
        near = convergence.best.worst < 3 * convergence.limits.tolerance
        if done % (CHECK if near else 2 * CHECK) and done != steps:
            return None
        residual = response.residual(S)
        convergence.best.multiplier = response.multiplier
        if isinstance(penalty, SupportConstraint):
            ended, support = convergence.update_support(S, support, residual, offset + done), S != 0
            return -1.0 if ended else None
        value = penalty.value(S) + response.loss.cost(residual.shared)
        ended = convergence.update_gap(S, value, response.bound(penalty), residual, offset + done)
        if ended:
            return -1.0
        balance = convergence.violation / max(convergence.gap, 1e-4)
        if offset + done < next_change or 1 / BALANCED < balance < BALANCED:
            return None
        next_change, changes = offset + done + 2 * WARM, changes + 1
        # Ever smaller changes, or it would never settle.
        return float(rho * min(2.0, max(0.5, math.sqrt(balance))) ** changes**-0.5)

    _, V, done = admm(
        response,
        penalty,
        start=V,
        schedule=(rho,) * max(0, steps),
        alpha=ALPHA,
        callback=_check,
    )
    return V, offset + done, ended
