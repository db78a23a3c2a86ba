"""A response in sample space, for ``minimise g(U) + h(||R(U'X)||)``, h a ball or a square.

ADMM splits ``T = U'X`` as well as ``S = U``.  T and its scaled dual are both functions of one
array G, the projection's argument, and of one number, the norm of its residual: with R the part
of the residual that the projection removes, ``T = G - R`` and the dual is ``-R``.  A step is

    U <- (C + I)^-1 (X (G - 2R)' + target)
    G <- G + alpha (U'X - T)

All but that one norm is separate by neuron, so a step is a single pass over blocks of neurons
that stay in cache, on several threads.  It costs two matrix products of 2NMP flops at least.  The
scale of X balances the two splits: X is divided by a share of ``sqrt(max C)`` (0.3 in the paper's
public code).  An unscaled X needs many times more steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from nettrim_cli.solve.gram.low_rank import Eigenbasis
from nettrim_cli.solve.gram.system import inverse_of
from nettrim_cli.solve.matrices import Matrix, norm
from nettrim_cli.solve.penalties import ConvexPenalty
from nettrim_cli.solve.responses import Intervals, Loss, NormBall

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK_BYTES = 1 << 23  # of an array of a block; in smaller blocks BLAS packs X too often
ALPHA = 1.95
EXACT = 2e-3  # of the points' norm; to a smaller epsilon float32 can tell no share of it
CHEAP = 0.1  # price of a row over its size, relative to the median's, from which it is cheap
UNIT = 0.12  # of sqrt(max C); the balance of the two splits


@dataclass(frozen=True)
class Residual:
    """||R|| on the entries that share the loss and on those that hold exactly."""

    shared: float
    exact: float


class SampleResponse:
    """A response set as a coupling of ADMM (see ``admm.Coupling``), with its certificates.

    All weights are those of the scaled X: ``U * unit``.

    Parameters
    ----------
    X
        (N, P) inputs.
    intervals
        (M, P) response set.
    loss
        Cost of the residuals of the shared entries: a NormBall of epsilon, the absolute Frobenius
        error allowed, or a SquaredNorm.  It may change between steps.
    strict
        Whether the entries that are no points hold exactly; otherwise all share the loss.
    threads
        Number of threads; BLAS should use a single one meanwhile.

    Attributes
    ----------
    dual
        None, or an array (M, P) that receives the multipliers of the last bound, which prove it.
    """

    def __init__(
        self,
        X: Matrix,
        intervals: Intervals,
        loss: Loss,
        *,
        strict: bool = True,
        threads: int = 1,
    ) -> None:
        powers = np.einsum("ij,ij->i", X, X, dtype=np.float64)  # the diagonal of C, its largest
        self.unit = UNIT * math.sqrt(float(powers.max(initial=0))) or 1.0
        self.X = np.ascontiguousarray(X / self.unit, np.float32)
        self.XT = np.ascontiguousarray(self.X.T)
        self._damped = inverse_with_one(self.X)
        self.intervals, self.loss = intervals, loss
        shared = intervals.active if strict else np.True_
        self.shares = np.broadcast_to(shared, intervals.lower.shape).astype(np.float32)
        self.G = np.zeros(intervals.lower.shape, np.float32)
        self.R, self.shared = np.empty_like(self.G), np.empty_like(self.G)
        outputs, columns = intervals.lower.shape
        step = max(32, BLOCK_BYTES // (4 * max(1, columns)))
        count = max(1, -(-outputs // step))
        count += count % 2 if outputs >= 64 else 0
        ends = np.linspace(0, outputs, count + 1).round().astype(int).tolist()
        self.blocks = [slice(a, b) for a, b in pairwise(ends)]  # even: two threads get as many
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self.rho = 0.0
        self.dual: Matrix | None = None
        self.cheap: CheapRow | None = None
        self._refresh_norm()

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """One step of both splits, U (N, M) from a target (N, M); see the module."""
        if self.rho and rho != self.rho:
            for block in self.blocks:  # T and the unscaled dual stay
                self.G[block] += self.prox_residual(block) * np.float32(self.rho / rho - 1)
            self._refresh_norm()
        self.rho = rho
        U = np.empty(target.shape, np.float32)

        def step(block: slice) -> float:
            """The step of a block; the square of its new residual."""
            G, R = self.G[block], self.prox_residual(block)
            T = G - R
            goal = np.subtract(T, R, out=R)
            rhs = (goal @ self.XT).T
            rhs += target[:, block]
            U[:, block] = self._damped(rhs)
            Z = np.matmul(U[:, block].T, self.X, out=goal)
            Z -= T
            Z *= np.float32(ALPHA)
            G += Z
            return self._refresh(block)

        self._norm = math.sqrt(sum(self.parallel_map(step, self.blocks)))
        return U

    def residual(self, U: Matrix) -> Residual:
        """Frobenius norms of the residual of weights U (N, M)."""

        def squares(block: slice) -> tuple[float, float]:
            """Squares of both norms."""
            Z = U[:, block].T @ self.X
            R = Z - np.clip(Z, self.intervals.lower[block], self.intervals.upper[block])
            shared = R * self.shares[block]
            R -= shared
            return norm(shared) ** 2, norm(R) ** 2

        shared, exact = map(sum, zip(*self.parallel_map(squares, self.blocks), strict=True))
        return Residual(math.sqrt(shared), math.sqrt(exact))

    def bound(self, penalty: ConvexPenalty) -> float:
        """A lower bound on the least ``g(U) + h(||R||)``, by weak duality.

        The multiplier ``L = rho R`` of T is not negative at upper ends and not positive at lower
        ends of intervals.  Scaled until the polar of g at ``X L'`` is at most 1, neuron by neuron
        where g allows it, it proves ``-<L, ends> - h*(||L on the shared entries||_F)``.

        Parameters
        ----------
        penalty
            g, for weights of the scaled X.
        """
        pull = np.empty((len(self.X), len(self.G)), np.float32)

        def gather(block: slice) -> None:
            """Compute ``X L'`` of a block."""
            pull[:, block] = self.X @ (self.prox_residual(block) * np.float32(self.rho)).T

        self.parallel_map(gather, self.blocks)
        shares = None if self.cheap is None else self.cheap.settle(pull)
        excess = penalty.polar_columns(pull)

        def terms(block: slice) -> tuple[float, float]:
            """A block's part of the bound."""
            L = self.prox_residual(block) * np.float32(self.rho)
            if shares is not None and self.cheap is not None:
                L -= self.cheap.points(block) * shares[block, None]
            return self.bound_terms(L, excess[block], block)

        value, squares = map(sum, zip(*self.parallel_map(terms, self.blocks), strict=True))
        return float(value - self.loss.conjugate(math.sqrt(squares)))

    def bound_terms(self, L: Matrix, excess: Matrix, block: slice) -> tuple[float, float]:
        """A block's part of the bound: ``-<L, ends>``, and the square of L on shared entries.

        Parameters
        ----------
        L
            (K, P) multipliers of the block; scaled in place, neuron by neuron, to be feasible.
        excess
            (K,) polar of the penalty at ``X L'`` for each neuron.
        block
            The neurons.
        """
        L /= np.maximum(1, excess).astype(np.float32)[:, None]
        if self.dual is not None:
            self.dual[block] = L
        ends = np.where(L > 0, self.intervals.upper[block], self.intervals.lower[block])
        ends[L == 0] = 0
        value = float(np.einsum("ij,ij->", L, ends, dtype=np.float64))
        return -value, norm(L * self.shares[block]) ** 2

    @property
    def multiplier(self) -> float:
        """Multiplier of the loss at a residual of one; L is it times R on shared entries."""
        return self.loss.multiplier(self._norm, self.rho)

    @property
    def violation_unit(self) -> float:
        """Unit of a violation: epsilon or a share of the points' norm, or this without a ball."""
        if isinstance(self.loss, NormBall):
            return max(self.loss.epsilon, EXACT * self._points_norm)
        return self._points_norm

    @cached_property
    def _points_norm(self) -> float:
        return norm(np.where(self.intervals.active, self.intervals.lower, np.float32(0)))

    def parallel_map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Results of a function for every item, in their order, on several threads."""
        if self._threads == 1 or len(items) == 1:
            return [work(item) for item in items]
        if self._pool is None:  # its threads end with this object
            self._pool = ThreadPoolExecutor(self._threads)
        return list(self._pool.map(work, items))

    def prox_residual(self, block: slice) -> Matrix:
        """G - T: the residual, less what the loss leaves of it on shared entries."""
        factor = np.float32(self.loss.shrink_factor(self._norm, self.rho))
        inside: Matrix = self.shared[block] * factor
        return np.subtract(self.R[block], inside, out=inside)

    def _refresh(self, block: slice) -> float:
        """Compute the residual of G again; return the square of its shared part."""
        G, R = self.G[block], self.R[block]
        np.maximum(G, self.intervals.lower[block], out=R)
        np.minimum(R, self.intervals.upper[block], out=R)
        np.subtract(G, R, out=R)
        shared = np.multiply(R, self.shares[block], out=self.shared[block]).ravel()
        with np.errstate(over="ignore"):  # an infinite norm leaves epsilon no share
            return float(np.dot(shared, shared))

    def _refresh_norm(self) -> None:
        """Compute the residual of G again, and its norm."""
        self._norm = math.sqrt(sum(self._refresh(block) for block in self.blocks))


@dataclass(frozen=True)
class CheapRow:
    """A row of X whose weights cost nearly nothing, as a bias beside tiny inputs.

    Multipliers must be nearly orthogonal to it.  Those of points have any sign, so that they can
    be moved along the row until they are.

    Attributes
    ----------
    x
        (P,) the row.
    prices
        (M,) of its weights.
    active
        (M, P) the points.
    products
        (N, M) ``X (x on the points)'``.
    row
        Its number.
    """

    x: Matrix
    prices: Matrix
    active: Matrix
    products: Matrix
    row: int

    @classmethod
    def of(cls, X: Matrix, active: Matrix, prices: Matrix) -> CheapRow | None:
        """The row that is cheapest for its size by far; None where there is none.

        Parameters
        ----------
        X
            (N, P) inputs.
        active
            (M, P) the points.
        prices
            (N, M) of weights.
        """
        if not prices.size:
            return None
        sizes = np.sqrt(np.einsum("ij,ij->i", X, X, dtype=np.float64))
        costs = np.full(len(X), math.inf)
        np.divide(np.median(prices, axis=1), sizes, out=costs, where=sizes > 0)
        row = int(np.argmin(costs))
        if len(X) < 2 or not costs[row] < CHEAP * float(np.median(costs)):
            return None
        x = X[row]
        return cls(x, prices[row], active, X @ (active * x).T, row)

    def part(self, block: slice) -> CheapRow:
        """The same for some of the outputs."""
        return replace(
            self,
            prices=self.prices[block],
            active=self.active[block],
            products=self.products[:, block],
        )

    def points(self, block: slice) -> Matrix:
        """The row on the points of some outputs, (K, P)."""
        return np.asarray(self.active[block] * self.x)

    def settle(self, pull: Matrix) -> Matrix:
        """Move multipliers until they are worth the row's prices at most.

        Parameters
        ----------
        pull
            (N, M) ``X L'`` of multipliers L; what they are worth after that stands in it then.

        Returns
        -------
        numpy.ndarray
            (M,) how often the row on the points has to be taken from each output's multipliers.
        """
        over = pull[self.row] - np.clip(pull[self.row], -self.prices, self.prices)
        squares = self.products[self.row]
        shares: Matrix = np.zeros_like(squares)
        np.divide(over, squares, out=shares, where=squares > 0)
        pull -= self.products * shares
        settled = squares > 0  # what float32 cannot tell from the price counts as the price
        pull[self.row, settled] = np.clip(pull[self.row], -self.prices, self.prices)[settled]
        return shares


def inverse_with_one(X: Matrix) -> Callable[[Matrix], Matrix]:
    """The product with ``(X X' + I)^-1`` for X (N, P), by an N x N or P x P matrix."""
    if 2 * X.shape[1] <= len(X):
        return partial(Eigenbasis.of(X.copy()).solve, gamma=1.0)
    return partial(np.matmul, inverse_of(gram(X), 1.0))


def gram(X: Matrix) -> Matrix:
    """``X X'`` of X (N, P) in float64, from float32 products of some thousand columns each."""
    C = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], 4096):
        block = X[:, start : start + 4096]
        C += block @ block.T
    return C
