"""Degenerate layers: right, or dense with the reason; no number that is none, no false "solved"."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nettrim_cli.solve.methods import METHODS
from nettrim_cli.solve.problem import Status
from tests.support.effort import thinned
from tests.support.odd_layers import judge, odd_layer
from tests.support.small_layers import make_task

BLOCK = 20
BLOCKS = thinned(range(100), 100)


@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=pytest.mark.slow if m == "reweighted" else ()) for m in METHODS],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_random_degenerate_layers(block, method) -> None:
    wrong, judged = {}, 0
    for seed in range(BLOCK * block, BLOCK * block + BLOCK):
        task = odd_layer(seed)
        judgement = judge(task, METHODS[method](task, None), method)
        judged += judgement.conclusive
        if judgement.wrong:
            wrong[seed] = judgement.wrong
    assert not wrong
    assert judged >= 0.7 * BLOCK


LAYERS = {
    "one weight": (np.ones((1, 5)) * np.arange(1, 6), [[2.0]]),
    "no signal": (np.zeros((3, 4)), np.ones((3, 2))),
    "no response": (np.ones((3, 4)), np.zeros((3, 2))),
    "never active": (np.arange(12.0).reshape(3, 4), -np.ones((3, 2))),
    "one sample": (np.array([[1.0], [2.0], [3.0]]), [[1.0, -1], [1, 1], [0.5, 2]]),
    "equal inputs": (np.ones((4, 1)) * np.arange(6), [[1.0], [2], [3], [4]]),
    "constant inputs": (np.full((3, 6), 2.0), np.arange(6.0).reshape(3, 2)),
    "largest numbers": (1e8 * np.eye(3), 1e8 * np.eye(3)),
    "smallest numbers": (1e-8 * np.eye(3), 1e-8 * np.eye(3)),
}
TARGETS = [{"keep": keep} for keep in (0, 1)]
TARGETS += [{"epsilon": epsilon} for epsilon in (0.0, 0.1, 1e9)]


@pytest.mark.parametrize(
    ("name", "relu", "bias", "target"),
    thinned(itertools.product(LAYERS, [False, True], [None, 1e8], TARGETS), 3),
)
def test_plain_degenerate_layers(name, relu, bias, target) -> None:
    x, W = (np.asarray(each, float) for each in LAYERS[name])
    bias = None if bias is None else np.full(W.shape[1], bias)
    for method in ("l0", "net-trim"):
        task = make_task(x, W, bias=bias, relu=relu, **target)
        assert judge(task, METHODS[method](task, None), method).wrong == []


@pytest.mark.parametrize("relu", [False, True])
def test_free_errors_are_not_bought_with_weights(relu) -> None:
    # a response of zero, and an epsilon of all: no weight is needed, whatever the method
    random = np.random.default_rng(0)
    x, W = np.abs(random.normal(size=(4, 20))), random.normal(size=(4, 3))
    for task in (
        make_task(x, 0 * W, relu=relu, epsilon=0.1),
        make_task(0 * x, W, relu=relu, epsilon=0.1),
        make_task(x, W, relu=relu, epsilon=1.5),
    ):
        found = METHODS["net-trim"](task, None)
        assert found.status is Status.SOLVED
        assert not found.U.any()
