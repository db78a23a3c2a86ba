"""What solving did is told: layers not solved, outputs that died, branches no sample takes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.errors import BadInput, NothingToDo
from nettrim_cli.evaluation.accuracy import MOST_EXTRA, NORMAL, samples_for
from nettrim_cli.evaluation.output_statistics import output_statistics
from nettrim_cli.evaluation.written_model_check import (
    dead_outputs,
    emptied,
    few_held_out,
    unseen,
    unsolved,
)
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.report.diagnostic import Diagnostic
from nettrim_cli.report.result import LayerReport, Target
from nettrim_cli.settings import Settings
from nettrim_cli.solve.convex import net_trim
from tests.support.networks import Files, he, mlp, save_data, save_model
from tests.support.options import QUICK
from tests.support.small import build, normal

BOTH = """g (bool[1] which, float[N,8] x, float[N,8] past) => (float[N,3] y) {
    y = If (which) <
        then_branch = t () => (float[N,3] a) { h = MatMul(past, w) r = Relu(h) a = MatMul(r, v) },
        else_branch = e () => (float[N,3] b) { k = MatMul(x, w) s = Relu(k) b = MatMul(s, v) }
    >
}"""


def report_of(**changes) -> LayerReport:
    return LayerReport(**{**LAYER, **changes})


LAYER = {
    "name": "fc",
    "op": "Gemm",
    "shape": (8, 8),
    "weights": 64,
    "nonzeros_before": 64,
    "nonzeros_after": 9,
    "status": "solved",
}


def test_layers_that_were_not_solved_are_named() -> None:
    layers = [report_of(), report_of(name="two", status="max-iterations", gap=0.02)]
    (found,) = unsolved(layers)
    assert (found.code, "layer two ended" in found.text) == ("not-solved", True)
    assert "two may be 2.0% above its optimum" in found.text
    assert found.brief == "1 layer that was not solved to tolerance"
    assert not list(unsolved(layers[:1]))


def test_layers_without_weights_are_named() -> None:
    (found,) = emptied([report_of(), report_of(name="two", nonzeros_after=0)])
    assert found.code == "empty-layer"
    assert "layer two" in found.text
    assert not list(emptied([report_of(nonzeros_before=0, nonzeros_after=0)]))


@pytest.mark.parametrize("iterations", [1, 12])
def test_weights_outside_of_epsilon_are_not_written(files, monkeypatch, iterations) -> None:
    original = net_trim.solve

    def hasty(response, prices, rho, look, limits, *more):
        return original(response, prices, rho, look, replace(limits, iterations=iterations), *more)

    monkeypatch.setattr(net_trim, "solve", hasty)
    settings = Settings(epsilon=0.02, method="net-trim", scheme="parallel", threads=1)
    with suppress(NothingToDo):  # no layer is written
        report = prune(files.model, files.data, settings=settings, force=True)
        assert all(layer.error_calibration <= 0.02 * (1 + 1e-4) for layer in report.layers)
        assert any(layer.reason == "limit" for layer in report.layers) or iterations > 1


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_outputs_that_are_constant_now_and_were_not(level) -> None:
    text = "g (float[N,8] x) => (float[N,3] y) { h = MatMul(x, w) y = Add(h, b) }"
    dense = Model(build(text, w=he(8, 3, seed=1), b=np.full(3, level, np.float32)))
    dead = Model(build(text, w=np.zeros((8, 3), np.float32), b=np.full(3, level, np.float32)))
    batches = [Batch({"x": normal(16, 8, seed=seed)}, 16, None) for seed in range(2)]

    def told(one: Model, other: Model) -> list[Diagnostic]:
        return [*dead_outputs(output_statistics(one, other, batches, threads=1))]

    (found,) = told(dense, dead)
    assert found.code == "dead-output"
    assert ("is zero" if level == 0 else "is the same") in found.text
    assert not told(dense, dense)
    assert not told(dead, dead)


def test_weights_shared_with_a_branch_that_no_sample_takes(tmp_path) -> None:
    model = save_model(tmp_path / "m.onnx", build(BOTH, w=he(8, 12, seed=1), v=he(12, 3, seed=2)))
    x, past = normal(60, 8), normal(60, 8)
    for which, taken, other in ((False, "k", "h"), (True, "h", "k")):
        data = tmp_path / f"{which}.npz"
        np.savez(data, x=x, past=past, which=np.array([which]))
        report = prune(model, data, settings=Settings(**QUICK), force=True)
        found = [each for each in report.warnings if each.code == "unseen-branch"]
        assert len(found) == 2
        assert all("no sample comes" in each.text for each in found)
        assert report.comparison.error < 1, (taken, other)
    assert not list(unseen([report_of()], {}))


def test_layers_of_a_branch_that_no_sample_takes(tmp_path) -> None:
    own = BOTH.replace("MatMul(past, w)", "MatMul(past, u)")
    tensors = {"w": he(8, 12, seed=1), "v": he(12, 3, seed=2), "u": he(8, 12, seed=3)}
    model, data = save_model(tmp_path / "m.onnx", build(own, **tensors)), tmp_path / "d.npz"
    np.savez(data, x=normal(60, 8), past=normal(60, 8), which=np.array([False]))
    report = prune(model, data, settings=Settings(**QUICK))
    codes = [each.code for each in report.warnings]
    assert codes.count("unseen-branch") == codes.count("unseen-layer") == 1


@pytest.mark.parametrize("deviation", [0.0, 0.05, 0.4])
def test_the_number_of_samples_for_a_bound_by_its_formula(deviation) -> None:
    def width(count: float) -> float:
        least = NORMAL**2 / (2 * MOST_EXTRA * count)
        return float(least + np.hypot(deviation / np.sqrt(count), least))

    needed = samples_for(width(100), 0.25 * width(100), 100)
    assert width(needed) == pytest.approx(0.25 * width(100))


def test_a_drop_that_few_held_out_samples_limit_says_how_many_would_not() -> None:
    (found,) = few_held_out(Target("max_drop", 0.02, 0.0, 0.018, 0.6), 100, 0.2)
    assert found.code == "few-held-out"
    assert "limited by 100 held-out samples; about" in found.text
    assert not list(few_held_out(Target("max_drop", 0.02, 0.015, 0.018, 0.6), 100, 0.2))
    assert not list(few_held_out(Target("max_error", 0.02, 0.015, None, 0.6), 100, 0.2))
    assert not list(few_held_out(None, 100, 0.2))


def test_signals_whose_squares_overflow_are_finite_all_the_same(tmp_path) -> None:
    proto = mlp()
    for each in proto.graph.initializer:
        if each.name in ("w1", "b1"):
            each.raw_data = (
                (1e20 * np.frombuffer(each.raw_data, np.float32)).astype(np.float32).tobytes()
            )
    files = Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "c.h5", proto, 120)
    )
    report = prune(files.model, files.data, settings=Settings(**QUICK))
    notes = " ".join(each.note for each in report.layers)
    assert "its signals are not finite" not in notes


LOGARITHM = """g (float[N,8] x) => (float[N,1] y) {
    h = MatMul(x, w)
    k = Constant<value = float[2,1] {10.001, -1.0}>()
    d = MatMul(h, k)
    y = Log(d)
}"""


@pytest.mark.parametrize("clean", [True, False])
def test_outputs_that_are_finite_in_the_dense_network_alone(tmp_path, clean) -> None:
    """Refused where the dense network knows no other; told where it makes such values, too."""
    # The second column is ten times the first, which goes at the same price.
    column = np.abs(normal(8, 1, seed=1)) + 0.1
    model = save_model(tmp_path / "m.onnx", build(LOGARITHM, w=np.hstack([column, 10 * column])))
    x = np.abs(normal(80, 8, seed=2))
    if not clean:
        x[::3] *= -1
    np.save(tmp_path / "x.npy", x)
    output = tmp_path / "out.onnx"
    output.write_bytes(b"old")
    settings = Settings(sparsity=0.5, threads=1, method="net-trim", include=("h",))
    if clean:
        with pytest.raises(BadInput, match=r"m\.onnx: output 'y' .* not finite where"):
            prune(model, tmp_path / "x.npy", output, settings, force=True)
        assert output.read_bytes() == b"old"
    else:
        report = prune(model, tmp_path / "x.npy", output, settings, force=True)
        assert "not-finite-output" in [each.code for each in report.warnings]
        assert report.warnings[0].severity == 0
