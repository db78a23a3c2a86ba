"""Scores of a lower rank, against the best approximation of all scores at once."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.solve.gram.balanced import balanced


@pytest.mark.parametrize("seed", range(3))
def test_the_first_entries_have_the_best_scores_of_their_rank(seed) -> None:
    """By Eckart and Young: of a rank, no matrix is nearer to the scores of all pairs."""
    random = np.random.default_rng(seed)
    q = random.normal(size=(5, 40)) * np.geomspace(3, 0.2, 5)[:, None]
    k = random.normal(size=(5, 5)) @ random.normal(size=(5, 30))
    A, B, errors = balanced(q @ q.T / 40, k @ k.T / 30)
    np.testing.assert_allclose(A @ B.T, np.eye(5), atol=1e-6)
    scores = q.T @ k
    powers = np.linalg.svd(scores, compute_uv=False)
    for rank in range(6):
        short = (A[:, :rank].T @ q).T @ (B[:, :rank].T @ k)
        error = np.sum((scores - short) ** 2)
        assert error == pytest.approx(np.sum(powers[rank:] ** 2), rel=1e-4, abs=1e-4)
        assert errors[rank] * 40 * 30 == pytest.approx(error, rel=1e-3, abs=1e-3)


def test_what_is_no_number_or_zero_is_refused() -> None:
    for moments in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        with pytest.raises(np.linalg.LinAlgError):
            balanced(moments, np.eye(3))
