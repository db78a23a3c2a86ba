"""Whole networks made smaller: planted structure is found, and the file is what was meant."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from nettrim_cli.errors import BadInput, GateFailed, NothingToDo
from nettrim_cli.graph.channels.delete import delete_units
from nettrim_cli.graph.channels.find import unit_groups
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.pruning import goals
from nettrim_cli.pruning.shrinking.widths import block_shapes
from nettrim_cli.report.bench_result import BatchTiming, Estimate
from nettrim_cli.settings import STRUCTURES, Settings
from tests.support.effort import thinned
from tests.support.heads import HEADS, SIZE, heads
from tests.support.networks import NETWORKS, Files, he, input_samples, mlp, save_data, save_model
from tests.support.options import PLAIN
from tests.support.small import build, normal

SMALLER = [structure for structure in STRUCTURES if structure != "zeros"]


def plain(**options) -> Settings:
    """Settings without what takes time and is tested elsewhere."""
    return Settings(**{key: PLAIN[key] for key in PLAIN if key != "no_delete"} | options)


def saved(folder, proto, count=400):
    return Files(
        save_model(folder / "model.onnx", proto), save_data(folder / "calib.h5", proto, count)
    )


def outputs(path, proto):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {proto.graph.input[0].name: input_samples(proto, 50, seed=7)})


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


def changed(proto, **weights):
    """The network with other weights."""
    for tensor in proto.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    return proto


def weights_of(proto):
    return {tensor.name: numpy_helper.to_array(tensor).copy() for tensor in proto.graph.initializer}


@pytest.mark.parametrize(
    ("scheme", "network", "structure"),
    thinned(itertools.product(["cascade", "parallel"], NETWORKS, SMALLER), 8),
)
def test_every_structure_keeps_its_target_on_every_network(
    tmp_path, scheme, network, structure
) -> None:
    proto = NETWORKS[network]()
    files = saved(tmp_path, proto)
    settings = plain(sparsity=0.3, structure=structure, scheme=scheme)
    try:
        report = prune(files.model, files.data, settings=settings)
    except NothingToDo:
        assert (network, structure) == ("attention", "units")  # one head, and a residual width
        return
    assert report.sparsity >= 0.3 - 1e-9
    onnx.checker.check_model(str(files.output), full_check=True)
    written = Model.load(files.output)
    dense = Model.load(files.model)
    gone = dense.count_parameters()[1] - written.count_parameters()[1]
    assert gone >= report.weights - report.nonzeros  # biases and normalisations go, too
    (expected, *_), (actual, *_) = outputs(files.model, proto), outputs(files.output, proto)
    assert actual.shape == expected.shape
    assert relative_error(actual, expected) < 1
    assert report.comparison.error < 1


BRANCHES = """
g (float[n,12] x) => (float[n,4] y) {
    m = ReduceMax<keepdims = 0>(x)
    c = Less(m, most)
    y = If (c) <
        then_branch = then () => (float[n,4] t) {
            [p] a = MatMul(x, P) b = Relu(a) [q] d = MatMul(b, Q) e = Relu(d) [r] t = MatMul(e, R)
        },
        else_branch = other () => (float[n,4] o) { [s] f = MatMul(x, S) [u] o = MatMul(f, U) }
    >
}
"""


def test_layers_in_the_branch_that_samples_take_shrink(tmp_path) -> None:
    shapes = {"P": (12, 24), "Q": (24, 24), "R": (24, 4), "S": (12, 64), "U": (64, 4)}
    weights = {name: he(*shape, seed=n) for n, (name, shape) in enumerate(shapes.items())}
    proto = build(BRANCHES, most=np.float32(1e9), **weights)
    files = saved(tmp_path, proto)
    report = prune(files.model, files.data, settings=plain(sparsity=0.4, structure="shrink"))
    assert {layer.name for layer in report.layers if layer.lost} == {"p", "q", "r"}
    assert 0.4 <= report.sparsity < 0.5  # of what the samples reach
    onnx.checker.check_model(str(files.output), full_check=True)
    (expected,), (actual,) = outputs(files.model, proto), outputs(files.output, proto)
    assert relative_error(actual, expected) == pytest.approx(report.comparison.error, rel=0.5)
    assert files.output.stat().st_size < files.model.stat().st_size


def test_copies_of_units_go_without_an_error(tmp_path) -> None:
    """Half of the hidden units are copies of the others: the readers can do without them."""
    proto = mlp(sizes=(16, 24, 12, 4))
    weights = weights_of(proto)
    for name in ("w1", "w2"):
        half = weights[name].shape[1] // 2
        weights[name][:, half:] = weights[name][:, :half]
        bias = name.replace("w", "b")
        weights[bias][half:] = weights[bias][:half]
    files = saved(tmp_path, changed(proto, **weights))
    total = 16 * 24 + 24 * 12 + 12 * 4
    left = 16 * 12 + 12 * 6 + 6 * 4
    settings = plain(sparsity=1 - left / total, structure="units")
    report = prune(files.model, files.data, settings=settings)
    assert [layer.left for layer in report.layers] == ["16 x 12", "12 x 6", "6 x 4"]
    assert report.comparison.error < 5e-3  # damping alone moves the weights
    (expected,), (actual,) = outputs(files.model, proto), outputs(files.output, proto)
    assert relative_error(actual, expected) < 5e-3


def test_a_layer_of_low_rank_becomes_two(tmp_path) -> None:
    proto = mlp(sizes=(16, 24, 20, 4))
    weights = weights_of(proto)
    P, powers, Q = np.linalg.svd(weights["w2"], full_matrices=False)
    weights["w2"] = ((P[:, :3] * powers[:3]) @ Q[:3]).astype(np.float32)
    files = saved(tmp_path, changed(proto, **weights))
    total = 16 * 24 + 24 * 20 + 20 * 4
    left = 16 * 24 + 4 * (24 + 20) + 20 * 4
    settings = plain(sparsity=1 - left / total, structure="ranks")
    report = prune(files.model, files.data, settings=settings)
    assert [layer.left for layer in report.layers] == ["16 x 24", "24 - 4 - 20", "20 x 4"]
    assert report.comparison.error < 5e-3
    assert len(Model.load(files.output).layers) == 4


def test_scores_of_low_rank_need_few_entries_of_queries_and_keys(tmp_path) -> None:
    """Each head's scores have rank 2 of 4: half of the queries and keys can go."""
    proto, random = heads(), np.random.default_rng(0)
    weights = weights_of(proto)
    low = [first @ second.T for first, second in random.normal(size=(HEADS, 2, SIZE, 2)) / 2]
    for name in ("wq", "bq"):
        parts = np.split(weights[name], HEADS, axis=-1)
        weights[name] = np.concatenate([a @ P for a, P in zip(parts, low, strict=True)], axis=-1)
        weights[name] = weights[name].astype(np.float32)
    files = saved(tmp_path, changed(proto, **weights))
    width = HEADS * SIZE
    settings = plain(sparsity=0.5, structure="ranks", exclude=("v0", "y"))
    report = prune(files.model, files.data, settings=settings)
    left = {layer.name: layer.left for layer in report.layers if layer.left}
    assert left == {"q0": f"6 x {width // 2}", "k0": f"6 x {width // 2}"}
    assert report.sparsity == 0.5
    assert report.comparison.error < 5e-3
    (expected,), (actual,) = (outputs(path, proto) for path in (files.model, files.output))
    assert relative_error(actual, expected) < 5e-3


