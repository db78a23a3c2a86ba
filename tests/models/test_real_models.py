"""Real trained models that packages carry: pruned with few samples, each judged by the file.

Skipped where a package is not installed; `make test-all` installs them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.models import MODELS, model_file, read_samples, write_samples
from benchmarks.models_samples import open_session
from benchmarks.models_tasks import runs
from nettrim_cli import Report, Settings, prune
from tests.support.stored import Stored, stored, tensors

pytestmark = pytest.mark.slow

FEW = {"vad": 120, "vad-sequence": 4, "matting": 2, "magika": 40, "minilm": 40}
"""Calibration samples; 12 where nothing is said."""
LEFT = {
    "ocr-det": "depthwise",
    "ocr-cls": "depthwise",
    "ocr-rec": "depthwise",
    "vad": "none of the calibration samples reaches it",  # the other rate's half
    "vad-ifless": "none of the calibration samples reaches it",
    "matting": "not matched by --include",
}
"""The only reason for which layers may be left in the models that have such."""
INCLUDE = {"matting": ("/stage6/*",)}
"""Where pruning the whole model would take longer than a test may."""
SPARSITY = 0.5


@dataclass(frozen=True)
class Pruned:
    """A model before and after, with the run's report."""

    dense: Path
    path: Path
    folder: Path
    report: Report
    before: Stored
    after: Stored


@pytest.fixture(scope="module", params=MODELS)
def pruned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pruned:
    """A real model, pruned to half its weights."""
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    model = MODELS[name]
    count = FEW.get(name, FEW["vad"] if name.startswith("vad-") else 12)
    model = replace(model, calibration=count, test=count)
    path = found_file(name, folder)
    write_samples(model, path, folder)
    target = folder / "pruned.onnx"
    settings = Settings(
        sparsity=SPARSITY, scheme="parallel", threads=1, include=INCLUDE.get(name, ())
    )
    report = prune(path, folder / "calib.h5", target, settings)
    before, after = (onnx.load(each) for each in (path, target))
    return Pruned(path, target, folder, report, stored(before), stored(after))


def found_file(name: str, folder: Path) -> Path:
    """The model's file, or a skip that says what is missing."""
    try:
        return model_file(MODELS[name], folder)
    except FileNotFoundError as error:
        pytest.skip(f"{error} (see benchmarks/models.txt)")


def test_it_loads_and_answers_almost_as_before(pruned: Pruned) -> None:
    feeds, _ = read_samples(pruned.folder / "test.h5")
    dense, sparse = (list(runs(open_session(path), feeds)) for path in (pruned.dense, pruned.path))
    for before, after in zip(zip(*dense, strict=True), zip(*sparse, strict=True), strict=True):
        assert all(
            a.shape == b.shape and a.dtype == b.dtype for a, b in zip(before, after, strict=True)
        )
        assert all(np.isfinite(each).all() for each in after)
        moved = sum(np.square(a - b, dtype=float).sum() for a, b in zip(before, after, strict=True))
        assert moved < 0.5 * sum(np.square(each, dtype=float).sum() for each in before)
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(dense, sparse, strict=True))


def test_the_sparsity_asked_for_is_in_the_file(pruned: Pruned) -> None:
    treated = {each.name: each.weights for each in pruned.report.layers if each.pruned}
    zeros = total = 0
    for place, readers in pruned.after.weights.items():
        if any(is_layer(reader, name) for reader in readers for name in treated):
            values = numpy_helper.to_array(pruned.after.tensors[place])
            zero = 0.0 if values.dtype.kind == "f" else commonest(values)
            zeros, total = zeros + int(np.count_nonzero(values == zero)), total + values.size
    assert total == sum(treated.values())
    assert zeros >= SPARSITY * total * 0.999
    assert pruned.report.sparsity == pytest.approx(zeros / total, abs=1e-3)


def is_layer(node: str, name: str) -> bool:
    """Whether a layer is of that node, one of its weights maybe."""
    return name in (node, f"{node}.W", f"{node}.R")


def commonest(values: np.ndarray) -> int:
    """The zero point, as half of the weights are there."""
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def test_every_weight_is_treated_or_refused_with_a_reason(pruned: Pruned) -> None:
    layers = pruned.report.layers
    assert all(each.pruned or each.note for each in layers)
    assert sum(each.weights for each in layers) == sum(
        pruned.before.size(place) for place in pruned.before.weights
    )


def test_only_what_cannot_be_treated_is_left(
    pruned: Pruned, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["pruned"]
    notes = {each.note for each in pruned.report.layers if not each.pruned}
    assert all(LEFT.get(name, "nothing may be left") in note for note in notes), notes


def test_nothing_else_is_changed(pruned: Pruned) -> None:
    before, after = onnx.load(pruned.dense), onnx.load(pruned.path)
    old, new = dict(tensors(before)), dict(tensors(after))
    changed = [place for place in old if old[place] != new[place]]
    known = {**pruned.before.weights, **pruned.before.biases}
    assert set(changed) <= set(known)
    for place in changed:
        assert (new[place].name, new[place].data_type) == (old[place].name, old[place].data_type)
        assert list(new[place].dims) == list(old[place].dims)
        new[place].CopyFrom(old[place])
    restored = without_new_biases(before, after)
    assert [each.key for each in restored.metadata_props][-1] == "nettrim"
    del restored.metadata_props[-1]
    assert restored.SerializeToString(deterministic=True) == before.SerializeToString(
        deterministic=True
    )


def without_new_biases(before: onnx.ModelProto, after: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the biases taken back that layers got instead of shared ones."""
    names = {each.name for each in before.graph.initializer}
    added = [each for each in after.graph.initializer if each.name not in names]
    assert all(re.search(r"\.bias(_\d+)?$", each.name) for each in added)
    for each in added:
        after.graph.initializer.remove(each)
    for old, new in zip(before.graph.node, after.graph.node, strict=True):
        for slot, name in enumerate(new.input):
            if any(name == each.name for each in added):
                new.input[slot] = old.input[slot]
    return after
