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
the lower bound.  (Working sets with multipliers; the same splitting as in ``constrained``.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from nettrim_cli.solve.constrained import Residual, SampleResponse
from nettrim_cli.solve.task import Matrix, norm

Indices = NDArray[np.intp]

GROUP = 8  # neurons worked on together
ALPHA = np.float32(1.9)
HOLD, SPARSE = np.float32(10), np.float32(1)  # penalties of both splits, in units of lam
SPREAD = 1e3  # of these penalties, up or down
BALANCED = 8.0  # ratio of the splits' residuals to the multipliers' within which they stay
NEAR = 0.1  # of a neuron's typical response: how near its end an entry is that may bind
SLIGHT = 1e-3  # of that, below which a violation is none that matters
PAYS = 0.7  # of its price: what a weight must pay to become a candidate at first
LATER = 1.0005
DEAREST = 1e12  # times the lowest price: prices above are cut, which keeps bounds valid
MOST_BYTES = 1 << 30
STEPS = 30  # over all samples that the small programs save


@dataclass
class Part:
    """The small program of one neuron.

    Attributes
    ----------
    neuron
        Its number.
    weights, entries
        (K,) candidates, and (Q,) entries that may bind.
    V, G
        (K,) and (Q,): ADMM's state, see Group.
    H
        (k, k) Gram matrix of the first k weights over the neuron's shared points.
    b, Y, inverse
        (K,), (Q, K) and (K, K) as in Group; None where they are to be made.
    """

    neuron: int
    weights: Indices
    entries: Indices
    V: Matrix
    G: Matrix
    H: Matrix
    b: Matrix | None = None
    Y: Matrix | None = None
    inverse: Matrix | None = None


@dataclass
class Group:
    """Small programs of similar size, n of them, their arrays padded to a common shape.

    Attributes
    ----------
    parts
        What is in it.
    b, V
        (n, K) right-hand sides, and ADMM's V.
    Y
        (n, Q, K) columns of X of the entries.
    lower, upper, give, G
        (n, Q) intervals of the entries, the share of a residual that the prox takes away (1
        where it holds exactly), and the argument of that prox.
    inverse
        (n, K, K), those of the parts.
    prices
        (n, K).
    hold, sparse
        Penalties of both splits, in units of lam.
    balance
        Of the splits' residual to the multipliers', after the last iteration.
    """

    parts: list[Part]
    b: Matrix
    V: Matrix
    Y: Matrix
    lower: Matrix
    upper: Matrix
    give: Matrix
    G: Matrix
    inverse: Matrix
    prices: Matrix
    hold: np.float32
    sparse: np.float32
    balance: float = 1.0

    def residual(self) -> Matrix:
        """What the prox takes away of G."""
        return np.asarray(self.give * (self.G - np.clip(self.G, self.lower, self.upper)))

    def shrunk(self, lam: float) -> Matrix:
        """The sparse weights, (n, K)."""
        ends = self.prices / (self.sparse * np.float32(lam))
        return np.asarray(self.V - np.clip(self.V, -ends, ends))


@dataclass(frozen=True)
class Verdict:
    """What holds for the weights after a round: objective, lower bound on it, residual."""

    value: float
    bound: float
    residual: Residual


class Reduced:
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
        self._points = np.where(self._active, response.intervals.lower, np.float32(0))
        self._slight = np.zeros(len(self.U), np.float32)
        none = np.empty(0, np.intp), np.empty(0, np.float32)
        self._held: list[tuple[Indices, Matrix]] = [none] * len(self.U)
        self.groups: list[Group] = []

    @property
    def worthwhile(self) -> bool:
        """Whether the small programs fit into memory and pay against steps over all samples."""
        if not 0 < self.lam < math.inf:
            return False
        (N, M), P = (self.U.shape[1], len(self.U)), self._points.shape[1]
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
        ratio = np.float32(self.lam / lam)
        for group in self.groups:
            group.G += group.residual() / group.give * (ratio - 1)
            S = group.shrunk(self.lam)
            group.V = S + (group.V - S) * ratio
        self.lam = lam

    @np.errstate(over="ignore", invalid="ignore")  # the verdict tells
    def _iterate(self, group: Group, iterations: int) -> None:
        """ADMM on one group, in units of lam; see constrained for the step."""
        V, G, Y, hold, sparse = group.V, group.G, group.Y, group.hold, group.sparse
        S, R = group.shrunk(self.lam), group.residual()
        for _ in range(iterations):
            T, last = G - R, S
            goal = T - R
            rhs = group.b + sparse * (2 * S - V) + hold * np.matmul(goal[:, None], Y)[:, 0]
            U = np.matmul(rhs[:, None], group.inverse)[:, 0]
            Z = np.matmul(Y, U[:, :, None])[:, :, 0]
            G += ALPHA * (Z - T)
            V += ALPHA * (U - S)
            S, R = group.shrunk(self.lam), group.residual()
        # The dual bound lives on U's stationarity, which a float32 inverse leaves to be refined.
        left = rhs - sparse * U - hold * np.matmul(Z[:, None], Y)[:, 0]
        for k, part in enumerate(group.parts):
            left[k, : len(part.H)] -= part.H @ U[k, : len(part.H)]
        U = U + np.matmul(left[:, None], group.inverse)[:, 0]
        Z = np.matmul(Y, U[:, :, None])[:, :, 0]
        apart, moved = norm(U - S) * norm(V - S), norm(S - last) * norm(S)
        group.balance = apart / moved if moved > 0 else 1.0
        L = (Z - goal) * (hold * np.float32(self.lam))
        L[np.isinf(group.lower)] = np.maximum(L, 0)[np.isinf(group.lower)]
        L[np.isinf(group.upper)] = np.minimum(L, 0)[np.isinf(group.upper)]
        for k, part in enumerate(group.parts):
            m, weights, entries = part.neuron, part.weights, part.entries
            self.U[m] = self._smooth[m] = 0
            self.U[m, weights], self._smooth[m, weights] = (
                S[k, : len(weights)],
                U[k, : len(weights)],
            )
            self._held[m] = entries, L[k, : len(entries)]

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

        value, near, exact, worth, squares = map(sum, zip(*response.each(look, response.blocks)))
        residual = Residual(math.sqrt(near), math.sqrt(exact))
        bound = worth - response.fit.conjugate(math.sqrt(squares))
        self.groups = response.each(lambda group: self._joined(group, violated), self.groups)
        return Verdict(value + response.fit.cost(residual.shared), bound, residual)

    def _build(self) -> None:
        """Candidates and entries from ADMM's state, in groups of similar size."""
        response, intervals = self.response, self.response.intervals
        unit = np.float32(self.lam)

        def choose(block: slice) -> list[Part]:
            lower, upper, points = (
                intervals.lower[block],
                intervals.upper[block],
                self._points[block],
            )
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
                most = 2 * len(weights) + GROUP
                if len(entries) > most:
                    entries = entries[np.argpartition(room[k, entries], most)[:most]]
                V = self.U[neuron, weights] + self._pull[neuron, weights] / (SPARSE * unit)
                G = T[k, entries] + L[k, entries] / (HOLD * unit)
                found.append(Part(neuron, weights, entries, V, G, np.empty((0, 0), np.float32)))
            return found

        parts = [part for found in response.each(choose, response.blocks) for part in found]
        parts.sort(key=lambda part: len(part.weights) * len(part.entries))
        chunks = [parts[at : at + GROUP] for at in range(0, len(parts), GROUP)]
        self.groups = response.each(self._group, chunks)

    def _joined(self, group: Group, violated: list[Indices]) -> Group:
        """The group with the weights that pay more than their price and the violated entries."""
        changed, factor = False, 1.0
        if not 1 / BALANCED < group.balance < BALANCED:
            factor = math.sqrt(group.balance) * float(group.sparse)
            factor = min(SPREAD, max(1 / SPREAD, factor)) / float(group.sparse)
            factor = min(10.0, max(0.1, factor))
        unit = np.float32(self.lam * factor)
        V, G = group.shrunk(self.lam), group.G - group.residual()
        V += (group.V - V) / np.float32(factor)
        G += (group.G - G) / np.float32(factor)
        for k, part in enumerate(group.parts):
            known, more = len(part.weights), violated[part.neuron]
            pull = self._pull[part.neuron]
            pays = np.abs(pull) > LATER * self.prices[part.neuron]
            pays[part.weights] = False
            fresh = np.flatnonzero(pays)
            if factor != 1 or len(fresh) or len(more):
                part.inverse, changed = None, True
            if len(fresh) or len(more):
                part.b = part.Y = None
            part.V = np.concatenate([V[k, :known], pull[fresh] / (group.sparse * unit)])
            Z = self.U[part.neuron] @ self.response.X[:, more]
            part.G = np.concatenate([G[k, : len(part.entries)], Z])
            part.weights = np.concatenate([part.weights, fresh])
            part.entries = np.concatenate([part.entries, more])
        if not changed:
            return group
        penalties = group.hold * np.float32(factor), group.sparse * np.float32(factor)
        return self._group(group.parts, *penalties)

    def _group(
        self, parts: list[Part], hold: np.float32 = HOLD, sparse: np.float32 = SPARSE
    ) -> Group:
        """Pad, and factor what has changed."""
        response, intervals = self.response, self.response.intervals
        K = max(1, *(len(part.weights) for part in parts))
        Q = max(1, *(len(part.entries) for part in parts))
        inverse = np.zeros((len(parts), K, K), np.float32)
        Y = np.zeros((len(parts), Q, K), np.float32)
        b, V = np.zeros((2, len(parts), K), np.float32)
        lower, upper, G = np.zeros((3, len(parts), Q), np.float32)
        give = np.ones((len(parts), Q), np.float32)
        prices = np.ones((len(parts), K), np.float32)
        for k, part in enumerate(parts):
            m, weights, entries = part.neuron, part.weights, part.entries
            part.H = self._gram(part)
            of_weights, of_entries = (k, slice(len(weights))), (k, slice(len(entries)))
            V[of_weights], G[of_entries] = part.V, part.G
            prices[of_weights] = self.prices[m, weights]
            if part.b is None or part.Y is None:
                part.b = np.take(response.X, weights, axis=0) @ self._points[m]
                part.Y = _picked(response.XT, entries, weights)
            if part.inverse is None:
                A = part.H + part.Y.T @ (hold * part.Y)
                A[np.diag_indices_from(A)] += sparse
                part.inverse = _inverse(A)
            b[of_weights], Y[k, : len(entries), : len(weights)] = part.b, part.Y
            inverse[k, : len(weights), : len(weights)] = part.inverse
            part.b, part.Y = b[of_weights], Y[k, : len(entries), : len(weights)]
            part.inverse = inverse[k, : len(weights), : len(weights)]
            lower[of_entries] = intervals.lower[m, entries]
            upper[of_entries] = intervals.upper[m, entries]
            give[of_entries] = np.where(response.shares[m, entries] == 0, 1, 1 / (1 + hold))
        return Group(parts, b, V, Y, lower, upper, give, G, inverse, prices, hold, sparse)

    def _gram(self, part: Part) -> Matrix:
        """Gram matrix of the part's weights; what it knows of it already is kept."""
        active, known = self._active[part.neuron], len(part.H)
        if known == 0:
            X = _picked(self.response.XT, np.flatnonzero(active), part.weights)
            return np.asarray(X.T @ X)
        if known == len(part.weights):
            return part.H
        fresh = np.take(self.response.X, part.weights[known:], axis=0) * active
        edge = fresh @ np.take(self.response.X, part.weights, axis=0).T
        H = np.empty((len(part.weights),) * 2, np.float32)
        H[:known, :known] = part.H
        H[known:], H[:, known:] = edge, edge.T
        return H


def _inverse(A: Matrix) -> Matrix:
    """Inverse of a positive definite matrix, in its own dtype."""
    if A.size == 0:
        return A
    factor, failed = scipy.linalg.lapack.spotrf(A, lower=1, clean=0)
    if failed:
        raise np.linalg.LinAlgError("a neuron's Gram matrix is not positive definite")
    lower, _ = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    return np.asarray(np.tril(lower) + np.tril(lower, -1).T)


def _picked(A: Matrix, rows: Indices, columns: Indices) -> Matrix:
    """A's entries where rows and columns meet; faster in two steps than in one."""
    return np.take(np.take(A, rows, axis=0), columns, axis=1)
