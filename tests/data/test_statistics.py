"""The sums over columns against brute force in float64, and the columns that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from small import build, normal, only, run

from nettrim_cli.data import statistics
from nettrim_cli.data.recorder import Place
from nettrim_cli.data.statistics import collect
from nettrim_cli.graph import ops
from nettrim_cli.walk import dense_matrix

CASES = {
    "matmul-2": ("g (float[N,5] x) => (float[N,3] y) { y = MatMul(x, w) }", (5,), (5, 3), None),
    "matmul-3": ("g (float[N,4,5] x) => (float[N,4,3] y) { y = MatMul(x, w) }", (4, 5), (5, 3), 0),
    "gemm": (
        "g (float[N,5] x) => (float[N,3] y) {"
        " y = Gemm<transB = 1, alpha = 0.5, beta = 2.0>(x, w, b) }",
        (5,),
        (3, 5),
        3,
    ),
    "conv": (
        "g (float[N,2,6,5] x) => (float[N,3,A,B] y) {"
        " y = Conv<strides = [2,1], pads = [1,0,0,1]>(x, w, b) }",
        (2, 6, 5),
        (3, 2, 3, 2),
        3,
    ),
}


def prepare(case, sizes=(7, 5, 6), seed=0):
    text, inner, shape, bias = CASES[case]
    tensors = {"w": normal(*shape, seed=1)}
    if bias:
        tensors["b"] = normal(bias, seed=2)
    proto = build(text, **tensors)
    model, layer = only(proto)
    rng = np.random.default_rng(seed)
    dense = [rng.standard_normal((n, *inner)).astype(np.float32) for n in sizes]
    flags = [at == len(sizes) - 1 for at in range(len(sizes))]
    return model, layer, dense, flags


def places(arrays, flags):
    return [Place({"x": each}, len(each), held) for each, held in zip(arrays, flags)]


def gather(model, layer, reached, dense, flags, exact, seed=0):
    weights = [dense_matrix(model, layer)]
    (found,) = collect(
        places(reached, flags),
        places(dense, flags),
        "x",
        layer.geometry,
        weights,
        exact=exact,
        seed=seed,
    )
    return found


def with_ones(x, layer):
    columns = ops.columns(np.asarray(x, np.float64), layer.geometry)
    return np.vstack([columns, np.ones(columns.shape[1])])


def results(model, layer, x):
    (y,) = run(model.proto, [layer.output], {"x": x})
    return ops.outputs_as_columns(y.astype(np.float64), layer.geometry)


@pytest.mark.parametrize("small_chunks", [False, True])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_sums_equal_brute_force(case, exact, small_chunks, monkeypatch) -> None:
    if small_chunks:
        monkeypatch.setattr(statistics, "UNFOLD_BYTES", 500)
    model, layer, dense, flags = prepare(case)
    reached = dense if exact else [each + 0.3 * np.sin(9 * each) for each in dense]
    found = gather(model, layer, reached, dense, flags, exact)
    X = np.hstack([with_ones(x, layer) for x, held in zip(reached, flags) if not held])
    Z = np.hstack([results(model, layer, x) for x, held in zip(dense, flags) if not held])
    np.testing.assert_allclose(found.C, X @ X.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.B, X @ Z.T, rtol=1e-5, atol=1e-4)
    assert found.C.dtype == found.B.dtype == np.float64
    assert found.columns == X.shape[1]
    assert found.exact is exact
    np.testing.assert_allclose(found.X, X, rtol=1e-6)
    np.testing.assert_allclose(found.Z, Z, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_held_out_samples_are_in_no_sum(case) -> None:
    model, layer, dense, flags = prepare(case)
    found = gather(model, layer, dense, dense, flags, exact=True)
    changed = [*dense[:-1], 100 * dense[-1]]
    other = gather(model, layer, changed, changed, flags, exact=True)
    for name in ("C", "B", "X", "Z"):
        assert np.array_equal(getattr(found, name), getattr(other, name))
    np.testing.assert_allclose(found.held_X, with_ones(dense[-1], layer), rtol=1e-6)
    np.testing.assert_allclose(found.held_Z, results(model, layer, dense[-1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(40, 40, 40, 40), (1,) * 160, (3,) * 30 + (40,)])
@pytest.mark.parametrize("case", ["gemm", "conv"])
def test_kept_columns_are_bounded_and_true(case, sizes, monkeypatch) -> None:
    monkeypatch.setattr(statistics, "KEPT_COLUMNS", 60)
    model, layer, dense, flags = prepare(case, sizes)
    found = gather(model, layer, dense, dense, flags, exact=True)
    X = np.hstack([with_ones(x, layer) for x, held in zip(dense, flags) if not held])
    most = max(60, 4 * (layer.shape[0] + 1 + layer.shape[1]))
    assert most * 0.8 <= found.X.shape[1] <= most
    assert found.columns == X.shape[1] > most
    known = {column.astype(np.float32).tobytes() for column in X.T}
    assert all(column.tobytes() in known for column in found.X.T)
    expected = dense_matrix(model, layer).astype(np.float64).T @ found.X
    np.testing.assert_allclose(found.Z, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.C, X @ X.T, rtol=1e-5, atol=1e-3)


def test_the_same_seed_keeps_the_same_columns(monkeypatch) -> None:
    monkeypatch.setattr(statistics, "KEPT_COLUMNS", 30)
    model, layer, dense, flags = prepare("conv", (30, 30))
    one, two, other = (
        gather(model, layer, dense, dense, flags, exact=True, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.X, two.X)
    assert not np.array_equal(one.X, other.X)


def test_without_held_out_columns_the_matrices_are_empty() -> None:
    model, layer, dense, _ = prepare("gemm")
    found = gather(model, layer, dense, dense, [False] * 3, exact=True)
    assert found.held_X.shape == (6, 0)
    assert found.held_Z.shape == (3, 0)


def test_layers_of_one_input_share_what_depends_on_it_alone() -> None:
    model, layer, dense, flags = prepare("gemm")
    weights = [dense_matrix(model, layer), 2 * dense_matrix(model, layer)[:, :2]]
    one, two = collect(
        places(dense, flags),
        places(dense, flags),
        "x",
        layer.geometry,
        weights,
        exact=True,
        seed=0,
    )
    assert one.C is two.C
    assert one.X is two.X
    assert one.shared is two.shared
    np.testing.assert_allclose(two.B, 2 * one.B[:, :2])
    assert two.Z.shape[0] == 2


def test_an_axis_of_size_zero_gives_no_columns() -> None:
    proto = build("g (float[N,S,5] x) => (float[N,S,3] y) { y = MatMul(x, w) }", w=normal(5, 3))
    model, layer = only(proto)
    found = gather(model, layer, *[[np.zeros((4, 0, 5), np.float32)] * 2] * 2, [False, True], True)
    assert found.columns == 0
    assert found.X.shape == (6, 0)
