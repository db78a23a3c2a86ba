"""The convex program ``minimise prices |U|_1`` over a response set, to a proved gap.

Three phases, each of which may be the last:

1. ADMM over all samples, a few steps: what is likely to matter.
2. The neurons' reduced programs, round by round (see reduced), where these are cheaper.
3. ADMM over all samples from where it was, rho following the larger of gap and violation.

Gap and violation are those of the sparse weights themselves, judged on all samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.constrained import ALPHA, SampleResponse
from nettrim_cli.solve.penalties import WeightedL1
from nettrim_cli.solve.reduced import Reduced
from nettrim_cli.solve.task import Limits, Matrix, Status

WARM = 20  # steps of the first phase
CHECK = 10
INNER = (40, 30, 20)  # iterations of the first rounds; the last for all that follow
ROUNDS = 12
BALANCED = 5.0  # ratio of violation to gap within which rho is left alone
INACCURATE = 5e-2
STEEP = -0.5  # d log ||R|| / d log lam, before two rounds have told
BEYOND = 1e4  # times the norm of known weights: a bound that says that nothing is feasible

Look = Callable[[int, int], None]


@dataclass
class Outcome:
    """Weights for the scaled X, and what holds for them.

    Attributes
    ----------
    S
        (N, M) sparse weights.
    gap, violation
        Relative duality gap, and distance from the set relative to epsilon.
    bound
        Lower bound on the objective.
    """

    S: Matrix
    status: Status
    gap: float = math.inf
    violation: float = math.inf
    bound: float = -math.inf
    iterations: int = 0

    @property
    def worst(self) -> float:
        """The larger of gap and violation."""
        return max(self.gap, self.violation)


@dataclass
class Judge:
    """Keeps the best bound and says when to stop.

    Attributes
    ----------
    beyond
        A lower bound above this proves that no weights worth looking at are feasible.
    """

    response: SampleResponse
    limits: Limits
    beyond: float
    look: Look | None
    best: Outcome
    begun: float = field(default_factory=time.monotonic)

    def tell(self, done: int) -> None:
        """Progress."""
        if self.look:
            self.look(done, self.limits.iterations)

    def hear(self, S: Matrix, value: float, bound: float, violation: float, done: int) -> bool:
        """Judge weights; whether that was the last word."""
        best = self.best
        best.iterations = done
        best.bound = max(best.bound, bound)
        if not (math.isfinite(value) and math.isfinite(violation)):
            best.status = Status.NOT_FINITE
            return True
        violation /= max(self.response.epsilon, 1e-30)
        gap = abs(value - best.bound) / value if value > 0 else 0.0
        if max(gap, violation) < best.worst or best.worst == math.inf:
            best.S, best.gap, best.violation = S.copy(), gap, violation
        if best.bound > self.beyond:
            best.status = Status.INFEASIBLE
        elif best.worst <= self.limits.tolerance:
            best.status = Status.SOLVED
        elif time.monotonic() - self.begun > self.limits.seconds:
            best.status = Status.TIME_LIMIT
        else:
            best.status = Status.INACCURATE if best.worst <= INACCURATE else Status.MAX_ITERATIONS
            return False
        return True


def solve(
    response: SampleResponse,
    prices: Matrix,
    rho: float,
    look: Look | None = None,
    limits: Limits | None = None,
    known: float = math.inf,
) -> Outcome:
    """Solve the program; never raises for want of convergence.

    Parameters
    ----------
    prices
        (1, M) weights of the l1 norm, for weights of the scaled X.
    rho
        ADMM's penalty to begin with.
    known
        Objective of some weights thought feasible (the dense ones), if there are any.

    Returns
    -------
    Outcome
        ``infeasible`` carries its certificate as ``bound``: all feasible weights cost more.
    """
    start = np.zeros((len(response.X), prices.shape[1]), np.float32)
    outcome = Outcome(start, Status.MAX_ITERATIONS)
    limits = limits or Limits()
    judge = Judge(response, limits, BEYOND * known, look, outcome)
    steps = min(WARM, limits.iterations)
    V, done, ended = _steps(judge, prices, start, rho, 0, steps)
    if not ended and done < limits.iterations:
        reduced = Reduced(response, prices, V, rho)
        if reduced.worthwhile:
            done, ended = _rounds(judge, reduced, done)
    if not ended:
        _steps(judge, prices, V, rho, done, limits.iterations - steps)
    return outcome


def _rounds(judge: Judge, reduced: Reduced, done: int) -> tuple[int, bool]:
    """Rounds of the reduced programs; ``lam`` follows the norm it is to bring to epsilon."""
    epsilon, steep, last = judge.response.epsilon, STEEP, (0.0, 0.0)
    inner = 0
    for turn in range(ROUNDS):
        inner = INNER[turn] if turn < len(INNER) else inner * 3 // 2
        found = reduced.round(inner)
        done += inner
        judge.tell(done)
        violation = math.hypot(max(0.0, found.shared - epsilon), found.exact)
        if judge.hear(reduced.U.T, found.value, found.bound, violation, done):
            return done, True
        if not 0 < found.shared < math.inf:
            break
        here = math.log(reduced.lam), math.log(found.shared / epsilon)
        if turn and abs(here[0] - last[0]) > 1e-4:
            steep = min(-0.2, max(-1.0, (here[1] - last[1]) / (here[0] - last[0])))
        last = here
        reduced.follow(math.exp(here[0] - min(0.7, max(-0.7, here[1] / steep))))
    return done, False


def _steps(
    judge: Judge, prices: Matrix, V: Matrix, rho: float, before: int, steps: int
) -> tuple[Matrix, int, bool]:
    """ADMM over all samples: V, iterations so far, whether the judge ended it."""
    ended, ripe = False, 3 * WARM

    def watch(done: int, S: Matrix, _: Matrix, rho: float) -> float | None:
        nonlocal ended, ripe
        judge.tell(before + done)
        near = judge.best.worst < 3 * judge.limits.tolerance
        if done % (CHECK if near else 2 * CHECK) and done != steps:
            return None
        value = float((np.abs(S) * prices).sum(dtype=np.float64))
        bound, violation = judge.response.bound(prices), judge.response.violation(S)
        ended = judge.hear(S, value, bound, violation, before + done)
        if ended:
            return -1.0
        gap = abs(value - judge.best.bound) / max(value, 1e-30)
        balance = violation / max(judge.response.epsilon, 1e-30) / max(gap, 1e-4)
        if before + done < ripe or 1 / BALANCED < balance < BALANCED:
            return None
        ripe = (before + done) * 5 // 4  # ever rarer, or it would never settle
        return rho * min(2.0, max(0.5, math.sqrt(balance)))

    _, V, done = admm(
        judge.response,
        WeightedL1(prices),
        start=V,
        schedule=(rho,) * max(0, steps),
        alpha=ALPHA,
        look=watch,
    )
    return V, before + done, ended
