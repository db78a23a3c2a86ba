"""Real trained models without two fifths of their units, against zeros in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.models import MODELS, model_file, read_samples, write_samples
from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.model import Model
from tests.support.small import run
from tests.support.smaller import masked

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", MODELS)
def test_units_of_real_models_go(name, tmp_path) -> None:
    try:
        path = model_file(MODELS[name], tmp_path)
    except FileNotFoundError as error:
        pytest.skip(f"{error} (see benchmarks/models.txt)")
    model = Model.load(Path(path), lambda _: None)
    groups = unit_groups(model)
    rng = np.random.default_rng(0)
    kept = {
        group.name: rng.permutation(group.units)[: max(1, 3 * group.units // 5)] for group in groups
    }
    zeroed = masked(model, groups, kept)
    small = delete_units(zeroed, kept)
    small.save(tmp_path / "small.onnx")  # checks it
    few = replace(MODELS[name], calibration=2, test=2)
    write_samples(few, Path(path), tmp_path)
    samples, _ = read_samples(tmp_path / "calib.h5")
    ranks = {tensor.name: len(tensor.shape or ()) for tensor in model.inputs}
    feeds = {name: np.asarray(x[0]) if x.ndim > ranks[name] else x for name, x in samples.items()}
    names = [output.name for output in model.outputs]
    pairs = zip(*(run(m.proto, names, feeds) for m in (zeroed, small)), strict=True)
    for wanted, got in pairs:
        scale = np.abs(wanted).max(initial=1e-3)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-3 * scale)
