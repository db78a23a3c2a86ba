"""All layers fitted together: outputs come nearer, zeros stay, and nothing is kept in vain."""

from __future__ import annotations

import gzip

import numpy as np
import onnx
import pytest
import scipy.linalg
from onnx import helper, numpy_helper

from nettrim_cli.data.dataset import Calibration, split
from nettrim_cli.data.sample_set import SampleSet
from nettrim_cli.errors import BadInput
from nettrim_cli.execution.serial import SerialExecutor
from nettrim_cli.graph.gradient.parameters import Parameter, parameters, with_values
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import prune
from nettrim_cli.pruning import target_search
from nettrim_cli.pruning.branches import constant_branches
from nettrim_cli.pruning.context import Context
from nettrim_cli.pruning.refit import task
from nettrim_cli.pruning.refit.batches import FitBatch
from nettrim_cli.pruning.refit.descent import Descent, largest_eigenvalue, metric, rate_at
from nettrim_cli.pruning.refit.entries import Entries
from nettrim_cli.pruning.refit.network import fit_outputs
from nettrim_cli.pruning.refit.objective import Objective, paired_scores
from nettrim_cli.report.progress import Silent
from nettrim_cli.settings import Settings
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, Files, initializers, mlp, save_data, save_model
from tests.support.options import PLAIN, QUICK
from tests.support.small import build, normal

SLOW = {"residual"}


@pytest.fixture(
    params=[pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in NETWORKS]
)
def network(request, tmp_path) -> Files:
    proto = NETWORKS[request.param]()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 400)
    )


def zeros(path) -> dict[str, np.ndarray]:
    return {name: value == 0 for name, value in initializers(onnx.load(path)).items()}


def test_outputs_come_nearer_and_zeros_stay(network) -> None:
    reports, supports, messages = [], [], []

    class Listener(Silent):
        def message(self, text: str) -> None:
            messages.append(text)

    for refit in ("layers", "network"):
        settings = Settings(**QUICK | {"refit": refit})
        report = prune(
            network.model, network.data, settings=settings, force=True, listener=Listener()
        )
        reports.append(report)
        supports.append(zeros(network.output))
    layers, together = reports
    assert any("fitted together: held-out error" in text for text in messages)
    assert together.comparison.error < layers.comparison.error
    assert [report.as_dict()["joint_fit"] for report in reports] == [False, True]
    errors = [[layer.error_holdout for layer in report.layers] for report in reports]
    assert errors[0] == errors[1]  # of before, which the report says
    counts = [[layer.nonzeros_after for layer in report.layers] for report in reports]
    assert counts[0] == counts[1]
    weights = [name for name, zero in supports[0].items() if zero.sum() > 0.2 * zero.size > 3]
    assert weights
    for name in weights:
        np.testing.assert_array_equal(supports[0][name], supports[1][name])


def test_what_the_refit_gives_is_the_same_each_time(files) -> None:
    settings = Settings(**QUICK | {"refit": "network"})
    contents = []
    for _ in range(2):
        prune(files.model, files.data, settings=settings, force=True)
        contents.append(files.output.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_a_search_goes_as_far_as_the_fit_allows(files) -> None:
    """Where a search ends is moved by chance in so small a network, but not always backwards."""
    gains = []
    for limit in (0.15, 0.2, 0.25):
        layers, together = (
            prune(
                files.model,
                files.data,
                settings=Settings(**PLAIN | {"max_error": limit, "refit": refit}),
                force=True,
            )
            for refit in ("layers", "network")
        )
        assert together.comparison.error <= limit
        assert together.comparison.error == together.target.reached
        gains.append(together.sparsity - layers.sparsity)
    assert max(gains) > 0
    assert min(gains) > -0.1


def test_a_search_for_a_size_fits_once(files, monkeypatch) -> None:
    fits = []
    monkeypatch.setattr(
        target_search, "fit_together", lambda *found: fits.append(found) or (found[2], 0.0)
    )
    limit = int(0.8 * len(gzip.compress(files.model.read_bytes(), 6)))
    settings = Settings(**PLAIN | {"max_bytes": limit, "refit": "network"})
    report = prune(files.model, files.data, settings=settings)
    assert len(fits) == 1
    assert report.target.reached <= limit


def test_epsilon_is_a_promise_to_each_layer() -> None:
    with pytest.raises(BadInput, match="--refit network fits the network's outputs"):
        Settings(refit="network", epsilon=0.1)


def sample_set(model: Model, calibration: Calibration) -> SampleSet:
    fitted, holdout = split(calibration.samples, 400, 0.25, 0)
    return SampleSet(calibration, fitted, holdout, 32)


def context(dense: Model, samples: SampleSet) -> Context:
    settings = Settings(sparsity=0.5, refit="network")
    silent = Silent()
    return Context(dense, (), settings, samples, 1, silent, SerialExecutor(silent))


def factored(proto: onnx.ModelProto, rank: int) -> onnx.ModelProto:
    """The first Gemm of a network as two, of so many hidden units."""
    node = next(node for node in proto.graph.node if node.op_type == "Gemm")
    weight = initializers(proto)[node.input[1]]
    if any(each.name == "transB" and each.i for each in node.attribute):
        weight = weight.T
    left, sizes, right = np.linalg.svd(weight, full_matrices=False)
    first = (left[:, :rank] * sizes[:rank]).astype(np.float32)
    tensors = {"left": first, "right": right[:rank].astype(np.float32)}
    proto.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in tensors.items())
    position = list(proto.graph.node).index(node)
    bias = node.input[2]
    nodes = [
        helper.make_node("MatMul", [node.input[0], "left"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "right", bias], list(node.output)),
    ]
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*rest[:position], *nodes, *rest[position + 1 :]])
    return proto


