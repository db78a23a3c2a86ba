"""One layer in scaled coordinates: supports by ADMM, refits, and the way back to its weights.

Each rho of a schedule costs an inverse and each iteration a product, so there are few values of
rho and several iterations at each; small layers get more, as they cost next to nothing.  What
was measured is in benchmarks/layers.py and benchmarks/gram.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.gram.low_rank import system_of
from nettrim_cli.solve.gram.refit import refit, refit_response
from nettrim_cli.solve.gram.system import GramResponse, System, damping
from nettrim_cli.solve.matrices import Matrix, evenly_spaced
from nettrim_cli.solve.penalties import KeepLargest, Penalty
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.responses import Intervals, ResponseCurve, Target

LEVELS = (0.02, 0.05, 0.12, 0.25, 0.5, 1.2)
TALL = (0.05, 0.25, 1.2)  # where inverses cost more than iterations
ITERATIONS, SHORT = 60, 30  # the latter while the count is searched for
MOST = 4  # times as many for a small layer
SMALL = 1e8  # multiplications in a product, above which a layer gets no more iterations
ALPHA = 1.6  # over-relaxation: 2 to 3 % less error at the same cost
STEADY = 0.5  # rho of paths, where the count falls instead of rho growing
LESS, MORE, STEPS_UP = 10.0, 4.0, 4  # how dampings that are tried differ from the usual one
BETTER = 0.99  # of the usual damping's error: what another one must reach
AMPLE = 4  # calibration columns to an input, above which the damping hardly matters

LEAST = 1e-3  # share of an output's squared error that is passed on, at least
TRUST = 0.75  # power of that share: errors also make active what was not
GLANCE = 2048  # columns that tell an error or a slope well enough
REFITTED, PER_INPUT = 4096, 16  # columns that a refit of the response reads, at least and by inputs
STEP = 1e-2  # for slopes of activations, whose arguments are of the size of 1

Look = Callable[[int, int], None]


class ErrorFeedback(NamedTuple):
    """Share of the error from earlier layers that a layer is asked to repair.

    ``own`` is of the error that its weights make of its inputs', ``skip`` of that which a
    residual connection adds behind it.
    """

    own: float = 1.0
    skip: float = 1.0


@dataclass
class ScaledProblem:
    """A task in scaled coordinates: ``V = d U scale`` with the bias eliminated."""

    task: LayerProblem
    system: System

    @classmethod
    def of(cls, task: LayerProblem, delta: float | None = None) -> ScaledProblem:
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
    def chosen(cls, task: LayerProblem, penalty: Penalty) -> ScaledProblem:
        """The problem, damped as usual or, where samples are few, in another way if that is better.

        A short run with each is judged on the held-out samples, unless the task knows.
        """
        known = task.delta if task.tuned_sparse is None else task.tuned_sparse.delta
        if known is not None:
            return cls.of(task, known)
        samples, usual = task.samples, damping(task.samples.columns, len(task.samples.X) - 1)
        ample = samples.columns >= AMPLE * (len(samples.X) - 1)
        if ample or samples.holdout_X.shape[1] == 0:
            return cls.of(task)
        repair = middle(task)

        def error(problem: ScaledProblem) -> float:
            V, _ = problem.run(problem.rhs(repair), penalty, (STEADY,) * 10, problem.start)
            found = judged(task, problem.linear_weights(V, repair), GLANCE)
            return found if math.isfinite(found) else math.inf

        # Downwards one step; where inputs outnumber columns also upwards, as long as that helps.
        ladders = [[usual / LESS]]
        if samples.columns < len(samples.X):
            ladders.append([usual * MORE**step for step in range(1, STEPS_UP + 1)])
        best = cls.of(task, usual)
        least = BETTER * error(best)
        for ladder in ladders:
            for delta in ladder:
                other = cls.of(task, delta)
                if (figure := error(other)) >= least:
                    break
                best, least = other, figure
        return best

    def __post_init__(self) -> None:
        """Prepare the dense weights and both ends of the cascade's target."""
        task, outputs = self.task, self.task.W.shape[1]
        self.weight = task.W[:-1] if task.has_bias else task.W
        self.scale = np.ones(outputs) if task.scale is None else task.scale.astype(np.float64)
        self.bias = task.W[-1:] if task.has_bias else np.zeros((1, outputs))
        whole = np.vstack([self.weight, self.bias]).astype(np.float64)
        self.own = task.samples.target_of(whole)
        self.dense = self.own if task.samples.inputs_exact else task.samples.target
        self.worth = worth(task)
        if task.importance is not None:
            self.worth = self.worth * task.importance
        self.unit = self.scale * self.worth
        self.start = self.scaled(self.weight)

    def target(self, repair: ErrorFeedback) -> Matrix:
        """What repairs a share of the error of earlier layers, as the system takes it."""
        target = np.asarray(self.own + repair.own * (self.dense - self.own))
        offset = self.task.samples.skip
        if offset is None or offset.exact or not repair.skip:
            return target
        by_columns = self.task.samples.C is None
        missing = offset.dense - offset.pruned if by_columns else offset.missing
        assert missing is not None
        share = np.divide(repair.skip, self.scale, out=0 * self.scale, where=self.scale != 0)
        return np.asarray(target + missing * (share[:, None] if by_columns else share))

    def rhs(self, repair: ErrorFeedback) -> Matrix:
        """Right-hand side of the scaled system for that target."""
        scaled = self.system.right_hand_side(self.target(repair), self.weight)
        return np.asarray(scaled * self.unit.astype(np.float32))

    def scaled(self, weight: Matrix) -> Matrix:
        """V of weights (N, M)."""
        V = (weight * self.system.d[:, None] * self.unit).astype(np.float32)
        V[~self.system.alive] = 0
        return V

    @property
    def schedule(self) -> tuple[float, ...]:
        """Value of rho for each iteration: from a start of its own, the larger ones."""
        whole = rising(ITERATIONS, *self.start.shape)
        return whole if self.task.start is None else whole[len(whole) // 2 :]

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
        start = self.start
        if self.task.start is not None:
            start = self.scaled(self.task.start[: len(self.weight)])
        V, _ = self.run(rhs, penalty, schedule or self.schedule, start, look, steps=12)
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
        return refit(self.system.A, rhs, S != 0, S, steps=steps), state

    def polished(self, rhs: Matrix, penalty: Penalty, V: Matrix) -> Matrix:
        """Refitted weights after one step of hard thresholding pursuit, where they are better.

        The step is Newton's where the inputs are uncorrelated (Foucart 2011), where ADMM alone
        stops .1 to 1 % above the best.
        """
        R = rhs - self.product(V)
        moved = penalty.prox(V + R, 1.0)
        if np.array_equal(moved != 0, V != 0):
            return refit(self.system.A, rhs, V != 0, V, steps=8)
        other = refit(self.system.A, rhs, moved != 0, V, steps=12)
        V = refit(self.system.A, rhs, V != 0, V, steps=8)
        return min(V, other, key=lambda each: self.energy(rhs, each))

    def refits(
        self, V: Matrix, tried: Sequence[ErrorFeedback]
    ) -> Iterator[tuple[ErrorFeedback, Matrix]]:
        """Best weights on the support of V for several targets, in which they are linear."""
        nothing = ErrorFeedback(0.0, 0.0)
        corners = [nothing, ErrorFeedback(1.0, 0.0), ErrorFeedback(0.0, 1.0)]
        wanted = [True, any(each.own for each in tried), len({each.skip for each in tried}) > 1]
        found = {
            each: refit(self.system.A, self.rhs(each), V != 0, V, steps=12)
            for each, needed in zip(corners, wanted)
            if needed
        }
        base = found.pop(nothing)
        for each in tried:
            weights = base.copy()
            for corner, there in found.items():
                weights += np.float32(np.dot(each, corner)) * (there - base)
            yield each, weights

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
            V, state = self.run(rhs, KeepLargest(keep), schedule, state, steps=4)
            schedule = (STEADY,) * 5
            yield V

    def unfitted(self, penalty: Penalty) -> Matrix:
        """The dense weights that the penalty keeps by scaled magnitude, and the dense bias.

        The scale is an input's root mean square, not centred as the bias is not refitted.
        """
        X = self.task.samples.X[:-1]
        size = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64) / max(1, X.shape[1]))
        magnitude = np.abs(self.weight * self.unit * size[:, None])
        U = np.where(penalty.prox(magnitude, 1.0) != 0, self.weight, 0).astype(np.float64)
        return np.vstack([U, self.bias]) if self.task.has_bias else U

    def weights(self, V: Matrix, bias: Matrix | None) -> Matrix:
        """Undo the scaling: the task's U in float64, with a bias (M,) below if it has one."""
        U = V.astype(np.float64) / self.system.d[:, None]
        live = self.unit != 0
        U[:, live] /= self.unit[live]
        U[:, ~live] = 0
        return U if bias is None else np.vstack([U, bias])

    def linear_weights(self, V: Matrix, repair: ErrorFeedback, *, whole: bool = False) -> Matrix:
        """The task's U with the best bias for the linear response.

        Parameters
        ----------
        whole
            Whether inputs that carry no signal keep their dense weights.
        """
        U = self.weights(V, None)
        if whole:
            U[~self.system.alive] = self.weight[~self.system.alive]
        if not self.task.has_bias:
            return U
        return np.vstack([U, self.system.bias(self.target(repair), U)])

    def response_weights(self, V: Matrix, repair: ErrorFeedback) -> Matrix:
        """The task's U refitted on the kept columns for the response behind the activation.

        What the activation does not pass on is free: inactive units of a ReLU altogether.
        """
        samples = self.task.samples
        enough = max(REFITTED, PER_INPUT * len(samples.X))
        columns = evenly_spaced(samples.X.shape[1], enough)
        target, mean = self._target_curve(repair, columns)
        X = samples.X[:-1, columns] / self.system.d[:, None].astype(np.float32)
        X[~self.system.alive] = 0
        means = X.mean(axis=1) if self.task.has_bias else None
        if means is not None:
            X -= means[:, None]
        worth = self.worth.astype(np.float32)
        pull = np.float32(self.system.delta) * self.start / worth
        first = None if means is None else mean
        V, bias = refit_response(X, target, self.system.delta, pull, V / worth, first)
        V = V * worth
        if bias is None or means is None:
            return self.weights(V, None)
        live = self.scale != 0
        constant = self.bias[0].astype(np.float64)
        constant[live] = (bias - means @ V / worth)[live] / self.scale[live]
        return self.weights(V, constant)

    def _target_curve(self, repair: ErrorFeedback, columns: slice) -> tuple[Target, Matrix]:
        """What a refit aims at on kept columns, and the mean result (M,) it starts from."""
        task, samples = self.task, self.task.samples
        Z, offset, missing = samples.Z[:, columns], samples.skip, None
        if repair.own < 1 and not samples.inputs_exact:
            own = (samples.X[:, columns].T @ np.vstack([self.weight, self.bias])).T
            Z = repair.own * Z + (1 - repair.own) * own
        if offset is not None and not offset.exact:
            lacking = offset.dense[:, columns] - offset.pruned[:, columns]
            missing = np.float32(repair.skip) * lacking
        reached = None if offset is None else offset.pruned[:, columns]
        mean = Z.mean(axis=1) * self.scale
        if missing is not None:
            mean = mean + missing.mean(axis=1)
        mean = mean.astype(np.float32)
        if task.activation is None:
            return Intervals.of_response(
                Z,
                task.scale,
                task.shift,
                task.ceiling,
                floor=task.floor,
                reached=reached,
                missing=missing,
            ), mean
        point = Z if task.scale is None else Z * self.scale[:, None].astype(np.float32)
        added = task.pre_activation(np.zeros((len(Z), 1), np.float32))
        return ResponseCurve.of(
            task.activation,
            point if missing is None else point + missing,
            added if reached is None else added + reached,
        ), mean


