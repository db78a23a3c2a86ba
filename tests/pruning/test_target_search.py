"""Targets of the whole network: what was wanted holds for the file that was written."""

from __future__ import annotations

import gzip
import itertools
from types import SimpleNamespace

import h5py
import numpy as np
import onnx
import pytest

from nettrim_cli.data.dataset import Batch
from nettrim_cli.errors import BadInput, GateFailed, NothingToDo, WrongUsage
from nettrim_cli.evaluation.comparison import ReferenceOutputs
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.pruning import measurement, scattered
from nettrim_cli.pruning.goals import DropGoal
from nettrim_cli.pruning.layerwise import prune_pass
from nettrim_cli.pruning.output_gradients import Movement
from nettrim_cli.pruning.root_search import MOST
from nettrim_cli.settings import ALLOCATIONS, Settings
from tests.support.effort import thinned
from tests.support.networks import NETWORKS, Files, he, save_data, save_model
from tests.support.options import PLAIN
from tests.support.small import build, normal, run


def made(folder, proto, samples=150) -> Files:
    return Files(
        save_model(folder / "model.onnx", proto), save_data(folder / "calib.h5", proto, samples)
    )


@pytest.fixture(params=thinned(NETWORKS, 2))
def network(request, tmp_path) -> Files:
    return made(tmp_path, NETWORKS[request.param]())


def pruned(files, **options):
    return prune(files.model, files.data, settings=Settings(**PLAIN, **options), force=True)


def test_an_error_is_met_and_hardly_more_zeros_would_meet_it(network) -> None:
    report = pruned(network, max_error=0.3)
    target = report.target
    assert (target.name, target.wanted, target.bound) == ("max_error", 0.3, None)
    assert target.reached == report.comparison.error <= 0.3
    assert report.sparsity == pytest.approx(target.sparsity, abs=0.01)
    assert 1 <= len(target.rounds) <= MOST
    assert target.sparsity in {each.sparsity for each in target.rounds}
    more = min(0.99, report.sparsity + 0.5 * (1 - report.sparsity))
    assert pruned(network, sparsity=more).comparison.error > 0.3


def test_a_size_is_met_with_hardly_more_zeros_than_needed(network) -> None:
    dense = len(gzip.compress(network.model.read_bytes(), 6))
    wanted = int(0.85 * dense)
    report = pruned(network, max_bytes=wanted)
    written = len(gzip.compress(network.output.read_bytes(), 6))
    assert report.comparison.candidate.bytes_gzip == pytest.approx(written, abs=30)
    assert report.target.reached == report.comparison.candidate.bytes_gzip <= wanted
    assert report.target.reached > 0.9 * wanted


def test_a_drop_is_met_by_the_held_out_samples_and_by_the_bound(files) -> None:
    report = pruned(files, max_drop=0.25)
    target = report.target
    assert target.reached == pytest.approx(report.comparison.drop)
    assert target.reached <= 0.25
    assert target.reached < target.bound <= 0.25
    assert report.sparsity > 0.2


def test_answers_at_several_positions_have_a_drop_too(tmp_path) -> None:
    report = pruned(made(tmp_path, NETWORKS["attention"]()), max_drop=0.3)
    assert report.comparison.reference.accuracy is None
    assert report.target.reached == pytest.approx(report.comparison.drop)
    assert report.target.bound <= 0.3
    assert report.comparison.outputs[0].agreement_interval is None


def test_answers_without_scores_have_a_drop_too(tmp_path) -> None:
    proto = build(
        "g (float[N,8] x) => (int64[N] y) { h = Gemm(x, w1, b)\n r = Relu(h)\n z = MatMul(r, w2)\n"
        " y = ArgMax<axis = 1, keepdims = 0>(z) }",
        w1=normal(8, 24, seed=1),
        b=normal(24, seed=2),
        w2=normal(24, 4, seed=3),
    )
    report = pruned(made(tmp_path, proto, 600), max_drop=0.3)
    assert report.target.reached == pytest.approx(report.comparison.drop)
    assert report.target.bound <= 0.3


def test_a_drop_needs_answers(tmp_path) -> None:
    proto = build("g (float[N,8] x) => (float[N,1] y) { y = MatMul(x, w) }", w=normal(8, 1, seed=1))
    with pytest.raises(BadInput, match="no output has one answer for each label"):
        pruned(made(tmp_path, proto), max_drop=0.1)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"max_error": 1e-9}, GateFailed, "--max-error 1e-09; the nearest was"),
        ({"max_drop": 1e-9}, GateFailed, "not by enough for so few samples"),
        ({"max_bytes": 100}, GateFailed, "Allow a larger --max-bytes"),
        ({"max_bytes": 10**9}, NothingToDo, "already"),
    ],
    ids=["error", "drop", "bytes", "met"],
)
def test_what_cannot_be_met_or_is_met_already_writes_nothing(files, options, kind, words) -> None:
    with pytest.raises(kind, match=words):
        pruned(files, **options)
    assert files.listing == ["calib.h5", "model.onnx"]


