"""Samples, labels and models that do not belong together are refused, or told first."""

from __future__ import annotations

import numpy as np
import pytest

from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.label_checks import CHANCE, chance
from nettrim_cli.evaluation.plausibility import without_outliers
from nettrim_cli.pipeline import compare, prune
from nettrim_cli.report.diagnostic import Severity
from nettrim_cli.settings import Gate, Settings
from tests.support.networks import NETWORKS, Files, he, input_samples, mlp, save_model
from tests.support.options import QUICK
from tests.support.small import build, normal, run

COUNT = 300
PLAIN = Settings(**QUICK)


@pytest.fixture
def saved(tmp_path):
    """Save a model with data; give a function that prunes."""

    def save(proto, **arrays):
        model, data = save_model(tmp_path / "model.onnx", proto), tmp_path / "data.npz"
        np.savez(data, **arrays)
        return Files(model, data)

    return save


def samples(proto, count=COUNT):
    x = input_samples(proto, count)
    (scores,) = run(proto, ["y"], {"x": x})
    return x, scores.argmax(axis=-1)


def codes(files, **options):
    options = options or {"sparsity": 0.5, "allocate": "uniform"}
    settings = Settings(threads=1, augment="none", final_fit="none", refit="layers", **options)
    report = prune(files.model, files.data, settings=settings, force=True)
    return [each.code for each in report.warnings]


def refused(files, **options):
    files.output.unlink(missing_ok=True)
    with pytest.raises(BadInput) as error:
        codes(files, **options)
    assert not files.output.exists()
    return str(error.value)


def test_nothing_is_said_where_all_is_well(saved) -> None:
    for name, network in NETWORKS.items():
        proto = network()
        x, answers = samples(proto)
        arrays = {"x": x} if name == "attention" else {"x": x, "labels": answers}
        assert codes(saved(proto, **arrays), sparsity=0.5) == []


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("y, m2, v2 = BatchNormalization<training_mode = 1>(h, s, b, m, v)", True),
        ("y = BatchNormalization(h, s, b, m, v)", False),
        (
            "r = Constant<value = float {0.5}>() t = Constant<value = bool {1}>() "
            "d = Dropout(h, r, t) y = BatchNormalization(d, s, b, m, v)",
            True,
        ),
        (
            "r = Constant<value = float {0.5}>() t = Constant<value = bool {0}>() "
            "d = Dropout(h, r, t) y = BatchNormalization(d, s, b, m, v)",
            False,
        ),
    ],
)
def test_a_model_in_training_mode(saved, tail, told) -> None:
    tensors = {"s": np.ones(6, np.float32), "b": np.zeros(6, np.float32)}
    tensors |= {"m": np.zeros(6, np.float32), "v": np.full(6, 8, np.float32), "w": normal(8, 6)}
    proto = build(f"g (float[N,8] x) => (float[N,6] y) {{ h = MatMul(x, w) {tail} }}", **tensors)
    found = codes(saved(proto, x=normal(COUNT, 8, seed=3)))
    assert ("training-mode" in found) is told
    assert "untrained-range" not in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda y: np.where(y == y.max(), 4, y + 1),
            "label 4 is no class of output 'y', which has 4.*counted from 1",
        ),
        (lambda y: np.where(y == 0, 17, y), "label 17 is no class of output 'y'"),
        (lambda y: np.where(y == 0, -1, y), "-1 is no class: .*--ignore-label"),
        (lambda y: y + 0.25, "is not a class number: .*--max-error"),
        (lambda y: np.eye(4)[y], "one-hot, store labels.argmax"),
    ],
    ids=["from one", "too large", "negative", "targets", "one-hot"],
)
@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"max_drop": 0.2}], ids=str)
def test_labels_that_are_no_classes_are_refused(saved, change, words, target) -> None:
    proto = mlp()
    x, answers = samples(proto)
    message = refused(saved(proto, x=x, labels=change(answers)), **target)
    assert "dataset 'labels'" in message
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(message)


