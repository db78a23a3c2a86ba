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

Callback = Callable[[int, Matrix, Matrix, float], "float | None"]


class Progress(Protocol):
    """A listener to a solve."""

    def __call__(self, iteration: int, iterations: int, /) -> None:
        """Hear the number of the last iteration, and about how many there will be."""


class Coupling(Protocol):
    """The response side: what ADMM needs of f."""

    def solve(self, target: Matrix, rho: float) -> Matrix:
        """Argmin over U (N, M) of ``f(U) + rho/2 ||U - target||_F^2``, or one step towards it."""


def admm(
    response: Coupling,
    penalty: Penalty,
    *,
    start: Matrix,
    schedule: Iterable[float],
    alpha: float = 1.0,
    callback: Callback | None = None,
) -> tuple[Matrix, Matrix, int]:
    """Run ADMM over a schedule of penalty parameters.

    Parameters
    ----------
    response, penalty
        f and g.
    start
        First V, (N, M); weights are a good start for keep-k, zeros for l1.
    schedule
        rho of each iteration; where it changes, the scaled dual is rescaled.
    alpha
        Over-relaxation, from 1 (none) to below 2.
    callback
        Called after each iteration with its number, S, V and rho.  It returns None to go on, a
        rho to use from now on in place of the schedule's, or a negative number to stop.

    Returns
    -------
    S, V, iterations
        The sparse iterate S, never U.
    """
    V, last_rho, override, done = start.copy(), 0.0, 0.0, 0
    S = V
    for planned in schedule:
        rho = override or planned
        if last_rho and rho != last_rho:
            V = S + (V - S) * V.dtype.type(last_rho / rho)
        last_rho = rho
        S = penalty.prox(V, 1 / rho)
        U = response.solve(2 * S - V, rho)
        V += V.dtype.type(alpha) * (U - S)
        done += 1
        next_rho = callback(done, S, V, rho) if callback else None
        if next_rho is not None and next_rho < 0:
            break
        override = next_rho or override
    return penalty.prox(V, 1 / last_rho) if last_rho else S, V, done
