"""Best weights on a fixed support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import scipy.linalg

from nettrim_cli.solve.gram.low_rank import damped_gram
from nettrim_cli.solve.gram.system import Operator
from nettrim_cli.solve.matrices import Matrix, column_blocks
from nettrim_cli.solve.responses import Target

Product = Callable[[Matrix], Matrix]

# What a neuron's factorisation costs, in multiplications of a step of conjugate gradients: for
# k kept inputs of N, CUBE k^3 + GATHER k N + CALL (benchmarks/refit.py).
CUBE, GATHER, CALL = 0.4, 30, 1.5e6
SUBSTITUTE, SOLVE = 20, 4e5  # a solve with a factor reads memory: SUBSTITUTE k^2 + SOLVE
STEPS = 4  # of conjugate gradients in each round of a response's refit
FACTORS_BYTES = 256 << 20  # of factors that are kept for its rounds


def refit(A: Operator, rhs: Matrix, support: Matrix, start: Matrix, steps: int = 20) -> Matrix:
    """Solve ``A v = rhs`` for every column on its own support, as exactly as ``steps`` pay for.

    A factorisation for each neuron is exact and, where few inputs are kept, cheaper than the
    steps of conjugate gradients for all neurons at once that are taken elsewhere.

    Parameters
    ----------
    A
        (N, N), positive definite, its diagonal close to constant.
    rhs, start
        (N, M) float32.
    support
        (N, M) bool.
    """
    if isinstance(A, np.ndarray) and factors_price(support) < steps * float(A.size * rhs.shape[1]):
        return refit_exactly(A, rhs, support, start)
    return refit_iteratively(A.__matmul__, rhs, support, start, steps)


def refit_exactly(A: Matrix, rhs: Matrix, support: Matrix, start: Matrix) -> Matrix:
    """Solve ``A v = rhs`` on each support by a Cholesky factorisation of its part of A.

    A part that is not positive definite in float32 keeps its ``start``.
    """
    return substituted(factors(A, support), rhs, start * support)


def factors_price(support: Matrix) -> float:
    """What a factorisation for each neuron costs, in multiplications of conjugate gradients."""
    kept = np.count_nonzero(support, axis=0).astype(np.float64)
    return float((CUBE * kept**3 + GATHER * len(support) * kept + CALL).sum())


def factors(A: Matrix, support: Matrix) -> Iterator[tuple[int, Matrix, Matrix]]:
    """Each neuron's number, its kept inputs, and the Cholesky factor of their part of A.

    Parts that are not positive definite in float32 are left out.
    """
    for j, on in enumerate(support.T):
        kept = np.flatnonzero(on)
        if kept.size:
            part = np.take(np.take(A, kept, axis=0), kept, axis=1)
            factor, failed = scipy.linalg.lapack.spotrf(part.T, lower=1, clean=0, overwrite_a=1)
            if not failed:
                yield j, kept, factor


def substituted(
    factored: Iterable[tuple[int, Matrix, Matrix]], rhs: Matrix, start: Matrix
) -> Matrix:
    """The start with each factored neuron's solution in its place, unless it is no number."""
    for j, kept, factor in factored:
        found, _ = scipy.linalg.lapack.spotrs(factor, rhs[kept, j], lower=1)
        if np.isfinite(found).all():
            start[kept, j] = found
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
        before, power = power, np.einsum("ij,ij->j", R, R)
        D *= np.divide(power, before, out=np.zeros_like(power), where=before > 0)
        D += R
    return V


def refit_response(
    X: Matrix,
    target: Target,
    delta: float,
    pull: Matrix,
    start: Matrix,
    bias: Matrix | None,
    *,
    rounds: int = 12,
) -> tuple[Matrix, Matrix | None]:
    """Minimise ``||R(V'X + b)||^2 / P + delta ||V - W||^2`` on the support of ``start``.

    R is the one-sided residual, or that of a curve (see responses).  By majorisation: the free
    responses are imputed, ``T = Z - R(Z)`` with ``Z = V'X + b``, and the linear problem with the
    targets T is solved again, with Nesterov's momentum and a restart where the residual grows.

    Parameters
    ----------
    X
        (N, P) float32 inputs, scaled, and centred where the bias is free.
    pull
        (N, M), delta times the scaled dense weights.
    bias
        (M,) to start from, or None where the layer has none to refit.

    Returns
    -------
    V, b
        (N, M), and (M,) or None.
    """
    P = np.float32(X.shape[1])
    A = damped_gram(X, delta)
    support = start != 0
    solved = _solver(A, support, rounds)
    V = Q = start
    momentum, last = 1.0, np.inf
    for _ in range(rounds):
        products, means, total = _imputed(X, target, Q, bias)
        if bias is not None:
            bias = means
        fresh = solved(products / P + pull, Q)
        momentum = 1.0 if total > last else momentum
        last = total
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        Q = fresh + np.float32((momentum - 1) / following) * (fresh - V)
        V, momentum = fresh, following
    return V, bias


def _imputed(
    X: Matrix, target: Target, V: Matrix, bias: Matrix | None
) -> tuple[Matrix, Matrix, float]:
    """``X T'`` (N, M), the means of ``T = Z - R(Z)`` (M,), and ||R||^2; some columns at a time."""
    products, total = np.zeros_like(V), 0.0
    sums = np.zeros(V.shape[1])
    for columns in column_blocks(X.shape[1], V.shape[1]):
        Z = (X[:, columns].T @ V).T  # in the order of what is recorded
        if bias is not None:
            Z += bias[:, None]
        R = target.residual(Z, columns)
        total += float(np.vdot(R.T, R.T))
        Z -= R
        sums += Z.sum(axis=1)
        products += X[:, columns] @ Z.T
    return products, (sums / X.shape[1]).astype(V.dtype), total


def _solver(A: Operator, support: Matrix, rounds: int) -> Callable[[Matrix, Matrix], Matrix]:
    """The refit for many right-hand sides in turn, each from a start of its own.

    The factors are kept where they fit and cost less than the rounds' conjugate gradients.
    """
    squares = np.square(np.count_nonzero(support, axis=0), dtype=np.float64)
    price = factors_price(support) + rounds * float((SUBSTITUTE * squares + SOLVE).sum())
    cheaper = price < rounds * STEPS * float(support.size * len(support))
    if not (isinstance(A, np.ndarray) and cheaper and 4 * squares.sum() <= FACTORS_BYTES):
        return lambda rhs, start: refit_iteratively(A.__matmul__, rhs, support, start, STEPS)
    factored = list(factors(A, support))
    return lambda rhs, start: substituted(factored, rhs, start * support)
