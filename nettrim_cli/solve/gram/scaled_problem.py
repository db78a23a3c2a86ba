"""One layer in scaled coordinates: supports by ADMM, refits, and the way back to its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from nettrim_cli.solve.admm import Progress, admm
from nettrim_cli.solve.gram.feedback import (
    ErrorFeedback,
    estimated_error,
    middle_feedback,
)
from nettrim_cli.solve.gram.low_rank import system_of
from nettrim_cli.solve.gram.objective import Objective
from nettrim_cli.solve.gram.output_weights import output_weights
from nettrim_cli.solve.gram.refit import Damping, Solver, refit_response
from nettrim_cli.solve.gram.schedules import ITERATIONS, PATH_RHO, RHO_LEVELS, rho_schedule
from nettrim_cli.solve.gram.system import System, damping
from nettrim_cli.solve.matrices import Matrix, evenly_spaced
from nettrim_cli.solve.penalties import KeepLargest, Penalty
from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.responses import Intervals, ResponseCurve, Target

ALPHA = 1.6  # over-relaxation: 2 to 3 % less error at the same cost
LESS, MORE, STEPS_UP = 10.0, 4.0, 4  # steps from the usual damping down, and up
BETTER = 0.99  # error that another damping must reach, relative to that of the usual one
AMPLE = 4  # calibration columns to an input, above which the damping hardly matters

RESPONSE_COLUMNS, RESPONSE_PER_INPUT = 4096, 16  # columns in a refit of the response, at least


@dataclass
class ScaledProblem:
    """A layer's problem in scaled coordinates, ``V = d U unit``, with the bias eliminated.

    Attributes
    ----------
    weight, bias
        (N, M) dense weights, and (1, M) dense bias, 0 where the layer has none.
    scale
        (M,) the problem's scale.
    output_weights
        (M,) how much an output's linear error matters.
    unit
        (M,) ``scale * output_weights``.
    objective
        What V costs.
    own_results, dense_results
        Results of the dense weights on the layer's inputs, and on the dense network's inputs, in
        the form of ``LayerSamples.target``.
    start
        (N, M) V of the dense weights.
    """

    problem: LayerProblem
    system: System
    weight: Matrix = field(init=False)
    bias: Matrix = field(init=False)
    scale: Matrix = field(init=False)
    output_weights: Matrix = field(init=False)
    unit: Matrix = field(init=False)
    objective: Objective = field(init=False)
    own_results: Matrix = field(init=False)
    dense_results: Matrix = field(init=False)
    start: Matrix = field(init=False)

    @classmethod
    def of(cls, problem: LayerProblem, delta: float | None = None) -> ScaledProblem:
        """The scaled problem, with a system that all layers with the same input share.

        Parameters
        ----------
        problem
            The layer's problem.
        delta
            Damping; that of ``damping`` by default.
        """
        if delta is None:
            delta = damping(problem.samples.columns, len(problem.samples.X) - 1)
        return cls(problem, _system(problem, delta))

    def damped(self, delta: float) -> ScaledProblem:
        """The same with another damping."""
        other, system = copy(self), _system(self.problem, delta)
        other.system, other.objective = system, replace(self.objective, system=system)
        return other

    @classmethod
    def tuned(cls, problem: LayerProblem, penalty: Penalty) -> ScaledProblem:
        """The scaled problem with the best damping: the problem's, or the usual if samples abound.

        Otherwise a short run with each of several dampings is compared on the held-out samples.
        """
        tuned = problem.delta if problem.tuned_sparse is None else problem.tuned_sparse.delta
        if tuned is not None:
            return cls.of(problem, tuned)
        samples, inputs = problem.samples, len(problem.samples.X) - 1
        if samples.columns >= AMPLE * inputs or samples.holdout_X.shape[1] == 0:
            return cls.of(problem)
        usual, feedback = damping(samples.columns, inputs), middle_feedback(problem)

        def error_of(scaled: ScaledProblem) -> float:
            """Error of a short run."""
            V, _ = scaled.run(scaled.rhs(feedback), penalty, (PATH_RHO,) * 10, scaled.start)
            return estimated_error(problem, scaled.linear_weights(V, feedback))

        # Downwards one step; where inputs outnumber columns also upwards, as long as that helps.
        ladders = [[usual / LESS]]
        if samples.columns < len(samples.X):
            ladders.append([usual * MORE**step for step in range(1, STEPS_UP + 1)])
        best = cls.of(problem, usual)
        least_error = BETTER * error_of(best)
        for ladder in ladders:
            for delta in ladder:
                scaled = best.damped(delta)
                if (error := error_of(scaled)) >= least_error:
                    break
                best, least_error = scaled, error
        return best

    def __post_init__(self) -> None:
        """Prepare the dense weights and both ends of the cascade's target."""
        problem, samples, outputs = self.problem, self.problem.samples, self.problem.W.shape[1]
        self.weight = problem.W[:-1] if problem.has_bias else problem.W
        self.scale = np.ones(outputs) if problem.scale is None else problem.scale.astype(np.float64)
        self.bias = problem.W[-1:] if problem.has_bias else np.zeros((1, outputs))
        W = np.vstack([self.weight, self.bias]).astype(np.float64)
        self.own_results = samples.target_of(W)
        self.dense_results = self.own_results if samples.inputs_exact else samples.target
        self.output_weights = output_weights(problem)
        if problem.importance is not None:
            self.output_weights = self.output_weights * problem.importance
        self.unit = self.scale * self.output_weights
        self.start = self.to_scaled(self.weight)
        self.objective = Objective.of(problem, self.system)

    def target(self, feedback: ErrorFeedback) -> Matrix:
        """The target with an error feedback, in the form of ``LayerSamples.target``."""
        change = self.dense_results - self.own_results
        target = np.asarray(self.own_results + feedback.own * change)
        skip = self.problem.samples.skip
        if skip is None or skip.exact or not feedback.skip:
            return target
        by_columns = self.problem.samples.C is None
        missing = skip.dense - skip.pruned if by_columns else skip.missing
        assert missing is not None
        share = np.divide(feedback.skip, self.scale, out=0 * self.scale, where=self.scale != 0)
        return np.asarray(target + missing * (share[:, None] if by_columns else share))

    def rhs(self, feedback: ErrorFeedback) -> Matrix:
        """(N, M) right-hand side of the scaled system for the target with an error feedback."""
        scaled = self.system.right_hand_side(self.target(feedback), self.weight)
        return np.asarray(scaled * self.unit.astype(np.float32))

    def to_scaled(self, weight: Matrix) -> Matrix:
        """V (N, M) of weights (N, M)."""
        V = (weight * self.system.d[:, None] * self.unit).astype(np.float32)
        V[~self.system.alive] = 0
        return V

    @property
    def schedule(self) -> tuple[float, ...]:
        """Rho of each iteration; the second half alone where the problem has a start."""
        schedule = rho_schedule(ITERATIONS, *self.start.shape)
        return schedule if self.problem.start is None else schedule[len(schedule) // 2 :]

    def find_support(
        self,
        rhs: Matrix,
        penalty: Penalty,
        progress: Progress | None = None,
        schedule: Sequence[float] | None = None,
    ) -> Matrix:
        """Refitted sparse weights V (N, M) on a support that the penalty allows.

        Parameters
        ----------
        rhs
            (N, M) right-hand side.
        penalty
            Its prox selects entries and leaves them as they are (keep-k, n:m, blocks).
        progress
            Called after each iteration.
        schedule
            rho of each iteration; that of the layer by default.
        """
        if not penalty.prox(self.start, 1.0).any():
            return np.zeros_like(self.start)
        start = self.start
        if self.problem.start is not None:
            start = self.to_scaled(self.problem.start[: len(self.weight)])
        V, _ = self.run(rhs, penalty, schedule or self.schedule, start, progress, steps=12)
        return self.objective.improve_support(rhs, penalty, V)

    def run(
        self,
        rhs: Matrix,
        penalty: Penalty,
        schedule: Sequence[float],
        start: Matrix,
        progress: Progress | None = None,
        *,
        steps: int = 8,
    ) -> tuple[Matrix, Matrix]:
        """Run ADMM and refit its sparse weights.

        Parameters
        ----------
        rhs
            (N, M) right-hand side.
        penalty
            See ``find_support``.
        schedule
            rho of each iteration.
        start
            (N, M) ADMM's first state.
        progress
            Called after each iteration.
        steps
            Steps of the refit.

        Returns
        -------
        V, state
            (N, M) refitted weights, and ADMM's last state.
        """
        total = len(schedule)
        S, state, _ = admm(
            self.objective.response(rhs),
            penalty,
            start=start,
            schedule=schedule,
            alpha=ALPHA,
            callback=(lambda done, *_: progress(done, total)) if progress else None,
        )
        return self.objective.refit(rhs, S != 0, S, steps), state

    def refits(
        self, V: Matrix, options: Sequence[ErrorFeedback]
    ) -> Iterator[tuple[ErrorFeedback, Matrix]]:
        """Best weights (N, M) on the support of V (N, M) for several error feedbacks.

        They are linear in the feedback, so three refits at most give them all.
        """
        none, own, skip = ErrorFeedback(0, 0), ErrorFeedback(1, 0), ErrorFeedback(0, 1)
        needed = {
            none: True,
            own: any(feedback.own for feedback in options),
            skip: len({feedback.skip for feedback in options}) > 1,
        }
        refits = {
            corner: self.objective.refit(self.rhs(corner), V != 0, V, steps=12)
            for corner in needed
            if needed[corner]
        }
        base = refits.pop(none)
        for feedback in options:
            weights = base.copy()
            for corner, refitted in refits.items():
                weights += np.float32(np.dot(feedback, corner)) * (refitted - base)
            yield feedback, weights

    def path(self, rhs: Matrix, keeps: Sequence[int]) -> Iterator[Matrix]:
        """Refitted sparse weights (N, M) for falling counts, each warm-started from the last.

        As the count falls slowly, rho need not grow: a few iterations at one value suffice.
        rhs is (N, M).
        """
        schedule: Sequence[float] = (RHO_LEVELS[2],) * 8 + (PATH_RHO,) * 8
        state = self.start
        for keep in keeps:
            V, state = self.run(rhs, KeepLargest(keep), schedule, state, steps=4)
            schedule = (PATH_RHO,) * 5
            yield V

    def magnitude_baseline(self, penalty: Penalty) -> Matrix:
        """Dense weights and bias, with the weights that the penalty keeps by scaled magnitude.

        The scale is an input's root mean square.  It is not centred as the bias is not refitted.
        """
        X = self.problem.samples.X[:-1]
        size = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64) / max(1, X.shape[1]))
        magnitude = np.abs(self.weight * self.unit * size[:, None])
        U = np.where(penalty.prox(magnitude, 1.0) != 0, self.weight, 0).astype(np.float64)
        return np.vstack([U, self.bias]) if self.problem.has_bias else U

    def from_scaled(self, V: Matrix, bias: Matrix | None) -> Matrix:
        """U (N, M) of V (N, M) in float64, or (N+1, M) with a bias (M,) in the last row."""
        U = V.astype(np.float64) / self.system.d[:, None]
        live = self.unit != 0
        U[:, live] /= self.unit[live]
        U[:, ~live] = 0
        return U if bias is None else np.vstack([U, bias])

    def linear_weights(
        self, V: Matrix, feedback: ErrorFeedback, *, keep_dead: bool = False
    ) -> Matrix:
        """The problem's U with the best bias for the linear response.

        Parameters
        ----------
        V
            (N, M) scaled weights.
        feedback
            Of the target that V was fitted to.
        keep_dead
            Whether inputs that carry no signal keep their dense weights.
        """
        U = self.from_scaled(V, None)
        if keep_dead:
            U[~self.system.alive] = self.weight[~self.system.alive]
        if not self.problem.has_bias:
            return U
        return np.vstack([U, self.system.bias(self.target(feedback), U)])

    def response_weights(
        self, V: Matrix, feedback: ErrorFeedback, solver: Solver | None = None
    ) -> Matrix:
        """The problem's U refitted from V (N, M) to the response, on the sampled columns.

        Results that the activation does not pass on are free: a ReLU's inactive units altogether.
        A solver allows other weights than those on the support of V (see ``refit_response``).
        """
        samples = self.problem.samples
        count = max(RESPONSE_COLUMNS, RESPONSE_PER_INPUT * len(samples.X))
        columns = evenly_spaced(samples.X.shape[1], count)
        target, mean = self._response_target(feedback, columns)
        X = samples.X[:-1, columns] / self.system.d[:, None].astype(np.float32)
        X[~self.system.alive] = 0
        means = X.mean(axis=1) if self.problem.has_bias else None
        if means is not None:
            X -= means[:, None]
        worth = self.output_weights.astype(np.float32)
        pull = np.float32(self.system.delta) * self.start / worth
        damped = Damping(self.system.delta, pull)
        start = None if means is None else mean
        V, bias = refit_response(X, target, damped, V / worth, start, solver=solver)
        V = V * worth
        if bias is None or means is None:
            return self.from_scaled(V, None)
        live = self.scale != 0
        constant = self.bias[0].astype(np.float64)
        constant[live] = (bias - means @ V / worth)[live] / self.scale[live]
        return self.from_scaled(V, constant)

    def _response_target(self, feedback: ErrorFeedback, columns: slice) -> tuple[Target, Matrix]:
        """Target of a refit on sampled columns, and the mean result (M,) to start from."""
        problem, samples = self.problem, self.problem.samples
        Z, connection, missing = samples.Z[:, columns], samples.skip, None
        if feedback.own < 1 and not samples.inputs_exact:
            own = (samples.X[:, columns].T @ np.vstack([self.weight, self.bias])).T
            Z = feedback.own * Z + (1 - feedback.own) * own
        if connection is not None and not connection.exact:
            change = connection.dense[:, columns] - connection.pruned[:, columns]
            missing = np.float32(feedback.skip) * change
        skip = None if connection is None else connection.pruned[:, columns]
        mean = Z.mean(axis=1) * self.scale
        if missing is not None:
            mean = mean + missing.mean(axis=1)
        mean = mean.astype(np.float32)
        if problem.activation is None:
            return Intervals.of_response(
                Z,
                problem.scale,
                problem.shift,
                (problem.floor, problem.ceiling),
                skip=skip,
                missing=missing,
            ), mean
        point = Z if problem.scale is None else Z * self.scale[:, None].astype(np.float32)
        added = problem.pre_activation(np.zeros((len(Z), 1), np.float32))
        return ResponseCurve.of(
            problem.activation,
            point if missing is None else point + missing,
            added if skip is None else added + skip,
        ), mean


def _system(problem: LayerProblem, delta: float) -> System:
    """The system of a damping, which all layers with the same input share."""
    samples, free_bias = problem.samples, problem.has_bias
    return samples.shared.get(
        ("gram", free_bias, delta),
        lambda: system_of(samples, free_bias=free_bias, delta=delta),
    )