def test_labels_that_are_to_be_ignored_count_for_nothing(saved) -> None:
    proto = mlp()
    x, answers = samples(proto)
    marked = np.where(np.arange(COUNT) % 3 == 0, -7, answers)
    files = saved(proto, x=x, labels=marked)
    settings = Settings(**QUICK, ignore_label=-7)
    report = prune(files.model, files.data, settings=settings)
    assert report.comparison.reference.accuracy == 1
    assert report.warnings == ()
    everything = saved(proto, x=x, labels=np.full(COUNT, -7))
    assert codes(everything, sparsity=0.5, ignore_label=-7) == ["unused-labels"]
    assert "all labels are" in refused(everything, max_drop=0.2, ignore_label=-7)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda y: np.random.default_rng(1).permutation(y), "labels-at-chance", "than chance"),
        (lambda y: (y + 2) % 4, "labels-at-chance", "order of the samples"),
        (lambda y: np.maximum(y - 1, 0), "labels-at-chance", "With 1 added to each label"),
        (lambda y: np.full_like(y, 2), "constant-labels", "all labels are 2"),
    ],
    ids=["shuffled", "other order", "one too small", "constant"],
)
def test_labels_at_chance_are_an_error_where_accuracy_decides_else_told_first(
    saved, change, code, words
) -> None:
    proto = mlp()
    x, answers = samples(proto)
    files = saved(proto, x=x, labels=change(answers))
    assert words in refused(files, max_drop=0.2)
    report = prune(files.model, files.data, settings=PLAIN)
    assert report.warnings[0].code == code
    assert report.warnings[0].severity is Severity.CRITICAL
    assert words in report.warnings[0].text


def test_guesses_pass_for_answers_as_seldom_as_the_test_says() -> None:
    random = np.random.default_rng(0)
    hits = random.binomial(200, 0.4, 2000)
    assert np.mean([chance(int(each), 200, 0.4) <= CHANCE for each in hits]) <= 2 * CHANCE
    assert chance(0, 200, 0.4) == 1
    assert chance(200, 200, 0.4) < 1e-70


@pytest.mark.parametrize("name", ["label", "y", "target", "targets", "Labels", "LABELS", "y_true"])
def test_another_spelling_of_labels_is_taken_and_told(saved, name) -> None:
    proto = mlp()
    x, answers = samples(proto)
    files = saved(proto, x=x, **{name: answers})
    report = prune(files.model, files.data, settings=PLAIN)
    assert [each.code for each in report.warnings] == ["labels-by-another-name"]
    assert f"'{name}'" in report.warnings[0].text
    assert report.comparison.reference.accuracy == 1


def test_labels_are_told_beside_an_input_of_another_name(saved) -> None:
    x, answers = samples(mlp())
    assert codes(saved(mlp(), image=x, target=answers)) == ["labels-by-another-name"]


@pytest.mark.parametrize(
    "others",
    [{"y": "whole", "target": "whole"}, {"y": "fractions"}, {"y": "few"}],
    ids=["two", "fractions", "too few"],
)
def test_what_may_not_be_labels_is_told_and_not_used(saved, others) -> None:
    proto = mlp()
    x, answers = samples(proto)
    kinds = {"whole": answers, "fractions": answers + 0.5, "few": answers[:7]}
    files = saved(proto, x=x, **{name: kinds[kind] for name, kind in others.items()})
    report = prune(files.model, files.data, settings=PLAIN)
    assert [each.code for each in report.warnings] == ["labels-by-another-name"]
    assert "not used" in report.warnings[0].text
    assert report.comparison.reference.accuracy is None


def test_labels_that_no_output_is_about(saved) -> None:
    proto = build(
        "g (float[N,8] x) => (float[N,1] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }",
        w=he(8, 12, seed=1),
        v=he(12, 1, seed=2),
    )
    files = saved(proto, x=normal(COUNT, 8), labels=np.arange(COUNT) % 3)
    assert codes(files) == ["unused-labels"]
    assert "--max-error" in refused(files, max_drop=0.2)


