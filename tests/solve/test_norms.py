"""Bounds on operator norms against SVDs and explicit matrices; sample theory against trials."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve import norms
from nettrim_cli.solve.norms import convolution_norm, operator_norm, window_overlap


def drawn(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def unrolled(kernel, strides, dilations, pads, size) -> np.ndarray:
    """The matrix of a convolution over images of `size`, entry by entry."""
    M, C, *taps = kernel.shape
    out = [
        (n + a + b - d * (k - 1) - 1) // s + 1
        for n, (a, b), d, k, s in zip(size, pads, dilations, taps, strides, strict=True)
    ]
    matrix = np.zeros((M, *out, C, *size))
    for to in itertools.product(*map(range, out)):
        for tap in itertools.product(*map(range, taps)):
            at = [
                o * s + d * j - a
                for o, s, d, j, (a, _) in zip(to, strides, dilations, tap, pads, strict=True)
            ]
            if all(0 <= x < n for x, n in zip(at, size, strict=True)):
                matrix[(slice(None), *to, slice(None), *at)] += kernel[(..., *tap)]
    return matrix.reshape(M * math.prod(out), -1)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from((1e-160, 1e-8, 1.0, 1e8, 1e160)),
    st.integers(0, 10_000),
)
def test_operator_norm_is_a_tight_upper_bound(rows, columns, rank, scale, seed) -> None:
    A = drawn((rows, min(rank, rows)), seed) @ drawn((min(rank, rows), columns), seed + 1)
    exact = np.linalg.norm(A, 2)
    found = operator_norm(A * scale) / scale
    assert exact * (1 - 1e-13) <= found <= exact * (1 + 2e-5)


@pytest.mark.parametrize("flat", [np.ones((70, 90)), np.eye(80), np.ones((1, 5)), np.ones((5, 1))])
def test_operator_norm_of_matrices_with_a_known_one(flat) -> None:
    assert operator_norm(flat) == pytest.approx(np.linalg.norm(flat, 2), rel=1e-5)
    assert operator_norm(-flat.astype(np.float32)) >= np.linalg.norm(flat, 2) * (1 - 1e-15)


def test_operator_norm_of_nothing_is_zero() -> None:
    assert operator_norm(np.zeros((4, 7))) == 0.0
    assert operator_norm(np.zeros((0, 7))) == 0.0


def test_wide_matrices_are_bounded_block_by_block(monkeypatch) -> None:
    monkeypatch.setattr(norms, "WIDEST", 16)
    A = drawn((60, 50))
    exact = np.linalg.norm(A, 2)
    assert exact <= operator_norm(A) <= min(2 * exact, np.linalg.norm(A) * (1 + 1e-8))


@pytest.mark.parametrize("factor", [0.0, 0.3, 0.9, 1 - 1e-9])
def test_a_wrong_guess_is_never_taken_for_a_bound(monkeypatch, factor) -> None:
    A = drawn((90, 80))
    exact = np.linalg.norm(A, 2)
    monkeypatch.setattr(
        scipy.sparse.linalg, "eigsh", lambda G, *_, **__: [factor * np.linalg.norm(G, 2)]
    )
    assert operator_norm(A) >= exact * (1 - 1e-15)


def convolutions():
    def shape(axes):
        each = st.tuples(*[st.integers(1, 4)] * axes)
        pads = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * axes)
        return st.tuples(st.just(axes), each, each, each, pads)

    return st.integers(1, 2).flatmap(shape)


@given(convolutions(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10_000))
def test_convolution_norm_bounds_the_explicit_matrix(given_, outputs, inputs, seed) -> None:
    axes, taps, strides, dilations, pads = given_
    kernel = drawn((outputs, inputs, *taps), seed)
    least = [d * (k - 1) + 1 for k, d in zip(taps, dilations, strict=True)]
    size = [max(n, 7 + axis) if axes == 2 else max(n, 20) for axis, n in enumerate(least)]
    matrix = unrolled(kernel, strides, dilations, pads, size)
    exact = np.linalg.norm(matrix, 2)
    found = convolution_norm(kernel, strides, dilations)
    unfolded = np.linalg.norm(kernel.reshape(outputs, -1), 2)
    assert exact * (1 - 1e-12) <= found
    assert found <= unfolded * math.sqrt(window_overlap(taps, strides, dilations)) * (1 + 2e-5)


@pytest.mark.parametrize(
    ("taps", "strides", "slack"),
    [((3, 3), (1, 1), 0.08), ((3, 3), (2, 2), 0.06), ((5,), (1,), 0.06), ((1, 1), (2, 2), 1e-4)],
)
def test_convolution_norm_is_near_the_explicit_one_on_large_images(taps, strides, slack) -> None:
    kernel, ones = drawn((3, 2, *taps), 5), (1,) * len(taps)
    size, pads = (24,) * len(taps), ((1, 1),) * len(taps)
    exact = np.linalg.norm(unrolled(kernel, strides, ones, pads, size), 2)
    assert exact <= convolution_norm(kernel, strides, ones) <= exact * (1 + slack)


def test_convolution_norm_falls_back_where_frequencies_cost_too_much(monkeypatch) -> None:
    kernel = drawn((3, 2, 3, 3))
    fine = convolution_norm(kernel, (1, 1), (1, 1))
    coarse = []
    for limit in (1500, 100):  # the coarsest grid, none
        monkeypatch.setattr(norms, "AFFORDABLE", limit)
        coarse.append(convolution_norm(kernel, (1, 1), (1, 1)))
    assert fine < coarse[0] < coarse[1]
    assert coarse[1] == pytest.approx(3 * np.linalg.norm(kernel.reshape(3, -1), 2), rel=1e-4)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))
def test_uses_counts_the_windows_over_an_entry(k, s, d) -> None:
    seen = [s * p + d * j for p in range(80) for j in range(k)]
    assert window_overlap((k,), (s,), (d,)) == np.bincount(seen)[60:180].max()
