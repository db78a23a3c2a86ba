"""The program neuron by neuron, on the weights and the constraints that matter.

Given the multiplier ``lam`` of the shared ball ``||R on shared|| <= epsilon`` (or the weight of the
square that takes its place) the program falls apart into one small program a neuron,

    minimise   prices |u|_1 + lam/2 ||R(u'X) on shared||^2   subject to   R(u'X) = 0 elsewhere,

and few of its weights and constraints matter: candidates, which are not zero or nearly pay
their price, and entries that bind or nearly do.  The points among the shared entries enter by
their Gram matrix only.  So an ADMM of its own solves each neuron on arrays of some hundred by some
hundred numbers.  These stay in cache, and many iterations cost as much as one over all samples.
Its multipliers settle slowly, so in later rounds Newton's steps take its place (``newton``).
After each round all samples are evaluated: weights that pay and violated entries are added, ``lam``
is changed to bring the norm to epsilon, and the multipliers give the lower bound.  (Working sets
with multipliers; the same splitting as in ``sample_space``.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from nettrim_cli.solve.convex.batched_admm import (
    ENTRY_RHO,
    WEIGHT_RHO,
    Indices,
    Program,
    Scratch,
    Subproblem,
    SubproblemBatch,
)
from nettrim_cli.solve.convex.sample_space import Residual, SampleResponse
from nettrim_cli.solve.matrices import Matrix, norm

BATCH_BYTES = 4 << 20  # of the matrices of a batch of neurons; they stay in cache
BATCH = 8  # neurons of a batch at least
NEAR = 0.1  # distance from its end at which an entry may bind, relative to typical responses
SLIGHT = 1e-3  # violation that does not matter, relative to NEAR's distance
FIRST_PAY = 0.7  # multiplier of a first candidate, relative to its price
LATER_PAY = 1.0005  # multiplier of a later candidate, relative to its price
MAX_PRICE = 1e12  # relative to the lowest price; higher ones are cut, which keeps bounds valid
MAX_BYTES = 1 << 30  # of all small programs
STEPS = 100  # over all samples that the small programs save


State = tuple[Subproblem, Matrix, Matrix]  # with V and G


@dataclass(frozen=True)
class RoundResult:
    """Objective of the weights after a round, lower bound on it, residual, and iterations."""

    value: float
    bound: float
    residual: Residual
    iterations: int = 0


class WorkingSet:
    """All neurons' small programs, started from ADMM's state over all samples.

    Parameters
    ----------
    response
        The response set after some steps.
    prices
        (N, M) or (1, M), positive, for weights of the scaled X.
    V
        ADMM's state (N, M).

    Attributes
    ----------
    U
        (M, N) sparse weights.
    lam
        Multiplier of the shared ball; see ``set_multiplier``.
    """

    def __init__(self, response: SampleResponse, prices: Matrix, V: Matrix) -> None:
        highest = MAX_PRICE * float(prices.min(initial=math.inf))
        cut = np.minimum(prices, highest).astype(np.float32)
        self.prices: Matrix = np.broadcast_to(cut, V.shape).T  # (M, N)
        self.response = response
        self.lam, self._rho = response.multiplier, np.float32(response.rho)
        ends = self.prices / self._rho
        pull = np.clip(V.T, -ends, ends)
        self.U: Matrix = V.T - pull
        self._smooth = np.zeros_like(self.U)  # where the gradient of all but l1 is what l1 pays
        self._pull: Matrix = pull * self._rho  # minus that gradient
        pays = np.abs(V.T) > np.float32(FIRST_PAY) * ends
        self._candidates = [np.flatnonzero(row) for row in pays]
        self._active = response.intervals.active
        self._slight = np.zeros(len(self.U), np.float32)
        nothing = np.empty(0, np.intp), np.empty(0, np.float32)
        self._entry_multipliers: list[tuple[Indices, Matrix]] = [nothing] * len(self.U)
        self.batches: list[SubproblemBatch] = []

    @property
    def worthwhile(self) -> bool:
        """Whether the small programs fit into memory and cost less than steps over all samples."""
        if not 0 < self.lam < math.inf:
            return False
        (N, M), P = (self.U.shape[1], len(self.U)), self._active.shape[1]
        sizes = np.array([len(weights) for weights in self._candidates], np.float64)
        points = np.count_nonzero(self._active, axis=1)
        flops = (sizes**2 * points + 10 * sizes**3).sum()
        return bool(12 * (sizes**2).sum() < MAX_BYTES and flops < STEPS * 4.0 * N * M * P)

    def round(self, iterations: int) -> RoundResult:
        """Some iterations of every small program, then an evaluation on all samples.

        Parameters
        ----------
        iterations
            Of ADMM; 0 for Newton's steps in their place.

        Raises
        ------
        numpy.linalg.LinAlgError
            A small program is too badly scaled.
        """
        if not self.batches:
            self._build()
        done = self.response.parallel_map(
            lambda batch: self._iterate(batch, iterations), self.batches
        )
        return replace(self._evaluate(), iterations=max(done, default=0))

    def set_multiplier(self, lam: float) -> None:
        """Change the multiplier of the ball; those of single entries and weights stay."""
        for batch in self.batches:
            batch.set_multiplier(self.lam, lam)
        self.lam = lam

    def _iterate(self, batch: SubproblemBatch, iterations: int) -> int:
        """Iterations of one batch; stores its weights and multipliers."""
        if iterations:
            S, U, L = batch.iterate(self.lam, iterations)
        else:
            S, U, L, iterations = batch.polish(self.lam)
        for k, subproblem in enumerate(batch.subproblems):
            m, weights = subproblem.neuron, subproblem.weights
            self.U[m] = self._smooth[m] = 0
            self.U[m, weights] = S[k, : len(weights)]
            self._smooth[m, weights] = U[k, : len(weights)]
            self._entry_multipliers[m] = subproblem.entries, L[k, : len(subproblem.entries)]
        return iterations

    def _evaluate(self) -> RoundResult:
        """Value, bound and residual on all samples; adds the weights and entries that matter."""
        response, intervals = self.response, self.response.intervals
        violated: list[Indices] = [np.empty(0, np.intp)] * len(self.U)

        @np.errstate(over="ignore", invalid="ignore")
        def measure(block: slice) -> tuple[float, ...]:
            """Value, squares of the residual, and terms of the bound."""
            Z = self.U[block] @ response.X
            R = Z - np.clip(Z, intervals.lower[block], intervals.upper[block])
            shared = R * response.shares[block]
            shared_square, exact_square = norm(shared) ** 2, norm(R - shared) ** 2
            R[self._active[block]] = 0
            Z = np.matmul(self._smooth[block], response.X, out=Z)
            L = Z - np.clip(Z, intervals.lower[block], intervals.upper[block])
            L *= response.shares[block]
            L *= np.float32(self.lam)
            for k, (entries, multipliers) in enumerate(self._entry_multipliers[block]):
                L[k, entries], R[k, entries] = multipliers, 0
                violated[block.start + k] = np.flatnonzero(
                    np.abs(R[k]) > self._slight[block.start + k]
                )
            pull = L @ response.XT
            self._pull[block] = -pull
            if (cheap := response.cheap) is not None:
                L -= cheap.points(block) * cheap.part(block).settle(pull.T)[:, None]
            excess = (np.abs(pull) / self.prices[block]).max(axis=1)
            value = float((np.abs(self.U[block]) * self.prices[block]).sum(dtype=np.float64))
            value_of_bound, squares = response.bound_terms(L, excess, block)
            return value, shared_square, exact_square, value_of_bound, squares

        terms = response.parallel_map(measure, response.blocks)
        value, shared_square, exact_square, value_of_bound, squares = map(
            sum, zip(*terms, strict=True)
        )
        residual = Residual(math.sqrt(shared_square), math.sqrt(exact_square))
        bound = value_of_bound - response.loss.conjugate(math.sqrt(squares))
        response.parallel_map(lambda batch: self._admit(batch, violated), self.batches)
        return RoundResult(value + response.loss.cost(residual.shared), bound, residual)

    def _build(self) -> None:
        """Small programs from ADMM's state, in batches of similar size."""
        response = self.response
        program, scratch = self.program(), Scratch()
        blocks = response.parallel_map(partial(self._subproblems, program), response.blocks)
        states = [state for block in blocks for state in block]
        states.sort(key=lambda state: len(state[0].weights) * len(state[0].entries))

        def build(chunk: slice) -> SubproblemBatch:
            """The batch of some states."""
            subproblems, V, G = map(list, zip(*states[chunk], strict=True))
            return SubproblemBatch(program, subproblems, V, G, scratch)

        self.batches = response.parallel_map(build, _chunks([state[0] for state in states]))

    def program(self) -> Program:
        """The program of all small programs."""
        response = self.response
        points = np.where(self._active, response.intervals.lower, np.float32(0))
        return Program(
            X=response.X,
            XT=response.XT,
            intervals=response.intervals,
            shares=response.shares,
            active=self._active,
            points=points,
            prices=self.prices,
        )

    def _subproblems(self, program: Program, block: slice) -> list[State]:
        """Small programs of a block of neurons, each with its first V and G."""
        response, unit = self.response, np.float32(self.lam)
        lower, upper = program.intervals.lower[block], program.intervals.upper[block]
        points = program.points[block]
        Z = self.U[block] @ response.X
        T = np.clip(Z, lower, upper)
        L = response.prox_residual(block) * self._rho
        near = NEAR * np.sqrt(np.einsum("ij,ij->i", points, points) / points.shape[1])
        self._slight[block] = SLIGHT * near
        room = np.minimum(upper - Z, Z - lower)
        room[(L != 0) & (response.shares[block] == 0)] = -np.inf
        room[self._active[block]] = np.inf
        states = []
        for k, neuron in enumerate(range(block.start, block.start + len(Z))):
            weights, entries = self._candidates[neuron], np.flatnonzero(room[k] < near[k])
            max_entries = 4 * len(weights) + BATCH
            if len(entries) > max_entries:
                entries = entries[np.argpartition(room[k, entries], max_entries)[:max_entries]]
            V = self.U[neuron, weights] + self._pull[neuron, weights] / (WEIGHT_RHO * unit)
            G = T[k, entries] + L[k, entries] / (ENTRY_RHO * unit)
            states.append((Subproblem(neuron, weights, entries), V, G))
        return states

    def _admit(self, batch: SubproblemBatch, violated: list[Indices]) -> None:
        """Add the weights that pay more than their price, and the violated entries."""
        new_weights, pulls = [], []
        for subproblem in batch.subproblems:
            pull = self._pull[subproblem.neuron]
            pays = np.abs(pull) > LATER_PAY * self.prices[subproblem.neuron]
            pays[subproblem.weights] = False
            new_weights.append(np.flatnonzero(pays))
            pulls.append(pull[new_weights[-1]])
        new_entries = [violated[subproblem.neuron] for subproblem in batch.subproblems]
        batch.admit(self.lam, new_weights, pulls, new_entries, self.U)


def _chunks(subproblems: list[Subproblem]) -> list[slice]:
    """Slices of small programs that make a batch, by the bytes of their matrices."""
    ends, free = [0], 0.0
    for number, subproblem in enumerate(subproblems):
        size = 4 * len(subproblem.weights) * (len(subproblem.weights) + len(subproblem.entries))
        if number - ends[-1] >= BATCH and free < size:
            ends.append(number)
        free = BATCH_BYTES - size if number == ends[-1] else free - size
    return [slice(a, b) for a, b in pairwise([*ends, len(subproblems)])]
