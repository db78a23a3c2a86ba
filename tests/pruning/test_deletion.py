"""Hidden units without weights are not in the file that is written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning import deletion
from nettrim_cli.settings import Settings
from tests.support.networks import Files, input_samples, mlp, save_data, save_model
from tests.support.options import QUICK
from tests.support.small import run


@pytest.fixture
def files(tmp_path) -> Files:
    proto = mlp()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 150)
    )


def weights(model: Model) -> int:
    return sum(layer.parameters for layer in model.layers)


def test_units_without_weights_are_deleted(files) -> None:
    reports, models = [], []
    for leave in (True, False):
        options = QUICK | {"sparsity": 0.9, "no_delete": leave}
        output = files.model.parent / f"{leave}.onnx"
        reports.append(prune(files.model, files.data, output, Settings(**options)))
        models.append(Model.load(output))
    (plain, small), (before, after) = reports, models
    assert plain.deleted_units == 0 < small.deleted_units == small.as_dict()["deleted_units"]
    assert weights(after) < weights(before) == plain.weights == small.weights
    assert small.nonzeros <= plain.nonzeros
    assert small.sparsity >= plain.sparsity
    for one, two in zip(plain.pruned, small.pruned, strict=True):
        assert (one.name, one.error_holdout) == (two.name, two.error_holdout)
    assert [t.shape for t in (*after.inputs, *after.outputs)] == [
        t.shape for t in (*before.inputs, *before.outputs)
    ]
    x = input_samples(before.proto, 20, seed=5)
    feeds, names = {before.inputs[0].name: x}, [before.outputs[0].name]
    (wanted,), (got,) = (run(model.proto, names, feeds) for model in models)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    dense = {t.name for t in onnx.load(files.model).graph.initializer}
    assert {t.name for t in after.proto.graph.initializer} == dense


def test_a_pattern_stays_at_its_place(files) -> None:
    options = QUICK | {"sparsity": None, "allocate": None, "pattern": "1:8", "no_delete": False}
    report = prune(files.model, files.data, settings=Settings(**options))
    assert report.deleted_units == 0


def test_nothing_is_deleted_that_would_change_the_outputs(files, monkeypatch) -> None:
    def wrong(model: Model) -> tuple[Model, int]:
        other = model.clone()
        layer = other.layers[0]
        matrices, biases = other.weight(layer)
        other.set_weight(layer, [U + 1 for U in matrices], biases)
        return other, 3

    monkeypatch.setattr(deletion, "without_dead_units", wrong)
    options = QUICK | {"sparsity": 0.9, "no_delete": False}
    assert prune(files.model, files.data, settings=Settings(**options)).deleted_units == 0