def test_values_of_low_rank_need_few_entries(tmp_path) -> None:
    """What reads each head's values reads two of their four dimensions."""
    proto, random = heads(), np.random.default_rng(0)
    weights = weights_of(proto)
    low = [first @ second.T for first, second in random.normal(size=(HEADS, 2, SIZE, 2)) / 2]
    parts = np.split(weights["wo"], HEADS)
    weights["wo"] = np.concatenate([P @ a for a, P in zip(parts, low, strict=True)])
    weights["wo"] = weights["wo"].astype(np.float32)
    files = saved(tmp_path, changed(proto, **weights))
    width = HEADS * SIZE
    settings = plain(sparsity=0.5, structure="ranks", exclude=("q0", "k0"))
    report = prune(files.model, files.data, settings=settings)
    left = {layer.name: layer.left for layer in report.layers if layer.left}
    assert left == {"v0": f"6 x {width // 2}", "y": f"{width // 2} x 6"}
    assert report.sparsity == 0.5
    assert report.comparison.error < 5e-3
    written = sum(layer.parameters for layer in Model.load(files.output).layers)
    assert written == 3 * 6 * width


@pytest.mark.parametrize(
    "target", thinned([{"max_error": 0.2}, {"max_drop": 0.2}, {"epsilon": 0.4}], 2)
)
def test_targets_of_the_network_are_kept(tmp_path, target) -> None:
    files = saved(tmp_path, mlp(), 600)
    report = prune(files.model, files.data, settings=plain(structure="shrink", **target))
    assert report.sparsity > 0.05
    if "max_error" in target:
        assert report.comparison.error <= 0.2
    assert report.verdict.reached


def test_bytes_are_those_of_the_smaller_file(tmp_path) -> None:
    proto = mlp(sizes=(16, 64, 48, 4))
    files = saved(tmp_path, proto)
    limit = 12_000
    report = prune(files.model, files.data, settings=plain(structure="shrink", max_bytes=limit))
    assert 0.8 * limit <= report.comparison.candidate.bytes_gzip <= limit


def test_layers_that_are_left_out_keep_their_shape(tmp_path) -> None:
    files = saved(tmp_path, mlp())
    settings = plain(sparsity=0.3, structure="shrink", exclude=("*2*",))
    report = prune(files.model, files.data, settings=settings)
    excluded = next(layer for layer in report.layers if "2" in layer.name)
    assert not excluded.left
    written = Model.load(files.output)
    assert next(layer for layer in written.layers if layer.name == excluded.name).shape == (24, 12)


@pytest.mark.slow
def test_equal_runs_write_equal_bytes(tmp_path) -> None:
    files = saved(tmp_path, mlp())
    settings = Settings(sparsity=0.5, structure="shrink", threads=1)
    contents = []
    for _ in range(2):
        prune(files.model, files.data, settings=settings, force=True)
        contents.append(files.output.read_bytes())
    assert contents[0] == contents[1]


def test_a_speedup_is_searched_for_by_measured_latency(tmp_path, monkeypatch) -> None:
    """With a latency that follows from the parameters, the sparsity is that of the factor."""
    files = saved(tmp_path, mlp(sizes=(16, 64, 48, 4)))

    def by_parameters(models, batches, threads, patience):
        assert [batch.count for batch in batches] == [1]
        dense, small = (model.count_parameters()[0] for model in models)
        ratio = 0.2 + 0.8 * small / dense
        return (BatchTiming(1, (), (Estimate(ratio, ratio, ratio),), 1),)

    monkeypatch.setattr(goals, "latency_ratio", by_parameters)
    report = prune(files.model, files.data, settings=plain(structure="shrink", speedup=2))
    assert report.target.reached <= 0.5
    assert report.target.reached > 0.42  # widths are whole, and no more goes than has to
    assert report.verdict.outcome.startswith("Reached: 2")
    with pytest.raises(GateFailed, match="speedup 6"):
        prune(
            files.model,
            files.data,
            settings=plain(structure="shrink", speedup=6),
            force=True,
        )


def test_zeros_make_nothing_faster() -> None:
    with pytest.raises(BadInput, match="--structure shrink"):
        Settings(speedup=2)


@pytest.mark.parametrize(
    "clash",
    [
        {"method": "net-trim"},
        {"pattern": "1x4", "sparsity": 0.5},
        {"allocate": "uniform", "sparsity": 0.5},
        {"limit": ("fc=0:0.5",)},
        {"sweeps": 2, "sparsity": 0.5},
        {"no_delete": True},
    ],
)
def test_what_goes_with_no_structure(clash) -> None:
    with pytest.raises(BadInput, match=f"--{next(iter(clash)).replace('_', '-')}"):
        Settings(structure="shrink", **clash)


