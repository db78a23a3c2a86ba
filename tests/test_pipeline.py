"""The whole story on small networks and the sample models: what the written file is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli import __version__
from nettrim_cli.data.batching import batch_size
from nettrim_cli.data.dataset import Calibration, split
from nettrim_cli.errors import BadInput, CannotWrite, NothingToDo, WrongUsage
from nettrim_cli.graph import ops
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import compare, default_output, prune
from nettrim_cli.preview.inspection import inspect
from nettrim_cli.pruning import curve_job
from nettrim_cli.settings import Settings
from nettrim_cli.solve.gram.l0 import error_curve, solve_l0
from nettrim_cli.solve.methods import METHODS
from tests.support.effort import thinned
from tests.support.networks import (
    NETWORKS,
    Files,
    initializers,
    input_samples,
    save_data,
    save_model,
)
from tests.support.options import PLAIN, QUICK
from tests.support.small import build, normal, run


@pytest.fixture(params=NETWORKS)
def network(request, tmp_path) -> Files:
    proto = NETWORKS[request.param]()
    return Files(
        save_model(tmp_path / "model.onnx", proto), save_data(tmp_path / "calib.h5", proto, 150)
    )


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every stored tensor, in initializers and in Constant nodes."""
    found = initializers(proto)
    for node in proto.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def assert_only_weights_differ(before: Path, after: Path) -> None:
    """Nothing but values of the pruned layers' tensors, and metadata, has changed."""
    dense, written = onnx.load(before), onnx.load(after)
    onnx.checker.check_model(written)
    assert [each.key for each in written.metadata_props][-1] == "nettrim"
    del written.metadata_props[-1]
    assert dense.metadata_props == written.metadata_props
    layers = [layer for layer in Model.load(before).layers if layer.prunable]
    free = set()
    index = {output: node for node in dense.graph.node for output in node.output}
    for layer in layers:
        pending = [layer.output]
        for _ in range(2):  # the op itself, and the Add that carries its bias
            nodes = [index[name] for name in pending if name in index]
            free.update(name for node in nodes for name in node.input)
            pending = [name for node in nodes if node.op_type == "Add" for name in node.input]
        free.update(  # a mean that stands for a bias
            node.input[3]
            for node in dense.graph.node
            if node.op_type == "BatchNormalization" and node.input[0] == layer.output
        )
    first, second = constants(dense), constants(written)
    assert list(first) == list(second)
    for name, value in first.items():
        assert value.dtype == second[name].dtype
        assert value.shape == second[name].shape
        if name not in free:
            assert value.tobytes() == second[name].tobytes(), name
    for one, two in zip(dense.graph.initializer, written.graph.initializer, strict=True):
        if one.name in free:
            two.CopyFrom(one)
    for one, two in zip(dense.graph.node, written.graph.node, strict=True):
        if one.op_type == "Constant" and one.output[0] in free:
            two.CopyFrom(one)
    assert dense.SerializeToString(deterministic=True) == written.SerializeToString(
        deterministic=True
    )


