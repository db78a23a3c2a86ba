"""Moments of heads: the weights behind values count as their outputs do together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from nettrim_cli.pruning.shrinking.inner import moments_of


def test_rows_that_read_values_are_weighed_by_what_outputs_do_together() -> None:
    random = np.random.default_rng(0)
    W, X = random.standard_normal((6, 4)), random.standard_normal((6, 50)).astype(np.float32)
    root = np.linalg.qr(random.standard_normal((4, 4)))[0] * [1, 0.5, 0.4, 0.3]
    K = root @ root.T
    size = np.sqrt(K.diagonal())
    places = np.arange(6).reshape(2, 3)
    group = SimpleNamespace(layers=("values", "reader"), places=(places, places), reads=True)
    problem = SimpleNamespace(
        W=W,
        samples=SimpleNamespace(X=X),
        importance=size,
        correlation=(K / np.outer(size, size)).astype(np.float32),
        relu=False,
        activation=None,
        scale=None,
    )
    read, weights = moments_of(group, "reader", problem)
    for head, rows in enumerate(places):
        np.testing.assert_allclose(read[head], X[rows] @ X[rows].T / 50, rtol=1e-5)
        np.testing.assert_allclose(weights[head], W[rows] @ K @ W[rows].T, rtol=1e-4, atol=1e-5)
    problem.correlation = None
    _, weights = moments_of(group, "reader", problem)
    np.testing.assert_allclose(weights[0], W[:3] * size**2 @ W[:3].T)
