"""Response sets by brute force: a result is inside exactly where the response is unchanged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.solve.responses import Intervals, ResponseCurve
from tests.support.effort import examples


def response(z, scale, shift, ceiling):
    return np.clip(scale * z + shift, 0, ceiling)


@given(
    z=st.integers(-40, 40),
    other=st.integers(-40, 40),
    scale=st.sampled_from([-2.0, -0.5, 0.25, 1.0, 4.0]),
    shift=st.sampled_from([-3.0, -0.5, 0.0, 0.25, 2.0]),
    ceiling=st.sampled_from([math.inf, 6.0, 1.0]),
)
@examples(400)
def test_inside_exactly_where_the_response_is_unchanged(z, other, scale, shift, ceiling) -> None:
    # quarters: every sum and product is exact
    Z, T = np.full((1, 1), z / 4, np.float32), other / 4
    sets = Intervals.of_response(Z, np.array([scale]), np.array([shift]), (0.0, ceiling))
    inside = bool(sets.lower[0, 0] <= scale * T <= sets.upper[0, 0])
    same = response(T, scale, shift, ceiling) == response(Z[0, 0], scale, shift, ceiling)
    assert inside == same


@given(
    z=st.integers(-40, 40),
    other=st.integers(-40, 40),
    scale=st.sampled_from([-2.0, 0.25, 1.0]),
    shift=st.sampled_from([-3.0, 0.0, 2.0]),
    reached=st.integers(-20, 20),
    missing=st.integers(-8, 8),
    ends=st.sampled_from([(0.0, math.inf), (0.0, 6.0), (-1.0, 1.0), (-math.inf, 2.0)]),
)
@examples(400)
def test_what_is_added_behind_the_layer_moves_the_ends(
    z, other, scale, shift, reached, missing, ends
) -> None:
    # the wanted response is made with reached + missing, the new one with reached alone
    Z, T, r, e = np.full((1, 1), z / 4, np.float32), other / 4, reached / 4, missing / 4
    sets = Intervals.of_response(
        Z,
        np.array([scale]),
        np.array([shift]),
        ends,
        skip=np.full((1, 1), r, np.float32),
        missing=np.full((1, 1), e, np.float32),
    )
    inside = bool(sets.lower[0, 0] <= scale * T <= sets.upper[0, 0])
    wanted = np.clip(scale * Z[0, 0] + shift + r + e, *ends)
    assert inside == (np.clip(scale * T + shift + r, *ends) == wanted)


def test_a_curves_residual_is_its_secants_squared_slope() -> None:
    random = np.random.default_rng(3)
    point, added = random.normal(size=(2, 5, 80)).astype(np.float32) * 2
    for function in (np.tanh, lambda A: np.where(A < 0, 0.1 * A, A), lambda A: 3 * A):
        curve = ResponseCurve.of(function, point, added)
        Z = (point + random.normal(size=point.shape)).astype(np.float32)
        moved = (Z - point).astype(float)
        secant = (function(Z + added) - function(point + added)) / moved
        expected = np.minimum(secant**2 / curve.steepest, 1) * moved
        assert np.allclose(curve.residual(Z), expected, rtol=1e-3, atol=1e-4)
        assert not curve.residual(point).any()
    assert np.allclose(curve.residual(Z), moved, rtol=1e-3)  # a linear function: all of it


def test_the_active_set_is_where_the_response_can_move() -> None:
    Z = np.array([[-1, 0, 0.5, 3, 6, 9]], np.float32)
    sets = Intervals.of_response(Z, limits=(0.0, 6.0))
    assert sets.active.tolist() == [[False, False, True, True, False, False]]
    assert sets.lower.tolist() == [[-np.inf, -np.inf, 0.5, 3, 6, 6]]
    assert sets.upper.tolist() == [[0, 0, 0.5, 3, np.inf, np.inf]]
    assert sets.lower.dtype == sets.upper.dtype == np.float32


def test_the_residual_is_the_distance_to_the_nearest_allowed_result() -> None:
    random = np.random.default_rng(0)
    Z = random.normal(size=(4, 30)).astype(np.float32) * 3
    sets = Intervals.of_response(Z, random.normal(size=4), random.normal(size=4), (0.0, 2.0))
    T = random.normal(size=(4, 30)).astype(np.float32) * 4
    R = sets.residual(T)
    nearest = T - R
    assert np.all((sets.lower <= nearest + 1e-6) & (nearest - 1e-6 <= sets.upper))
    expected = np.maximum(sets.lower - T, 0) + np.maximum(T - sets.upper, 0)
    assert np.allclose(np.abs(R), expected, atol=1e-6)
    assert np.all(R[(sets.lower <= T) & (sets.upper >= T)] == 0)


def test_a_bound_replaces_zero_and_is_met_by_itself() -> None:
    random = np.random.default_rng(1)
    Z, own = random.normal(size=(2, 3, 50)).astype(np.float32) * 4
    scale, shift = np.array([1.0, -2.0, 0.5]), np.array([0.3, -0.2, 0.0])
    sets = Intervals.of_response(Z, scale, shift, (0.0, 3.0), own)
    reached = (own * scale.astype(np.float32)[:, None]).astype(np.float32)
    A = Z * scale[:, None] + shift[:, None]
    assert np.array_equal(sets.upper[A <= 0], reached[A <= 0])
    top = np.broadcast_to(3.0 - shift[:, None], A.shape)
    assert np.allclose(sets.lower[A >= 3], np.minimum(reached, top)[A >= 3])
    assert np.all(sets.residual(reached)[~sets.active] == 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_are_all_active(dtype) -> None:
    Z = np.random.default_rng(2).normal(size=(3, 7)).astype(dtype)
    sets = Intervals.of_points(Z)
    assert sets.active.all()
    assert np.allclose(sets.residual(Z.astype(np.float32) + 1), 1, atol=1e-6)
