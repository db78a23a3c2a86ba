"""Weights in compact form are read as the sparse weights that they are, whoever wrote them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from nettrim_cli import pipeline
from nettrim_cli.graph.compact.expansion import expanded
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.external import External
from nettrim_cli.preview.inspection import inspect
from nettrim_cli.settings import Settings
from tests.support.networks import Files, mlp, save_data, save_model
from tests.support.options import PLAIN, QUICK
from tests.support.small import build
from tests.support.sparse import sparse

NOTHING = External()


def by_others(weight: np.ndarray, *, scale: bool = False) -> onnx.ModelProto:
    """Distances of one byte, which begin at 1, and other names; or integers and a scale a row."""
    filled = np.flatnonzero(weight)
    gaps = np.diff(filled, prepend=-1).astype(np.uint8)
    values = weight.reshape(-1)[filled]
    n, m = weight.shape
    name = "unscaled" if scale else "weight"
    body = f"""g (float[N,{n}] x) => (float[N,{m}] y) {{
        long = Cast<to = 6>(distance)
        at = CumSum(long, axis)
        start = Sub(at, one)
        empty = ConstantOfShape(size)
        {"kept = Cast<to = 1>(values)" if scale else "kept = Identity(values)"}
        full = ScatterElements<axis = 0>(empty, start, {"kept" if scale else "values"})
        {name} = Reshape(full, shape)
        {"weight = Mul(unscaled, scales)" if scale else ""}
        y = MatMul(x, weight) }}"""
    extra = {"scales": np.full((n, 1), 0.5, np.float32)} if scale else {}
    return build(
        body,
        distance=gaps,
        axis=np.array(0, np.int64),
        one=np.array(1, np.int32),
        size=np.array([n * m], np.int64),
        values=(values * 10).astype(np.int8) if scale else values,
        shape=np.array([n, m], np.int64),
        **extra,
    )


@pytest.mark.parametrize("scale", [False, True])
def test_the_form_is_known_by_its_nodes(scale: bool) -> None:
    weight = sparse(30, 20, zeros=0.8)
    plain = expanded(by_others(weight, scale=scale), NOTHING)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in plain.graph.initializer}
    assert set(stored) <= {"weight", "values"}
    expected = weight if not scale else np.trunc(weight * 10) * np.float32(0.5)
    np.testing.assert_array_equal(stored["weight"], expected)
    (layer,) = Model(plain).layers
    assert layer.prunable


TRUE_SCATTERS = {
    "of an input": "t = ScatterElements(w, i, x) y = MatMul(x, t)",
    "into values": "t = ScatterElements(w, i, v) y = MatMul(x, t)",
    "added": 'z = ConstantOfShape(s) t = ScatterElements<reduction = "add">(z, i, v) '
    "y = MatMul(x, t)",
    "beyond the end": "z = ConstantOfShape(s) t = ScatterElements(z, j, f) u = Reshape(t, r) "
    "y = MatMul(x, u)",
    "too large": "z = ConstantOfShape(h) t = ScatterElements(z, k, f) u = Reshape(t, q) "
    "r2 = ReduceMax(u) y = Add(x, r2)",
    "read twice": "z = ConstantOfShape(f16) t = ScatterElements(z, k, f) u = Reshape(t, r) "
    "m = ReduceMax(t) e = MatMul(x, u) y = Add(e, m)",
}


@pytest.mark.parametrize("body", TRUE_SCATTERS.values(), ids=TRUE_SCATTERS)
def test_other_scatters_stay(body: str) -> None:
    proto = build(
        f"g (float[4,4] x) => (float[4,4] y) {{ {body} }}",
        w=sparse(4, 4),
        v=sparse(4, 4),
        f=sparse(3, zeros=0),
        i=np.zeros((4, 4), np.int64),
        j=np.array([0, 1, 16], np.int64),
        k=np.array([0, 1, 2], np.int64),
        s=np.array([4, 4], np.int64),
        f16=np.array([16], np.int64),
        h=np.array([2**33], np.int64),
        q=np.array([2**20, 2**13], np.int64),
        r=np.array([4, 4], np.int64),
    )
    assert expanded(proto, NOTHING) is proto


def test_a_chain_without_end_is_left_alone() -> None:
    steps = " ".join(f"a{at + 1} = Add(a{at}, one)" for at in range(500))
    proto = build(
        f"g (float[4,4] x) => (float[4,4] y) {{ {steps} z = ConstantOfShape(s) "
        "t = ScatterElements(z, a500, f) u = Reshape(t, r) y = MatMul(x, u) }",
        a0=np.array([0], np.int64),
        one=np.array(1, np.int64),
        s=np.array([16], np.int64),
        f=np.ones(1, np.float32),
        r=np.array([4, 4], np.int64),
    )
    assert expanded(proto, NOTHING) is proto


@pytest.fixture
def compact(tmp_path: Path) -> Files:
    """A model pruned into compact form, with its samples."""
    proto = mlp(sizes=(32, 48, 40, 4))
    save_model(tmp_path / "dense.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 200)
    options = QUICK | {"sparsity": 0.8, "store": "compact"}
    pipeline.prune(tmp_path / "dense.onnx", data, tmp_path / "model.onnx", Settings(**options))
    return Files(tmp_path / "model.onnx", data)


def test_a_compact_file_is_smaller_and_has_the_same_layers(compact: Files) -> None:
    dense = compact.folder / "dense.onnx"
    assert compact.model.stat().st_size < 0.5 * dense.stat().st_size
    first, second = inspect(dense), inspect(compact.model)
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]
    assert first.totals.parameters == second.totals.parameters
    for layer in second.layers:
        assert layer.nonzeros == round(0.2 * layer.weights)


def test_it_is_compared_as_its_file_has_it(compact: Files) -> None:
    model = Model.load(compact.model)
    assert b"ScatterElements" in model.runnable().payload
    comparison = pipeline.compare(compact.folder / "dense.onnx", compact.model, compact.data)
    assert 0.6 < comparison.candidate.sparsity < 0.8  # biases are not pruned
    assert comparison.candidate.bytes_raw == compact.model.stat().st_size


def test_it_is_pruned_again_and_written_in_either_form(compact: Files) -> None:
    for store in ("plain", "compact"):
        output = compact.folder / f"{store}.onnx"
        options = QUICK | {"sparsity": 0.9, "store": store}
        report = pipeline.prune(compact.model, compact.data, output, Settings(**options))
        assert report.sparsity == pytest.approx(0.9, abs=0.01)
        assert all(0.79 < layer.sparsity_before < 0.81 for layer in report.layers)
        onnx.checker.check_model(str(output), full_check=True)
        assert Model.load(output).compact == (store == "compact")
    plain, packed = (Model.load(compact.folder / f"{store}.onnx") for store in ("plain", "compact"))
    for layer in plain.layers:
        np.testing.assert_array_equal(plain.weight(layer)[0], packed.weight(layer)[0])


def test_few_bits_are_stored_in_few_bytes(compact: Files) -> None:
    dense, sizes = compact.folder / "dense.onnx", [compact.model.stat().st_size]
    for bits in (16, 8, 6, 4):
        output = compact.folder / f"{bits}.onnx"
        options = QUICK | {"sparsity": 0.8, "store": "compact", "bits": bits}
        report = pipeline.prune(dense, compact.data, output, Settings(**options))
        assert report.comparison.error < 1
        onnx.checker.check_model(str(output), full_check=True)
        sizes.append(output.stat().st_size)
        types = {tensor.data_type for tensor in onnx.load(output).graph.initializer}
        assert {16: 10, 8: 3, 6: 6, 4: 2}[bits] in types  # float16, int8, int32, uint8
        assert '"bits": ' in str(Model.load(output).metadata("nettrim"))
    # Nodes that unpack bits weigh some 50 bytes a layer, in a file of 4 kB.
    assert all(less < more + 3 * 50 for more, less in pairwise(sizes)), sizes
    assert sizes[-1] < 0.75 * sizes[0]


def test_smaller_layers_have_few_bits_too(compact: Files) -> None:
    dense, output = compact.folder / "dense.onnx", compact.folder / "smaller.onnx"
    options = PLAIN | {"no_delete": False, "sparsity": 0.4, "structure": "units"}
    settings = Settings(**options, store="compact", bits=8)
    report = pipeline.prune(dense, compact.data, output, settings)
    onnx.checker.check_model(str(output), full_check=True)
    types = [tensor.data_type for tensor in onnx.load(output).graph.initializer]
    assert types.count(TensorProto.INT8) == len(report.layers)
    assert output.stat().st_size < 0.3 * dense.stat().st_size


def test_a_changed_weight_runs(compact: Files) -> None:
    model = Model.load(compact.model)
    copy = model.clone()
    layer = copy.layers[0]
    copy.set_weight(layer, [np.zeros_like(copy.weight(layer)[0][0])], None)
    assert b"ScatterElements" not in copy.runnable().payload
    assert b"ScatterElements" in model.runnable().payload
    assert copy.count_parameters()[1] < model.count_parameters()[1]
