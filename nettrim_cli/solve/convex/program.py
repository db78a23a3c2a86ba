"""The program ``minimise g(U) + h(||R(U'X)||)`` over all samples, to a proved gap where convex.

Three phases, each of which may be the last:

1. ADMM over all samples, a few steps: what is likely to matter.
2. For l1, the neurons' reduced programs, round by round (see reduced), where these are cheaper.
3. ADMM over all samples from where it was, rho following the larger of gap and violation.

Gap and violation are those of the sparse weights themselves, judged on all samples.  A penalty
without a polar (keep-k and its like) has no bound; it is done when its support stays.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.solve.admm import Progress, admm
from nettrim_cli.solve.convex.sample_space import ALPHA, Residual, SampleResponse
from nettrim_cli.solve.convex.working_set import WorkingSet
from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import ConvexPenalty, SupportConstraint, WeightedL1
from nettrim_cli.solve.problem import Limits, Status
from nettrim_cli.solve.responses import NormBall

WARM = 20  # steps of the first phase
CHECK = 10
INNER = (40, 30, 20)  # iterations of the first rounds; then half as many again each time
ROUNDS = 12
BALANCED = 5.0  # ratio of violation to gap within which rho is left alone
INACCURATE = 5e-2
STEEP = -0.5  # d log ||R|| / d log lam, before two rounds have told
BEYOND = 1e4  # times the objective of known weights: a bound that says that nothing is feasible
STEADY = 1e-3  # share of a support that may still move between two looks


@dataclass
class Outcome:
    """Weights for the scaled X, and what holds for them.

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
        Of the shared ball: with a square of this weight in its place the solution is the same.
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
    """Keeps the best weights and the best bound, and says when to stop.

    Attributes
    ----------
    beyond
        A lower bound above this proves that no weights worth looking at are feasible.
    gap, violation
        Of the weights heard of last.
    """

    response: SampleResponse
    limits: Limits
    beyond: float
    progress: Progress | None
    best: Outcome
    gap: float = math.inf
    violation: float = math.inf
    begun: float = field(default_factory=time.monotonic)

    def tell(self, done: int) -> None:
        """Progress."""
        if self.progress:
            self.progress(done, self.limits.iterations)

    def hear(self, S: Matrix, value: float, bound: float, left: Residual, done: int) -> bool:
        """Judge weights by their objective and a bound; whether that was the last word."""
        best = self.best
        best.bound = max(best.bound, bound)
        gap = abs(value - best.bound) / value if value > 0 else 0.0
        if best.bound > self.beyond:
            best.iterations, best.status = done, Status.INFEASIBLE
            return True
        return self._end(S, gap, left, done, settled=True)

    def see(self, S: Matrix, before: Matrix, left: Residual, done: int) -> bool:
        """Judge weights by whether their support is the one of the last look."""
        support = S != 0
        moved = int((support != before).sum()) / max(1, int(support.sum()))
        return self._end(S, 0.0, left, done, settled=moved <= STEADY)

    def _end(self, S: Matrix, gap: float, left: Residual, done: int, *, settled: bool) -> bool:
        best = self.best
        away = math.hypot(self.response.fit.violation(left.shared), left.exact)
        self.gap, self.violation = gap, away / max(self.response.unit_of_error, 1e-30)
        worst = max(self.gap, self.violation)
        best.iterations = done
        if not math.isfinite(gap + left.shared + left.exact):
            best.status = Status.NOT_FINITE
            return True
        if worst < best.worst or not math.isfinite(best.worst):
            best.S, best.gap, best.violation = S.copy(), self.gap, self.violation
        if settled and best.worst <= self.limits.tolerance:
            best.status = Status.SOLVED
        elif time.monotonic() - self.begun > self.limits.seconds:
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
    known: float = math.inf,
    start: Matrix | None = None,
) -> Outcome:
    """Solve the program; never raises for want of convergence.

    Parameters
    ----------
    penalty
        g, for weights of the scaled X.
    rho
        ADMM's penalty to begin with.
    known
        Objective of some weights thought feasible (the dense ones), if there are any.
    start
        (N, M) weights of the scaled X to begin with; zeros unless given.

    Returns
    -------
    Outcome
        ``infeasible`` carries its certificate as ``bound``: all feasible weights cost more.
    """
    shape = len(response.X), len(response.G)
    V = np.zeros(shape, np.float32) if start is None else start.astype(np.float32)
    limits = limits or Limits()
    judge = Convergence(
        response, limits, BEYOND * known, progress, Outcome(np.zeros(shape, np.float32))
    )
    steps = min(WARM, limits.iterations)
    may_reduce = isinstance(penalty, WeightedL1) and steps < limits.iterations
    V, done, ended = _steps(judge, penalty, V, rho, 0, steps, passing=may_reduce)
    if isinstance(penalty, WeightedL1) and may_reduce and not ended:
        reduced = WorkingSet(response, penalty.weights, V)
        if reduced.worthwhile:
            done, ended = _rounds(judge, reduced, done)
    if not ended:
        _steps(judge, penalty, V, rho, done, limits.iterations - steps)
    return judge.best


