"""The constrained program neuron by neuron, on the weights and the constraints that matter.

Given the multiplier ``lam`` of the shared ball ``||R on shared|| <= epsilon`` (or the weight of the
square that takes its place) the program falls apart into one small program a neuron,

    minimise   prices |u|_1 + lam/2 ||R(u'X) on shared||^2   subject to   R(u'X) = 0 elsewhere,

and few of its weights and constraints matter: candidates, which are not zero or nearly pay
their price, and entries that bind or nearly do.  The points among the shared entries enter by
their Gram matrix only.  So each neuron is solved by an ADMM of its own in a room of some hundred
by some hundred numbers, which stays in cache, many iterations for the price of one over all
samples.  Between rounds all samples are looked at again: weights that pay and entries that are
violated join, ``lam`` follows the norm that it is to bring to epsilon, and the multipliers give
the lower bound.  (Working sets with multipliers; the same splitting as in ``sample_space``.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nettrim_cli.solve.convex.batched_admm import (
    HOLD,
    SPARSE,
    Indices,
    Program,
    Scratch,
    Subproblem,
    SubproblemBatch,
)
from nettrim_cli.solve.convex.sample_space import Residual, SampleResponse
from nettrim_cli.solve.matrices import Matrix, norm

GROUP_BYTES = 4 << 20  # of the matrices of neurons worked on together; they stay in cache
GROUP = 8  # neurons at least
NEAR = 0.1  # of a neuron's typical response: how near its end an entry is that may bind
SLIGHT = 1e-3  # of that, below which a violation is none that matters
PAYS = 0.7  # of its price: what a weight must pay to become a candidate at first
LATER = 1.0005
DEAREST = 1e12  # times the lowest price: prices above are cut, which keeps bounds valid
MOST_BYTES = 1 << 30
STEPS = 60  # over all samples that the small programs save


@dataclass(frozen=True)
class Verdict:
    """What holds for the weights after a round: objective, lower bound on it, residual."""

    value: float
    bound: float
    residual: Residual


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
        Multiplier of the shared ball; see ``follow``.
    """

    def __init__(self, response: SampleResponse, prices: Matrix, V: Matrix) -> None:
        dearest = DEAREST * float(prices.min(initial=math.inf))
        cut = np.minimum(prices, dearest).astype(np.float32)
        self.prices: Matrix = np.broadcast_to(cut, V.shape).T  # (M, N)
        self.response = response
        self.lam, self._rho = response.multiplier, np.float32(response.rho)
        ends = self.prices / self._rho
        pull = np.clip(V.T, -ends, ends)
        self.U: Matrix = V.T - pull
        self._smooth = np.zeros_like(self.U)  # where the gradient of all but l1 is what l1 pays
        self._pull: Matrix = pull * self._rho  # minus that gradient
        self._candidates = [np.flatnonzero(row) for row in np.abs(V.T) > np.float32(PAYS) * ends]
        self._active = response.intervals.active
        self._slight = np.zeros(len(self.U), np.float32)
        none = np.empty(0, np.intp), np.empty(0, np.float32)
        self._held: list[tuple[Indices, Matrix]] = [none] * len(self.U)
        self.groups: list[SubproblemBatch] = []

    @property
    def worthwhile(self) -> bool:
        """Whether the small programs fit into memory and pay against steps over all samples."""
        if not 0 < self.lam < math.inf:
            return False
        (N, M), P = (self.U.shape[1], len(self.U)), self._active.shape[1]
        sizes = np.array([len(weights) for weights in self._candidates], np.float64)
        points = np.count_nonzero(self._active, axis=1)
        flops = (sizes**2 * points + 10 * sizes**3).sum()
        return bool(8 * (sizes**2).sum() < MOST_BYTES and flops < STEPS * 4.0 * N * M * P)

    def round(self, iterations: int) -> Verdict:
        """Some iterations of every small program, then a look at all samples.

        Raises
        ------
        numpy.linalg.LinAlgError
            A small program is too badly scaled for float32.
        """
        if not self.groups:
            self._build()
        self.response.each(lambda group: self._iterate(group, iterations), self.groups)
        return self._look()

    def follow(self, lam: float) -> None:
        """Go on with another multiplier of the ball; those of single entries and weights stay."""
        for group in self.groups:
            group.follow(self.lam, lam)
        self.lam = lam

    def _iterate(self, group: SubproblemBatch, iterations: int) -> None:
        """ADMM on one group; its weights and multipliers are put where they belong."""
        S, U, L = group.iterate(self.lam, iterations)
        for k, part in enumerate(group.parts):
            m, weights = part.neuron, part.weights
            self.U[m] = self._smooth[m] = 0
            self.U[m, weights] = S[k, : len(weights)]
            self._smooth[m, weights] = U[k, : len(weights)]
            self._held[m] = part.entries, L[k, : len(part.entries)]

    def _look(self) -> Verdict:
        """All samples: value, bound and violation; what is missing joins."""
        response, intervals = self.response, self.response.intervals
        violated: list[Indices] = [np.empty(0, np.intp)] * len(self.U)

        @np.errstate(over="ignore", invalid="ignore")
        def look(block: slice) -> tuple[float, ...]:
            Z = self.U[block] @ response.X
            R = Z - np.clip(Z, intervals.lower[block], intervals.upper[block])
            shared = R * response.shares[block]
            near, exact = norm(shared) ** 2, norm(R - shared) ** 2
            R[self._active[block]] = 0
            Z = np.matmul(self._smooth[block], response.X, out=Z)
            L = Z - np.clip(Z, intervals.lower[block], intervals.upper[block])
            L *= response.shares[block]
            L *= np.float32(self.lam)
            for k, (entries, held) in enumerate(self._held[block]):
                L[k, entries], R[k, entries] = held, 0
                violated[block.start + k] = np.flatnonzero(
                    np.abs(R[k]) > self._slight[block.start + k]
                )
            self._pull[block] = -(L @ response.XT)
            value = float((np.abs(self.U[block]) * self.prices[block]).sum(dtype=np.float64))
            excess = (np.abs(self._pull[block]) / self.prices[block]).max(axis=1)
            worth, squares = response.worth(L, excess, block)
            return value, near, exact, worth, squares

        value, near, exact, worth, squares = map(
            sum, zip(*response.each(look, response.blocks), strict=True)
        )
        residual = Residual(math.sqrt(near), math.sqrt(exact))
        bound = worth - response.fit.conjugate(math.sqrt(squares))
        response.each(lambda group: self._join(group, violated), self.groups)
        return Verdict(value + response.fit.cost(residual.shared), bound, residual)

    def _build(self) -> None:
        """Candidates and entries from ADMM's state, in groups of similar size."""
        response = self.response
        source, scratch = self._source(), Scratch()
        found = response.each(lambda block: self._choose(source, block), response.blocks)
        started = [each for block in found for each in block]
        started.sort(key=lambda each: len(each[0].weights) * len(each[0].entries))

        def build(chunk: slice) -> SubproblemBatch:
            parts, V, G = map(list, zip(*started[chunk], strict=True))
            return SubproblemBatch(source, parts, V, G, scratch)

        self.groups = response.each(build, _chunks([each[0] for each in started]))

    def _source(self) -> Program:
        response = self.response
        points = np.where(self._active, response.intervals.lower, np.float32(0))
        drawn = response.each(lambda block: points[block] @ response.XT, response.blocks)
        return Program(
            X=response.X,
            XT=response.XT,
            intervals=response.intervals,
            shares=response.shares,
            active=self._active,
            points=points,
            drawn=np.concatenate(drawn),
            prices=self.prices,
        )

    def _choose(self, source: Program, block: slice) -> list[tuple[Subproblem, Matrix, Matrix]]:
        """The parts of a block of neurons, with the states V and G to start from."""
        response, unit = self.response, np.float32(self.lam)
        lower, upper = source.intervals.lower[block], source.intervals.upper[block]
        points = source.points[block]
        Z = self.U[block] @ response.X
        T = np.clip(Z, lower, upper)
        L = response.shrunk(block) * self._rho
        near = NEAR * np.sqrt(np.einsum("ij,ij->i", points, points) / points.shape[1])
        self._slight[block] = SLIGHT * near
        room = np.minimum(upper - Z, Z - lower)
        room[(L != 0) & (response.shares[block] == 0)] = -np.inf
        room[self._active[block]] = np.inf
        found = []
        for k, neuron in enumerate(range(block.start, block.start + len(Z))):
            weights, entries = self._candidates[neuron], np.flatnonzero(room[k] < near[k])
            most = 4 * len(weights) + GROUP
            if len(entries) > most:
                entries = entries[np.argpartition(room[k, entries], most)[:most]]
            V = self.U[neuron, weights] + self._pull[neuron, weights] / (SPARSE * unit)
            G = T[k, entries] + L[k, entries] / (HOLD * unit)
            found.append((Subproblem(neuron, weights, entries), V, G))
        return found

    def _join(self, group: SubproblemBatch, violated: list[Indices]) -> None:
        """Let in the weights that pay more than their price, and the violated entries."""
        fresh, pulls = [], []
        for part in group.parts:
            pull = self._pull[part.neuron]
            pays = np.abs(pull) > LATER * self.prices[part.neuron]
            pays[part.weights] = False
            fresh.append(np.flatnonzero(pays))
            pulls.append(pull[fresh[-1]])
        more = [violated[part.neuron] for part in group.parts]
        group.admit(self.lam, fresh, pulls, more, self.U)


def _chunks(parts: list[Subproblem]) -> list[slice]:
    """Parts that make a group, by what their matrices take."""
    ends, room = [0], 0.0
    for at, part in enumerate(parts):
        size = 4 * len(part.weights) * (len(part.weights) + len(part.entries))
        if at - ends[-1] >= GROUP and room < size:
            ends.append(at)
        room = GROUP_BYTES - size if at == ends[-1] else room - size
    return [slice(a, b) for a, b in pairwise([*ends, len(parts)])]
