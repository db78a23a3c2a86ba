"""Newton's steps on a small program, against the conditions of optimality."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve.convex.newton import SmallProgram


def small(seed, *, shared=False, weights=12, entries=20, points=8):
    """A program of fewer points than weights; zero weights keep all of its entries."""
    random = np.random.default_rng(seed)
    X, Y = random.normal(size=(weights, points)), random.normal(size=(entries, weights))
    lower, upper = np.full(entries, -np.inf), random.uniform(0, 0.2, entries)
    lower[::3], upper[::3] = -upper[::3], np.inf
    return SmallProgram(
        H=X @ X.T,
        b=X @ random.normal(size=points),
        Y=Y,
        lower=lower,
        upper=upper,
        shrinkage=np.full(entries, 1 / 11 if shared else 1.0),
        thresholds=random.uniform(0.2, 0.6, weights),
        entry_rho=10.0,
        weight_rho=1.0,
    )


def solved(program, calls=60):
    """u, the sparse weights, and the multipliers of weights and entries after some calls."""
    weights, entries = len(program.b), len(program.lower)
    u, V, G = np.zeros(weights), np.zeros(weights), np.zeros(entries)
    for _ in range(calls):
        u, V, G, _ = program.solve(u, V, G)
    w, multipliers = program.clipped(V), program.entry_rho * program.removed(G)
    return u, V - w, program.weight_rho * w, multipliers


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_of_a_program_whose_entries_hold_exactly(seed) -> None:
    program = small(seed)
    u, S, w, multipliers = solved(program)
    prices = program.weight_rho * program.thresholds
    assert np.abs(program.H @ u - program.b + w + program.Y.T @ multipliers).max() <= 5e-3
    assert np.allclose(u, S, atol=5e-3)
    assert (np.abs(w) <= prices * (1 + 1e-12)).all()
    assert np.allclose(w[S != 0], prices[S != 0] * np.sign(S[S != 0]))
    z = program.Y @ u
    assert (z <= program.upper + 5e-3).all()
    assert (z >= program.lower - 5e-3).all()
    assert (multipliers[np.isinf(program.lower)] >= 0).all()
    assert (multipliers[np.isinf(program.upper)] <= 0).all()
    loose = (z < program.upper - 0.02) & (z > program.lower + 0.02)
    assert not multipliers[loose].any()
    assert multipliers.any()


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_of_a_program_whose_entries_share_the_loss(seed) -> None:
    program = small(seed, shared=True)
    u, S, w, multipliers = solved(program)
    z = program.Y @ u
    distance = z - np.clip(z, program.lower, program.upper)  # half its square is the loss
    assert np.allclose(multipliers, distance, atol=1e-2)
    assert np.abs(program.H @ u - program.b + w + program.Y.T @ multipliers).max() <= 5e-3
    assert np.allclose(u, S, atol=5e-3)


def test_a_program_without_weights_or_entries() -> None:
    whole = small(0)
    none = SmallProgram(
        H=whole.H[:0, :0],
        b=whole.b[:0],
        Y=whole.Y[:, :0],
        lower=whole.lower,
        upper=whole.upper,
        shrinkage=whole.shrinkage,
        thresholds=whole.thresholds[:0],
        entry_rho=10.0,
        weight_rho=1.0,
    )
    u, V, G, steps = none.solve(np.zeros(0), np.zeros(0), np.zeros(20))
    assert (len(u), len(V), steps) == (0, 0, 0)
    assert not G.any()
    free = small(0, entries=0)
    u, S, w, _ = solved(free)
    assert np.abs(free.H @ u - free.b + w).max() <= 5e-3
    assert np.allclose(u, S, atol=5e-3)
