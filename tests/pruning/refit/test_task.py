"""Steps of a fit: the rate falls where losses grow."""

from __future__ import annotations

import numpy as np

from nettrim_cli.pruning.refit.task import FIRST_STEPS, GROWN, Brake


def test_losses_that_scatter_or_fall_leave_the_rate() -> None:
    random = np.random.default_rng(0)
    brake = Brake(16.0)
    for step in range(500):
        assert not brake.acts(random.uniform(0.8, 1.2) * 0.995**step)
    assert brake.rate == 16.0


def test_a_descent_that_runs_away_is_slowed_until_it_converges() -> None:
    """Of ``x^2 / 2`` by steps of the rate: it converges below 2, and runs away above."""
    brake, x, losses = Brake(16.0), 1.0, []
    for step in range(200):
        losses.append(x * x / 2)
        if brake.acts(losses[-1]):
            x = 1.0
            continue
        rate = brake.rate * min(1.0, (step + 1) / 100)  # it rises as in a fit
        x -= rate * x
        x = x if abs(x) > 1e-3 else 1e-3  # samples never agree entirely
    assert 0.5 < brake.rate <= 2.0
    assert losses[-1] <= GROWN * np.mean(losses[:FIRST_STEPS])