def _rounds(judge: Convergence, reduced: WorkingSet, done: int) -> tuple[int, bool]:
    """Rounds of the reduced programs; ``lam`` follows the norm it is to bring to epsilon."""
    fit, steep, last, inner = judge.response.fit, STEEP, (0.0, 0.0), 0
    for turn in range(ROUNDS):
        inner = INNER[turn] if turn < len(INNER) else inner * 3 // 2
        try:
            found = reduced.round(inner)
        except np.linalg.LinAlgError:
            break
        if not math.isfinite(found.value + found.bound):
            break
        done += inner
        judge.tell(done)
        judge.best.multiplier = reduced.lam
        if judge.hear(reduced.U.T, found.value, found.bound, found.residual, done):
            return done, True
        if not isinstance(fit, NormBall):
            continue
        if not 0 < found.residual.shared < math.inf:
            break
        here = math.log(reduced.lam), math.log(found.residual.shared / fit.epsilon)
        if turn and abs(here[0] - last[0]) > 1e-4:
            steep = min(-0.2, max(-1.0, (here[1] - last[1]) / (here[0] - last[0])))
        last = here
        reduced.follow(math.exp(here[0] - min(0.7, max(-0.7, here[1] / steep))))
    return done, False


def _steps(
    judge: Convergence,
    penalty: ConvexPenalty | SupportConstraint,
    V: Matrix,
    rho: float,
    before: int,
    steps: int,
    *,
    passing: bool = False,
) -> tuple[Matrix, int, bool]:
    """ADMM over all samples: V, iterations so far, whether the judge ended it.

    With ``passing`` nothing is judged where the shared ball binds: the next phase will do that.
    """
    response, ended, ripe, support = judge.response, False, 3 * WARM, V != 0
    changes = 0

    def watch(done: int, S: Matrix, _: Matrix, rho: float) -> float | None:
        nonlocal ended, ripe, support, changes
        judge.tell(before + done)
        if passing and 0 < response.multiplier < math.inf:
            return None
        near = judge.best.worst < 3 * judge.limits.tolerance
        if done % (CHECK if near else 2 * CHECK) and done != steps:
            return None
        left = response.residual(S)
        judge.best.multiplier = response.multiplier
        if isinstance(penalty, SupportConstraint):
            ended, support = judge.see(S, support, left, before + done), S != 0
            return -1.0 if ended else None
        value = penalty.value(S) + response.fit.cost(left.shared)
        ended = judge.hear(S, value, response.bound(penalty), left, before + done)
        if ended:
            return -1.0
        balance = judge.violation / max(judge.gap, 1e-4)
        if before + done < ripe or 1 / BALANCED < balance < BALANCED:
            return None
        ripe, changes = before + done + 2 * WARM, changes + 1
        # Ever smaller changes, or it would never settle.
        return float(rho * min(2.0, max(0.5, math.sqrt(balance))) ** changes**-0.5)

    _, V, done = admm(
        response,
        penalty,
        start=V,
        schedule=(rho,) * max(0, steps),
        alpha=ALPHA,
        callback=watch,
    )
    return V, before + done, ended
