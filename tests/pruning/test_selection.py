"""Ceilings of layers hold whatever inputs have gone silent."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.pruning.blocks import within_ceiling
from nettrim_cli.solve.problem import LayerProblem, Solution, Status
from nettrim_cli.solve.samples import LayerSamples


def made(seed: int, *, bias: bool) -> LayerProblem:
    """A task of eight inputs, three of which are constant, two of them at 0."""
    random = np.random.default_rng(seed)
    X = np.vstack([random.normal(1, 2, (8, 40)), np.ones(40)]).astype(np.float32)
    X[2:4], X[5] = 0, 3 * bias  # without a bias a constant carries a signal
    W = random.normal(size=(9 if bias else 8, 4)).astype(np.float32)
    whole = W if bias else np.vstack([W, np.zeros((1, 4), np.float32)])
    Z = whole.T @ X
    return LayerProblem(W, bias, LayerSamples(None, None, X, Z, X, Z, inputs_exact=True))


def emptied(task: LayerProblem) -> Solution:
    """Dense weights but for those of the constant inputs and of one that is not."""
    U = task.W.astype(np.float64)
    U[[2, 3, 5, 6]] = 0
    return Solution(U, Status.SOLVED)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_of_silent_inputs_come_back_and_change_no_response(bias) -> None:
    tasks = [made(seed, bias=bias) for seed in (1, 2)]
    solutions = [emptied(each) for each in tasks]
    most = 2 * 16 - 15  # of 2 x 12 weights of silent inputs, 15 come back
    found = within_ceiling(tasks, solutions, most)
    zeros = sum(np.count_nonzero(each.U[:8] == 0) for each in found)
    assert zeros == most
    for task, before, after in zip(tasks, solutions, found, strict=True):
        rows = slice(None) if bias else slice(None, -1)
        X = task.samples.X[rows]
        assert np.allclose(before.U.T @ X, after.U.T @ X, atol=1e-5)
        back = (after.U != before.U)[:8]
        assert not back[[0, 1, 4, 6, 7]].any()
        assert np.array_equal(after.U[:8][back], task.W[:8][back])
        assert before.U[2].any() == 0  # what was given is left as it is


def test_nothing_happens_below_the_ceiling() -> None:
    task = made(3, bias=True)
    (found,) = within_ceiling([task], [emptied(task)], 16)
    assert np.array_equal(found.U, emptied(task).U)
    (found,) = within_ceiling([task], [emptied(task)], 32)
    assert np.array_equal(found.U, emptied(task).U)