def parts(files: Files, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """The samples fitted to, and those held out, read independently."""
    (name,) = (each.name for each in onnx.load(files.model).graph.input)
    with h5py.File(files.data) as file:
        x = file[name][:]
    drawn = split(len(x), settings.samples, settings.holdout, settings.seed)
    return x[drawn[0]], x[drawn[1]]


def measured(files: Files, report, name: str, settings: Settings, held: bool) -> float:
    """A layer's error by hand: the scheme's inputs through the written weights."""
    dense, written = Model.load(files.model), Model.load(files.output)
    layer = next(each for each in dense.layers if each.name == name)
    x = parts(files, settings)[held]
    source = written if settings.scheme == "cascade" else dense
    feeds = {dense.inputs[0].name: x}
    names = [layer.input]
    reached = x if layer.input in feeds else run(source.proto, names, feeds)[0]
    (weight,), biases = written.weight(layer)
    found = weight.astype(np.float64).T @ ops.columns({"x": reached}, layer.geometry)
    found += 0 if biases is None else biases[0][:, None]
    (exact,) = run(dense.proto, [layer.output], feeds)
    wanted = ops.outputs_as_columns(exact.astype(np.float64), layer.geometry)

    def act(z, model, weights):
        rule = next(each for each in weights.layers if each.name == name).response
        z = z if rule.scale is None else z * rule.scale[:, None]
        z = z if rule.shift is None else z + rule.shift[:, None]
        if rule.offset:
            added = x if rule.offset in feeds else run(model.proto, [rule.offset], feeds)[0]
            z = z + ops.outputs_as_columns(added, layer.geometry)
        if rule.activation is not None:
            return rule.activation(z.astype(np.float32)).astype(np.float64)
        return np.clip(z, rule.floor, rule.ceiling) if rule.relu else z

    expected = act(wanted, dense, dense)
    return float(np.linalg.norm(act(found, source, written) - expected) / np.linalg.norm(expected))


def check_run(files: Files, report, settings: Settings) -> None:
    """All that must hold of any run, from the files alone."""
    assert_only_weights_differ(files.model, files.output)
    written = Model.load(files.output)
    (entry,) = (each for each in written.proto.metadata_props if each.key == "nettrim")
    digest = hashlib.sha256(files.model.read_bytes()).hexdigest()
    origin = {"version": __version__, "dense_sha256": digest}
    untold = ("store", "bits", "no_delete", "certificate", "widths", "batch", "workers", "cluster")
    told = {name: value for name, value in settings.as_dict().items() if name not in untold}
    assert json.loads(entry.value) == {**origin, **told}
    by_name = {layer.name: layer for layer in written.layers}
    total = zeros = 0
    for each in report.layers:
        if not by_name[each.name].prunable:
            continue
        ((stored,), _) = written.weight(by_name[each.name])
        assert each.nonzeros_after == np.count_nonzero(stored)
        assert each.weights == stored.size
        assert not np.signbit(stored[stored == 0]).any()
        total += stored.size
        zeros += stored.size - np.count_nonzero(stored)
    if settings.sparsity is not None:
        assert zeros == round(settings.sparsity * total)
    assert zeros > 0
    assert report.comparison.candidate.bytes_raw == files.output.stat().st_size
    assert report.comparison.samples == len(parts(files, settings)[1])


@pytest.mark.parametrize(
    ("scheme", "target"),
    thinned(
        [
            ("cascade", {"sparsity": 0.6}),
            ("cascade", {"epsilon": 0.3}),
            ("parallel", {"epsilon": 0.3}),
            ("parallel", {"sparsity": 0.6}),
        ],
        2,
    ),
)
def test_a_run_on_a_small_network(network, scheme, target) -> None:
    options = {"allocate": "uniform"} if scheme == "parallel" and "sparsity" in target else {}
    settings = Settings(scheme=scheme, **target, **PLAIN, **options)
    before = network.model.read_bytes()
    report = prune(network.model, network.data, settings=settings)
    assert network.model.read_bytes() == before
    assert network.listing == ["calib.h5", "model.onnx", "model.pruned.onnx"]
    check_run(network, report, settings)
    for each in report.pruned:
        for held, told in ((False, each.error_calibration), (True, each.error_holdout)):
            found = measured(network, report, each.name, settings, held)
            assert told == pytest.approx(found, rel=2e-3, abs=2e-5), each.name
        if scheme == "parallel" and "epsilon" in target:
            assert max(each.error_calibration, each.error_holdout) <= 0.3 * 1.0001


@pytest.mark.parametrize(
    "options", thinned([PLAIN | {"sparsity": 0.7}, QUICK | {"scheme": "parallel"}], 2)
)
def test_the_same_run_twice_writes_the_same_bytes(network, options) -> None:
    settings = Settings(**options)
    digests = []
    for name in ("a.onnx", "b.onnx"):
        prune(network.model, network.data, network.folder / name, settings)
        digests.append(hashlib.sha256((network.folder / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]


def test_another_seed_gives_other_weights(files) -> None:
    weights = []
    for seed in (0, 1):
        output, settings = files.folder / f"{seed}.onnx", Settings(seed=seed, **QUICK)
        prune(files.model, files.data, output, settings)
        weights.append(initializers(onnx.load(output)))
    first, second = weights
    assert any(not np.array_equal(first[name], second[name]) for name in first)


def test_accuracy_is_of_the_held_out_samples(files) -> None:
    settings = Settings(**QUICK)
    report = prune(files.model, files.data, settings=settings)
    assert report.comparison.reference.accuracy == 1  # the model labelled its own data
    held = parts(files, settings)[1]
    one, two = (run(onnx.load(path), ["y"], {"x": held})[0] for path in (files.model, files.output))
    agreed = float((one.argmax(1) == two.argmax(1)).mean())
    assert report.comparison.candidate.accuracy == pytest.approx(agreed)
    assert report.comparison.outputs[0].agreement == pytest.approx(agreed)
    error = np.linalg.norm(two - one) / np.linalg.norm(one)
    assert report.comparison.outputs[0].error == pytest.approx(error, rel=1e-4)


def test_include_and_exclude_choose_by_name(files) -> None:
    names = [layer.name for layer in Model.load(files.model).layers]
    settings = Settings(include=tuple(names[:2]), exclude=(f"*{names[1][-2:]}",), **QUICK)
    report = prune(files.model, files.data, settings=settings)
    assert [each.name for each in report.layers] == names
    assert [each.pruned for each in report.layers] == [True, False, False]
    assert [each.note for each in report.layers[1:]] == [
        "matched by --exclude",
        "not matched by --include",
    ]
    dense, written = Model.load(files.model), Model.load(files.output)
    for layer in dense.layers[1:]:
        for one, two in zip(dense.weight(layer), written.weight(layer), strict=True):
            assert np.array_equal(one, two)
    ((weight,), _) = written.weight(dense.layers[0])
    assert np.count_nonzero(weight == 0) == round(0.5 * weight.size)


def test_a_pattern_that_matches_nothing_is_wrong_usage(files) -> None:
    with pytest.raises(WrongUsage, match="include"):
        prune(files.model, files.data, settings=Settings(include=("nothing*",)))
    assert not files.output.exists()


def test_a_target_that_is_met_already(files) -> None:
    prune(files.model, files.data, files.folder / "a.onnx", Settings(**QUICK | {"sparsity": 0.8}))
    with pytest.raises(NothingToDo, match="zero already"):
        prune(files.folder / "a.onnx", files.data, settings=Settings(**QUICK))


def test_few_samples_are_a_warning_with_a_number(files) -> None:
    report = prune(files.model, files.data, settings=Settings(samples=20, **QUICK))
    (found,) = report.warnings
    assert found.code == "few-samples"
    assert "16 calibration columns" in found.text
    assert "20 were used" in found.text
    assert not prune(files.model, files.data, settings=Settings(**QUICK), force=True).warnings


@pytest.mark.parametrize(("dtype", "word"), [("float16", "float16"), ("float64", "double")])
def test_other_float_types_keep_their_type(dtype, word, tmp_path) -> None:
    proto = build(
        f"g ({word}[N,8] x) => ({word}[N,4] y) {{ h = Gemm(x, w1, b1)\n r = Relu(h)\n"
        " y = MatMul(r, w2) }",
        w1=normal(8, 12, seed=1, dtype=dtype),
        b1=normal(12, seed=2, dtype=dtype),
        w2=normal(12, 4, seed=3, dtype=dtype),
    )
    model = save_model(tmp_path / "model.onnx", proto)
    data = tmp_path / "calib.npy"
    np.save(data, normal(100, 8, seed=4, dtype=dtype))
    files, settings = Files(model, data), Settings(**QUICK)
    report = prune(model, data, settings=settings)
    assert_only_weights_differ(model, files.output)
    stored = initializers(onnx.load(files.output))
    assert {each.dtype.name for each in stored.values()} == {dtype}
    assert sum(int((stored[name] == 0).sum()) for name in ("w1", "w2")) == 72
    assert report.comparison.outputs[0].error < 1


def test_a_model_of_batch_one_is_fed_one_by_one(tmp_path) -> None:
    proto = build(
        "g (float[1,6] x) => (float[1,3] y) { h = Gemm(x, w1, b)\n r = Relu(h)\n y = Gemm(r, w2) }",
        w1=normal(6, 8, seed=1),
        b=normal(8, seed=2),
        w2=normal(8, 3, seed=3),
    )
    model = save_model(tmp_path / "model.onnx", proto)
    np.savez(tmp_path / "calib.npz", x=normal(80, 6, seed=4), labels=np.arange(80) % 3)
    report = prune(model, tmp_path / "calib.npz", settings=Settings(**QUICK))
    assert report.comparison.samples == 16
    assert report.pruned[0].columns == 64


def test_the_output_may_neither_exist_nor_be_the_input(files) -> None:
    files.output.write_bytes(b"old")
    with pytest.raises(CannotWrite, match="exists"):
        prune(files.model, files.data)
    assert files.output.read_bytes() == b"old"
    for same in (files.model, files.data):
        with pytest.raises(CannotWrite, match="input"):
            prune(files.model, files.data, same, force=True)


def test_where_nothing_can_be_pruned_it_is_said_why(files) -> None:
    words = "within the target .* no sparser weights within epsilon.* Allow a larger --epsilon"
    with pytest.raises(NothingToDo, match=words):
        prune(files.model, files.data, settings=Settings(epsilon=1e-7, **PLAIN))
    assert files.listing == ["calib.h5", "model.onnx"]


def test_default_output_is_beside_the_model() -> None:
    assert default_output("a/b.onnx") == Path("a/b.pruned.onnx")
    assert default_output("a/b") == Path("a/b.pruned.onnx")
    assert default_output("x.y.onnx") == Path("x.y.pruned.onnx")


def test_compare_and_inspect_from_python(files) -> None:
    prune(files.model, files.data, settings=Settings(**QUICK))
    found = compare(files.model, files.output, files.data, threads=1)
    assert found.samples == 120
    assert found.reference.accuracy == 1
    summary = inspect(files.output)
    assert summary.path == str(files.output)
    assert len(summary.layers) == 3
    assert sum(layer.nonzeros or 0 for layer in summary.layers) == 720 - 360
    assert summary.totals.parameters == 720 + 40


def test_models_with_other_inputs_are_not_compared(files) -> None:
    other = build("g (float[N,16] z) => (float[N,4] y) { y = MatMul(z, w) }", w=normal(16, 4))
    with pytest.raises(BadInput, match="inputs"):
        compare(files.model, save_model(files.folder / "other.onnx", other), files.data)


def test_models_with_inputs_of_other_types_are_not_compared(files) -> None:
    body = "g (double[N,16] x) => (double[N,4] y) { y = MatMul(x, w) }"
    other = build(body, w=normal(16, 4).astype(np.float64))
    with pytest.raises(BadInput, match=r"'x' is float64 with 2 axes, that of .* is float32"):
        compare(files.model, save_model(files.folder / "other.onnx", other), files.data)


def test_a_model_with_an_unused_or_constant_input_of_a_layer(tmp_path) -> None:
    """A layer that reads a constant has no samples to speak of; the others are pruned."""
    proto = build(
        """g (float[N,6] x) => (float[N,6] y) {
            q = MatMul(fixed, w1)
            h = MatMul(x, w2)
            y = Add(h, q)
        }""",
        fixed=normal(1, 4, seed=1),
        w1=normal(4, 6, seed=2),
        w2=normal(6, 6, seed=3),
    )
    model = save_model(tmp_path / "model.onnx", proto)
    np.save(tmp_path / "calib.npy", normal(60, 6, seed=4))
    report = prune(model, tmp_path / "calib.npy", settings=Settings(**QUICK))
    assert report.pruned
    assert input_samples(proto, 2).shape == (2, 6)


RUNS = {
    "mlp": {"sparsity": 0.9, "scheme": "parallel", "exclude": ("*fc1*", "*fc2*")},
    "resnet": {"sparsity": 0.6, "allocate": "network", "include": ("*stage1*", "*fc*")},
    "lenet": {"epsilon": 0.3, "scheme": "cascade", "exclude": ("*fc*",)},
    "transformer": {"sparsity": 0.7, "allocate": "network", "include": ("*blocks.0*", "*head*")},
}


@pytest.mark.parametrize(
    ("sample_model", "options"),
    thinned(RUNS.items(), 4),
    ids=[*RUNS],
    indirect=["sample_model"],
)
def test_each_sample_model_end_to_end(sample_model, options, tmp_path) -> None:
    settings = Settings(samples=200, **PLAIN, **options)
    link = tmp_path / "model.onnx"
    link.write_bytes(sample_model.model.read_bytes())
    files = Files(link, sample_model.data)
    report = prune(files.model, files.data, settings=settings)
    assert_only_weights_differ(files.model, files.output)
    assert report.comparison.samples == 40
    assert report.comparison.reference.accuracy > 0.75
    assert report.comparison.drop < 0.25
    chosen = [each for each in report.layers if "match" not in each.note]
    zeros = sum(each.weights - each.nonzeros_after for each in chosen)
    if settings.sparsity:
        total = sum(each.weights for each in chosen)
        excess = zeros - round(settings.sparsity * total)
        assert 0 <= excess <= 1e-3 * total  # weights of inputs that are always zero stay zero
    for each in (report.pruned[0], report.pruned[-1]):
        for held, told in ((False, each.error_calibration), (True, each.error_holdout)):
            if each.columns > 8192:
                continue  # the report's error is of a part of the columns
            found = measured(files, report, each.name, settings, held)
            assert told == pytest.approx(found, rel=5e-3, abs=2e-5)


@pytest.mark.parametrize("target", [{"sparsity": 0.6}, {"epsilon": 0.2}], ids=str)
def test_a_layer_that_linear_algebra_gives_up_on_stays_dense(target, tmp_path, monkeypatch) -> None:
    model, data = (
        save_model(tmp_path / "model.onnx", NETWORKS["mlp"]()),
        save_data(tmp_path / "calib.h5", NETWORKS["mlp"](), 150),
    )

    def fails(task, look):
        if task.W.shape[1] == 4:
            raise np.linalg.LinAlgError("no finite inverse")
        return solve_l0(task, look)

    monkeypatch.setitem(METHODS, "l0", fails)
    settings = Settings(**target, **PLAIN)
    report = prune(model, data, tmp_path / "pruned.onnx", settings)
    *others, last = report.layers
    assert (last.status, last.note) == ("dense", "not solved: no finite inverse")
    assert last.nonzeros_after == last.nonzeros_before
    assert others
    assert all(each.status == "solved" for each in others)
    dense, pruned = Model.load(model), Model.load(tmp_path / "pruned.onnx")
    for one, two in zip(
        dense.weight(dense.layers[-1]), pruned.weight(pruned.layers[-1]), strict=True
    ):
        assert np.array_equal(one, two)


def test_a_layer_whose_sensitivity_cannot_be_measured_stays_dense(tmp_path, monkeypatch) -> None:
    model = save_model(tmp_path / "model.onnx", NETWORKS["mlp"]())
    data = save_data(tmp_path / "calib.h5", NETWORKS["mlp"](), 150)

    def fails(task, keeps, wanted):
        if task.W.shape[1] == 4:
            raise np.linalg.LinAlgError("no finite inverse")
        return error_curve(task, keeps, wanted)

    monkeypatch.setattr(curve_job, "error_curve", fails)
    report = prune(model, data, settings=Settings(sparsity=0.6, **PLAIN))
    *others, last = report.layers
    assert last.status != "solved"
    assert last.note == "its sensitivity could not be measured"
    zeros = sum(each.weights - each.nonzeros_after for each in others)
    assert zeros == round(0.6 * sum(each.weights for each in others))


def test_the_papers_method_end_to_end(network) -> None:
    for scheme in ("parallel", "cascade"):
        settings = Settings(method="net-trim", scheme=scheme, epsilon=0.2, **PLAIN)
        report = prune(network.model, network.data, settings=settings, force=True)
        check_run(network, report, settings)
        assert all(each.violation is not None for each in report.pruned)
        if scheme == "parallel":
            assert all(each.error_calibration <= 0.2 * 1.01 for each in report.pruned)


WIDE = "h = MatMul(x, w1)\n r = Relu(h)\n y = MatMul(r, w2)"
SEQUENCE = (
    "h = MatMul(x, w1)\n s = SequenceConstruct(h)\n r = SequenceAt(s, zero)\n y = MatMul(r, w2)"
)


@pytest.mark.parametrize(("body", "wanted"), [(WIDE, 4), (SEQUENCE, 256)])
def test_a_batch_is_as_small_as_the_largest_tensor_on_the_way_asks_for(
    tmp_path, body, wanted
) -> None:
    """A million numbers a sample; what makes sequences on its way has no sizes."""
    proto = build(
        f"g (float[N,1] x) => (float[N,1] y) {{ {body} }}",
        w1=np.ones((1, 1 << 20), np.float32),
        w2=np.ones((1 << 20, 1), np.float32),
        zero=np.array(0),
    )
    data = save_data(tmp_path / "calib.h5", proto, 20)
    model = Model(proto)
    with Calibration.open(data, model.inputs) as samples:
        assert batch_size(samples, model, 1) == wanted


def test_fixed_biases_stay_and_free_ones_do_not(tmp_path) -> None:
    proto = NETWORKS["residual"]()
    model = save_model(tmp_path / "model.onnx", proto)
    data = save_data(tmp_path / "calib.h5", proto, 60)
    before, changed = initializers(proto), {}
    for bias in ("fixed", "free"):
        chosen = Settings(**PLAIN | {"method": "net-trim", "epsilon": 0.2, "bias": bias})
        report = prune(model, data, tmp_path / f"{bias}.onnx", chosen)
        assert len(report.pruned) >= 2
        after = initializers(onnx.load(tmp_path / f"{bias}.onnx"))
        changed[bias] = {name for name in before if not np.array_equal(before[name], after[name])}
    assert all(name.startswith("w") for name in changed["fixed"])
    assert not all(name.startswith("w") for name in changed["free"])  # a mean, or a bias
