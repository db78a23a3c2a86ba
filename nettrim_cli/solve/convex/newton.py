"""Newton's method on a small program, in float64, where ADMM's multipliers settle slowly.

ADMM lowers the augmented Lagrangian of the splits ``S = u`` and ``T = Y u`` in one after the other.
Here it is minimised in all at once.  As a function of u alone it is convex and piecewise quadratic,

    prices |u + w|_1 (Moreau envelope) + lam/2 ||u'X - points||^2 + rho/2 ||R(Y u + l)||^2,

so that steps of Newton's method with an exact line search end at its minimum (semismooth Newton on
the augmented Lagrangian: Li, Sun and Toh 2018; Hermans, Themelis and Patrinos 2019).  There the
multipliers pay no weight more than its price and have the signs of their ends, whence the bound
is that of the dual program itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nettrim_cli.solve.matrices import Matrix, norm

ROUNDS = 10  # of multipliers, at most
STEPS = 6  # of Newton's method in each, at most
ENOUGH = 12  # steps after which no round begins
MOST_STEPS = ENOUGH + STEPS - 1
STEADY = 0.02  # change of the entries' multipliers that ends the rounds, relative to them
SETTLED = 1e-3  # gradient that ends them, relative to the prices
PROXIMAL = 1e-2  # weight of the distance from where a round began, relative to weight_rho
STEEP = 0.3  # slope at the end of a step, relative to its start, that shortens the step
HALVINGS = 8  # of a step that is too long


@dataclass
class SmallProgram:
    """The small program of a neuron in units of lam, without padding, all in float64.

    Attributes
    ----------
    H, b
        (K, K) and (K,): Gram matrix over the neuron's points, and what points ask for.
    Y, lower, upper, shrinkage
        (Q, K) rows of the entries, and (Q,) each: as for ``SubproblemBatch``.
    thresholds
        (K,) prices over ``weight_rho lam``.
    entry_rho, weight_rho
        ADMM's rho of both splits.
    """

    H: Matrix
    b: Matrix
    Y: Matrix
    lower: Matrix
    upper: Matrix
    shrinkage: Matrix
    thresholds: Matrix
    entry_rho: float
    weight_rho: float

    def clipped(self, V: Matrix) -> Matrix:
        """(K,) part of V that the prox of the prices removes."""
        return np.clip(V, -self.thresholds, self.thresholds)

    def removed(self, G: Matrix) -> Matrix:
        """(Q,) part of G that the prox of the entries removes."""
        return np.asarray(self.shrinkage * (G - np.clip(G, self.lower, self.upper)))

    def solve(self, u: Matrix, V: Matrix, G: Matrix) -> tuple[Matrix, Matrix, Matrix, int]:
        """Some rounds from smooth weights u (K,) and ADMM's state V (K,), G (Q,).

        Returns
        -------
        u, V, G, steps
            The same after them, and the number of Newton's steps.

        Raises
        ------
        numpy.linalg.LinAlgError
            The program is too badly scaled.
        """
        steps, last = 0, np.zeros_like(G)
        for number in range(ROUNDS):
            w, entries, centre = self.clipped(V), self.removed(G), u
            change, last = norm(entries - last), entries
            if number and (steps >= ENOUGH or change <= STEADY * norm(entries)):
                break
            for _ in range(STEPS):
                z, Hu = self.Y @ u, self.H @ u - self.b
                gradient = self._gradient(u + w, z + entries, Hu) + self._delta * (u - centre)
                if not np.abs(gradient).max(initial=0) > SETTLED * self._price:
                    break
                M = self._hessian(u + w, z + entries)
                d = -np.linalg.solve(M, gradient.astype(np.float32)).astype(np.float64)
                u = u + self._length(d, u + w, z + entries, Hu + self._delta * (u - centre)) * d
                steps += 1
            V, G = u + w, self.Y @ u + entries
        return u, V, G, steps

    @property
    def _delta(self) -> float:
        return PROXIMAL * self.weight_rho

    @property
    def _price(self) -> float:
        return self.weight_rho * float(self.thresholds.min(initial=np.inf))

    def _gradient(self, V: Matrix, G: Matrix, smooth: Matrix) -> Matrix:
        """(K,) gradient at V and G, the part of the squares being ``smooth``."""
        entries = self.entry_rho * self.removed(G)
        return np.asarray(smooth + self.weight_rho * self.clipped(V) + entries @ self.Y)

    def _hessian(self, V: Matrix, G: Matrix) -> Matrix:
        """(K, K) a generalised Hessian at V and G, in float32: a step need not be exact."""
        binding = (self.lower > G) | (self.upper < G)
        rows = self.Y[binding] * np.sqrt(self.entry_rho * self.shrinkage[binding])[:, None]
        rows = rows.astype(np.float32)
        M = rows.T @ rows
        M += self.H
        zero = np.abs(V) < self.thresholds
        M[np.diag_indices_from(M)] += self.weight_rho * zero + self._delta
        return np.asarray(M)

    def _length(self, d: Matrix, V: Matrix, G: Matrix, smooth: Matrix) -> float:
        """Length of a step d from V and G at which the function is lowest, at most 1."""
        rows, curvature = self.Y @ d, d @ (self.H @ d) + self._delta * (d @ d)
        start = d @ smooth

        def slope(t: float) -> float:
            """Derivative along the step."""
            value = start + t * curvature + self.weight_rho * (d @ self.clipped(V + t * d))
            return float(value + self.entry_rho * (rows @ self.removed(G + t * rows)))

        if slope(1) <= STEEP * abs(slope(0)):
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if slope(middle) > 0 else (middle, high)
        return low or high
