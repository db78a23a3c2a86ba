"""Networks inside If, Loop and Scan: fewer units, two factors, and what has to stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nettrim_cli.graph.channels.dead import without_dead_units
from nettrim_cli.graph.channels.factors import can_factorize, factorize
from nettrim_cli.graph.channels.find import refusals, unit_groups
from nettrim_cli.graph.model import Model
from tests.support.bodies import KINDS, in_body
from tests.support.effort import examples
from tests.support.random_networks import random_network
from tests.support.small import build, normal, run
from tests.support.smaller import assert_deletes

SEEDS = st.integers(0, 2**32 - 1)


def network_in_body(seed):
    proto, feeds = random_network(seed)
    kind = KINDS[seed % len(KINDS)]
    return in_body(kind, proto, feeds, stored_inside=bool(seed // len(KINDS) % 2))


@examples(10)
@given(SEEDS)
def test_units_inside_go(seed) -> None:
    assert_deletes(*network_in_body(seed), seed)


@pytest.mark.slow
def test_units_inside_many_networks_go() -> None:
    groups = [assert_deletes(*network_in_body(seed), seed) for seed in range(300)]
    assert np.mean([bool(some) for some in groups]) > 0.8


@examples(6)
@given(SEEDS)
def test_layers_inside_become_two(seed) -> None:
    proto, feeds = network_in_body(seed)
    model = Model(proto)
    layers = [layer for layer in model.layers if can_factorize(model, layer)]
    result = factorize(model, {layer.name: min(layer.blocks[0]) for layer in layers})
    onnx.checker.check_model(result.proto, full_check=True)
    names = [output.name for output in proto.graph.output]
    (wanted,), (actual,) = (run(m.proto, names, feeds) for m in (model, result))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(initial=1e-3))
    assert len(result.layers) == len(model.layers) + len(layers)


BRANCHES = """
g (float[n,4] x, bool c) => (float[n,3] y) {
    %s
    y = If (c) <
        then_branch = then () => (float[n,3] t) {
            [p1] a1 = MatMul(%s, %s)
            b1 = Relu(a1)
            [r1] t = MatMul(b1, R1)
        },
        else_branch = other () => (float[n,3] e) {
            [p2] a2 = MatMul(%s, %s)
            b2 = Tanh(a2)
            [r2] e = MatMul(b2, R2)
        }
    >
}
"""
CONSTANTS = {"P1": normal(4, 5), "P2": normal(4, 5), "R1": normal(5, 3), "R2": normal(5, 3, seed=1)}


def groups_and_reasons(*parts):
    model = Model(build(BRANCHES % parts, **CONSTANTS))
    return [group.name for group in unit_groups(model)], refusals(model)


def test_each_branch_has_units_of_its_own() -> None:
    groups, reasons = groups_and_reasons("", "x", "P1", "x", "P2")
    assert groups == ["p1", "p2"]
    assert {reasons[name].text for name in ("r1", "r2")} == {"they are outputs of a subgraph"}


def test_weights_that_two_branches_share_stay() -> None:
    groups, reasons = groups_and_reasons("", "x", "P1", "x", "P1")
    assert groups == []
    assert "another subgraph reads its weights, too" in reasons["p1"].text


def test_units_that_branches_read_from_outside_stay() -> None:
    text = ("[q] o = MatMul(x, Q)", "o", "P1", "o", "P2")
    model = Model(build(BRANCHES % text, Q=normal(4, 4), **CONSTANTS))
    assert [group.name for group in unit_groups(model)] == ["p1", "p2"]
    assert refusals(model)["q"].text == "a subgraph reads them from outside"


def test_dead_units_inside_go_with_what_they_say() -> None:
    constants = {**CONSTANTS, "P1": CONSTANTS["P1"] * np.float32([1, 0, 1, 0, 1]), "B": normal(5)}
    text = BRANCHES.replace("b1 = Relu(a1)", "s1 = Add(a1, B) b1 = Relu(s1)")
    model = Model(build(text % ("", "x", "P1", "x", "P2"), **constants))
    small, count = without_dead_units(model)
    assert count == 2
    feeds = {"x": normal(6, 4), "c": np.array(True)}
    (wanted,), (actual,) = (run(m.proto, ["y"], feeds) for m in (model, small))
    np.testing.assert_allclose(actual, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
