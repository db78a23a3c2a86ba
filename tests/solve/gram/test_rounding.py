"""Weights of few bits: on their grid and support, and nearer to the results than plain rounding."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve.gram.l0 import solve_l0
from nettrim_cli.solve.gram.rounding import few_bits, to_nearest
from nettrim_cli.solve.transport import SharedCache
from tests.support.effort import examples, thinned
from tests.support.small_layers import random_task

LARGEST = {8: 127, 6: 31, 4: 7, 3: 3}


def solved(seed: int, **options):
    """A task and its sparse weights."""
    task = random_task(seed, 40, 12, 200, keep=200, **options)
    return task, np.asarray(solve_l0(task).U, np.float64)


def inner(task, U):
    return U[:-1] if task.has_bias else U


def plain(task, U, bits):
    """To the nearest integer, with the bias as it is."""
    weight = inner(task, U)
    scale = np.abs(weight).max(axis=0) / LARGEST[bits]
    scale[scale == 0] = 1
    return np.vstack([np.rint(weight / scale) * scale, U[len(weight) :]])


def moved(task, U, V):
    """Squared change of the results on all columns, in float64."""
    X = task.samples.X[task.rows].astype(np.float64)
    return np.square((U - V).T @ X).sum()


def grid(column, largest):
    """Scale of a column, from its least and largest weights alone."""
    values = np.abs(column[column != 0])
    for number in range(1, largest + 1):
        quotients = values / (values.max() / number)
        if np.allclose(quotients, np.rint(quotients), rtol=0, atol=1e-9):
            return values.max() / number
    return None


@examples(20)
@given(st.integers(0, 10**6), st.sampled_from([8, 6, 4]), st.booleans())
def test_weights_are_integers_times_a_scale(seed, bits, bias) -> None:
    task, U = solved(seed, bias=bias)
    V = few_bits(task, U, bits)
    assert V.shape == U.shape
    weight = inner(task, V)
    assert not weight[inner(task, U) == 0].any()
    for column in weight.T:
        assert not column.any() or grid(column, LARGEST[bits]) is not None
    assert np.array_equal(weight.astype(np.float32), weight)


@pytest.mark.parametrize("bias", thinned([True, False], 2))
def test_results_move_less_than_by_plain_rounding(bias) -> None:
    ratios: dict[int, list[float]] = {bits: [] for bits in LARGEST}
    for seed, bits in itertools.product(range(8), LARGEST):
        task, U = solved(seed, bias=bias)
        V = few_bits(task, U, bits)
        ratios[bits].append(moved(task, U, V) / moved(task, U, plain(task, U, bits)))
    assert max(map(max, ratios.values())) <= 1
    assert max(np.mean(values) for values in ratios.values()) < 0.6


def test_a_small_layer_is_near_the_best_integers() -> None:
    ratios = []
    for seed in range(6):
        task = random_task(seed, 5, 1, 60, bias=False)
        U = np.asarray(task.W, np.float64)
        V = few_bits(task, U, 4)
        scale = grid(V[:, 0], 7)
        every = np.array(
            list(itertools.product(*[[np.floor(u), np.floor(u) + 1] for u in U[:, 0] / scale]))
        )
        every = np.clip(every, -7, 7)[:, :, None] * scale
        least = min(moved(task, U, candidate) for candidate in every)
        ratios.append(moved(task, U, V) / least)
    assert np.median(ratios) < 1.3


@pytest.mark.parametrize("bits", [16, 8, 6, 4, 3])
def test_the_bias_makes_up_for_the_mean(bits) -> None:
    task, U = solved(3)
    V = few_bits(task, U, bits)
    X = task.samples.X.astype(np.float64)
    np.testing.assert_allclose((V - U).T @ X.mean(axis=1), 0, atol=1e-6)


def test_columns_alone_serve_as_well() -> None:
    task, U = solved(5)
    wide = replace(task, samples=replace(task.samples, C=None, B=None, shared=SharedCache()))
    for bits in LARGEST:
        first, second = few_bits(task, U, bits), few_bits(wide, U, bits)
        assert moved(task, U, second) < 1.1 * moved(task, U, first) + 1e-12


@pytest.mark.parametrize("bits", LARGEST)
def test_each_alone_goes_to_the_nearest(bits) -> None:
    _, U = solved(4)
    V = to_nearest(U, bits)
    scale = np.abs(U).max(axis=0) / LARGEST[bits]
    assert np.all(np.abs(V - U) <= 0.51 * scale + np.abs(U).max() * 1e-3)
    assert to_nearest(U, None) is U
    assert all(column.any() == bool(grid(column, LARGEST[bits])) for column in V.T)


def test_half_precision() -> None:
    task, U = solved(1)
    V = few_bits(task, U, 16)
    assert np.array_equal(inner(task, V), inner(task, U).astype(np.float16))
    large = U.copy()
    large[0, 0] = 1e6
    assert few_bits(task, large, 16) is large
    large[0, 0] = np.inf
    for bits in (16, 8, 6, 4, 3):
        assert few_bits(task, large, bits) is large


def test_outputs_and_inputs_without_weights() -> None:
    task, U = solved(2)
    U[:, 3] = 0
    U[5] = 0
    for bits in (16, 8, 6, 4, 3):
        V = few_bits(task, U, bits)
        assert np.isfinite(V).all()
        assert not inner(task, V)[:, 3].any()
        assert not V[5].any()
    nothing = np.zeros_like(U)
    assert not few_bits(task, nothing, 4).any()
