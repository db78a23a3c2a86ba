"""Best weights on a fixed support."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nettrim_cli.solve.responses import Target
from nettrim_cli.solve.task import Matrix
from nettrim_cli.solve.wide import damped_gram

Product = Callable[[Matrix], Matrix]


def refit(product: Product, rhs: Matrix, support: Matrix, start: Matrix, steps: int = 20) -> Matrix:
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
    V = Q = start
    momentum, last = 1.0, np.inf
    for _ in range(rounds):
        Z = Q.T @ X
        if bias is not None:
            Z += bias[:, None]
        R = target.residual(Z)
        total = float(np.dot(R.ravel(), R.ravel()))
        Z -= R
        if bias is not None:
            bias = Z.mean(axis=1)
        fresh = refit(A.__matmul__, X @ Z.T / P + pull, support, Q, steps=4)
        momentum = 1.0 if total > last else momentum
        last = total
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        Q = fresh + np.float32((momentum - 1) / following) * (fresh - V)
        V, momentum = fresh, following
    return V, bias
