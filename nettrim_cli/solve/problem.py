"""One layer in scaled coordinates: supports by ADMM, refits, and the way back to its weights.

Each rho of a schedule costs an inverse and each iteration a product, so there are few values of
rho and several iterations at each; small layers get more, as they cost next to nothing.  What
was measured is in benchmarks/layers.py and benchmarks/gram.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram import GramResponse, System, damping
from nettrim_cli.solve.penalties import KeepLargest, Penalty
from nettrim_cli.solve.refit import refit, refit_intervals
from nettrim_cli.solve.responses import Intervals
from nettrim_cli.solve.task import Matrix, Task
from nettrim_cli.solve.wide import system_of

LEVELS = (0.02, 0.05, 0.12, 0.25, 0.5, 1.2)
TALL = (0.05, 0.25, 1.2)  # where inverses cost more than iterations
ITERATIONS, SHORT = 60, 30  # the latter while the count is searched for
MOST = 4  # times as many for a small layer
SMALL = 1e8  # multiplications in a product, above which a layer gets no more iterations
ALPHA = 1.6  # over-relaxation: 2 to 3 % less error at the same cost
STEADY = 0.5  # rho of paths, where the count falls instead of rho growing
BETTER = 0.99  # of the usual damping's error: what a smaller one must reach
AMPLE = 4  # calibration columns to an input, above which the damping hardly matters

Look = Callable[[int, int], None]


@dataclass
class LayerProblem:
    """A task in scaled coordinates: ``V = d U scale`` with the bias eliminated."""

    task: Task
    system: System

    @classmethod
    def of(cls, task: Task, delta: float | None = None) -> LayerProblem:
        """The problem, with the system shared by all layers that read the same input.

        Parameters
        ----------
        delta
            Damping; None takes `damping`'s.
        """
        shared = task.samples.shared
        if delta is None:
            delta = damping(task.samples.columns, len(task.samples.X) - 1)
        key = ("gram", task.has_bias, delta)
        if key not in shared:
            shared[key] = system_of(task.samples, free_bias=task.has_bias, delta=delta)
        return cls(task, shared[key])

    @classmethod
    def chosen(cls, task: Task, penalty: Penalty) -> LayerProblem:
        """The problem, damped as usual or, where samples are few, less if that is better.

        A short run with each is judged on the held-out samples.
        """
        samples, usual = task.samples, damping(task.samples.columns, len(task.samples.X) - 1)
        ample = samples.columns >= AMPLE * (len(samples.X) - 1)
        if ample or samples.held_X.shape[1] == 0:
            return cls.of(task)
        repair = 1.0 if samples.exact else 0.5

        def error(problem: LayerProblem) -> float:
            V, _ = problem.run(problem.rhs(repair), penalty, (STEADY,) * 10, problem.start)
            found = judged(task, problem.linear_weights(V, repair))
            return found if math.isfinite(found) else math.inf

        as_usual, less = cls.of(task, usual), cls.of(task, usual / 10)
        return less if error(less) < BETTER * error(as_usual) else as_usual

    def __post_init__(self) -> None:
        """Prepare the dense weights and both ends of the cascade's target."""
        task, outputs = self.task, self.task.W.shape[1]
        self.weight = task.W[:-1] if task.has_bias else task.W
        self.scale = np.ones(outputs) if task.scale is None else task.scale.astype(np.float64)
        self.bias = task.W[-1:] if task.has_bias else np.zeros((1, outputs))
        whole = np.vstack([self.weight, self.bias]).astype(np.float64)
        self.own = task.samples.target_of(whole)
        self.dense = self.own if task.samples.exact else task.samples.target
        self.start = (self.weight * self.system.d[:, None] * self.scale).astype(np.float32)
        self.start[~self.system.alive] = 0

    def target(self, repair: float) -> Matrix:
        """What repairs a share of the error of earlier layers, as the system takes it."""
        return np.asarray(self.own + repair * (self.dense - self.own))

    def rhs(self, repair: float) -> Matrix:
        """Right-hand side of the scaled system for that target."""
        scaled = self.system.right_hand_side(self.target(repair), self.weight)
        return np.asarray(scaled * self.scale.astype(np.float32))

    @property
    def schedule(self) -> tuple[float, ...]:
        """Value of rho for each iteration."""
        return rising(ITERATIONS, *self.start.shape)

    def product(self, V: Matrix) -> Matrix:
        """``A @ V``."""
        return np.asarray(self.system.A @ V)

    def supports(
        self,
        rhs: Matrix,
        penalty: Penalty,
        look: Look | None = None,
        schedule: Sequence[float] | None = None,
    ) -> Matrix:
        """Refitted sparse weights V whose support the penalty allows (steps 1 and 2).

        Parameters
        ----------
        penalty
            Its prox selects entries and leaves them as they are (keep-k, n:m, blocks).
        """
        if not penalty.prox(self.start, 1.0).any():
            return np.zeros_like(self.start)
        V, _ = self.run(rhs, penalty, schedule or self.schedule, self.start, look, steps=12)
        return self.polished(rhs, penalty, V)

    def run(
        self,
        rhs: Matrix,
        penalty: Penalty,
        schedule: Sequence[float],
        start: Matrix,
        look: Look | None = None,
        *,
        steps: int = 8,
    ) -> tuple[Matrix, Matrix]:
        """ADMM's sparse weights after some steps of refitting, and ADMM's state to go on from."""
        total = len(schedule)
        S, state, _ = admm(
            GramResponse(self.system, rhs),
            penalty,
            start=start,
            schedule=schedule,
            alpha=ALPHA,
            look=(lambda done, *_: look(done, total)) if look else None,
        )
        return refit(self.product, rhs, S != 0, S, steps=steps), state

    def polished(self, rhs: Matrix, penalty: Penalty, V: Matrix) -> Matrix:
        """Refitted weights after one step of hard thresholding pursuit, where they are better.

        The step is Newton's where the inputs are uncorrelated (Foucart 2011), where ADMM alone
        stops .1 to 1 % above the best.
        """
        R = rhs - self.product(V)
        moved = penalty.prox(V + R, 1.0)
        if np.array_equal(moved != 0, V != 0):
            return refit(self.product, rhs, V != 0, V, steps=8)
        other = refit(self.product, rhs, moved != 0, V, steps=12)
        V = refit(self.product, rhs, V != 0, V, steps=8)
        return min(V, other, key=lambda each: self.energy(rhs, each))

    def energy(self, rhs: Matrix, V: Matrix) -> float:
        """``<V, A V> / 2 - <V, rhs>``: what is minimised, but for a constant."""
        return float(np.vdot(V, self.product(V) / 2 - rhs))

    def path(self, rhs: Matrix, keeps: Sequence[int]) -> Iterator[Matrix]:
        """Refitted sparse weights for falling counts, each warm-started from the last.

        As the count falls slowly, rho need not grow: a few iterations at one value suffice.
        """
        schedule: Sequence[float] = (LEVELS[2],) * 8 + (STEADY,) * 8
        state = self.start
        for keep in keeps:
            V, state = self.run(rhs, KeepLargest(keep), schedule, state)
            schedule = (STEADY,) * 5
            yield V

    def unfitted(self, penalty: Penalty) -> Matrix:
        """The dense weights that the penalty keeps by scaled magnitude, and the dense bias.

        The scale is an input's root mean square, not centred as the bias is not refitted.
        """
        X = self.task.samples.X[:-1]
        size = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64) / max(1, X.shape[1]))
        magnitude = np.abs(self.weight * self.scale * size[:, None])
        U = np.where(penalty.prox(magnitude, 1.0) != 0, self.weight, 0).astype(np.float64)
        return np.vstack([U, self.bias]) if self.task.has_bias else U

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


def rising(iterations: int, inputs: int, outputs: int) -> tuple[float, ...]:
    """Rho for each iteration, in equal steps; more iterations for a small layer."""
    size = float(inputs) ** 2 * max(1, outputs)
    steps = TALL if size > SMALL and inputs >= 4 * outputs else LEVELS
    more = min(MOST, max(1.0, math.sqrt(SMALL / max(1.0, size))))
    return tuple(rho for rho in steps for _ in range(round(iterations * more / len(steps))))


def judged(task: Task, U: Matrix) -> float:
    """Error on the held-out columns, or on the calibration where those do not tell."""
    error = task.error(U, held=True)
    return error if math.isfinite(error) else task.error(U, held=False)
