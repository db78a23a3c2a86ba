"""Models without some of their units, against the same models with zeros in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx

from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.channels.units import UnitGroup
from nettrim_cli.graph.model import Model
from tests.support.small import run

Kept = Mapping[str, np.ndarray]


def choice(groups: tuple[UnitGroup, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Units of each group that stay, at least one of them, picked at random."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in groups:
        count = int(rng.integers(1, group.units)) if group.units > 1 else 1
        kept[group.name] = np.sort(rng.choice(group.units, count, replace=False))
    return kept


def masked(model: Model, groups: tuple[UnitGroup, ...], kept: Kept) -> Model:
    """The model with zeros in all rows that read what does not stay."""
    result = model.clone()
    layers = {layer.name: layer for layer in result.layers}
    matrices = {}
    for group in groups:
        gone = np.setdiff1d(np.arange(group.units), kept[group.name])
        for reader in group.readers:
            if reader.layer not in matrices:
                matrices[reader.layer] = result.weight(layers[reader.layer])[0]
            matrices[reader.layer][reader.block][reader.of(gone)] = 0
    for name, blocks in matrices.items():
        result.set_weight(layers[name], blocks, None)
    return result


def assert_deletes(
    proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], seed: int = 0
) -> tuple[UnitGroup, ...]:
    """Groups of a model that has the same outputs, and fewer weights, without some units."""
    model = Model(proto)
    groups = unit_groups(model)
    kept = choice(groups, seed)
    zeroed = masked(model, groups, kept)
    before = zeroed.to_bytes()
    small = delete_units(zeroed, kept)
    assert zeroed.to_bytes() == before
    onnx.checker.check_model(small.proto, full_check=True)
    names = [output.name for output in proto.graph.output]
    pairs = zip(*(run(m.proto, names, dict(feeds)) for m in (zeroed, small)), strict=True)
    for wanted, got in pairs:
        assert wanted.shape == got.shape
        scale = np.abs(wanted).max(initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * scale)
    if any(len(kept[group.name]) < group.units for group in groups):
        assert small.count_parameters()[0] < model.count_parameters()[0]
    left = Counter(len(units) for units in kept.values() if len(units) > 1)
    assert left <= Counter(group.units for group in unit_groups(small))
    return groups
