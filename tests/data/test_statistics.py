"""The sums over columns against brute force in float64, and the columns that are kept."""

from __future__ import annotations

import tracemalloc

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


def wide_gather(columns, seed=0, inputs=40, exact=True, sizes=None):
    """A MatMul with more inputs than twice its columns, or with too many for any matrix."""
    text = f"g (float[N,{inputs}] x) => (float[N,3] y) {{ y = MatMul(x, w) }}"
    model, layer = only(build(text, w=normal(inputs, 3, seed=1)))
    rng = np.random.default_rng(7)
    dense = [rng.standard_normal((n, inputs)).astype(np.float32) for n in sizes or (columns, 5)]
    flags = [at == len(dense) - 1 for at in range(len(dense))]
    reached = dense if exact else [each + 0.3 * np.sin(9 * each) for each in dense]
    return layer, reached, dense, gather(model, layer, reached, dense, flags, exact, seed)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("columns", [1, 13, 20])
def test_with_few_columns_all_of_them_stand_for_the_sums(columns, exact) -> None:
    layer, reached, dense, found = wide_gather(columns, exact=exact)
    assert found.C is found.B is None
    assert found.columns == columns
    assert np.array_equal(found.X, with_ones(reached[0], layer).astype(np.float32))
    assert found.held_X.shape == (41, 5)
    W = normal(40, 3, seed=1).astype(float)
    np.testing.assert_allclose(found.Z, W.T @ dense[0].T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.target_of(np.vstack([W, 0 * W[:1]])), W.T @ reached[0].T)


def test_with_more_columns_the_sums_are_formed() -> None:
    assert wide_gather(21)[-1].C.shape == (41, 41)


@pytest.mark.parametrize("sizes", [(50, 30, 5), (1,) * 80 + (5,)])
def test_columns_of_the_widest_layers_are_bounded_and_true(sizes, monkeypatch) -> None:
    monkeypatch.setattr(statistics, "WIDEST", 30)
    monkeypatch.setattr(statistics, "WIDE_COLUMNS", 24)
    layer, reached, _, found = wide_gather(None, sizes=sizes)
    assert found.C is None
    assert found.columns == 24
    known = {each.tobytes() for x in reached[:-1] for each in with_ones(x, layer).astype("f").T}
    kept = {each.tobytes() for each in found.X.T}
    assert len(kept) == 24
    assert kept <= known
    np.testing.assert_allclose(
        found.Z, normal(40, 3, seed=1).astype(float).T @ found.X[:-1], rtol=1e-4, atol=1e-4
    )
    assert np.array_equal(found.X, wide_gather(None, sizes=sizes)[-1].X)


def test_the_memory_of_columns_bounds_their_number() -> None:
    for inputs in (1, 500, 20_000, 65_536, 10**9):
        most = statistics.most_columns(inputs)
        assert 1 <= most <= statistics.WIDE_COLUMNS
        assert most == 1 or 4 * most * inputs <= statistics.WIDE_BYTES
    assert statistics.is_wide(statistics.WIDEST + 1, 10**6)
    assert not statistics.is_wide(statistics.WIDEST, 10**6)
    assert statistics.useful_columns(1000, 5000) == 5000
    assert statistics.useful_columns(65_536, 5 * 65_536) == statistics.most_columns(65_536)


def test_wide_inputs_are_collected_in_the_memory_of_their_columns() -> None:
    tracemalloc.start()
    try:
        found = wide_gather(120, inputs=20_000)[-1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.columns == 120
    assert peak < 8 * found.X.nbytes < 20_000**2 * 4 / 20


def test_sums_are_moved_back_in_place() -> None:
    rng = np.random.default_rng(0)
    x = np.vstack([rng.standard_normal((300, 50)) + 100, np.ones((1, 50))]).astype(np.float32)
    z = rng.standard_normal((4, 50)).astype(np.float32)
    sums = statistics._Sums(301, [4])
    for part in (slice(0, 20), slice(20, 50)):
        sums.add(x[:, part], [z[:, part]])
    gram = sums.gram
    C, (B,) = sums.about_zero()
    assert C is gram
    assert np.array_equal(C, sums.about_zero()[0])
    wide = x.astype(float)
    np.testing.assert_allclose(C, wide @ wide.T, rtol=1e-6)
    np.testing.assert_allclose(B, wide @ z.T.astype(float), rtol=1e-5, atol=1e-3)