def test_a_network_of_other_nodes_is_fitted(tmp_path) -> None:
    proto = mlp()
    dense = Model.load(save_model(tmp_path / "model.onnx", proto))
    student = Model(factored(mlp(), 8))
    data = save_data(tmp_path / "calib.h5", proto, 400)
    found = parameters(student, [layer for layer in student.layers if layer.prunable])
    assert {"left", "right"} <= {each.name for each in found}
    with Calibration.open(data, dense.inputs) as calibration:
        samples = sample_set(dense, calibration)
        refit = fit_outputs(context(dense, samples), student, found, samples)
    assert refit.share > 0
    assert refit.after < 0.8 * refit.before


def test_nothing_is_kept_where_there_is_nothing_to_gain(tmp_path) -> None:
    proto = mlp()
    dense = Model.load(save_model(tmp_path / "model.onnx", proto))
    data = save_data(tmp_path / "calib.h5", proto, 400)
    found = parameters(dense, [layer for layer in dense.layers if layer.prunable])
    with Calibration.open(data, dense.inputs) as calibration:
        samples = sample_set(dense, calibration)
        refit = fit_outputs(context(dense, samples), dense, found, samples)
    assert refit.share == 0
    assert refit.model is dense


def test_parameters_are_weights_where_not_zero_and_vectors() -> None:
    text = """g (float[n, 4] x) => (float[n, 3] z) {
        y = MatMul(x, W)
        s = Add(y, b)
        t = Mul(s, scale)
        u = Mul(t, table)
        z = Div(u, number)
    }"""
    weight = normal(4, 3)
    weight[1] = 0
    model = Model(
        build(text, W=weight, b=normal(3), scale=normal(1, 3), table=normal(1), number=2.0)
    )
    found = {each.name: each for each in parameters(model, model.layers)}
    assert {*found} == {"W", "b", "scale"}
    np.testing.assert_array_equal(found["W"].free, weight != 0)
    moved = with_values(model, {"b": np.ones(3)})
    np.testing.assert_array_equal(moved.index.view("b").values(), np.ones(3, np.float32))
    np.testing.assert_array_equal(model.index.view("b").values(), found["b"].values)


def planted() -> tuple[Objective, Entries, FitBatch]:
    """A linear network with its entries, and samples of it."""
    text = "g (float[n, 6] x) => (float[n, 3] z) { y = MatMul(x, W) z = Add(y, b) }"
    model = Model(build(text, W=normal(6, 3), b=normal(3)))
    found = parameters(model, model.layers)
    teacher, outputs = paired_scores(model, model, 1)
    objective = Objective(model, found, outputs, [1.0], 1)
    X = normal(64, 6) * np.array([1, 2, 4, 8, 16, 32], np.float32)
    return objective, Entries(found), FitBatch({"x": X}, teacher.of({"x": X}))


def test_entries_are_what_may_change() -> None:
    free = np.array([[True, False], [False, True], [True, True]])
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    entries = Entries([Parameter("W", values, free), Parameter("b", values[0])])
    np.testing.assert_array_equal(entries.start, [0, 3, 4, 5, 0, 1])
    moved = entries.arrays(entries.start + 1)
    np.testing.assert_array_equal(moved["W"], values + free)
    np.testing.assert_array_equal(moved["b"], values[0] + 1)
    figures = np.outer([1, 2, 5], [3, 4])[free]
    smooth = entries.separable(np.append(figures, [1.0, 3.0]))
    assert smooth.shape == (6,)
    np.testing.assert_allclose(smooth[-2:], 2)