def sparse_already(folder, files, share=0.5) -> Files:
    """The model with the smallest of each layer's weights zero."""
    proto = onnx.load(files.model)
    model = Model(proto)
    for layer in model.layers:
        weights, _ = model.weight(layer)
        for weight in weights:
            weight[np.abs(weight) <= np.quantile(np.abs(weight), share)] = 0
        model.set_weight(layer, weights, None)
    return Files(save_model(folder / "sparse.onnx", model.proto), files.data)


def zeros_of(path) -> list[int]:
    model = Model.load(path)
    return [
        sum(np.count_nonzero(each == 0) for each in model.weight(layer)[0])
        for layer in model.layers
    ]


@pytest.mark.parametrize(
    ("target", "allocate"),
    thinned(itertools.product([{"sparsity": 0.53}, {"max_error": 0.1}], ALLOCATIONS), 4),
)
def test_zeros_that_are_there_cost_nothing_and_stay(files, target, allocate) -> None:
    sparse = sparse_already(files.folder, files)
    before, output = zeros_of(sparse.model), files.folder / "sparse.pruned.onnx"
    report = pruned(sparse, **target, allocate=allocate)
    assert all(two >= one for one, two in zip(before, zeros_of(output), strict=True))
    if "sparsity" in target:
        assert report.sparsity == pytest.approx(0.53, abs=0.005)
        errors = [
            report.comparison.error,
            *(pruned(sparse, **target, allocate=allocate, seed=n).comparison.error for n in (1, 2)),
        ]
        assert np.median(errors) < 0.1  # 24 samples are held out: one draw alone says little


def test_a_ceiling_below_the_zeros_there_are_leaves_nothing_to_do(files) -> None:
    sparse = sparse_already(files.folder, files)
    with pytest.raises(NothingToDo, match="--limit allows no more zeros"):
        pruned(sparse, max_error=0.3, limit=("*=0:0.3",))
    assert files.listing == ["calib.h5", "model.onnx", "sparse.onnx"]


def test_a_size_just_below_the_dense_one_takes_few_zeros(tmp_path) -> None:
    proto = build(
        """g (float[N,16] x) => (float[N,5] y) {
            h = MatMul(x, w1) r = Relu(h) k = MatMul(r, w2) s = Relu(k) y = MatMul(s, w3)
        }""",
        w1=normal(16, 32, seed=1),
        w2=normal(32, 32, seed=2),
        w3=normal(32, 5, seed=3),
    )
    files = made(tmp_path, proto)
    wanted = int(0.97 * len(gzip.compress(files.model.read_bytes(), 6)))
    assert 0.98 * wanted < pruned(files, max_bytes=wanted).target.reached <= wanted


def test_an_output_that_never_changes_says_nothing_of_a_drop(tmp_path) -> None:
    text = "g (float[N,8] x) => (float[N,4] y, float[N,4] z) { %s z = MatMul(x, nothing) }"
    body = "h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2)"
    weights = {"w1": normal(8, 24, seed=1), "w2": normal(24, 4, seed=2)}
    both = build(text % body, nothing=np.zeros((8, 4), np.float32), **weights)
    alone = build(f"g (float[N,8] x) => (float[N,4] y) {{ {body} }}", **weights)
    found = []
    for name, proto in (("one", alone), ("two", both)):
        (tmp_path / name).mkdir()
        files = made(tmp_path / name, proto)
        with h5py.File(files.data, "a") as data:
            data.pop("labels", None)
        report = pruned(files, max_drop=0.2, exclude=("z",) if name == "two" else ())
        found.append(report.target.rounds[0].sparsity)
    assert found[1] == pytest.approx(found[0], abs=0.1)  # the first guess, which tells nothing yet


def test_what_is_met_already_is_told_before_any_work(files, monkeypatch) -> None:
    monkeypatch.setattr(scattered, "measure", None)
    with pytest.raises(NothingToDo, match="already"):
        pruned(files, max_bytes=10**9)


@pytest.mark.parametrize(
    ("allocate", "target"),
    thinned(itertools.product(ALLOCATIONS, [{"sparsity": 0.6}, {"max_error": 0.4}]), 3),
)
def test_every_allocation_keeps_to_the_limits(files, allocate, target) -> None:
    _, two, three = (layer.name for layer in Model.load(files.model).layers)
    limits = (f"{two}=0:0.5", f"{three}=0.75:")
    # The last that matches holds.
    report = pruned(files, allocate=allocate, limit=("*=0.3:0.99", *limits), **target)
    shares = {each.name: each.sparsity_after for each in report.layers}
    assert shares[two] <= 0.5
    assert shares[three] >= 0.75
    if "sparsity" in target:
        assert report.sparsity == pytest.approx(0.6, abs=0.002)


def test_a_ceiling_holds_where_the_layer_before_delivers_nothing(files) -> None:
    one, two, _ = (layer.name for layer in Model.load(files.model).layers)
    report = pruned(files, sparsity=0.7, limit=(f"{one}=0.99:", f"{two}=0:0.5"))
    shares = {each.name: each.sparsity_after for each in report.layers}
    assert shares[one] >= 0.99
    assert shares[two] <= 0.5


