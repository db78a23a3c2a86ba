"""What is told of layers: histograms of their weights."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.pruning.layer_reports import BINS, histogram


def test_histograms_count_weights_that_are_not_zero_between_their_ends() -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((60, 50)).astype(np.float32)
    after = np.where(np.abs(before) > 1, before, 0).astype(np.float32)
    found = histogram("fc", [before[:30], before[30:]], [after[:30], after[30:]])
    edges = np.linspace(found.low, found.high, BINS + 1)
    assert found.high - found.low == pytest.approx(8 * before.std(), rel=1e-5)
    for counts, weights in ((found.dense, before), (found.pruned, after)):
        kept = weights[weights != 0]
        expected = [
            int(np.count_nonzero((kept >= low) & (kept < high)))
            for low, high in zip(edges, edges[1:], strict=False)
        ]
        assert np.abs(np.array(counts) - expected).max() <= 1  # one that stands at an edge
        inside = (kept >= found.low) & (kept <= found.high)
        assert sum(counts) == np.count_nonzero(inside)
    assert found.pruned[BINS // 2] == 0


@pytest.mark.parametrize(
    "weights",
    [np.zeros((3, 4)), np.full((3, 4), 7.0), np.full((2, 2), np.nan), np.empty((0, 5))],
    ids=["zeros", "equal", "nan", "none"],
)
def test_histograms_of_odd_weights_have_ends(weights) -> None:
    found = histogram("fc", [weights], [weights])
    assert found.low < found.high
    assert sum(found.dense) == np.count_nonzero(np.isfinite(weights) & (weights != 0))
    assert found.dense == found.pruned


def test_histograms_of_huge_weights_have_ends() -> None:
    found = histogram("fc", [np.array([[3e38, -3e38]], np.float32)], [np.zeros((1, 2))])
    assert np.isfinite([found.low, found.high]).all()
