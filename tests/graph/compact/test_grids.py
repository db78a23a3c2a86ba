"""Scales of weights that are integers times scales."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.graph.compact.grids import weight_grids
from tests.support.small import build

OPS = ("Gemm", "MatMul", "Conv")


def on_grid(shape: tuple[int, ...], axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers up to 63 times scales of few bits, and these."""
    random = np.random.default_rng(1)
    integers = random.integers(-63, 64, shape)
    sizes = np.where(np.arange(len(shape)) == axis, shape, 1)
    scale = random.integers(1025, 2048, sizes) * 2.0**-20
    return (integers * scale).astype(np.float32), scale.reshape(-1)


@pytest.mark.parametrize(
    ("node", "shape", "axis"),
    [
        ("Gemm(x, w)", (40, 30), 1),
        ("Gemm<transB = 1>(x, w)", (30, 40), 0),
        ("MatMul(x, w)", (40, 30), 1),
        ("Conv(x, w)", (30, 8, 3, 3), 0),
    ],
)
def test_each_output_has_its_scale(node, shape, axis) -> None:
    weight, scale = on_grid(shape, axis)
    model = build(f"g (float[N,C] x) => (float[N,M] y) {{ y = {node} }}", w=weight)
    ((name, (found_axis, scales)),) = weight_grids(model, OPS).items()
    assert (name, found_axis) == ("w", axis)
    quotients = weight / np.expand_dims(scales, [i for i in range(len(shape)) if i != axis])
    np.testing.assert_array_equal(quotients, np.rint(quotients))
    assert np.abs(quotients).max() <= 127
    ratios = scale / scales
    np.testing.assert_array_equal(ratios, np.rint(ratios))


def test_other_weights_have_none() -> None:
    weight = np.random.default_rng(2).normal(size=(40, 30)).astype(np.float32)
    model = build("g (float[N,40] x) => (float[N,30] y) { y = MatMul(x, w) }", w=weight)
    assert not weight_grids(model, OPS)
    on_one, _ = on_grid((40, 30), 1)
    model = build("g (float[N,40] x) => (float[N,30] y) { y = Mul(x, w) }", w=on_one)
    assert not weight_grids(model, OPS)
