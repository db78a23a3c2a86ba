"""Layers too wide for a matrix of inputs x inputs, from the file to the file, in bounded memory."""

from __future__ import annotations

import gc
import json
import sys
import weakref

import numpy as np
import onnx
import pytest

from nettrim_cli import Settings, prune
from nettrim_cli.data import layer_samples
from nettrim_cli.data.dataset import Batch
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.propagation import propagate, stages
from nettrim_cli.solve.gram import schedules
from nettrim_cli.solve.samples import LayerSamples
from tests.support import forked
from tests.support.effort import thinned
from tests.support.networks import mlp, save_data, save_model
from tests.support.options import PATIENCE, QUICK
from tests.support.small import build, normal

RUN = """
import resource, sys
from nettrim_cli.cli import run
assert run(sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_layer_of_20000_inputs_is_pruned(tmp_path) -> None:
    text = "g (float[N,20000] x) => (float[N,16] y) { z = Gemm(x, w, b)\n y = Relu(z) }"
    model = save_model(
        tmp_path / "wide.onnx",
        build(text, w=normal(20_000, 16, seed=1) / 100, b=normal(16, seed=2)),
    )
    causes = np.random.default_rng(0).standard_normal((300, 40))
    x = np.maximum(causes @ normal(40, 20_000, seed=3) + 0.5, 0).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    report = tmp_path / "report.json"
    command = ["prune", model, "--data", tmp_path / "x.npy", "--report", report]
    command += ["--augment", "none", "--final-fit", "none"]
    ended = forked.run(
        [sys.executable, "-c", RUN, *map(str, command), "--sparsity", "0.8", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    kilobytes = int(ended.stderr.split()[-1])
    assert kilobytes * 1024 < 20_000**2 * 4 / 2  # a float32 matrix of inputs x inputs has 1.6 GB
    (layer,) = json.loads(report.read_text())["layers"]
    assert layer["status"] == "solved"
    assert layer["columns"] == 240
    (weight,) = [
        onnx.numpy_helper.to_array(each)
        for each in onnx.load(tmp_path / "wide.pruned.onnx").graph.initializer
        if each.name == "w"
    ]
    assert np.count_nonzero(weight) <= 64_000
    assert layer["error_holdout"] <= 0.3


@pytest.mark.parametrize("method", ["l0", "net-trim"])
@pytest.mark.parametrize("scheme", thinned(["cascade", "parallel"], 2))
def test_a_network_of_layers_that_are_all_taken_for_wide(
    tmp_path, monkeypatch, scheme, method
) -> None:
    """Columns stand for the sums in every layer; both forms are to find equally good weights."""
    monkeypatch.setattr(schedules, "MAX_FACTOR", 4)  # with few iterations chance decides more
    proto = mlp()
    model = save_model(tmp_path / "model.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 200)
    settings = Settings(**QUICK | {"sparsity": 0.6, "scheme": scheme, "method": method})
    usual = prune(model, data, tmp_path / "usual.onnx", settings)
    monkeypatch.setattr(layer_samples, "WIDEST", 1)
    wide = prune(model, data, tmp_path / "wide.onnx", settings)
    assert [each.status for each in wide.layers] == [each.status for each in usual.layers]
    # What rounding decides between two that are nearly as good moves single layers more.
    assert wide.comparison.error == pytest.approx(usual.comparison.error, rel=0.05, abs=0.01)
    for one, other in zip(wide.layers, usual.layers, strict=True):
        assert one.columns == other.columns == 160
        assert one.error_holdout == pytest.approx(other.error_holdout, rel=0.1, abs=0.01)


def test_what_a_stage_took_is_free_before_the_next(monkeypatch) -> None:
    dense, rng = Model(mlp()), np.random.default_rng(0)
    batches = [
        (Batch({"x": rng.standard_normal((30, 16)).astype(np.float32)}, 30, None), held)
        for held in (False, True)
    ]
    sums = []
    steps = propagate(dense, None, stages(dense.layers), batches, threads=1, seed=0)
    for stage in steps:
        gc.collect()
        assert not [each for each in sums if each() is not None]
        with stage:
            ((_, (samples,)),) = stage
            assert isinstance(samples, LayerSamples)
            sums.append(weakref.ref(samples.C))
            del samples
    assert len(sums) == 3
