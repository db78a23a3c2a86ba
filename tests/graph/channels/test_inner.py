"""Entries that products of two signals sum over: mixed, deleted, and the scores are the same."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.channels.inner import delete_inner, inner_groups
from nettrim_cli.graph.model import Model
from tests.support.heads import BEFORE, HEADS, QUERIES, REST, SIZE, heads
from tests.support.small import normal, run


def outputs(model: Model) -> np.ndarray:
    return run(model.proto, ["y"], {"x": normal(2, 5, 6, seed=9)})[0]


def mixed(model: Model, rank: int) -> tuple[Model, Model]:
    """The network with each head's scores of a rank, plainly, and with entries that may go."""
    group = inner_groups(model)[0]
    assert [columns.shape for columns in group.places] == [(HEADS, SIZE)] * 2
    low, ready = model.clone(), model.clone()
    layers = {layer.name: layer for layer in model.layers}
    q, k = (layers[name] for name in group.layers)
    ((Q,), bias), ((K,), other) = model.weight(q), model.weight(k)
    rng = np.random.default_rng(0)
    short, turned, partner = (array.copy() for array in (Q, Q, K))
    offset, moved = bias[0].copy(), bias[0].copy()
    for own, met in zip(*group.places, strict=True):
        first, second = rng.normal(size=(2, SIZE, rank))
        short[:, own], offset[own] = Q[:, own] @ first @ second.T, bias[0][own] @ first @ second.T
        zeros = np.zeros((SIZE, SIZE - rank))
        turned[:, own] = Q[:, own] @ np.hstack([first, zeros])
        moved[own] = bias[0][own] @ np.hstack([first, zeros])
        partner[:, met] = K[:, met] @ np.hstack([second, zeros])
    low.set_weight(q, [short], [offset])
    ready.set_weight(q, [turned], [moved])
    ready.set_weight(k, [partner], other)
    return low, ready


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
def test_fewer_entries_have_the_same_scores(rank, scaled) -> None:
    queries = BEFORE + "\n q = Mul(q3, root)" if scaled else QUERIES
    model = Model(heads(queries))
    low, ready = mixed(model, rank)
    group = inner_groups(ready)[0]
    small = delete_inner(ready, {group.name: rank})
    onnx.checker.check_model(small.proto, full_check=True)
    np.testing.assert_allclose(outputs(small), outputs(low), rtol=1e-4, atol=1e-4)
    shapes = {layer.name: layer.weight_shape for layer in small.layers}
    assert [shapes[name] for name in group.layers] == [(6, HEADS * rank)] * 2
    assert sorted(shape for shape in shapes.values()) == sorted(
        [(6, HEADS * rank)] * 2 + [(6, HEADS * SIZE), (HEADS * SIZE, 6)]
    )


def test_heads_may_go_from_what_is_left() -> None:
    _, ready = mixed(Model(heads()), 2)
    group = inner_groups(ready)[0]
    small = delete_inner(ready, {group.name: 2})
    (units,) = unit_groups(small)
    assert units.units == HEADS
    less = delete_units(small, {units.name: np.array([0, 2])})
    assert {layer.weight_shape for layer in less.layers} == {(6, 4), (6, 8), (8, 6)}
    assert (outputs(less).shape, len(inner_groups(less))) == ((2, 5, 6), 2)


@pytest.mark.parametrize("rank", [1, 3])
def test_fewer_entries_of_values_are_read_alike(rank) -> None:
    model = Model(heads())
    _, group = inner_groups(model)
    assert (group.layers, group.reads) == (("v0", "y"), True)
    low, ready = model.clone(), model.clone()
    v, y = (next(layer for layer in model.layers if layer.name == name) for name in group.layers)
    ((V,), _), ((Y,), _) = model.weight(v), model.weight(y)
    short, turned, reader = V.copy(), V.copy(), Y.copy()
    rng = np.random.default_rng(0)
    for own, met in zip(*group.places, strict=True):
        first, second = rng.normal(size=(2, SIZE, rank))
        zeros = np.zeros((SIZE, SIZE - rank))
        short[:, own] = V[:, own] @ first @ second.T
        turned[:, own] = V[:, own] @ np.hstack([first, zeros])
        reader[met] = np.hstack([second, zeros]).T @ Y[met]
    low.set_weight(v, [short], None)
    ready.set_weight(v, [turned], None)
    ready.set_weight(y, [reader], None)
    small = delete_inner(ready, {group.name: rank})
    onnx.checker.check_model(small.proto, full_check=True)
    np.testing.assert_allclose(outputs(small), outputs(low), rtol=1e-4, atol=1e-4)
    shapes = {layer.name: layer.weight_shape for layer in small.layers}
    assert (shapes["v0"], shapes["y"]) == ((6, HEADS * rank), (HEADS * rank, 6))


OTHERS = {
    "a factor for each entry": {
        "queries": BEFORE + "\n q = Mul(q3, each)",
        "each": normal(SIZE, seed=7),
    },
    "a number that is added": {"queries": BEFORE + "\n q = Add(q3, root)"},
    "a function": {"queries": BEFORE + "\n q = Tanh(q3)"},
    "another reader": {
        "rest": REST + "\n z = ReduceMean<axes = [3]>(q)",
        "outputs": "float[N,5,6] y, float z",
    },
    "a product with itself": {"keys": "k = Transpose<perm = [0,1,3,2]>(q)"},
}


@pytest.mark.parametrize("case", OTHERS)
def test_entries_that_may_not_be_mixed_stay(case) -> None:
    assert not [group for group in inner_groups(Model(heads(**OTHERS[case]))) if not group.reads]
