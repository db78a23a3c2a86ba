"""Best weights on a fixed support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg

from nettrim_cli.solve.gram.low_rank import damped_gram
from nettrim_cli.solve.gram.system import Operator
from nettrim_cli.solve.matrices import Matrix, column_blocks
from nettrim_cli.solve.responses import Target

Product = Callable[[Matrix], Matrix]
Solver = Callable[[Operator], Callable[[Matrix, Matrix], Matrix]]
"""Of A (N, N), the function from a right-hand side and a start, (N, M) both, to weights (N, M)."""

# Costs in multiplications of a step of conjugate gradients, for k of N inputs of a neuron:
# CUBE k^3 + GATHER k N + CALL of a factorisation, SUBSTITUTE k^2 + SOLVE of a solve with its
# factor (benchmarks/refit.py).
CUBE, GATHER, CALL = 0.4, 30, 1.5e6
SUBSTITUTE, SOLVE = 20, 4e5
STEPS = 4  # of conjugate gradients in each round of a response's refit
FACTORS_BYTES = 256 << 20  # of the factors that all rounds of a response's refit share


def refit(A: Operator, rhs: Matrix, support: Matrix, start: Matrix, steps: int = 20) -> Matrix:
    """Solve ``A v = rhs`` for every column on its own support, exactly where that is cheap.

    A factorisation for each neuron is exact and, where supports are small, cheaper than steps of
    conjugate gradients for all neurons at once.

    Parameters
    ----------
    A
        (N, N), positive definite, its diagonal close to constant.
    rhs, start
        (N, M) float32.
    support
        (N, M) bool.
    steps
        Steps of conjugate gradients at most.
    """
    if isinstance(A, np.ndarray) and factor_cost(support) < steps * float(A.size * rhs.shape[1]):
        return refit_exactly(A, rhs, support, start)
    return refit_iteratively(A.__matmul__, rhs, support, start, steps)


def refit_exactly(A: Matrix, rhs: Matrix, support: Matrix, start: Matrix) -> Matrix:
    """Solve ``A v = rhs`` on each support by a Cholesky factorisation of its submatrix of A.

    Neurons whose submatrix is not positive definite in float32 keep their ``start``.

    Parameters
    ----------
    A
        (N, N), positive definite.
    rhs, start
        (N, M) float32.
    support
        (N, M) bool.
    """
    return substitute(factors(A, support), rhs, start * support)


def factor_cost(support: Matrix) -> float:
    """Cost of a factorisation for each neuron of the support (N, M), see CUBE."""
    counts = np.count_nonzero(support, axis=0).astype(np.float64)
    return float((CUBE * counts**3 + GATHER * len(support) * counts + CALL).sum())


def factors(A: Matrix, support: Matrix) -> Iterator[tuple[int, Matrix, Matrix]]:
    """Each neuron's number, its k inputs, and the Cholesky factor (K, K) of their submatrix of A.

    A is (N, N), the support (N, M).  Neurons without inputs are left out, and those whose submatrix
    is not positive definite in float32.
    """
    for j, column in enumerate(support.T):
        inputs = np.flatnonzero(column)
        if inputs.size:
            submatrix = np.take(np.take(A, inputs, axis=0), inputs, axis=1)
            factor, info = scipy.linalg.lapack.spotrf(submatrix.T, lower=1, clean=0, overwrite_a=1)
            if not info:
                yield j, inputs, factor


def substitute(
    factored: Iterable[tuple[int, Matrix, Matrix]], rhs: Matrix, start: Matrix
) -> Matrix:
    """Put the solution of each factored neuron into the start (N, M), unless it is no number."""
    for j, inputs, factor in factored:
        solution, _ = scipy.linalg.lapack.spotrs(factor, rhs[inputs, j], lower=1)
        if np.isfinite(solution).all():
            start[inputs, j] = solution
    return start


def refit_iteratively(
    product: Product, rhs: Matrix, support: Matrix, start: Matrix, steps: int = 20
) -> Matrix:
    """Solve ``A v = rhs`` for every column on its own support, by conjugate gradients.

    Parameters
    ----------
    product
        ``V -> A @ V`` with A (N, N) positive definite and its diagonal close to constant, so
        that plain conjugate gradients are Jacobi's.
    rhs, start
        (N, M); all M systems advance at once, one product a step.
    support
        (N, M) bool.
    steps
        At most so many.
    """
    V = start * support
    R = (rhs - product(V)) * support
    D = R.copy()
    power = np.einsum("ij,ij->j", R, R)
    goal = 1e-10 * np.einsum("ij,ij->j", rhs, rhs)
    for _ in range(steps):
        if np.all(power <= goal):
            break
        Q = product(D) * support
        curvature = np.einsum("ij,ij->j", D, Q)
        step = np.divide(power, curvature, out=np.zeros_like(power), where=curvature > 0)
        V += step * D
        R -= step * Q
        last_power, power = power, np.einsum("ij,ij->j", R, R)
        D *= np.divide(power, last_power, out=np.zeros_like(power), where=last_power > 0)
        D += R
    return V


class Damping(NamedTuple):
    """What draws weights towards the dense ones.

    Attributes
    ----------
    delta
        How strongly.
    pull
        (N, M), delta times the scaled dense weights W.
    """

    delta: float
    pull: Matrix


def refit_response(
    X: Matrix,
    target: Target,
    damping: Damping,
    start: Matrix,
    bias: Matrix | None,
    *,
    rounds: int = 12,
    solver: Solver | None = None,
) -> tuple[Matrix, Matrix | None]:
    """Minimise ``||R(V'X + b)||^2 / P + delta ||V - W||^2`` on the support of ``start``.

    R is the one-sided residual, or that of a curve (see responses).  Each round of majorisation
    imputes the free responses, ``T = Z - R(Z)`` with ``Z = V'X + b``, and solves the linear problem
    with the targets T.  Nesterov's momentum speeds it up; it restarts where the residual grows.

    Parameters
    ----------
    X
        (N, P) float32 inputs, scaled, and centred where the bias is free.
    target
        The response's target, which gives R.
    damping
        Towards the dense weights.
    start
        (N, M) first V, whose support is that of the refit.
    bias
        (M,) first b, or None where the layer has none to refit.
    rounds
        Number of rounds.
    solver
        Makes of A the function that solves each round's linear problem, where other weights than
        those on a support are allowed.

    Returns
    -------
    V, b
        (N, M), and (M,) or None.
    """
    P = np.float32(X.shape[1])
    A = damped_gram(X, damping.delta)
    solved = _solver(A, start != 0, rounds) if solver is None else solver(A)
    V = Q = start
    momentum, last_total = 1.0, np.inf
    for _ in range(rounds):
        products, means, total = _imputed(X, target, Q, bias)
        if bias is not None:
            bias = means
        solution = solved(products / P + damping.pull, Q)
        momentum = 1.0 if total > last_total else momentum
        last_total = total
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        Q = solution + np.float32((momentum - 1) / following) * (solution - V)
        V, momentum = solution, following
    return V, bias


def _imputed(
    X: Matrix, target: Target, V: Matrix, bias: Matrix | None
) -> tuple[Matrix, Matrix, float]:
    """``X T'`` (N, M), the means of ``T = Z - R(Z)`` (M,), and ||R||^2; some columns at a time."""
    products, total = np.zeros_like(V), 0.0
    sums = np.zeros(V.shape[1])
    for columns in column_blocks(X.shape[1], V.shape[1]):
        Z = (X[:, columns].T @ V).T  # in the memory order of recorded results
        if bias is not None:
            Z += bias[:, None]
        R = target.residual(Z, columns)
        total += float(np.vdot(R.T, R.T))
        Z -= R
        sums += Z.sum(axis=1)
        products += X[:, columns] @ Z.T
    return products, (sums / X.shape[1]).astype(V.dtype), total


def _solver(A: Operator, support: Matrix, rounds: int) -> Callable[[Matrix, Matrix], Matrix]:
    """The refit for one right-hand side after the other, each from a start of its own.

    All use the same factors where these fit and cost less than the rounds' conjugate gradients.
    """
    squares = np.square(np.count_nonzero(support, axis=0), dtype=np.float64)
    price = factor_cost(support) + rounds * float((SUBSTITUTE * squares + SOLVE).sum())
    cheaper = price < rounds * STEPS * float(support.size * len(support))
    if not (isinstance(A, np.ndarray) and cheaper and 4 * squares.sum() <= FACTORS_BYTES):
        return lambda rhs, start: refit_iteratively(A.__matmul__, rhs, support, start, STEPS)
    factored = list(factors(A, support))
    return lambda rhs, start: substitute(factored, rhs, start * support)