def test_the_metric_bounds_the_curvature() -> None:
    objective, entries, batch = planted()
    lengths = metric(objective, entries, [batch] * 8)
    X = np.column_stack([batch.feeds["x"], np.ones(64)]).astype(float)
    hessian = np.kron(2 * X.T @ X / 64, np.eye(3))  # rows of W, then b, as the entries are
    scaled = hessian / np.sqrt(np.outer(lengths, lengths))
    assert 0.5 < np.linalg.eigvalsh(scaled).max() < 1.5
    diagonal = (np.diag(hessian) / lengths)[:18]
    assert np.diag(hessian)[:18].max() > 500 * np.diag(hessian)[:18].min()
    assert diagonal.max() < 8 * diagonal.min()


def test_a_linear_network_comes_to_the_least_squares_solution() -> None:
    objective, entries, batch = planted()
    feeds, (target,) = batch
    noisy = target + normal(*target.shape)
    descent = Descent(entries, metric(objective, entries, [batch]))
    for step in range(300):
        gradients = objective.gradients(entries.arrays(descent.vector), feeds, [noisy])[1]
        descent.step(entries.vector(gradients), rate_at(step, 300, 8.0))
    X = np.column_stack([feeds["x"], np.ones(64)])
    solution = scipy.linalg.lstsq(X, noisy)[0]
    np.testing.assert_allclose(descent.vector.reshape(7, 3), solution, atol=1e-3)


def test_rates_rise_and_fall() -> None:
    rates = [rate_at(step, 50, 1.0) for step in range(50)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] < 0.25
    assert rates[-1] == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["units", pytest.param("ranks", marks=pytest.mark.slow)])
def test_layers_that_are_smaller_are_fitted_together(files, structure) -> None:
    errors = []
    for refit in ("layers", "network"):
        settings = Settings(threads=1, sparsity=0.5, structure=structure, refit=refit)
        report = prune(files.model, files.data, settings=settings, force=True)
        errors.append(report.comparison.error)
    assert errors[1] < errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("structure", thinned(["shrink", "zeros"], 2))
def test_what_was_fitted_together_is_rounded_again(files, structure) -> None:
    settings = Settings(threads=1, sparsity=0.5, structure=structure, bits=4, refit="network")
    report = prune(files.model, files.data, settings=settings, force=True)
    plain = Settings(threads=1, sparsity=0.5, structure=structure, bits=4, refit="layers")
    apart = prune(files.model, files.data, settings=plain, force=True)
    assert report.comparison.error <= apart.comparison.error
    written = Model.load(files.output)
    for layer in written.layers:
        for weight in written.weight(layer)[0]:
            for column in weight.T.astype(np.float64):
                assert len(np.unique(np.abs(column))) <= 8


@pytest.mark.parametrize("constant", [True, False])
def test_the_branch_that_all_samples_take_is_fitted(constant) -> None:
    text = """g (float[n, 6] x, bool c) => (float[n, 3] z) {
        z = If(c) <
            then_branch = t () => (float[n, 3] p) { y = MatMul(x, W) p = Add(y, b) },
            else_branch = e () => (float[n, 3] q) { q = MatMul(x, V) }
        >
    }"""
    model = Model(build(text, W=normal(6, 3), V=normal(6, 3), b=normal(3)))
    batches = [{"x": normal(5, 6), "c": np.array(constant or i > 0)} for i in range(2)]
    branches = constant_branches(model, batches, 1)
    assert branches == ({"z": True} if constant else {})
    found = parameters(model, model.layers)
    objective = Objective(model, found, ["z"], [1.0], 1, branches)
    assert {each.name for each in objective.parameters} == ({"W", "b"} if constant else set())
    assert bool(objective.boundaries) != constant
    if constant:
        values = {each.name: each.values for each in objective.parameters}
        loss, gradients = objective.gradients(values, batches[0], [np.zeros((5, 3), np.float32)])
        assert loss == pytest.approx(objective.squares(values, batches[0], [np.zeros(3)]) / 5)
        X = batches[0]["x"]
        answers = X @ values["W"] + values["b"]
        np.testing.assert_allclose(gradients["W"], 2 / 5 * X.T @ answers, rtol=1e-4, atol=1e-5)


def test_a_fit_that_costs_much_has_to_be_asked_for(files, monkeypatch) -> None:
    monkeypatch.setattr(task, "MOST_EXCESS", 0.0)
    contents = []
    for refit in ("layers", "auto", "network"):
        settings = Settings(**QUICK | {"refit": refit})
        prune(files.model, files.data, settings=settings, force=True)
        contents.append([*initializers(onnx.load(files.output)).values()])
    same = [all(map(np.array_equal, contents[0], other)) for other in contents[1:]]
    assert same == [True, False]


def test_curvature_of_deep_networks_stays_finite() -> None:
    """Their answers move by orders of magnitude more than the diagonal says."""

    class Steep:
        def product(self, batch, move):
            return 1e60 * move

    assert largest_eigenvalue(Steep(), [None], np.ones(3), np.ones(3)) == pytest.approx(1e60)
