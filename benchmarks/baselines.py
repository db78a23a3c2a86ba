"""The methods that nettrim is measured against, written from their papers in plain NumPy.

Letters are those of the Net-Trim paper: ``X`` (N, P) holds one sample a column, its last row
ones where a bias is part of the program; ``W`` and ``U`` (N, M) hold one output a column; ``C``
is ``X @ X.T``.  The one-shot methods (`magnitude`, `wanda`, `sparsegpt`, `alps`) take the weights
without their bias, which their papers leave as it is, and C without the row of ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Matrix = NDArray[Any]


@dataclass(frozen=True)
class Iterate:
    """One iterate of Net-Trim's ADMM.

    Attributes
    ----------
    number
        Counted from 1.
    sparse
        ``U^(2)`` of the paper, the iterate that is exactly sparse: what is returned at the end.
    multiplier
        (M, P) estimate of the multiplier of ``U'X = U^(1)`` in the units of X, for dual bounds.
    """

    number: int
    sparse: Matrix
    multiplier: Matrix


def net_trim_admm(
    X: Matrix, W: Matrix, epsilon: float, rho: float = 100, iterations: int = 200, **program: Any
) -> Matrix:
    """Net-Trim's program for a ReLU layer, by the paper's ADMM.

    Parameters
    ----------
    X, W
        Inputs (N, P) and trained weights (N, M).
    epsilon
        Absolute Frobenius error allowed on Omega.
    rho
        The paper's penalty parameter, the same for both splits.
    iterations
        Number of them; the paper's method has no other stop.
    program
        More keywords of `net_trim_iterates`.

    Returns
    -------
    (N, M) float64, sparse.
    """
    U = np.zeros(W.shape)
    for iterate in net_trim_iterates(X, W, epsilon, rho, iterations, **program):
        U = iterate.sparse
    return U


def net_trim_iterates(
    X: Matrix,
    W: Matrix,
    epsilon: float,
    rho: float = 100,
    iterations: int = 200,
    *,
    Y: Matrix | None = None,
    V: Matrix | None = None,
    normalise: bool = True,
    relaxation: float = 1.0,
) -> Iterator[Iterate]:
    """Iterates of `net_trim_admm`, one at a time so that they can be timed and looked at.

    The program is, with ``Omega = {Y > 0}``,

        minimise ||U||_1   subject to  ||(U'X - Y) on Omega||_F <= epsilon,  U'X <= V off Omega

    and the splitting ``U^(1) = U^(3)' X``, ``U^(2) = U^(3)``, with scaled duals D1 and D2.

    Parameters
    ----------
    X, W, epsilon, rho, iterations
        As in `net_trim_admm`.
    Y, V
        (M, P) responses to keep and bounds off Omega; ``max(W'X, 0)`` and 0 (the parallel
        scheme) unless given.
    normalise
        Whether X, Y, V and epsilon are first divided by ``0.3 sqrt(max C)``, which leaves the
        program as it is and balances the two splits; the authors' public code does so, and
        without it rho = 100 needs many more iterations.
    relaxation
        Over-relaxation (Eckstein and Bertsekas 1992), which the paper does not use: 1 is none.

    Notes
    -----
    Aghasi, Abdi, Romberg, "Fast Convex Pruning of Deep Neural Networks", arXiv 1806.06457, the
    section on the ADMM implementation.  float64 and boolean fancy indexing throughout, the
    Cholesky factor of C + I computed once; nothing of nettrim's own.
    """
    X = np.asarray(X, np.float64)
    W = np.asarray(W, np.float64)
    Y = np.maximum(W.T @ X, 0) if Y is None else np.asarray(Y, np.float64)
    V = np.zeros_like(Y) if V is None else np.asarray(V, np.float64)
    C = X @ X.T
    unit = 0.3 * np.sqrt(C.max()) if normalise else 1.0
    X, Y, V, C, epsilon = X / unit, Y / unit, V / unit, C / unit**2, epsilon / unit
    factor = scipy.linalg.cho_factor(C + np.eye(len(C)), lower=True)
    omega = Y > 0
    targets, bounds = Y[omega], V[~omega]

    U3 = np.zeros(W.shape)
    U1, product = np.zeros(Y.shape), np.zeros(Y.shape)
    D1, D2 = np.zeros(Y.shape), np.zeros(W.shape)
    for number in range(1, iterations + 1):
        # U^(1): the projection onto the constraints.
        G = product - D1
        R = G[omega] - targets
        U1[omega] = targets + R * min(1.0, epsilon / max(np.linalg.norm(R), 1e-300))
        U1[~omega] = np.minimum(G[~omega], bounds)
        # U^(2): the prox of the l1 norm.
        G = U3 - D2
        U2 = np.sign(G) * np.maximum(np.abs(G) - 1 / rho, 0)
        # U^(3): least squares; S1 and S2 are U^(1) and U^(2) unless relaxed.
        S1, S2 = U1, U2
        if relaxation != 1:
            S1 = relaxation * U1 + (1 - relaxation) * product
            S2 = relaxation * U2 + (1 - relaxation) * U3
        U3 = scipy.linalg.cho_solve(factor, X @ (S1 + D1).T + S2 + D2)
        product = U3.T @ X
        D1 += S1 - product
        D2 += S2 - U3
        yield Iterate(number, U2, D1 * (-rho / unit))


def magnitude(W: Matrix, keep: int) -> Matrix:
    """Keep the weights of largest magnitude in the layer, exactly ``keep`` of them."""
    return W * _largest(np.abs(W).ravel(), keep).reshape(W.shape)


def wanda(
    W: Matrix, C: Matrix, keep: int, *, groups: Literal["output", "layer"] = "output"
) -> Matrix:
    """Keep the weights of largest ``|W_ij| * ||X_i||_2``.

    Parameters
    ----------
    W, C, keep
        Weights (N, M), ``X @ X.T`` (N, N), number of weights to keep.
    groups
        What weights are compared within: the weights of one output, each output keeping the same
        number (the paper's choice, up to one where ``keep`` does not divide), or the layer.

    Notes
    -----
    Sun, Liu, Bair, Kolter, "A Simple and Effective Pruning Approach for Large Language Models",
    arXiv 2306.11695, section 3.
    """
    scores = np.abs(W) * np.sqrt(np.maximum(np.diag(C), 0))[:, None]
    if groups == "layer":
        return W * _largest(scores.ravel(), keep).reshape(W.shape)
    mask = np.empty(W.shape, bool)
    for output, count in enumerate(_shares(keep, [1] * W.shape[1])):
        mask[:, output] = _largest(scores[:, output], count)
    return W * mask


def sparsegpt(
    W: Matrix,
    C: Matrix,
    keep: int,
    block: int = 128,
    damp: float = 0.01,
    *,
    pattern: tuple[int, int] | None = None,
) -> Matrix:
    """Prune input by input, each time correcting what the later inputs can still make good.

    Parameters
    ----------
    W, C
        Weights (N, M), ``X @ X.T`` (N, N).
    keep
        Weights to keep in all; every block keeps its share, the counts summing up exactly.
    block
        Inputs in a block: the paper's B and B_s, both 128 there.
    damp
        Share of the mean diagonal of C added to it.
    pattern
        (n, m) to keep n of every m consecutive inputs of each output, in place of ``keep``; the
        mask of m inputs is chosen when the sweep reaches them (B_s = m in the paper).

    Returns
    -------
    (N, M) float32.

    Notes
    -----
    Frantar, Alistarh, "SparseGPT", arXiv 2301.00774, algorithm 1: the mask of a block is chosen
    when the sweep reaches it, by ``w^2 / [H^-1]_cc^2`` with the Cholesky factor of the inverse
    Hessian, and the updates beyond the block are made at its end, in one product.  Inputs that
    are always zero lose their weights.
    """
    H = np.array(C, np.float64)
    dead = np.diag(H) <= 0
    H[dead, dead] = 1
    H[np.diag_indices_from(H)] += damp * np.mean(np.diag(H))
    inverse = scipy.linalg.cho_solve(scipy.linalg.cho_factor(H, lower=True), np.eye(len(H)))
    factor = scipy.linalg.cholesky(inverse, lower=False).astype(np.float32)
    diagonal = np.diag(factor)[:, None]
    U = np.array(W, np.float32)
    U[dead] = 0
    starts = range(0, len(U), block)
    sizes = [min(block, len(U) - at) for at in starts]
    for at, size, count in zip(starts, sizes, _shares(keep, sizes), strict=True):
        end = at + size
        scores = np.square(U[at:end] / diagonal[at:end])
        mask = _largest(scores.ravel(), count).reshape(scores.shape)
        errors = np.empty_like(U[at:end])
        for row in range(at, end):
            if pattern is not None and row % pattern[1] == 0:
                part = slice(row, min(row + pattern[1], end))
                mask[part.start - at : part.stop - at] = _largest_rows(
                    np.square(U[part] / diagonal[part]), pattern[0]
                )
            error = np.where(mask[row - at], np.float32(0), U[row] / diagonal[row])
            U[row:end] -= np.outer(factor[row, row:end], error)
            errors[row - at] = error
        U[at:end] *= mask
        U[end:] -= factor[at:end, end:].T @ errors
    return U


def alps(
    W: Matrix,
    C: Matrix,
    keep: int,
    *,
    damp: float = 0.01,
    rho: float = 0.1,
    iterations: int = 300,
    steps: int = 10,
) -> Matrix:
    """Prune by ADMM on the linear response with the l0 constraint, then refit on the support.

    Parameters
    ----------
    W, C, keep
        Weights (N, M), ``X @ X.T`` (N, N), number of weights to keep.
    damp
        Share of the mean diagonal of C added to it, as in `sparsegpt`.
    rho
        The penalty to begin with.
    iterations
        At most these; the support is stable before.
    steps
        Of preconditioned conjugate gradients.

    Returns
    -------
    (N, M) float32.

    Notes
    -----
    Meng, Behdin, Wang, Mazumder, "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning
    for Large Language Models", arXiv 2406.07831: the splitting ``U = S`` of section 3 with
    multiplier V, inputs scaled to a unit diagonal, the systems ``H + rho I`` by one
    eigendecomposition, rho multiplied every third iteration by 1.3, 1.2 or 1.1 as the support
    moved by at least 10 %, .5 % of ``keep`` or at all, the end where it did not, and projected
    conjugate gradients with Jacobi's preconditioner.
    """
    H = np.array(C, np.float64)
    H[np.diag_indices_from(H)] += damp * np.mean(np.diag(H))
    unit = np.sqrt(np.diag(H))
    unit[unit == 0] = 1
    H /= np.outer(unit, unit)
    values, vectors = scipy.linalg.eigh(H)
    values, vectors, H = (each.astype(np.float32) for each in (values, vectors, H))
    dense = (W * unit[:, None]).astype(np.float32)
    G = H @ dense
    S, V = dense.copy(), np.zeros_like(dense)
    before = _largest(np.abs(S).ravel(), keep)
    for number in range(1, iterations + 1):
        penalty = np.float32(rho)
        inner = vectors.T @ (G - V + penalty * S)
        U = vectors @ (inner / (values + penalty)[:, None])
        S = U + V / penalty
        mask = _largest(np.abs(S).ravel(), keep)
        S *= mask.reshape(S.shape)
        V += penalty * (U - S)
        if number % 3 == 0:
            moved = np.count_nonzero(mask != before)
            if moved == 0:
                break
            before = mask
            rho *= 1.3 if moved >= 0.1 * keep else 1.2 if moved >= 0.005 * keep else 1.1
    return _projected_gradients(H, G, S, steps) / unit[:, None].astype(np.float32)


def _projected_gradients(H: Matrix, G: Matrix, S: Matrix, steps: int) -> Matrix:
    """Conjugate gradients for ``H U = G`` on the support of S; H has a unit diagonal."""
    mask = S != 0
    U, R = S.copy(), (G - H @ S) * mask
    D, power = R.copy(), np.square(R).sum(axis=0)
    for _ in range(steps):
        Q = (H @ D) * mask
        length = power / np.maximum((D * Q).sum(axis=0), 1e-30)
        U += length * D
        R -= length * Q
        power, last = np.square(R).sum(axis=0), power
        D = R + D * (power / np.maximum(last, 1e-30))
    return U


def _largest_rows(scores: Matrix, count: int) -> Matrix:
    """Mark the ``count`` largest of each column; of equal ones the first."""
    order = np.argsort(-scores, axis=0, kind="stable")
    mask = np.zeros(scores.shape, bool)
    np.put_along_axis(mask, order[:count], True, axis=0)
    return mask


def _shares(total: int, sizes: list[int]) -> list[int]:
    """Whole numbers in proportion to the sizes, with the sum given."""
    ends = np.cumsum([0, *sizes])
    counts = total * ends // ends[-1]
    return [int(each) for each in np.diff(counts)]


def _largest(scores: Matrix, count: int) -> Matrix:
    """Mark the ``count`` largest of a vector; of equal ones the first."""
    mask = np.zeros(len(scores), bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask
