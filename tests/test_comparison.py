"""Figures of a comparison against numbers worked out by hand."""

from __future__ import annotations

import gzip
import math

import numpy as np
import pytest
from networks import initializers, mlp, save_model
from onnx import numpy_helper
from small import build

from nettrim_cli.answers import top1
from nettrim_cli.comparison import Findings, Tally, compare_models, scored
from nettrim_cli.data.calibration import Batch
from nettrim_cli.errors import BadInput, GateFailed
from nettrim_cli.graph.model import Model
from nettrim_cli.pipeline import gate

SCORES = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 2], [1, 1, 0]], np.float32)


def batch(x, labels=None):
    return Batch({"x": x}, len(x), None if labels is None else np.array(labels))


def through(tmp_path, first, second, x=SCORES, labels=None, size=3):
    """Compare two texts of models; x goes in batches of `size`."""
    models = [
        Model.load(save_model(tmp_path / name, build(text) if isinstance(text, str) else text))
        for name, text in (("one.onnx", first), ("two.onnx", second))
    ]
    parts = [
        batch(x[at : at + size], None if labels is None else labels[at : at + size])
        for at in range(0, len(x), size)
    ]
    return compare_models(*models, lambda: parts, threads=1)


SAME = "g (float[N,3] x) => (float[N,3] y) { y = Identity(x) }"
NEGATED = "g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"
POISONED = """g (float[N,3] x) => (float[N,3] y) {
    n = Constant<value = float[3] {0.0, 0.0, 0.0}>()
    z = Div(n, n)
    y = Add(x, z)
}"""


def test_equal_models() -> None:
    tally = Tally()
    tally.add(SCORES, SCORES.copy())
    assert tally.facts("y").error == 0
    assert tally.facts("y").agreement == 1


def test_errors_are_summed_over_batches(tmp_path) -> None:
    found = through(tmp_path, SAME, NEGATED)
    assert found.samples == 4
    assert found.outputs[0].error == pytest.approx(2)
    assert found.outputs[0].agreement == 0
    assert found.drop == 1
    assert found.reference.accuracy is None


def test_accuracy_and_drop_by_labels(tmp_path) -> None:
    # argmax of SCORES is 2 0 1 0, of its negative 0 1 0 2
    found = through(tmp_path, SAME, NEGATED, labels=[2, 0, 0, 0])
    assert found.reference.accuracy == 0.75
    assert found.candidate.accuracy == 0.25
    assert found.drop == 0.5
    gate(found, max_drop=0.5, max_error=2.0)
    with pytest.raises(GateFailed, match="drop"):
        gate(found, max_drop=0.49, max_error=None)
    with pytest.raises(GateFailed, match="error"):
        gate(found, max_drop=None, max_error=1.99)


def test_a_drop_is_what_was_counted_whatever_rounding_makes_of_accuracies(tmp_path) -> None:
    x = np.tile(SCORES[:1], (10, 1))  # 2 by the model, 0 by its negative
    assert 0.8 - 0.2 > 0.6
    found = through(tmp_path, SAME, NEGATED, x, labels=[2] * 8 + [0] * 2)
    assert found.drop == 0.6
    gate(found, max_drop=0.6, max_error=None)


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 0]])
def test_answers_that_are_not_numbers_are_wrong_and_fail_every_gate(tmp_path, labels) -> None:
    found = through(tmp_path, SAME, POISONED, labels=labels)
    assert math.isnan(found.outputs[0].error)
    assert found.outputs[0].agreement == 0
    assert found.candidate.accuracy == (None if labels is None else 0)
    with pytest.raises(GateFailed, match="nan"):
        gate(found, max_drop=None, max_error=1e9)
    with pytest.raises(GateFailed):
        gate(found, max_drop=0.4, max_error=None)


def test_two_models_that_both_say_nothing_do_not_agree(tmp_path) -> None:
    assert through(tmp_path, POISONED, POISONED).outputs[0].agreement == 0


def test_a_gate_for_a_drop_needs_answers(tmp_path) -> None:
    text = "g (float[N,3] x) => (float[N,1] y) { y = ReduceSum<keepdims = 1>(x, a) }"
    proto = build(text, a=np.array([1]))
    found = through(tmp_path, proto, proto)
    assert found.drop is None
    with pytest.raises(GateFailed, match="labels"):
        gate(found, max_drop=1.0, max_error=None)
    gate(found, max_drop=None, max_error=0.0)


def test_outputs_of_other_names_are_matched_by_place(tmp_path) -> None:
    other = NEGATED.replace(" y", " z")
    assert through(tmp_path, SAME, other).outputs[0].error == pytest.approx(2)


def test_outputs_of_equal_names_are_matched_by_name(tmp_path) -> None:
    one = "g (float[N,3] x) => (float[N,3] a, float[N,3] b) { a = Identity(x)\n b = Neg(x) }"
    two = "g (float[N,3] x) => (float[N,3] b, float[N,3] a) { a = Identity(x)\n b = Neg(x) }"
    assert [each.error for each in through(tmp_path, one, two).outputs] == [0, 0]


def test_outputs_that_do_not_match_are_refused(tmp_path) -> None:
    two = "g (float[N,3] x) => (float[N,3] a, float[N,3] b) { a = Identity(x)\n b = Neg(x) }"
    with pytest.raises(BadInput, match="outputs"):
        through(tmp_path, SAME, two)
    narrow = "g (float[N,3] x) => (float[N,1] y) { y = ReduceMax<axes = [1]>(x) }"
    with pytest.raises(BadInput, match=r"\(3, 3\) and \(3, 1\)"):
        through(tmp_path, SAME, narrow)


