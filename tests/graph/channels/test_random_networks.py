"""Random networks without some of their units give what they gave with zeros in their place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph.channels.dead import dead_units, without_dead_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.channels.inner import delete_inner, inner_groups
from nettrim_cli.graph.model import Model
from tests.support.effort import examples
from tests.support.random_networks import random_network
from tests.support.small import run
from tests.support.smaller import assert_deletes


@examples(16)
@given(st.integers(0, 2**32 - 1))
def test_units_of_random_networks_go(seed) -> None:
    proto, feeds = random_network(seed)
    assert_deletes(proto, feeds, seed)


@pytest.mark.slow
def test_units_of_many_random_networks_go() -> None:
    found = [assert_deletes(*random_network(seed), seed) for seed in range(500)]
    assert np.mean([bool(groups) for groups in found]) > 0.9


def silence(model: Model, seed: int) -> None:
    """Set columns and rows of some units to zero."""
    rng = np.random.default_rng(seed)
    layers = {layer.name: layer for layer in model.layers}
    for group in unit_groups(model):
        places = [(p.layer, p.block, p.columns, 1) for p in group.producers]
        places += [(r.layer, r.block, r.rows, 0) for r in group.readers]
        units = rng.random(group.units) < 0.3
        axis = int(rng.integers(2))
        for name, block, entries, place in places:
            if place == axis:
                matrices, _ = model.weight(layers[name])
                taken = np.unique(entries[units][entries[units] >= 0])
                np.moveaxis(matrices[block], place, 0)[taken] = 0
                model.set_weight(layers[name], matrices, None)


@examples(10)
@given(st.integers(0, 2**32 - 1))
def test_dead_units_of_random_networks_go(seed) -> None:
    proto, feeds = random_network(seed)
    model = Model(proto)
    silence(model, seed)
    small, _ = without_dead_units(model)
    assert not dead_units(small)
    (name,) = (output.name for output in proto.graph.output)
    (wanted,), (got,) = (run(m.proto, [name], feeds) for m in (model, small))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(initial=1e-3))


def shortened(model: Model, count: int) -> int:
    """Leave so many entries in each head of inner groups; the number of these."""
    layers = {layer.name: layer for layer in model.layers}
    groups = inner_groups(model)
    for group in groups:
        for side, (name, places) in enumerate(zip(group.layers, group.places, strict=True)):
            (matrix,), biases = model.weight(layers[name])
            gone = places[:, count:].ravel()
            if side and group.reads:
                matrix[gone] = 0
            else:
                matrix[:, gone] = 0
                biases = biases and [
                    np.where(np.isin(np.arange(matrix.shape[1]), gone), 0, biases[0])
                ]
            model.set_weight(layers[name], [matrix], biases)
    return len(groups)


def test_entries_of_heads_of_random_networks_go() -> None:
    found = 0
    for seed in range(60):
        proto, feeds = random_network(seed)
        if not any(node.op_type == "Softmax" for node in proto.graph.node):
            continue
        model = Model(proto)
        found += shortened(model, 1)
        small = delete_inner(model, {group.name: 1 for group in inner_groups(model)})
        (name,) = (output.name for output in proto.graph.output)
        (wanted,), (got,) = (run(m.proto, [name], feeds) for m in (model, small))
        scale = np.abs(wanted).max(initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * scale)
    assert found >= 8