def worth(task: LayerProblem) -> Matrix:
    """What an output's linear error matters, (M,): how much of it the activation passes on.

    Nearly the root mean square of the activation's slope at the dense responses, which for a
    ReLU is the square root of how often the output is active.
    """
    columns = evenly_spaced(task.samples.Z.shape[1], GLANCE)
    offset = task.samples.skip
    A = task.pre_activation(
        task.samples.Z[:, columns], None if offset is None else offset.dense[:, columns]
    )
    if task.relu:
        passed = np.mean((task.floor < A) & (task.ceiling > A), axis=1)
    elif task.activation is not None:
        step = np.float32(STEP)
        rise = task.activation(A + step) - task.activation(A - step)
        passed = np.mean(np.square(rise / (2 * step)), axis=1)
    else:
        return np.ones(len(A))
    return np.asarray(np.maximum(passed, LEAST) ** (TRUST / 2), np.float64)


def repairs(task: LayerProblem) -> tuple[ErrorFeedback, ...]:
    """The shares of earlier layers' error that a layer may be asked to repair."""
    if task.tuned_sparse is not None:
        return (ErrorFeedback(*task.tuned_sparse.feedback),)
    own = (1.0,) if task.samples.inputs_exact else (1.0, 0.5, 0.0)
    offset = task.samples.skip
    skip = (1.0,) if offset is None or offset.exact else (1.0, 0.0)
    return tuple(ErrorFeedback(a, b) for a in own for b in skip)


def middle(task: LayerProblem) -> ErrorFeedback:
    """A repair that is never far from the best, where only one is tried."""
    own, skip = (np.mean(each) for each in zip(*repairs(task)))
    return ErrorFeedback(float(own), float(skip))


def rising(iterations: int, inputs: int, outputs: int) -> tuple[float, ...]:
    """Rho for each iteration, in equal steps; more iterations for a small layer."""
    size = float(inputs) ** 2 * max(1, outputs)
    steps = TALL if size > SMALL and inputs >= 4 * outputs else LEVELS
    more = min(MOST, max(1.0, math.sqrt(SMALL / max(1.0, size))))
    return tuple(rho for rho in steps for _ in range(round(iterations * more / len(steps))))


def judged(task: LayerProblem, U: Matrix, most: int | None = None) -> float:
    """Error on the held-out columns, or on the calibration where those do not tell.

    Parameters
    ----------
    most
        Of the columns, evenly drawn, where an estimate will do.
    """
    error = task.error(U, holdout=True, max_columns=most)
    return error if math.isfinite(error) else task.error(U, holdout=False, max_columns=most)
