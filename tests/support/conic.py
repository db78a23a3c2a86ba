"""The convex program of a task as a conic one, solved by Clarabel: shares nothing with nettrim.

    minimise sum t   subject to  -t <= u <= t  and, with T = scale * U'X,

    strict      ||T - Y on Omega||_2 <= epsilon,  T <= V where inactive,  T >= top where saturated
    one-sided   ||r||_2 <= epsilon,  r = T - Y on Omega,  r >= T - V or r >= top - T elsewhere
    linear      the strict one with all entries in Omega

The variables are u (neuron by neuron), t and r; the last are T - Y itself in the strict form.
"""

from __future__ import annotations

from dataclasses import dataclass

import clarabel
import numpy as np
import scipy.sparse as sp

from tests.support.small_layers import strict_program


@dataclass(frozen=True)
class Program:
    """A task's data in float64, of the outputs whose scale is not 0.

    Attributes
    ----------
    X
        (N, P) inputs, with a row of ones where the task has a bias.
    scale
        (M,) factor of each output.
    lower, upper
        (M, P) ends of what T may be; equal on Omega.
    shared
        (M, P) entries whose distance is what epsilon bounds; the others hold exactly.
    epsilon
        Absolute, by the paper's rule for the task.
    """

    X: np.ndarray
    scale: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    shared: np.ndarray
    epsilon: float

    @classmethod
    def of(cls, task, *, one_sided=False, epsilon=None):
        """The program of a task; epsilon, if given, is absolute and takes the rule's place."""
        X, Z, A, omega, V, top, scale, own = strict_program(task)
        live = scale != 0
        below, above = task.relu & (A <= 0), task.relu & (task.ceiling <= A)
        lower = np.where(above, top, np.where(below, -np.inf, Z))[live]
        upper = np.where(below, V, np.where(above, np.inf, Z))[live]
        if epsilon is None:
            Y = np.clip(A, 0, task.ceiling) if task.relu else A
            missed = np.linalg.norm(((own - Z) * omega)[live])
            parallel = task.samples.inputs_exact or missed == 0
            epsilon = task.epsilon * np.linalg.norm(Y[live]) if parallel else task.gamma * missed
        shared = np.ones(lower.shape, bool) if one_sided else omega[live]
        return cls(X, scale[live], lower, upper, shared, float(epsilon))

    def results(self, U):
        """T of weights (N, M) of the live outputs."""
        return self.scale[:, None] * (np.asarray(U, float).T @ self.X)

    def violation(self, U):
        """Distance of weights from the set, absolute."""
        T = self.results(U)
        R = T - np.clip(T, self.lower, self.upper)
        inside, outside = np.linalg.norm(R[self.shared]), np.linalg.norm(R[~self.shared])
        return float(np.hypot(max(0.0, inside - self.epsilon), outside))

    def bound(self, L, prices=1.0):
        """A lower bound on the optimum, by weak duality, from any (M, P) multiplier of T.

        Prices are (N, 1), or one, of the weights.

        See ``benchmarks/certificate.py``: with the right signs and ``|scale X L'| <= 1`` every
        feasible U has ``||U||_1 >= -<L, ends> - epsilon ||L on the shared entries||``.
        """
        L = np.where(np.isfinite(self.upper), L, np.minimum(L, 0))
        L = np.where(np.isfinite(self.lower), L, np.maximum(L, 0))
        peaks = (np.abs(self.scale * (self.X @ L.T)) / prices).max(axis=0, initial=0)
        L = L / np.maximum(peaks, 1)[:, None]
        ends = np.where(L > 0, self.upper, np.where(L < 0, self.lower, 0))
        return float(-(L * ends).sum() - self.epsilon * np.linalg.norm(L[self.shared]))


@dataclass(frozen=True)
class Optimum:
    """What the conic solver found, and what its multipliers prove.

    Attributes
    ----------
    U
        (N, M) weights of the live outputs.
    value
        ||U||_1, or the sum of what all weights cost.
    bound
        Proved lower bound on the optimum.
    """

    U: np.ndarray
    value: float
    bound: float


def optimum(program, prices=None):
    """Solve a program; in units in which the largest input and the largest result are 1.

    Prices are (N,) of the weights of each input, in place of 1.
    """
    inputs, outputs = len(program.X), len(program.scale)
    ends = np.where(np.isfinite(program.lower), program.lower, program.upper)
    x_unit = float(np.abs(program.X).max(initial=0)) or 1.0
    z_unit = float(np.abs(ends).max(initial=0)) or 1.0
    units = np.abs(program.scale) * x_unit  # of T for one of a weight
    prices = np.ones(inputs) if prices is None else np.asarray(prices, float)
    weights = sp.block_diag([np.sign(s) * program.X.T / x_unit for s in program.scale], "csc")
    u, L = _solve(
        weights,
        np.outer(units.min() / units, prices).ravel(),
        program.lower.ravel() / z_unit,
        program.upper.ravel() / z_unit,
        program.shared.ravel(),
        program.epsilon / z_unit,
    )
    U = u.reshape(outputs, inputs).T * z_unit / units
    column = prices[:, None]
    bound = program.bound(L.reshape(program.lower.shape) / units.min(), column)
    return Optimum(U, float((column * np.abs(U)).sum()), bound)


def _solve(weights, prices, lower, upper, shared, epsilon):
    """Build and solve the conic program: u, and the multipliers of ``T = weights @ u``."""
    many, count = weights.shape[1], int(shared.sum())
    point = upper == lower
    below, above = ~point & np.isfinite(upper), ~point & np.isfinite(lower)
    slack = sp.eye(len(lower), format="csc")[:, shared]  # r of each shared entry
    eye, no_t, no_r = sp.eye(many), 0 * weights, sp.csc_matrix((many, count))
    rows = [  # equations, then inequalities
        (sp.hstack([weights, no_t, -slack], "csr")[point], upper[point]),
        (sp.hstack([weights, no_t, -slack], "csr")[below], upper[below]),
        (sp.hstack([-weights, no_t, -slack], "csr")[above], -lower[above]),
        (sp.hstack([eye, -eye, no_r]), np.zeros(many)),
        (sp.hstack([-eye, -eye, no_r]), np.zeros(many)),
        (sp.csc_matrix((1, 2 * many + count)), np.array([epsilon])),
        (sp.hstack([sp.csc_matrix((count, 2 * many)), -sp.eye(count)]), np.zeros(count)),
    ]
    sizes = [len(b) for _, b in rows]
    cones = [clarabel.ZeroConeT(sizes[0]), clarabel.NonnegativeConeT(sum(sizes[1:5]))]
    if epsilon > 0:
        cones.append(clarabel.SecondOrderConeT(1 + count))
    else:
        cones += [clarabel.NonnegativeConeT(1), clarabel.ZeroConeT(count)]
    A, b = sp.vstack([a for a, _ in rows], "csc"), np.concatenate([b for _, b in rows])
    q = np.concatenate([np.zeros(many), prices, np.zeros(count)])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    quadratic = sp.csc_matrix((len(q), len(q)))
    found = clarabel.DefaultSolver(quadratic, q, A, b, cones, settings).solve()
    parts = np.split(np.array(found.z), np.cumsum(sizes)[:3])
    L = np.zeros(len(lower))
    L[point], L[below], L[above] = parts[0], parts[1], -parts[2]
    return np.array(found.x)[:many], L
