"""The default method: fewest weights by ADMM in Gram space, then the best weights on them.

1. Supports are found by ADMM with the keep-k prox on the linear response, rho growing from .1
   to 2, so that early iterations exchange weights freely and late ones settle.
2. The kept weights are refitted, exactly for the linear response and, where a ReLU follows,
   also with the inactive responses free to be anything below zero.
3. In a cascade the target may ask the layer to repair all, half or none of the error that
   arrives from earlier layers.
4. The held-out samples choose: the target of the cascade and the kind of refit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram import GramResponse, GramSystem
from nettrim_cli.solve.penalties import KeepLargest
from nettrim_cli.solve.refit import refit, refit_intervals
from nettrim_cli.solve.responses import Intervals
from nettrim_cli.solve.search import fewest
from nettrim_cli.solve.task import Matrix, Solution, Status, Task

SCHEDULE = (0.1,) * 8 + (0.2,) * 6 + (0.4,) * 6 + (0.8,) * 5 + (2.0,) * 5
QUICK = (0.1,) * 3 + (0.4,) * 4 + (2.0,) * 3  # subset of SCHEDULE's values: inverses are shared
REPAIRS = (1.0, 0.5, 0.0)

Look = Callable[[int, int], None]


@dataclass
class LayerProblem:
    """A task in scaled coordinates: ``V = d U scale`` with the bias eliminated."""

    task: Task
    system: GramSystem

    @classmethod
    def of(cls, task: Task) -> LayerProblem:
        """The problem, with the system shared by all layers that read the same input."""
        shared, key = task.samples.shared, ("gram", task.has_bias)
        if key not in shared:
            shared[key] = GramSystem.build(task.samples.C, free_bias=task.has_bias)
        return cls(task, shared[key])

    def __post_init__(self) -> None:
        """Prepare the dense weights and both ends of the cascade's target."""
        task, outputs = self.task, self.task.W.shape[1]
        self.weight = task.W[:-1] if task.has_bias else task.W
        self.scale = np.ones(outputs) if task.scale is None else task.scale.astype(np.float64)
        self.bias = task.W[-1:] if task.has_bias else np.zeros((1, outputs))
        self.own = task.samples.C @ np.vstack([self.weight, self.bias]).astype(np.float64)
        self.dense = self.own if task.samples.exact else task.samples.B
        self.start = (self.weight * self.system.d[:, None] * self.scale).astype(np.float32)
        self.start[~self.system.alive] = 0

    def target(self, repair: float) -> Matrix:
        """B of the target that repairs a share of the error of earlier layers."""
        return np.asarray(self.own + repair * (self.dense - self.own))

    def rhs(self, repair: float) -> Matrix:
        """Right-hand side of the scaled system for that target."""
        scaled = self.system.right_hand_side(self.target(repair), self.weight)
        return np.asarray(scaled * self.scale.astype(np.float32))

    def supports(
        self,
        rhs: Matrix,
        keep: int,
        look: Look | None = None,
        schedule: tuple[float, ...] = SCHEDULE,
    ) -> Matrix:
        """Refitted sparse weights V with exactly ``keep`` entries chosen (steps 1 and 2)."""
        if keep >= self.start.size:
            return refit(self.system.A, rhs, np.ones(rhs.shape, bool), self.start)
        if keep <= 0:
            return np.zeros_like(rhs)
        total = len(schedule)
        S, _, _ = admm(
            GramResponse(self.system, rhs),
            KeepLargest(keep),
            start=self.start,
            schedule=schedule,
            look=(lambda done, *_: look(done, total)) if look else None,
        )
        return refit(self.system.A, rhs, S != 0, S, steps=20 if schedule is SCHEDULE else 8)

    def weights(self, V: Matrix, bias: Matrix | None) -> Matrix:
        """Undo the scaling: the task's U in float64, with a bias (M,) below if it has one."""
        U = V.astype(np.float64) / self.system.d[:, None]
        live = self.scale != 0
        U[:, live] /= self.scale[live]
        U[:, ~live] = 0
        return U if bias is None else np.vstack([U, bias])

    def linear_weights(self, V: Matrix, repair: float) -> Matrix:
        """The task's U with the best bias for the linear response."""
        U = self.weights(V, None)
        if not self.task.has_bias:
            return U
        return np.vstack([U, self.system.bias(self.target(repair), U)])

    def relu_weights(self, V: Matrix, repair: float) -> Matrix:
        """The task's U refitted on the kept columns with the inactive responses free."""
        task, samples = self.task, self.task.samples
        Z = samples.Z
        if repair < 1:
            Z = repair * Z + (1 - repair) * (np.vstack([self.weight, self.bias]).T @ samples.X)
        intervals = Intervals.of_response(Z, task.scale, task.shift, task.ceiling)
        X = samples.X[:-1] / self.system.d[:, None].astype(np.float32)
        X[~self.system.alive] = 0
        means = X.mean(axis=1) if task.has_bias else None
        if means is not None:
            X -= means[:, None]
        pull = np.float32(self.system.delta) * self.start
        first = None if means is None else (Z.mean(axis=1) * self.scale).astype(np.float32)
        V, bias = refit_intervals(X, intervals, self.system.delta, pull, V, first)
        if bias is None or means is None:
            return self.weights(V, None)
        constant = (bias - means @ V).astype(np.float64)
        live = self.scale != 0
        constant[live] /= self.scale[live]
        constant[~live] = self.bias[0, ~live]
        return self.weights(V, constant)


