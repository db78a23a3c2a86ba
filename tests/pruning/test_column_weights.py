"""Columns count by what errors there do to the outputs."""

from __future__ import annotations

import h5py
import numpy as np
import onnx

from nettrim_cli import Settings, prune
from nettrim_cli.data.dataset import Batch
from nettrim_cli.errors import OutOfMemory
from nettrim_cli.graph.model import Model
from nettrim_cli.pruning.column_weights import EQUAL, ColumnWeights
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.output_gradients import OutputGradients
from nettrim_cli.solve.matrices import relative_error
from tests.support.networks import build, normal
from tests.support.options import PLAIN
from tests.support.small import run

STEPS, INPUTS = 40, 6
SERIES = f"float[N,{STEPS},{INPUTS}] x"
LARGEST = f"""g ({SERIES}) => (float[N,3] y) {{
    z = MatMul(x, w)
    y = ReduceMax <axes=[1], keepdims=0> (z)
}}"""
MASKED = f"""g ({SERIES}, float[N,{STEPS},1] mask) => (float[N,3] y) {{
    z = MatMul(x, w)
    m = Mul(z, mask)
    y = ReduceMean <axes=[1], keepdims=0> (m)
}}"""
EVEN = f"g ({SERIES}) => (float[N,{STEPS},3] y) {{ y = MatMul(x, w) }}"


def weights_of(text: str, x) -> tuple[ColumnWeights, dict]:
    dense, batch = Model(build(text, w=normal(INPUTS, 3))), Batch({"x": x}, len(x), None)
    weights = ColumnWeights.of(OutputGradients(dense, [batch], [batch], threads=1), dense.layers)
    return weights, weights.of_batch(batch)


def test_before_a_maximum_only_what_is_largest_counts() -> None:
    x = normal(20, STEPS, INPUTS, seed=1)
    _, weights = weights_of(LARGEST, x)
    (of_layer,) = weights.values()
    results, largest = x @ normal(INPUTS, 3), np.zeros((20, STEPS))
    for sample, column in np.ndindex(20, 3):
        largest[sample, results[sample, :, column].argmax()] += 1
    # Each output has a sign, whose square is 1.
    expected = EQUAL + (1 - EQUAL) * largest / largest.mean()
    np.testing.assert_allclose(of_layer, expected.ravel(), rtol=1e-4)


def test_where_all_columns_count_none_is_weighed() -> None:
    weights, of_batch = weights_of(EVEN, normal(20, STEPS, INPUTS, seed=1))
    assert not weights.tensors
    assert of_batch == {}


def test_layers_that_stay_and_engines_that_fail_are_no_reason_for_a_pass(monkeypatch) -> None:
    batch = Batch({"x": normal(20, STEPS, INPUTS, seed=1)}, 20, None)
    dense = Model(build(LARGEST, w=normal(INPUTS, 3)))
    gradients = OutputGradients(dense, [batch], [batch], threads=1)
    assert ColumnWeights.of(gradients, dense.layers).tensors
    assert not ColumnWeights.of(gradients, []).tensors

    def fails(batch):
        raise OutOfMemory("no room")

    monkeypatch.setattr(OutputGradients, "by_column", lambda *_: fails)
    assert not ColumnWeights.of(gradients, dense.layers).tensors


def masked(count: int, seed: int) -> dict[str, np.ndarray]:
    """Samples that are filled up with inputs of other correlations."""
    random = np.random.default_rng(seed)
    mixture = np.random.default_rng(7).normal(size=(INPUTS, INPUTS))
    mask = random.random((count, STEPS, 1)) < 0.1
    x = random.normal(size=(count, STEPS, INPUTS))
    x = np.where(mask, x @ mixture, 3 * x)
    return {"x": x.astype(np.float32), "mask": mask.astype(np.float32)}


def errors_with_and_without(folder, monkeypatch, proto, recorded, fresh) -> tuple[float, float]:
    """Output errors on new samples where columns may be weighed, and where they may not."""
    onnx.save(proto, folder / "m.onnx")
    with h5py.File(folder / "x.h5", "w") as file:
        file.update(recorded)
    wanted, errors = run(proto, ["y"], fresh)[0], []
    settings = Settings(sparsity=0.5, allocate="uniform", **PLAIN)
    for _ in range(2):
        prune(folder / "m.onnx", folder / "x.h5", folder / "o.onnx", settings, force=True)
        answers = run(onnx.load(folder / "o.onnx"), ["y"], fresh)[0]
        errors.append(relative_error(answers - wanted, wanted))
        monkeypatch.setattr(Context, "weighed", lambda _, samples: samples)
    return errors[0], errors[1]


def test_what_is_masked_decides_nothing(tmp_path, monkeypatch) -> None:
    proto = build(MASKED, w=normal(INPUTS, 3))
    samples = masked(300, 0), masked(2000, 1)
    weighed, alike = errors_with_and_without(tmp_path, monkeypatch, proto, *samples)
    assert weighed < 0.8 * alike


def test_what_is_no_maximum_may_become_one(tmp_path, monkeypatch) -> None:
    """To first order such columns count for nothing; held-out samples tell that they do."""
    proto = build(LARGEST, w=normal(INPUTS, 3, seed=5))
    samples = ({"x": normal(count, STEPS, INPUTS, seed=count)} for count in (300, 2000))
    weighed, alike = errors_with_and_without(tmp_path, monkeypatch, proto, *samples)
    assert weighed == alike
