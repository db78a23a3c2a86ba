"""What a Softmax, in whatever spelling, makes the probabilities of."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.graph.analysis.before_softmax import before_softmax
from nettrim_cli.graph.model import Model
from tests.support.small import build, normal


@pytest.mark.parametrize(
    "tail",
    [
        "p = Softmax(z) y = Identity(p)",
        "p = Sigmoid(z) y = Unsqueeze(p, one)",
        "e = Exp(z) t = ReduceSum<keepdims = 1>(e, one) y = Div(e, t)",
        "m = ReduceMax<axes = [1]>(z) d = Sub(z, m) e = Exp(d) t = ReduceSum(e, one) y = Div(e, t)",
    ],
)
def test_the_scores_of_probabilities(tail) -> None:
    text = f"g (float[N,8] x) => (float[N,4] y) {{ z = MatMul(x, w) {tail} }}"
    tensors = {"one": np.array([1])} if "one" in tail else {}
    assert before_softmax(Model(build(text, w=normal(8, 4), **tensors)).index, "y") == "z"


@pytest.mark.parametrize(
    "tail",
    [
        "e = Exp(z) t = ReduceSum<keepdims = 1>(h, one) y = Div(e, t)",  # of something else
        "e = Abs(z) t = ReduceSum<keepdims = 1>(e, one) y = Div(e, t)",
        "e = Exp(z) t = ReduceMax<axes = [1]>(e) y = Div(e, t)",
    ],
)
def test_divisions_that_are_no_softmax(tail) -> None:
    text = f"g (float[N,8] x) => (float[N,4] y) {{ h = Abs(x) z = MatMul(x, w) {tail} }}"
    model = Model(build(text, w=normal(8, 4), one=np.array([1])))
    assert before_softmax(model.index, "y") == "y"