def test_nothing_is_written_where_nothing_may_go(tmp_path) -> None:
    files = saved(tmp_path, mlp())
    with pytest.raises(NothingToDo):
        prune(files.model, files.data, settings=plain(structure="units", epsilon=1e-6))
    assert not files.output.exists()


def test_few_samples_are_made_into_more_unless_that_is_not_wanted(tmp_path) -> None:
    files = saved(tmp_path, mlp(), 40)
    columns = {}
    for augment in ("auto", "none"):
        settings = plain(sparsity=0.5, structure="shrink", augment=augment)
        report = prune(files.model, files.data, settings=settings, force=True)
        columns[augment] = report.layers[1].columns
    assert columns["auto"] > columns["none"] == 32


def test_layers_whose_units_stay_tell_why(tmp_path) -> None:
    files = saved(tmp_path, mlp())
    report = prune(files.model, files.data, settings=plain(sparsity=0.3, structure="shrink"))
    notes = {layer.name: layer.note for layer in report.layers}
    assert "outputs stay: they are outputs of the model" in notes.popitem()[1]
    assert not any("outputs stay" in note for note in notes.values())


def test_of_layers_of_other_shapes_nothing_is_proved(tmp_path) -> None:
    """A comparison with a proof says so in words of its own, and measures all the same."""
    files = saved(tmp_path, mlp())
    settings = plain(sparsity=0.5, structure="units")
    report = prune(files.model, files.data, settings=settings)
    comparison = compare(files.model, files.output, files.data, certificate="quick")
    (bound,) = comparison.certificate.outputs
    assert bound.reason == "nothing is proved: the two models have layers of different shapes"
    assert comparison.error == pytest.approx(report.comparison.error, rel=0.5)


def grouped() -> onnx.ModelProto:
    """A convolution in two groups, and a depthwise one, between units and their reader."""
    text = """g (float[N,3,8,8] x) => (float[N,5] y) {
        c1 = Conv<pads = [1,1,1,1]>(x, w1)
        r1 = Relu(c1)
        c2 = Conv<group = 2, pads = [1,1,1,1]>(r1, w2)
        r2 = Relu(c2)
        c3 = Conv<group = 16, pads = [1,1,1,1]>(r2, w3)
        f = Flatten(c3)
        y = Gemm(f, w4)
    }"""
    return build(
        text,
        w1=he(8, 3, 3, 3, seed=1, inputs=27),
        w2=he(16, 4, 3, 3, seed=2, inputs=36),
        w3=he(16, 1, 3, 3, seed=3, inputs=9),
        w4=he(1024, 5, seed=4),
    )


@pytest.mark.parametrize("seed", range(3))
def test_predicted_sizes_are_those_of_smaller_models(seed) -> None:
    """With groups of convolutions, which go with units of others, and depthwise ones."""
    model = Model(grouped())
    groups, random = unit_groups(model), np.random.default_rng(seed)
    totals = {group.name: group.units for group in groups}
    units = {name: int(random.integers(1, total + 1)) for name, total in totals.items()}
    predicted = {}
    for (layer, _), shape in block_shapes(model.layers, groups).items():
        rows, columns = shape.remaining(units, totals)
        size = shape.share(units, totals) * rows * columns
        predicted[layer] = predicted.get(layer, 0) + size
    small = delete_units(model, {name: np.arange(count) for name, count in units.items()})
    assert predicted == {layer.name: layer.parameters for layer in small.layers}


@pytest.mark.parametrize("share", thinned([0.3, 0.5], 2))
def test_what_is_told_is_what_was_asked_for_and_what_is_gone(tmp_path, share) -> None:
    files = saved(tmp_path, grouped(), 64)
    settings = plain(sparsity=share, structure="units", include=("*",))
    report = prune(files.model, files.data, settings=settings)
    written = Model.load(files.output).count_parameters()[0]
    assert report.nonzeros == written
    assert report.weights == Model.load(files.model).count_parameters()[0]
    assert report.sparsity >= share


