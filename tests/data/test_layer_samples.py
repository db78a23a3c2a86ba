"""The sums over columns against brute force in float64, and the columns that are kept."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from nettrim_cli.data import layer_samples
from nettrim_cli.data import moments as sums_module
from nettrim_cli.data.layer_columns import LayerInputs, SiteReader
from nettrim_cli.data.layer_samples import collect
from nettrim_cli.data.moments import Moments, Spread
from nettrim_cli.data.stream import LiveBatch
from nettrim_cli.graph import ops
from nettrim_cli.graph.ops import read_geometry
from nettrim_cli.pruning.propagation import dense_matrices
from tests.support.small import build, normal, only, run

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
    return [
        LiveBatch({"x": each}, len(each), held) for each, held in zip(arrays, flags, strict=True)
    ]


def signals(arrays, flags, layer):
    return LayerInputs(places(arrays, flags), [SiteReader(layer.geometry, {"x": ("x", 0)})])


def gather(model, layer, reached, dense, flags, exact, seed=0):
    weights = dense_matrices(model, layer)
    one, two = signals(reached, flags, layer), signals(dense, flags, layer)
    (found,) = collect(one, two, weights, exact=exact, seed=seed)
    return found


def with_ones(x, layer):
    columns = ops.columns({"x": np.asarray(x, np.float64)}, layer.geometry)
    return np.vstack([columns, np.ones(columns.shape[1])])


def results(model, layer, x):
    (y,) = run(model.proto, [layer.output], {"x": x})
    return ops.outputs_as_columns(y.astype(np.float64), layer.geometry)


@pytest.mark.parametrize("small_chunks", [False, True])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_sums_equal_brute_force(case, exact, small_chunks, monkeypatch) -> None:
    if small_chunks:
        monkeypatch.setattr(layer_samples, "PART_MOST", 50)
        monkeypatch.setattr(layer_samples, "LEAST_COLUMNS", 1)
        monkeypatch.setattr(sums_module, "SINGLE_COLUMNS", 9)
    model, layer, dense, flags = prepare(case)
    reached = dense if exact else [each + 0.3 * np.sin(9 * each) for each in dense]
    found = gather(model, layer, reached, dense, flags, exact)
    X = np.hstack([with_ones(x, layer) for x, held in zip(reached, flags, strict=True) if not held])
    Z = np.hstack(
        [results(model, layer, x) for x, held in zip(dense, flags, strict=True) if not held]
    )
    np.testing.assert_allclose(found.C, X @ X.T, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(found.B, X @ Z.T, rtol=1e-5, atol=1e-4)
    assert found.C.dtype == found.B.dtype == np.float64
    assert found.columns == X.shape[1]
    assert found.inputs_exact is exact
    np.testing.assert_allclose(found.X, X, rtol=1e-6)
    np.testing.assert_allclose(found.Z, Z, rtol=1e-4, atol=1e-5)
    if exact:
        assert found.dense_spread is None
    else:
        fitted = [x for x, held in zip(dense, flags, strict=True) if not held]
        spread = np.hstack([with_ones(x, layer) for x in fitted])[:-1].std(axis=1)
        np.testing.assert_allclose(found.dense_spread, spread, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_held_out_samples_are_in_no_sum(case) -> None:
    model, layer, dense, flags = prepare(case)
    found = gather(model, layer, dense, dense, flags, exact=True)
    changed = [*dense[:-1], 100 * dense[-1]]
    other = gather(model, layer, changed, changed, flags, exact=True)
    for name in ("C", "B", "X", "Z"):
        assert np.array_equal(getattr(found, name), getattr(other, name))
    np.testing.assert_allclose(found.holdout_X, with_ones(dense[-1], layer), rtol=1e-6)
    np.testing.assert_allclose(
        found.holdout_Z, results(model, layer, dense[-1]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("sizes", [(40, 40, 40, 40), (1,) * 160, (3,) * 30 + (40,)])
@pytest.mark.parametrize("case", ["gemm", "conv"])
def test_kept_columns_are_bounded_and_true(case, sizes, monkeypatch) -> None:
    monkeypatch.setattr(layer_samples, "KEPT_COLUMNS", 60)
    model, layer, dense, flags = prepare(case, sizes)
    found = gather(model, layer, dense, dense, flags, exact=True)
    X = np.hstack([with_ones(x, layer) for x, held in zip(dense, flags, strict=True) if not held])
    most = max(60, 4 * (layer.shape[0] + 1 + layer.shape[1]))
    assert found.X.shape[1] == most
    assert found.columns == X.shape[1] > most
    known = {column.astype(np.float32).tobytes() for column in X.T}
    assert all(column.tobytes() in known for column in found.X.T)
    expected = dense_matrices(model, layer)[0].astype(np.float64).T @ found.X
    np.testing.assert_allclose(found.Z, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.C, X @ X.T, rtol=1e-5, atol=1e-3)


def test_the_same_seed_keeps_the_same_columns(monkeypatch) -> None:
    monkeypatch.setattr(layer_samples, "KEPT_COLUMNS", 30)
    model, layer, dense, flags = prepare("conv", (30, 30))
    one, two, other = (
        gather(model, layer, dense, dense, flags, exact=True, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.X, two.X)
    assert not np.array_equal(one.X, other.X)


def test_without_held_out_columns_the_matrices_are_empty() -> None:
    model, layer, dense, _ = prepare("gemm")
    found = gather(model, layer, dense, dense, [False] * 3, exact=True)
    assert found.holdout_X.shape == (6, 0)
    assert found.holdout_Z.shape == (3, 0)


def test_layers_of_one_input_share_what_depends_on_it_alone() -> None:
    model, layer, dense, flags = prepare("gemm")
    (weights,) = dense_matrices(model, layer)
    both = signals(dense, flags, layer)
    one, two = collect(both, both, [weights, 2 * weights[:, :2]], exact=True, seed=0)
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
    assert found.holdout_X.shape == (41, 5)
    W = normal(40, 3, seed=1).astype(float)
    np.testing.assert_allclose(found.Z, W.T @ dense[0].T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.target_of(np.vstack([W, 0 * W[:1]])), W.T @ reached[0].T)


def test_with_more_columns_the_sums_are_formed() -> None:
    assert wide_gather(21)[-1].C.shape == (41, 41)


@pytest.mark.parametrize("sizes", [(50, 30, 5), (1,) * 80 + (5,)])
def test_columns_of_the_widest_layers_are_bounded_and_true(sizes, monkeypatch) -> None:
    monkeypatch.setattr(layer_samples, "WIDEST", 30)
    monkeypatch.setattr(layer_samples, "WIDE_COLUMNS", 24)
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
        most = layer_samples.most_columns(inputs)
        assert 1 <= most <= layer_samples.WIDE_COLUMNS
        assert most == 1 or 4 * most * inputs <= layer_samples.WIDE_BYTES
    assert layer_samples.is_wide(layer_samples.WIDEST + 1, 10**6)
    assert not layer_samples.is_wide(layer_samples.WIDEST, 10**6)
    assert layer_samples.useful_columns(1000, 5000) == 5000
    assert layer_samples.useful_columns(65_536, 5 * 65_536) == layer_samples.most_columns(65_536)


def test_wide_inputs_are_collected_in_the_memory_of_their_columns() -> None:
    tracemalloc.start()
    try:
        found = wide_gather(120, inputs=20_000)[-1]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.columns == 120
    assert peak < 8 * found.X.nbytes < 20_000**2 * 4 / 20


def test_the_spread_of_weighed_columns_is_that_of_repeated_ones() -> None:
    random = np.random.default_rng(0)
    x, counts = random.normal(3, 2, size=(4, 60)).astype(np.float32), random.integers(0, 4, 60)
    spread = Spread()
    for part in (slice(25), slice(25, 60)):
        spread.add(x[:, part], np.sqrt(counts[part]).astype(np.float32))
    expected = np.repeat(x, counts, axis=1).std(axis=1)
    np.testing.assert_allclose(spread.of_inputs(), expected, rtol=1e-4)


@pytest.mark.parametrize(("exact", "outputs"), [(True, 3), (False, 3), (False, 9)])
def test_a_column_of_weight_three_counts_as_three_columns(exact, outputs) -> None:
    random, inputs, columns = np.random.default_rng(0), 8, 50
    x, y = random.normal(size=(2, inputs, columns)).astype(np.float32)
    lacking = random.normal(size=(2, columns)).astype(np.float32)
    W = random.normal(size=(inputs + 1, outputs)).astype(np.float32)
    counts, totals = random.integers(0, 4, columns), []
    for times, roots in ((1, np.sqrt(counts).astype(np.float32)), (counts, None)):
        sums = Moments(inputs, [W], exact=exact, missing=[2])
        sums.origin = x.mean(axis=1, keepdims=True)
        dense = W[:-1].T @ y + W[-1][:, None] if sums.of_results else y
        arrays = (np.repeat(array, times, axis=1) for array in (x, dense, lacking))
        sums.add(*arrays, roots=roots)
        C, (B,) = sums.about_zero()
        totals.append((C, B, *sums.missing()))
    for weighed, repeated in zip(*totals, strict=True):
        np.testing.assert_allclose(weighed, repeated, atol=2e-3)


@pytest.mark.parametrize("outputs", [2, 300])
def test_sums_far_from_zero_keep_their_precision(outputs) -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 50)) + 100).astype(np.float32)
    y = (x + rng.standard_normal((300, 50))).astype(np.float32)
    W = rng.standard_normal((301, outputs)).astype(np.float32)
    sums = Moments(300, [W], exact=False)
    assert sums.of_results == (outputs == 2)
    z = W.T @ np.vstack([y, np.ones((1, 50), np.float32)])
    for part in (slice(0, 20), slice(20, 50)):
        sums.add(x[:, part], (z if sums.of_results else y)[:, part])
    C, (B,) = sums.about_zero()
    wide, other = (np.vstack([each, np.ones((1, 50))]).astype(float) for each in (x, y))
    np.testing.assert_allclose(C, wide @ wide.T, rtol=1e-6)
    np.testing.assert_allclose(B, wide @ (other.T @ W.astype(float)), rtol=1e-4, atol=0.5)
    centred = wide[:-1] - wide[:-1].mean(axis=1, keepdims=True)
    inner = C[:-1, :-1] - np.outer(C[-1, :-1], C[-1, :-1]) / 50
    np.testing.assert_allclose(inner, centred @ centred.T, atol=2e-3)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_far_more_columns_than_needed_are_drawn_whatever_the_batches(
    case, exact, monkeypatch
) -> None:
    monkeypatch.setattr(layer_samples, "SUMMED_COLUMNS", 90)
    monkeypatch.setattr(layer_samples, "SUMMED_TIMES", 2)
    monkeypatch.setattr(layer_samples, "KEPT_COLUMNS", 1)
    model, layer, (dense, judged), _ = prepare(case, (120, 60))
    reached = dense if exact else dense + 0.3 * np.sin(9 * dense)
    found = []
    for count in (1, 3, 60):  # batches on either side
        parts = [np.array_split(x, count) + np.array_split(judged, count) for x in (reached, dense)]
        flags = [False] * count + [True] * count
        found.append(gather(model, layer, *parts, flags, exact))
    known = {each.astype("f").tobytes() for each in with_ones(reached, layer).T}
    # A result is a float32 sum of a product an input, whose order follows the batches: two such
    # sums are apart by at most so many roundings of the sum of absolute products.
    (weights,), inputs = (
        dense_matrices(model, layer),
        with_ones(np.concatenate([dense, judged]), layer),
    )
    products = (np.abs(weights).T @ np.abs(inputs)).max()
    rounding = 2 * len(weights) * 2.0**-24 * products
    for each in found:
        assert each.columns == 90 < len(dense) * each.X.shape[0]
        assert np.array_equal(each.X, found[0].X)
        assert np.array_equal(each.holdout_X, found[0].holdout_X)
        np.testing.assert_allclose(each.Z, found[0].Z, rtol=0, atol=rounding)
        np.testing.assert_allclose(each.holdout_Z, found[0].holdout_Z, rtol=0, atol=rounding)
        np.testing.assert_allclose(each.C, found[0].C, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(each.B, found[0].B, rtol=1e-5, atol=1e-4)
        assert {column.tobytes() for column in each.X.T} <= known


def test_sums_of_drawn_columns_estimate_those_of_all(monkeypatch) -> None:
    model, layer, dense, flags = prepare("conv", (40, 40, 1))
    whole = gather(model, layer, dense, dense, flags, exact=True)
    monkeypatch.setattr(layer_samples, "SUMMED_COLUMNS", 100)
    monkeypatch.setattr(layer_samples, "SUMMED_TIMES", 1)
    some = [
        gather(model, layer, dense, dense, flags, exact=True, seed=seed).C / 100
        for seed in range(200)
    ]
    expected = whole.C / whole.columns
    error = np.std(some, axis=0) / np.sqrt(len(some))
    assert (np.abs(np.mean(some, axis=0) - expected) <= 5 * error + 1e-6).all()


def test_what_is_not_drawn_takes_no_memory(monkeypatch) -> None:
    monkeypatch.setattr(layer_samples, "SUMMED_COLUMNS", 500)
    monkeypatch.setattr(layer_samples, "KEPT_COLUMNS", 500)
    text = "g (float[N,2,H,W] x) => (float[N,3,A,B] y) { y = Conv<pads = [3,3,3,3]>(x, w) }"
    model, layer = only(build(text, w=normal(3, 2, 7, 7)))
    x = [np.ones((1, 2, 400, 400), np.float32), np.ones((1, 2, 400, 400), np.float32)]
    tracemalloc.start()
    try:
        found = gather(model, layer, x, x, [False, True], exact=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.columns == 32 * 98
    assert peak < 4 * x[0].nbytes < 98 * 400 * 400  # of some 60 MB for all columns


def test_iterations_are_stacked_and_missing_branches_give_nothing() -> None:
    model, layer, dense, _ = prepare("gemm", (6, 4))
    turns = np.stack([dense[0][:4], dense[1]])  # two iterations of four samples
    values = [turns, np.zeros(0, np.float32), turns[:1]]
    held = [False, False, True]
    reading = [SiteReader(layer.geometry, {"x": ("x", 1)})]
    both = LayerInputs(places(values, held), reading)
    (found,) = collect(both, both, dense_matrices(model, layer), exact=True, seed=0)
    assert found.columns == 8
    np.testing.assert_array_equal(found.X[:-1], np.vstack(turns).T)
    np.testing.assert_array_equal(found.holdout_X[:-1], turns[0].T)


def test_batches_on_which_the_networks_went_different_ways_are_left_out() -> None:
    model, layer, dense, flags = prepare("gemm", (6, 5, 4))
    other = [dense[0] + 1, dense[1][:2], dense[2]]
    found = gather(model, layer, other, dense, flags, exact=False)
    assert found.columns == 6
    np.testing.assert_array_equal(found.X[:-1], other[0].T)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("slot", [1, 2])
@pytest.mark.parametrize(
    "empty", ["branch", "steps", "sequence", "iterations"], ids=lambda name: f"no-{name}"
)
def test_a_recurrence_that_did_not_run_gives_no_columns(empty, slot, depth) -> None:
    """Its lengths are there, or not: they never count where no states and no inputs are."""
    geometry = read_geometry("LSTM", slot, {}, (1, 8, 3 if slot == 1 else 2))
    whole = {"x": normal(4, 3, 3), "y": normal(4, 1, 3, 2), "initial": normal(1, 3, 2)}
    whole["lengths"] = np.array([4, 1, 2], np.int32)
    roles = ops.reads(geometry)
    left = {
        "branch": dict.fromkeys(whole, np.zeros(0, np.float32)),
        "steps": {**whole, "x": whole["x"][:0], "y": whole["y"][:0]},
        "sequence": {**whole, "x": [], "y": []},
        "iterations": {**whole, "x": None, "y": None},
    }[empty]
    ran = {role: value[None] if depth else value for role, value in whole.items()}
    if depth and empty == "steps":
        left = {role: value[None] for role, value in left.items()}
    reader = SiteReader(geometry, {role: (role, depth) for role in roles})
    network = LayerInputs([LiveBatch(left, 3, False), LiveBatch(ran, 3, False)], [reader])
    assert network.counts(0, 0) == [[]]
    assert list(network.parts(0, 0, None, 1 << 20)) == []
    assert network.counts(1, 0) == [[4 + 1 + 2]]
    (columns,) = network.parts(1, 0, None, 1 << 20)
    np.testing.assert_array_equal(columns, ops.columns(whole, geometry))
