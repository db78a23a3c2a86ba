"""One ADMM for every response and every penalty.

The program is ``minimise f(U) + g(S) subject to S = U``, f being the response and g the
penalty.  With over-relaxation ``alpha`` the scaled dual D and the relaxed U enter only through
their difference V, which leaves Douglas-Rachford's three lines (Eckstein and Bertsekas 1992):

    S <- prox of g at V
    U <- argmin of f(U) + rho/2 ||U - (2S - V)||^2
    V <- V + alpha (U - S)

A response that needs a splitting of its own (``T = U'X``) keeps it to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from nettrim_cli.solve.matrices import Matrix
from nettrim_cli.solve.penalties import Penalty


class Coupling(Protocol):
    """The response side: what ADMM needs of f."""

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin over U of ``f(U) + rho/2 ||U - target||_F^2``, or one step towards it."""


def admm(
    response: Coupling,
    penalty: Penalty,
    *,
    start: Matrix,
    schedule: Iterable[float],
    alpha: float = 1.0,
    look: Callable[[int, Matrix, Matrix, float], float | None] | None = None,
) -> tuple[Matrix, Matrix, int]:
    """Run ADMM over a schedule of penalty parameters.

    Parameters
    ----------
    start
        V to begin with, N x M; weights are a good start for keep-k, zeros for l1.
    schedule
        rho of each iteration; where it changes, the scaled dual is rescaled.
    look
        Called after each iteration with its number, S, V and rho.  It returns None to go on, a
        new rho to go on with (kept until changed again), or a negative number to stop.

    Returns
    -------
    S, V, iterations
        The sparse iterate, never U.
    """
    V, rho_before, forced, done = start.copy(), 0.0, 0.0, 0
    S = V
    for planned in schedule:
        rho = forced or planned
        if rho_before and rho != rho_before:
            V = S + (V - S) * V.dtype.type(rho_before / rho)
        rho_before = rho
        S = penalty.prox(V, 1 / rho)
        U = response.solve(2 * S - V, rho)
        V += V.dtype.type(alpha) * (U - S)
        done += 1
        said = look(done, S, V, rho) if look else None
        if said is not None and said < 0:
            break
        forced = said or forced
    return penalty.prox(V, 1 / rho_before) if rho_before else S, V, done
