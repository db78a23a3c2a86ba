"""Layers whose pruned weights are known: tasks built backwards from the optimality conditions.

Weights U solve ``minimise ||U||_1 subject to T = scale * U'X in the response set`` if and only if
there is a multiplier L of T, normal to the set, with ``scale X L' = -S`` and S a subgradient of
||U||_1.  So draw X, a sparse U and S with ``|S| <= 0.9`` off the support, solve for L on Omega, and
place the dense layer's results where L is normal to the set (kappa > 0):

    on Omega                 Y = T - L / kappa, and epsilon = ||L|| / kappa over the shared entries
    inactive, T <= V         L = 0
    strict, T = V            any L > 0
    one-sided, T > V         L = kappa (T - V)

L on Omega is the least one weighed with D, the distance of T from the ReLU's ends: so Y stays
between these.  Where W must reproduce the dense results, an input a neuron is added that carries
``Z - U'X`` in units so small that weights on it cost too much.

The support is the only one: the set is strictly convex on Omega, where L is not zero, so T is
unique there, and the inputs of the support are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nettrim_cli.solve.problem import LayerProblem
from nettrim_cli.solve.samples import LayerSamples

FORMS: dict[str, dict[str, Any]] = {
    "strict": {"relu": True},
    "strict, no bias": {"relu": True, "bias": False},
    "strict, batch norm": {"relu": True, "norm": True},
    "strict, ceiling": {"relu": True, "ceiling": True},
    "strict, cascade": {"relu": True, "exact": False},
    "one-sided": {"relu": True, "one_sided": True},
    "one-sided, batch norm": {"relu": True, "one_sided": True, "norm": True},
    "linear": {},
    "linear, cascade": {"norm": True, "exact": False},
    "linear, no bias": {"bias": False},
}


@dataclass(frozen=True)
class Plan:
    """A task whose program has one optimum, U, of the shape of the task's W."""

    task: LayerProblem
    U: np.ndarray
    one_sided: bool
    multiplier: np.ndarray

    @property
    def optimum(self):
        """||U||_1."""
        return float(np.abs(self.U).sum())


def plant(seed, *, relu=False, bias=True, norm=False, ceiling=False, exact=True, one_sided=False):
    """A plan of some 10 to 25 inputs, 3 to 6 outputs and 50 to 150 columns."""
    random = np.random.default_rng(seed)
    X, U, scale, shift, top = _draw(random, bias=bias, norm=norm, ceiling=ceiling)
    tight = np.zeros((U.shape[1], X.shape[1]), bool)
    if relu and exact and not one_sided:  # columns at which some result is V = -shift
        tight = _tighten(random, X, U, scale, shift, bias)
    X = X.astype(np.float32).astype(np.float64)
    A = scale[:, None] * (U.T @ X) + shift[:, None]
    if relu:  # no result just below 0: another column's multiplier would do nearly as well
        clear = ~((A <= 0) & (-0.05 * A.std() < A) & ~tight).any(axis=0)
        X, A, tight = X[:, clear], A[:, clear], tight[:, clear]
    result = A - shift[:, None]
    slid = np.zeros(A.shape, bool)
    inactive, saturated = (A <= 0) & relu, (top <= A) & relu
    if one_sided:
        slid = (A > 0) & (np.quantile(A[A > 0], 0.03) > A)
    S = np.where(U != 0, np.sign(U), random.uniform(-0.9, 0.9, U.shape))
    change = S * random.random(S.shape)  # W = U + some of it, in a cascade
    if relu and not exact:  # V = scale * W'X >= T, and some of the inactive have T > 0
        change = np.where(S * scale > 0, change, 0)
        inactive |= random.random(A.shape) < 0.1
    inactive |= tight | slid
    omega = ~inactive & ~saturated

    D = np.minimum(A, top - A) if relu else np.ones_like(A)
    L, kappa = _multiplier(random, X, scale, S, D, omega, tight, np.where(slid, A, 0))
    assert np.allclose(scale * (X @ L.T), -S)
    Y = result - L / kappa
    epsilon = np.linalg.norm(L[omega | slid]) / kappa
    below = -shift[:, None] - 0.3 * random.random(A.shape) * result.std()
    Z = np.where(inactive, below, np.where(saturated, np.maximum(result, top), Y)) / scale[:, None]

    options = {"scale": scale, "shift": shift} if norm else {}
    if exact:
        X, U, W = _reproduced(X, U, scale, L, Z, bias)
        Z = W.T @ X
        A = scale[:, None] * Z + shift[:, None]
        options["epsilon"] = epsilon / np.linalg.norm(np.clip(A, 0, top) if relu else A)
    else:  # the W on this line that misses least, so that it is feasible with gamma above 1
        moved = np.where(omega, scale[:, None] * (change.T @ X), 0)
        W = U - change * np.vdot(moved, L) / kappa / np.vdot(moved, moved)
        missed = np.where(omega, scale[:, None] * (W.T @ X - Z), 0)
        options |= {"epsilon": 0.1, "gamma": epsilon / np.linalg.norm(missed)}
    samples = _samples(X, Z, bias, exact)
    task = LayerProblem(W, bias, samples, relu=relu, ceiling=top, **options)
    return Plan(task, U, one_sided, L)