def solve_l0(task: Task, look: Look | None = None) -> Solution:
    """Prune a layer to ``task.keep`` weights, or to the fewest within ``task.epsilon``.

    Parameters
    ----------
    look
        Told the iteration and their number.

    Returns
    -------
    Solution
        ``solved`` with at most ``keep`` weights, or with calibration and held-out error within
        epsilon; ``dense`` where no sparser weights are.
    """
    if task.samples.trouble:
        return Solution(task.W, Status.DENSE, note=task.samples.trouble)
    problem = LayerProblem.of(task)
    keep, solves, allowed = task.keep, 0, math.inf
    if keep is None:
        allowed = _allowed(task)
        keep, solves = _search(problem, allowed, look)
    if keep >= task.weights:
        if task.keep is None:
            return Solution(task.W, Status.DENSE, note="no sparser weights within epsilon")
        return Solution(task.W, Status.SOLVED, note="kept whole: zeros cost less elsewhere")
    found = [each for each in candidates(problem, keep, look) if math.isfinite(each[0])]
    if allowed < math.inf:  # the search's own weights are among them
        found = [each for each in found if task.error(each[1], held=False) <= allowed]
    if not found:
        return Solution(task.W, Status.DENSE, note="the error of sparser weights is no number")
    _, U, note = min(found, key=lambda each: each[0])
    rounds = (solves + (1 if task.samples.exact else len(REPAIRS))) * len(SCHEDULE)
    return Solution(U, Status.SOLVED, rounds, note=note)


def error_curve(task: Task, keeps: Sequence[int]) -> tuple[list[float], list[Matrix]]:
    """Held-out error and weights at several counts, by a shorter run of the method."""
    problem = LayerProblem.of(task)
    rhs = problem.rhs(1.0)
    found = [
        problem.linear_weights(problem.supports(rhs, keep, schedule=QUICK), 1.0)
        if keep < task.weights
        else task.W
        for keep in keeps
    ]
    return [judged(task, U) for U in found], found


def candidates(
    problem: LayerProblem, keep: int, look: Look | None = None
) -> Iterator[tuple[float, Matrix, str]]:
    """Weights for each target and each refit: held-out error, U, what it is."""
    task = problem.task
    for repair in (1.0,) if task.samples.exact else REPAIRS:
        V = problem.supports(problem.rhs(repair), keep, look)
        note = "" if task.samples.exact else f"repairs {repair:.0%}"
        U = problem.linear_weights(V, repair)
        yield judged(task, U), U, note
        if task.relu:
            U = problem.relu_weights(V, repair)
            yield judged(task, U), U, f"{note}, ReLU refit".lstrip(", ")


def judged(task: Task, U: Matrix) -> float:
    """Error on the held-out columns, or on the calibration where those do not tell."""
    error = task.error(U, held=True)
    return error if math.isfinite(error) else task.error(U, held=False)


def _allowed(task: Task) -> float:
    """Epsilon beside what earlier layers did to this one's response."""
    assert task.epsilon is not None
    arrived = 0.0 if task.samples.exact else judged(task, task.W)
    return math.hypot(task.epsilon, arrived)


def _search(problem: LayerProblem, allowed: float, look: Look | None) -> tuple[int, int]:
    """Fewest weights whose errors are within ``allowed``."""
    task = problem.task
    repair = 1.0 if task.samples.exact else 0.5
    rhs = problem.rhs(repair)

    def error(keep: int) -> float:
        U = problem.linear_weights(problem.supports(rhs, keep, look), repair)
        return max(task.error(U, held=False), judged(task, U))

    return fewest(error, allowed, task.weights)