def test_answers_that_are_missing_are_wrong() -> None:
    found = Findings({"y": Tally(fixed=frozenset())})
    labels = np.array([2, 0, 1, 0])
    found.add(Batch({}, 4, labels), [SCORES], [SCORES])
    found.add(Batch({}, 4, labels), [SCORES], [SCORES[:3]])
    assert found.samples == 8
    assert found.drop == 0.5
    assert len(found.labelled.arrays[0]) == 8


def test_strings_that_differ_are_errors() -> None:
    tally = Tally()
    tally.add(np.array(["a", "b", "c", "d"], object), np.array(["a", "b", "x", "d"], object))
    assert tally.error == pytest.approx(0.5)  # the root of a fourth, as for vectors
    same = Tally(fixed=frozenset())
    same.add(np.array(["a"], object), np.array(["a"], object))
    assert same.error == 0
    same.add(np.array(["b"], object), np.array(["b", "c"], object))  # other than were expected
    assert same.error == 1


def test_what_is_no_number_in_both_models_is_the_same() -> None:
    tally = Tally()
    tally.add(np.array([1.0, np.nan, np.inf]), np.array([1.0, np.nan, np.inf]))
    assert tally.error == 0
    tally.add(np.array([1.0]), np.array([np.nan]))
    assert math.isnan(tally.error)


def test_nothing_to_compare_on(tmp_path) -> None:
    with pytest.raises(BadInput, match="no samples"):
        through(tmp_path, SAME, SAME, x=SCORES[:0])


def test_infinities_that_are_equal_are_no_error() -> None:
    masked = SCORES.copy()
    masked[:, 0] = -np.inf
    tally = Tally()
    tally.add(masked, masked.copy())
    assert tally.facts("y").error == 0
    tally.add(masked, SCORES)
    assert not tally.facts("y").error < 1e9


def test_a_silent_reference_makes_any_answer_infinitely_wrong() -> None:
    tally = Tally()
    tally.add(np.zeros((2, 3), np.float32), SCORES[:2])
    assert tally.facts("y").error == math.inf


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (SCORES, [2, 0, 1, 0]),
        (np.array([3, 1]), [3, 1]),
        (np.zeros((2, 1), np.float32), None),
        (np.zeros(3, np.float32), None),
        (np.zeros((1, 2, 3, 4), np.float32), None),
        (np.array([["a", "b"]], object), None),
        (np.array([[0, np.nan], [0, 1]]), [-1, 1]),
    ],
    ids=["scores", "numbers", "one-class", "values", "picture", "words", "nan"],
)
def test_what_counts_as_an_answer(output, expected) -> None:
    found = top1(output)
    assert (None if found is None else found.tolist()) == expected


def test_labels_are_held_against_the_first_output_that_fits() -> None:
    outputs = [[1, 2], np.zeros((4, 1)), SCORES, 9 - SCORES]
    assert scored(outputs, np.array([2, 0, 1, 1])) == 2
    assert scored(outputs, None) is None
    assert scored(outputs[:2], np.array([2, 0, 1, 1])) is None


def test_sizes_and_counts_are_the_files(tmp_path) -> None:
    dense, sparse = mlp(), mlp()
    for tensor in sparse.graph.initializer:
        if tensor.name == "w1":
            values = initializers(sparse)["w1"].copy()
            values[:8] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    x = np.ones((2, 16), np.float32)
    found = through(tmp_path, dense, sparse, x=x)
    for facts, path in ((found.reference, "one.onnx"), (found.candidate, "two.onnx")):
        whole = (tmp_path / path).read_bytes()
        assert facts.bytes_raw == len(whole)
        assert facts.bytes_gzip == pytest.approx(len(gzip.compress(whole, 6)), abs=30)
    total = sum(each.size for each in initializers(dense).values())
    assert found.reference.parameters == found.candidate.parameters == total
    assert found.reference.nonzeros - found.candidate.nonzeros == 8 * 24


CHOSEN = """g (float[N,3] x) => (float[M,3] y) {{
    s = ReduceSum<keepdims = 0>(x, a)
    zero = Constant<value_float = {least}>()
    c = Greater(s, zero)
    y = Compress<axis = 0>(x, c)
}}"""


def chosen(least: float):
    return build(CHOSEN.format(least=least), a=np.array([1]))


def test_where_the_data_decide_the_shape_another_one_is_all_wrong(tmp_path) -> None:
    one, two = chosen(0.0), chosen(1.5)
    x = np.float32([[3, 0, 0], [0, 1, 0], [0, 0, 2], [-1, 0, 0]])
    found = through(tmp_path, one, two, x=x, size=2)
    # The first batch has lost a row of two; the second has the same one in both.
    assert found.outputs[0].error == pytest.approx(np.sqrt(10 / 14))
    assert found.outputs[0].agreement == pytest.approx(1 / 3)
    more = through(tmp_path, two, one, x=x, size=2)
    assert more.outputs[0].error == pytest.approx(np.sqrt(10 / 13))


def test_outputs_that_both_models_declare_in_other_sizes_are_refused(tmp_path) -> None:
    text = "g (float[N,3] x) => (float[N,2] y) { y = MatMul(x, w) }"
    with pytest.raises(BadInput, match="differ in shape"):
        through(tmp_path, SAME, build(text, w=np.ones((3, 2), np.float32)))
    with pytest.raises(BadInput, match="differ in shape"):
        Tally().add(np.zeros((2, 3)), np.zeros((3, 3)))