def _draw(random, *, bias, norm, ceiling):
    """X, sparse U, BatchNormalization and ceiling; of most neurons the majority is active."""
    inputs, outputs = int(random.integers(8, 20)), int(random.integers(3, 7))
    X = np.maximum(random.normal(size=(inputs, 10 * inputs)) + 0.3, 0)
    X[-1] = 1 if bias else X[-1]
    U = random.choice([-1, 1], (inputs, outputs)) * random.uniform(0.5, 1.5, (inputs, outputs))
    U *= random.random((inputs, outputs)) < 0.3
    U[random.integers(0, inputs - 1, outputs), np.arange(outputs)] = 1.0
    scale = random.choice([-2.0, -0.6, 0.5, 1.0, 3.0], outputs) if norm else np.ones(outputs)
    U *= np.where(np.median(scale[:, None] * (U.T @ X), axis=1) < 0, -1, 1)
    result = scale[:, None] * (U.T @ X)
    shift = -np.quantile(result, random.uniform(0.1, 0.4), axis=1) if norm else np.zeros(outputs)
    top = float(np.quantile(result, 0.75, axis=1).max()) if ceiling else np.inf
    return X, U, scale, shift, top


def _multiplier(random, X, scale, S, D, omega, tight, above):
    """L and the least kappa for which Y stays between the ReLU's ends, and is 10 % away at least.

    ``above`` is ``T - V`` where it is positive, so that L is kappa times it.
    """
    typical = _least(X, scale, D, omega, S)[omega].std()
    L = np.where(tight, typical * random.uniform(0.5, 1.5, tight.shape), 0)
    fixed = _least(X, scale, D, omega, S + scale * (X @ L.T))
    moving = _least(X, scale, D, omega, scale * (X @ above.T))  # times kappa
    most_fixed, most_moving = (np.abs(each[omega] / D[omega]).max() for each in (fixed, moving))
    assert most_moving < 0.5, "too many results above V"
    usual = 10 * np.linalg.norm(fixed) / np.linalg.norm(D[omega])
    kappa = max(most_fixed / (0.9 - most_moving), usual)
    return L + fixed + kappa * (moving + above), kappa


def _tighten(random, X, U, scale, shift, bias):
    """Move some columns of X so that one result of each is -shift; mark these entries.

    At most half as many for a neuron as it has weights: with more, L would not be the only one.
    """
    tight = np.zeros((U.shape[1], X.shape[1]), bool)
    movable = np.arange(len(X)) < len(X) - bias
    most = np.count_nonzero(U, axis=0) // 2
    for column in random.choice(X.shape[1], X.shape[1] // 4, replace=False):
        A = scale * (U.T @ X[:, column]) + shift
        j = int(np.argmin(np.abs(A)))
        if tight[j].sum() >= most[j]:
            continue
        along = np.where(movable, scale[j] * U[:, j], 0)
        X[:, column] -= along * A[j] / (along @ along)
        tight[j, column] = True
    return tight


def _least(X, scale, D, omega, goal):
    """The L on Omega with ``scale X L' = -goal`` and the least ``sum L^2 / D``."""
    L = np.zeros(omega.shape)
    for j, on in enumerate(omega):
        x = scale[j] * X[:, on]
        L[j, on] = -D[j, on] * (x.T @ np.linalg.solve((x * D[j, on]) @ x.T, goal[:, j]))
    return L


def _reproduced(X, U, scale, L, Z, bias):
    """X with an input for each neuron, and weights W with ``W'X = Z`` that use it."""
    missing = Z - U.T @ X
    cost = np.abs((scale[:, None] * L) @ missing.T).max() / 0.9  # so that |S| <= 0.9 there
    unit = max(cost, float(np.sqrt((missing**2).mean())))
    extra = (missing / unit).astype(np.float32).astype(np.float64)
    at, outputs = len(X) - bias, U.shape[1]
    W = np.insert(U, at, unit * np.eye(outputs), axis=0)
    return (
        np.insert(X, at, extra, axis=0),
        np.insert(U, at, np.zeros((outputs, outputs)), axis=0),
        W,
    )


def _samples(X, Z, bias, exact):
    whole = X if bias else np.vstack([X, np.ones((1, X.shape[1]))])
    X, Z = whole.astype(np.float32), Z.astype(np.float32)
    none = np.zeros((len(X), 0), np.float32), np.zeros((len(Z), 0), np.float32)
    return LayerSamples(whole @ whole.T, whole @ Z.T.astype(float), X, Z, *none, exact)
