"""Tasks: response, relative error, and what makes samples useless."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from nettrim_cli.reasons import NO_REASON
from nettrim_cli.solve.matrices import evenly_spaced, norm, relative_error
from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import Solution, Status
from nettrim_cli.solve.samples import SkipConnection
from tests.support.small_layers import random_task


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ceiling", [math.inf, 0.7])
@pytest.mark.parametrize("relu", [True, False])
def test_error_by_its_definition(relu, ceiling, bias) -> None:
    scale, shift = np.array([1, -2, 0.5, 0, 1.0]), np.array([0, 0.1, 0.2, 0.3, -0.4])
    task = random_task(0, bias=bias, relu=relu, ceiling=ceiling, scale=scale, shift=shift)
    U = task.W * 0.7

    def respond(Z):
        Y = scale[:, None] * Z + shift[:, None]
        return np.clip(Y, 0, ceiling) if relu else Y

    for held in (True, False):
        samples = task.samples
        X = (samples.holdout_X if held else samples.X)[task.rows].astype(float)
        Y = respond((samples.holdout_Z if held else samples.Z).astype(float))
        expected = np.linalg.norm(respond(U.T @ X) - Y) / np.linalg.norm(Y)
        assert task.error(U, holdout=held) == pytest.approx(expected, rel=1e-4)
        assert task.error(task.W, holdout=held) < 1e-6
    assert task.weight_count == 60
    assert task.samples.columns == 60


def test_an_estimate_is_the_error_of_every_so_many_columns() -> None:
    task = random_task(0, relu=True)
    samples = task.samples
    few = replace(samples, X=samples.X[:, ::3], Z=samples.Z[:, ::3])
    expected = replace(task, samples=few).error(0.7 * task.W, holdout=False)
    assert task.error(0.7 * task.W, holdout=False, max_columns=20) == pytest.approx(
        expected, rel=1e-5
    )
    assert task.error(0.7 * task.W, holdout=False, max_columns=10**6) == task.error(
        0.7 * task.W, holdout=False
    )


@pytest.mark.parametrize(("columns", "most"), [(1, 5), (5, 5), (9, 5), (10, 5), (1000, 7)])
def test_an_even_choice_is_large_enough(columns, most) -> None:
    found = len(range(columns)[evenly_spaced(columns, most)])
    assert min(columns, most) <= found < 2 * most


def test_no_held_out_samples_have_no_error() -> None:
    task = random_task(0)
    samples = task.samples
    task = random_task(0)
    object.__setattr__(samples, "holdout_X", samples.holdout_X[:, :0])
    object.__setattr__(task, "samples", samples)
    assert math.isnan(task.error(task.W, holdout=True))


@pytest.mark.parametrize("name", ["C", "B", "X", "Z", "holdout_X", "holdout_Z"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_finite_is_trouble(name, bad, method) -> None:
    task = random_task(1, relu=True, keep=20)
    assert task.samples.unusable_reason == NO_REASON
    getattr(task.samples, name)[0, 0] = bad
    assert "not finite" in task.samples.unusable_reason.text
    found = METHODS[method](task, None)
    assert found.status is Status.DENSE
    assert np.array_equal(found.U, task.W)
    assert found.note == task.samples.unusable_reason.text


def test_tasks_and_solutions_travel() -> None:
    task = random_task(1, keep=20)
    again = pickle.loads(pickle.dumps(task))
    one, two = METHODS["l0"](task, None), METHODS["l0"](again, None)
    assert np.array_equal(one.U, two.U)
    back = pickle.loads(pickle.dumps(one))
    assert isinstance(back, Solution)
    assert back.status is Status.SOLVED


A = np.asfortranarray(np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32))
LAYOUTS = {
    "whole": A,
    "in C's order": A.T,
    "first rows": A[:5],
    "middle rows": A[2:5],
    "one row": A[3:4],
    "one column": A[:5, 2:3],
    "no columns": A[:5, :0],
    "no rows": A[:0],
    "every other column": A[:5, ::2],
    "every other row": A[::2],
    "columns backwards": A[:5, ::-1],
    "rows backwards": A[::-1],
    "one column broadcast": np.broadcast_to(A[:, :1], (8, 6)),
    "one row broadcast": np.broadcast_to(A[:1], (8, 6)),
    "windows": np.lib.stride_tricks.sliding_window_view(A[:, 0], 3).T,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_matrices_travel_whatever_their_layout(layout) -> None:
    """Those of the samples as they lie, too: whole ones, and rows of one in Fortran's order."""
    matrix = LAYOUTS[layout]
    skip = SkipConnection(matrix, matrix, matrix, matrix.copy(), matrix.T)
    again = pickle.loads(pickle.dumps(skip))
    assert again.exact
    assert again.pruned is again.holdout_pruned
    assert again.holdout_dense is not again.pruned
    for field in fields(SkipConnection):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(skip, field.name))
        assert getattr(again, field.name).dtype == np.float32
    if layout in ("whole", "in C's order", "first rows", "middle rows", "every other column"):
        assert again.pruned.strides == matrix.strides


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norm_is_safe(scale, dtype) -> None:
    A = (scale * np.random.default_rng(0).normal(size=(5, 7))).astype(dtype)
    assert norm(A) == pytest.approx(np.linalg.norm(A.astype(float)), rel=1e-5)
    assert norm(A.T) == pytest.approx(norm(A))
    assert norm(A[:0]) == 0


def test_relative() -> None:
    one, zero = np.ones((2, 2)), np.zeros((2, 2))
    assert relative_error(one, 2 * one) == 0.5
    assert relative_error(zero, zero) == 0
    assert relative_error(one, zero) == math.inf
    assert math.isnan(relative_error(one * np.nan, one))
    assert math.isnan(relative_error(one, one * np.inf))
