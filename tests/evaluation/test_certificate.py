"""Bounds of whole networks: never below what is measured, and right by hand."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.evaluation.certificate import certify
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.report.certificate_result import Certificate
from nettrim_cli.settings import Settings
from tests.support.effort import examples
from tests.support.networks import (
    Files,
    attention,
    input_samples,
    mlp,
    residual,
    save_data,
    save_model,
)
from tests.support.options import QUICK
from tests.support.sketches import batches, changed, samples, sketched
from tests.support.small import build, normal, run


def certified(dense: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray) -> Certificate:
    name = dense.graph.input[0].name
    return certify(Model(dense), Model(other), batches(name, x), threads=1)


def measured(dense: onnx.ModelProto, other: onnx.ModelProto, x: np.ndarray, name: str) -> float:
    """Relative error of a tensor, from two plain runs."""
    feeds = {dense.graph.input[0].name: x}
    one, two = (run(each, [name], feeds)[0].astype(np.float64) for each in (dense, other))
    size, error = np.linalg.norm(one), np.linalg.norm(two - one)
    return float(error / size) if size else np.inf if error else 0.0


@examples(60)
@given(st.integers(0, 100_000), st.sampled_from((0.02, 0.3, 0.9)))
def test_the_bound_is_never_below_the_measured_error(seed, share) -> None:
    dense = sketched(seed)
    other = changed(dense, seed, share)
    x = samples(dense, seed)
    found = certified(dense, other, x)
    (output,) = found.outputs
    error = measured(dense, other, x, "y")
    if not run(dense, ["y"], {"x": x})[0].any() and output.bound != 0:
        assert output.reason == "nothing is proved: 'y' is zero or not finite"
    else:
        assert output.reason == ""
        assert output.bound is not None
        assert output.bound_measured is not None
        assert error <= output.bound * (1 + 1e-5) + 1e-5
        assert error <= output.bound_measured * (1 + 1e-5) + 1e-5
    for layer in found.layers:
        if layer.error_network:
            assert layer.bound is not None
            assert layer.error_network <= layer.bound * (1 + 1e-5) + 1e-5


def test_an_mlp_by_hand() -> None:
    dense = mlp(sizes=(6, 9, 7, 3))
    other = changed(dense, 1, 0.5)
    x = input_samples(dense, 20)
    old, new = Model(dense), Model(other)
    signal, bound, rows = x.astype(np.float64).T, 0.0, []
    for at, layer in enumerate(old.layers):
        ((W,), (b,)), ((U,), (c,)) = old.weight(layer), new.weight(layer)
        last = at == len(old.layers) - 1
        z, alone = W.T @ signal + b[:, None], U.T @ signal + c[:, None]
        z, alone = (z, alone) if last else (np.maximum(z, 0), np.maximum(alone, 0))
        own, norm = np.linalg.norm(alone - z), np.linalg.norm(U.astype(np.float64), 2)
        bound = own + norm * bound
        rows.append((own / np.linalg.norm(z), norm, bound / np.linalg.norm(z)))
        signal = z
    found = certified(dense, other, x)
    assert len(found.layers) >= 2
    for layer, (own, norm, limit) in zip(old.layers, rows, strict=True):
        each = found.layer(layer.name)
        if each is not None:
            assert each.error_alone == pytest.approx(own, rel=1e-4)
            assert each.norm == pytest.approx(norm, rel=1e-4)
            assert each.bound == pytest.approx(limit, rel=1e-4)
        else:
            assert own == pytest.approx(0, abs=1e-6)
    (output,) = found.outputs
    assert output.bound == pytest.approx(bound / np.linalg.norm(signal), rel=1e-4)
    assert output.bound_measured == pytest.approx(measured(dense, other, x, "y"), rel=1e-4)


def test_nodes_behind_the_last_pruned_layer_pass_the_measured_error_on() -> None:
    text = """g (float[N,6] x) => (float[N,8] y) {
        h = Gemm(x, w, b)
        r = Relu(h)
        c = Mul(r, k)
        y = Concat<axis = 1>(c, r)
    }"""
    dense = build(text, w=normal(6, 4), b=normal(4), k=np.float32([1, -2, 0.5, 1]))
    other = changed(dense, 3, 0.5)
    x = input_samples(dense, 30)
    (layer,), (output,) = (found := certified(dense, other, x)).layers, found.outputs
    (r, y) = (np.linalg.norm(v) for v in run(dense, ["r", "y"], {"x": x}))
    assert layer.error_alone == layer.error_network == layer.bound
    assert output.bound == pytest.approx(np.sqrt(5) * layer.bound * r / y, rel=1e-5)
    assert output.bound_measured == output.bound >= measured(dense, other, x, "y")


def test_batch_normalization_is_folded_and_branches_add_up() -> None:
    dense = residual()
    other = changed(dense, 2, 0.4)
    x = input_samples(dense, 12)
    found = certified(dense, other, x)
    (output,) = found.outputs
    assert measured(dense, other, x, "y") <= output.bound < 1e3
    for layer in found.layers:
        assert layer.error_network <= layer.bound


def test_the_norm_of_a_layer_has_its_batch_normalization_in_it() -> None:
    text = """g (float[N,6] x) => (float[N,5] y) {
        h = MatMul(x, w)
        z = Gemm(h, u, b)
        n = BatchNormalization<epsilon = 0.0>(z, s, b, b, v)
        y = Relu(n)
    }"""
    s, v = np.float32([9, -7, 0, 1, 2]), np.float32([1, 4, 1, 1, 0.25])
    dense = build(text, w=normal(6, 4), u=normal(4, 5), b=normal(5), s=s, v=v)
    new = Model(dense).clone()
    for layer in new.layers:
        ((weight,), _) = new.weight(layer)
        new.set_weight(layer, [weight * 0.9], None)
    other = new.proto
    found = certified(dense, other, samples(dense, 0))
    folded = new.weight(new.layers[1])[0][0] * (s / np.sqrt(v))
    assert found.layer("z").norm == pytest.approx(np.linalg.norm(folded, 2), rel=1e-4)


def test_batches_of_every_size_count() -> None:
    text = """g (float[N,6] x) => (float[1,4] y) {
        h = MatMul(x, w)
        y = ReduceMean<axes = [0]>(h)
    }"""
    dense = build(text, w=normal(6, 4))
    other, x = changed(dense, 3), samples(dense, 0)[:8]
    x[7] *= 1000  # alone in the second batch, whose mean it is
    (output,) = certified(dense, other, x).outputs
    assert output.bound >= measured(dense, other, x[7:], "y") * 0.999


def test_names_like_the_judges_own_do_no_harm() -> None:
    text = """g (float[N,6] x) => (float[N,3] y) {
        j0 = MatMul(x, cw)
        cx = Relu(j0)
        y = MatMul(cx, jw)
    }"""
    dense = build(text, cw=normal(6, 4), jw=normal(4, 3))
    names = {"j0": "judge:0", "cx": "changed:x", "cw": "changed:w", "jw": "judge:w"}
    odd = onnx.ModelProto.FromString(dense.SerializeToString())
    for node in odd.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for each in odd.graph.initializer:
        each.name = names[each.name]
    x = samples(dense, 0)
    one, two = certified(dense, changed(dense, 1), x), certified(odd, changed(odd, 1), x)
    assert one.outputs == two.outputs


def test_equal_models_have_no_error_and_no_layers() -> None:
    dense = residual()
    found = certified(dense, dense, input_samples(dense, 5))
    assert [(each.bound, each.bound_measured, each.reason) for each in found.outputs] == [
        (0, 0, "")
    ]
    assert found.layers == ()


def test_attention_ends_the_proof_and_says_where() -> None:
    dense = attention()
    other = changed(dense, 0, 0.2)
    (output,) = certified(dense, other, input_samples(dense, 9)).outputs
    assert output.bound is None
    assert "behind MatMul 's'" in output.reason
    assert "multiplies two changed tensors" in output.reason
    assert output.bound_measured == pytest.approx(
        measured(dense, other, input_samples(dense, 9), "y"), rel=1e-5
    )


def test_outputs_before_the_end_of_the_proof_keep_their_bounds() -> None:
    text = """g (float[N,6] x) => (float[N,4] a, float[N,4] b, float[N,6] c) {
        a = MatMul(x, w)
        e = Exp(a)
        b = Neg(e)
        c = Neg(x)
    }"""
    dense = build(text, w=0.2 * normal(6, 4))
    found = certified(dense, changed(dense, 3), input_samples(dense, 9))
    a, b, c = found.outputs
    assert a.bound > 0
    assert (b.bound, b.bound_measured) == (None, None)
    assert b.reason == "nothing is proved behind Exp 'e': no bound is known for it"
    assert (c.bound, c.reason) == (0.0, "")


def test_other_graphs_and_other_constants_are_not_certified() -> None:
    dense = mlp()
    longer = onnx.ModelProto.FromString(dense.SerializeToString())
    longer.graph.node.add(op_type="Identity", input=["x"], output=["more"])
    (output,) = certified(dense, longer, input_samples(dense, 5)).outputs
    assert (output.bound, output.reason) == (
        None,
        "nothing is proved: the two models have different nodes",
    )
    text = "g (float[N,4] x) => (float[N,4] y) { h = Add(x, c)\ny = Relu(h) }"
    one, two = build(text, c=normal(4)), build(text, c=normal(4, seed=1))
    (output,) = certified(one, two, normal(3, 4)).outputs
    assert output.bound is None
    assert output.reason == "nothing is proved behind Add 'h': it was changed, and is no layer"


def test_subgraphs_that_see_a_changed_tensor_end_the_proof() -> None:
    text = """g (float[N,4] x, bool k) => (float[N,4] y) {
        h = MatMul(x, w)
        i = If (k) <
            then_branch = t () => (float[N,4] a) { a = Neg(h) },
            else_branch = e () => (float[N,4] b) { b = Abs(h) }
        >
        y = Relu(i)
    }"""
    dense = build(text, w=normal(4, 4))
    feeds = {"x": normal(5, 4), "k": np.array(True)}
    other = changed(dense, 3)
    (output,) = certify(Model(dense), Model(other), [Batch(feeds, 5, None)], threads=1).outputs
    assert output.bound is None
    assert "behind If 'i': its subgraphs read a changed tensor" in output.reason


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_precisions(dtype) -> None:
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    text = f"g ({kind}[N,6] x) => ({kind}[N,3] y) {{ h = Gemm(x, a)\nr = Relu(h)\ny = Gemm(r, b) }}"
    dense = build(text, a=normal(6, 8).astype(dtype), b=normal(8, 3).astype(dtype))
    other, x = changed(dense, 4), normal(20, 6).astype(dtype)
    (output,) = certified(dense, other, x).outputs
    rounding = 1 + 4 * np.finfo(dtype).eps
    assert 0 < measured(dense, other, x, "y") <= output.bound * rounding < 20


def test_signals_that_are_not_finite_prove_nothing() -> None:
    dense = mlp()
    x = input_samples(dense, 5)
    x[2, 1] = np.inf
    (output,) = certified(dense, changed(dense), x).outputs
    assert (output.bound, output.reason) == (None, "nothing is proved: 'y' is zero or not finite")


def test_inputs_backed_by_initializers_and_weights_in_constant_nodes() -> None:
    dense = mlp(sizes=(6, 8, 3))
    weight = next(each for each in dense.graph.initializer if each.name == "w1")
    node = onnx.helper.make_node("Constant", [], ["w1"], value=weight)
    dense.graph.initializer.remove(weight)
    dense.graph.node.insert(0, node)
    bias = next(each for each in dense.graph.initializer if each.name == "b1")
    dense.graph.input.append(onnx.helper.make_tensor_value_info("b1", 1, list(bias.dims)))
    other, x = changed(dense, 1), input_samples(mlp(sizes=(6, 8, 3)), 20)
    assert not np.array_equal(
        *(numpy_helper.to_array(each.graph.node[0].attribute[0].t) for each in (dense, other))
    )
    found = certify(Model(dense), Model(other), batches("x", x), threads=1)
    assert measured(dense, other, x, "y") <= found.outputs[0].bound < 10


@pytest.mark.parametrize("scheme", ["cascade", "parallel"])
def test_a_run_carries_its_certificate(files: Files, scheme: str) -> None:
    chosen = Settings(scheme=scheme, **QUICK)
    report = prune(files.model, files.data, files.output, chosen)
    (output,) = report.certificate.outputs
    assert report.comparison.error <= output.bound * (1 + 1e-6)
    assert output.bound_measured == pytest.approx(report.comparison.error, rel=1e-5)
    for layer in report.pruned:
        proved = report.certificate.layer(layer.name)
        at = proved.error_network if scheme == "cascade" else proved.error_alone
        assert at == pytest.approx(layer.error_holdout, rel=1e-4)
        assert 0 < proved.samples_median <= proved.samples_densest
    found = json.loads(report.render(".json"))["certificate"]
    assert found["outputs"][0]["bound"] == output.bound
    rows = list(csv.DictReader(io.StringIO(report.render(".csv"))))
    assert float(rows[0]["bound"]) == report.certificate.layer(rows[0]["name"]).bound


def test_a_network_that_attends_is_pruned_all_the_same(tmp_path) -> None:
    proto = attention()
    model = save_model(tmp_path / "model.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 60)
    report = prune(model, data, tmp_path / "out.onnx", Settings(**QUICK))
    (output,) = report.certificate.outputs
    assert output.bound is None
    assert output.reason.startswith("nothing is proved behind")
