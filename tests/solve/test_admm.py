"""ADMM on programs whose optimum is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve.admm import admm
from nettrim_cli.solve.penalties import KeepLargest, WeightedL1


class Near:
    """f(U) = ||U - M||^2 / 2."""

    def __init__(self, M):
        self.M = M

    def solve(self, target, rho):
        return (self.M + rho * target) / (1 + rho)


M = np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 1.9])
@pytest.mark.parametrize("rho", [0.1, 1.0, 20.0])
def test_l1_gives_soft_thresholding(alpha, rho) -> None:
    penalty = WeightedL1(np.full((1, 4), 0.6))
    S, _, done = admm(Near(M), penalty, start=np.zeros_like(M), schedule=(rho,) * 400, alpha=alpha)
    assert done == 400
    assert np.allclose(S, penalty.prox(M, 1.0), atol=1e-6)


def test_a_changing_rho_keeps_the_optimum() -> None:
    penalty = WeightedL1(np.full((1, 4), 0.6))
    schedule = (0.1,) * 40 + (3.0,) * 40 + (0.5,) * 200
    S, V, _ = admm(Near(M), penalty, start=np.zeros_like(M), schedule=schedule)
    assert np.allclose(S, penalty.prox(M, 1.0), atol=1e-8)
    # V - S is the dual divided by rho: the optimum stays where it is when rho changes
    again, _, done = admm(Near(M), penalty, start=V, schedule=(0.5,))
    assert done == 1
    assert np.allclose(again, S, atol=1e-8)


def test_keep_k_keeps_the_largest() -> None:
    S, _, _ = admm(Near(M), KeepLargest(7), start=M, schedule=(2.0,) * 60)
    assert np.count_nonzero(S) == 7
    assert np.allclose(S, KeepLargest(7).prox(M, 1.0))


def test_the_look_sees_stops_and_steers() -> None:
    seen = []

    def look(done, S, V, rho):
        seen.append((done, rho))
        assert np.array_equal(S, S * (np.abs(S) > 0))
        return {3: 5.0, 6: -1.0}.get(done)

    _, _, done = admm(Near(M), KeepLargest(3), start=M, schedule=(1.0,) * 50, callback=look)
    assert done == 6
    assert seen == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 5.0), (5, 5.0), (6, 5.0)]


def test_the_start_is_left_alone() -> None:
    start = M.copy()
    admm(Near(2 * M), KeepLargest(3), start=start, schedule=(1.0,) * 5)
    assert np.array_equal(start, M)
    S, V, done = admm(Near(M), KeepLargest(3), start=start, schedule=())
    assert done == 0
    assert np.array_equal(S, V)