def test_uniform_gives_every_layer_the_same_share(files) -> None:
    report = pruned(files, sparsity=0.7, allocate="uniform")
    assert all(each.sparsity_after == pytest.approx(0.7, abs=0.02) for each in report.layers)


def test_error_weighs_layers_by_their_own_errors_alone(files, monkeypatch) -> None:
    """However the output is moved by a layer, that allocation does not change."""

    def shares():
        report = pruned(files, sparsity=0.7, allocate="error")
        return [each.sparsity_after for each in report.layers]

    before = shares()
    moved = Movement(1.0, 1.0)
    monkeypatch.setattr(measurement, "movements", lambda *args: dict.fromkeys(args[2], moved))
    assert shares() == before
    assert len(set(before)) > 1


def test_limits_hold_where_epsilon_is_the_target(files) -> None:
    names = [layer.name for layer in Model.load(files.model).layers]
    free = {each.name: each.sparsity_after for each in pruned(files, epsilon=0.3).layers}
    held = pruned(files, epsilon=0.3, limit=(f"{names[0]}=:0.2", f"{names[1]}=0.9:"))
    found = {each.name: each.sparsity_after for each in held.layers}
    assert free[names[0]] > 0.2 >= found[names[0]] > 0.15
    assert free[names[1]] < 0.9 <= found[names[1]]


@pytest.mark.parametrize(
    ("limit", "words"),
    [("nosuch*=0:0.5", "matches no layer"), ("*=0:0.3", "between 0.0% and 29.9% zeros")],
)
def test_limits_that_cannot_hold_are_told_before_any_work(files, limit, words) -> None:
    with pytest.raises((BadInput, WrongUsage), match=words):
        pruned(files, sparsity=0.5, limit=(limit,))


@pytest.mark.slow
def test_the_convex_methods_reach_a_target_too(files) -> None:
    report = pruned(files, method="net-trim", max_error=0.5)
    assert report.comparison.error <= 0.5
    assert report.sparsity > 0.1


def test_only_the_first_round_makes_all_choices(files, monkeypatch) -> None:
    rounds = []

    def watched(context, samples, zeros, importance, warm, **options):
        result = prune_pass(context, samples, zeros, importance, warm, **options)
        rounds.append((warm, result))
        return result

    monkeypatch.setattr(scattered, "prune_pass", watched)
    report = pruned(files, max_error=0.1)
    assert len(rounds) == len(report.target.rounds) > 1
    first, earlier = rounds[0]
    assert (first.tuned, first.weights) == ({}, None)
    for warm, result in rounds[1:]:
        assert warm.weights is earlier.model
        assert warm.tuned == earlier.warm.tuned
        assert {block: result.warm.tuned[block] for block in warm.tuned} == warm.tuned
        earlier = result


def test_the_written_file_answers_as_the_round_did(files) -> None:
    report = pruned(files, max_error=0.25)
    found = compare(files.model, files.output, files.data, threads=1)
    x = np.ones((1, 16), np.float32)
    (one,), (two,) = (run(onnx.load(path), ["y"], {"x": x}) for path in (files.model, files.output))
    assert not np.array_equal(one, two)
    assert found.error == pytest.approx(report.target.reached, rel=0.5)


@pytest.mark.parametrize("special", ["fitted", "held out"])
def test_answers_whose_number_the_samples_decide_are_paired_by_name(tmp_path, special) -> None:
    """A sequence of one or two arrays of scores; samples above 5 ask for the second."""
    proto = build(
        "g (float[N,6] x) => (seq(float[N,4]) y) { h = MatMul(x, w) s = Relu(h) z = MatMul(s, v) "
        "m = ReduceMax<keepdims = 0>(x) c = Constant<value = float {5.0}>() o = Greater(m, c) "
        "i = Cast<to = 7>(o) a = Add(i, one) d = Concat<axis = 0>(a, one) t = Tile(z, d) "
        "n = Shape<end = 1>(x) q = Squeeze(n) y = SplitToSequence<axis = 0>(t, q) }",
        w=he(6, 12, seed=1),
        v=he(12, 4, seed=2),
        one=np.array([1]),
    )
    dense = Model.load(save_model(tmp_path / "model.onnx", proto))
    plain, large = (Batch({"x": normal(40, 6, seed=seed)}, 40, None) for seed in range(2))
    large.feeds["x"][:, 0] = 9
    fitted, holdout = [plain, large], [plain]
    if special != "fitted":
        fitted, holdout = holdout, fitted
    context = SimpleNamespace(dense=dense, threads=1)
    reference = ReferenceOutputs(dense, lambda: holdout, threads=1)
    samples = SimpleNamespace(fit_batches=lambda: fitted)
    search = SimpleNamespace(context=context, samples=samples, reference=reference)
    goal = DropGoal(search)
    assert len(goal.fitted_answers.answer_margins) == len(fitted)
    drop, bound = goal.measured(dense)
    assert drop == 0 < bound < 0.2