def test_samples_that_are_all_equal_are_refused(saved) -> None:
    proto = mlp()
    x, _ = samples(proto)
    assert "all 50 samples are equal" in refused(saved(proto, x=np.repeat(x[:1], 50, 0)))
    assert "all 50 samples are equal" in refused(saved(proto, x=np.zeros((50, 16), np.float32)))


def test_copies_of_samples_are_told(saved) -> None:
    proto = mlp()
    x, _ = samples(proto)
    assert codes(saved(proto, x=np.repeat(x[:60], 5, 0)))[0] == "copied-samples"


@pytest.mark.parametrize("value", [1e15, 1e20, -3e38])
@pytest.mark.parametrize("target", [{"sparsity": 0.5}, {"max_error": 0.05}], ids=str)
def test_fill_values_are_refused_by_sample(saved, value, target) -> None:
    proto = mlp()
    x, _ = samples(proto)
    x[::7, 3] = value
    message = refused(saved(proto, x=x), **target)
    assert "dataset 'x'" in message
    assert "43 of 300 samples (0, 7, 14, 21 and 39 more" in message


def test_loud_samples_are_told_by_number(saved) -> None:
    proto = mlp()
    x, _ = samples(proto)
    x[[5, 40]] *= 1e3
    files = saved(proto, x=x)
    report = prune(files.model, files.data, settings=PLAIN)
    assert report.warnings[0].code == "dominant-samples"
    assert "2 of 300 samples (5, 40;" in report.warnings[0].text


@pytest.mark.parametrize(
    "energies",
    [np.ones(40), np.r_[np.zeros(90), np.ones(10)], np.exp(np.linspace(0, 4, 50)), np.ones(2)],
    ids=["equal", "mostly silent", "heavy tail", "two"],
)
def test_usual_samples_outweigh_no_others(energies) -> None:
    assert without_outliers(energies)[0] > 1e-3


def normalised(scale: float, kind: str = "float", dtype: type = np.float32):
    """A network whose BatchNormalization was trained on values of that scale."""
    text = f"""g ({kind}[N,2,6,6] x) => ({kind}[N,3] y) {{
        c = Conv<pads = [1,1,1,1]>(x, w1)
        n = BatchNormalization(c, s, t, m, v)
        r = Relu(n)
        p = GlobalAveragePool(r)
        f = Flatten(p)
        y = Gemm(f, w2)
    }}"""
    one = np.ones(4)
    tensors = {"s": one, "t": 0 * one, "m": 0 * one, "v": one * scale**2}
    tensors |= {"w1": he(4, 2, 3, 3, seed=1, inputs=36), "w2": he(4, 3, seed=2)}
    return build(text, **{name: values.astype(dtype) for name, values in tensors.items()})


@pytest.mark.parametrize(("scale", "told"), [(1.0, False), (1 / 255, True), (255.0, True)])
def test_samples_of_another_range_than_the_first_normalization_saw(saved, scale, told) -> None:
    x = normal(COUNT, 2, 6, 6)
    assert ("untrained-range" in codes(saved(normalised(scale), x=x))) is told


def test_normalizations_in_half_precision_are_looked_at_too(saved) -> None:
    x = normal(COUNT, 2, 6, 6).astype(np.float16)
    for scale, told in ((1.0, False), (100.0, True)):
        files = saved(normalised(scale, "float16", np.float16), x=x)
        assert ("untrained-range" in codes(files)) is told


def test_pictures_that_are_answered_better_when_scaled(saved) -> None:
    proto = mlp(sizes=(16, 24, 4))
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 16)).astype(np.float32)
    for each in proto.graph.initializer:
        if each.name == "b1":  # biases matter, so that the scale does
            each.raw_data = (30 * np.frombuffer(each.raw_data, np.float32)).tobytes()
    (scores,) = run(proto, ["y"], {"x": pixels / np.float32(255)})
    found = codes(saved(proto, x=pixels, labels=scores.argmax(axis=1)))
    assert "untrained-range" in found
    assert "unscaled-input" not in found
    assert "unscaled-input" in codes(saved(proto, x=pixels))