def test_weights_that_go_with_units_of_other_layers_are_counted(tmp_path) -> None:
    files = saved(tmp_path, grouped(), 64)
    settings = plain(sparsity=0.4, structure="units")
    report = prune(files.model, files.data, settings=settings)
    lefts = {layer.name: layer.left for layer in report.layers}
    assert lefts == {"c1": "27 x 4", "c2": "36 x 8", "c3": "", "y": "512 x 5"}
    left = 4 * 27 + 8 * 36 + 512 * 5
    assert report.nonzeros == left
    assert Model.load(files.output).count_parameters()[0] == left + 8 * 9


@pytest.mark.parametrize("name", ["c2", "c3"])
def test_layers_that_units_pass_through_stay_where_they_are_left_out(tmp_path, name) -> None:
    files = saved(tmp_path, grouped(), 64)
    settings = plain(sparsity=0.4, structure="units", exclude=(name,))
    with pytest.raises(NothingToDo, match="no hidden units"):
        prune(files.model, files.data, settings=settings)


def test_more_weights_than_can_go_are_refused(tmp_path) -> None:
    files = saved(tmp_path, mlp())
    settings = plain(sparsity=0.5, structure="ranks", exclude=("z1", "z2"))
    assert prune(files.model, files.data, settings=settings).verdict.reached
    settings = plain(sparsity=0.9, structure="ranks", exclude=("z1", "z2"))
    with pytest.raises(BadInput, match=r"at most; --sparsity 0\.9 is more"):
        prune(files.model, files.data, settings=settings, force=True)


def test_zeros_that_are_there_are_weights_that_may_go(tmp_path) -> None:
    proto = mlp()
    weights = weights_of(proto)
    weights["w1"][:, :12] = 0
    files = saved(tmp_path, changed(proto, **weights))
    settings = plain(sparsity=0.2, structure="units")
    report = prune(files.model, files.data, settings=settings)
    assert all(layer.sparsity_before == 0 for layer in report.layers)
    assert report.sparsity >= 0.2


def test_a_missed_target_tells_what_is_gone(tmp_path) -> None:
    files = saved(tmp_path, mlp(), 64)
    with pytest.raises(GateFailed) as missed:
        prune(files.model, files.data, settings=plain(max_error=1e-4, structure="units"))
    report = missed.value.report
    assert report.target.sparsity == pytest.approx(report.sparsity)
    assert f"{report.sparsity:.1%} of the weights gone" in str(missed.value)


def test_a_refit_of_smaller_layers_proves_nothing_in_plain_words(tmp_path) -> None:
    files = saved(tmp_path, mlp(), 300)
    settings = plain(sparsity=0.5, structure="units", refit="network")
    report = prune(files.model, files.data, settings=settings)
    (output,) = report.certificate.outputs
    assert output.reason == "nothing is proved: the two models have layers of different shapes"


def test_units_of_an_embedding_that_no_layer_makes_may_go(tmp_path) -> None:
    """Some entries of each row of the table are copies of others."""
    table = normal(20, 16, seed=1)
    table[:, 8:] = table[:, :8]
    proto = build(
        "g (int64[N,4] x) => (float[N,4,3] y) { e = Gather(t, x) h = Relu(e) z = MatMul(h, w1) "
        "r = Relu(z) y = MatMul(r, w2) }",
        t=table,
        w1=he(16, 12, seed=2),
        w2=he(12, 3, seed=3),
    )
    model = save_model(tmp_path / "model.onnx", proto)
    x = np.random.default_rng(0).integers(0, 20, (300, 4))
    np.savez(tmp_path / "calib.npz", x=x)
    settings = plain(sparsity=1 - (8 * 12 + 12 * 3) / (16 * 12 + 12 * 3), structure="units")
    report = prune(model, tmp_path / "calib.npz", settings=settings)
    assert [layer.left for layer in report.layers] == ["8 x 12", "12 x 3"]
    assert report.comparison.error < 5e-3  # damping alone moves the weights
    tensors = onnx.load(tmp_path / "model.pruned.onnx").graph.initializer
    assert [20, 8] in [list(tensor.dims) for tensor in tensors]