def test_a_model_that_divides_by_255_wants_more_than_0_to_1(saved) -> None:
    proto = build(
        """g (float[N,8] x) => (float[N,3] y) {
            s = Div(x, c) h = MatMul(s, w) r = Relu(h) y = MatMul(r, v)
        }""",
        c=np.float32(255),
        w=he(8, 12, seed=1),
        v=he(12, 3, seed=2),
    )
    x = np.random.default_rng(0).random((COUNT, 8)).astype(np.float32)
    assert "untrained-range" in codes(saved(proto, x=x))
    assert "untrained-range" not in codes(saved(proto, x=255 * x))


@pytest.mark.parametrize(("scale", "told"), [(1, False), (1e4, True)])
def test_a_saturated_softmax(saved, scale, told) -> None:
    proto = build(
        """g (float[N,8] x) => (float[N,3] y) {
            h = MatMul(x, w) r = Relu(h) z = MatMul(r, v) y = Softmax(z)
        }""",
        w=he(8, 12, seed=1),
        v=he(12, 3, seed=2),
    )
    x = normal(COUNT, 8) * np.float32(scale)
    assert ("saturated-output" in codes(saved(proto, x=x))) is told


def test_dense_outputs_that_say_nothing(saved) -> None:
    text = """g (float[N,8] x) => (float[N,3] y) {
        h = MatMul(x, w) r = Relu(h) z = Gemm(r, v, b) y = %s
    }"""
    tensors = {"w": he(8, 12, seed=1), "v": he(12, 3, seed=2)}
    one = np.array([1000, 0, 0], np.float32)
    x = normal(COUNT, 8)
    assert "one-answer" in codes(saved(build(text % "Identity(z)", b=one, **tensors), x=x))
    broken = build(text % "Log(z)", b=0 * one, **tensors)
    assert "nan-output" in codes(saved(broken, x=x))
    never = build(text % "Sqrt(z)", b=-one - 1000, **tensors)
    assert "not a number on" in refused(saved(never, x=x))
    flat = build(text % "Identity(z)", b=one, **{**tensors, "w": np.float32(1e-9) * tensors["w"]})
    assert codes(saved(flat, x=x))[0] == "constant-output"


def test_a_constant_input_among_others(saved) -> None:
    proto = build(
        "g (float[N,8] x, float[N,8] m) => (float[N,3] y) { s = Add(x, m) y = MatMul(s, w) }",
        w=he(8, 3, seed=1),
    )
    files = saved(proto, x=normal(COUNT, 8), m=np.ones((COUNT, 8), np.float32))
    assert "constant-input" in codes(files)


def test_samples_that_fill_no_batch_are_counted(saved) -> None:
    proto = build("g (float[8,16] x) => (float[8,4] y) { y = MatMul(x, w) }", w=he(16, 4, seed=1))
    files = saved(proto, x=normal(101, 16))
    report = prune(files.model, files.data, settings=PLAIN)
    (found,) = [each for each in report.warnings if each.code == "dropped-samples"]
    assert "5 of 101 samples" in found.text
    assert "exactly 8" in found.text


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (lambda right: right + 1, "1 subtracted"),
        (lambda right: np.random.default_rng(0).permutation(right), "chance"),
    ],
    ids=["from-one", "shuffled"],
)
def test_a_gate_on_accuracy_wants_labels_that_mean_something(saved, labels, words) -> None:
    proto = mlp()
    x, right = samples(proto)
    files = saved(proto, x=x, labels=labels(right))
    gate = Gate(max_drop=0.5)
    with pytest.raises(BadInput, match=words):
        compare(files.model, files.model, files.data, gate=gate, threads=1)


def test_a_comparison_leaves_ignored_labels_out(saved) -> None:
    proto = mlp()
    x, right = samples(proto)
    right[::3] = -1
    files = saved(proto, x=x, labels=right)
    with pytest.raises(BadInput, match="-1"):
        compare(files.model, files.model, files.data, gate=Gate(max_drop=0.5), threads=1)
    found = compare(files.model, files.model, files.data, threads=1, ignore_label=-1)
    assert found.reference.accuracy == 1
