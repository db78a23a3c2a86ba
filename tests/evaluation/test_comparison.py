"""Figures of a comparison against numbers worked out by hand."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli.data.dataset import Batch
from nettrim_cli.data.values import OutputPart, parts
from nettrim_cli.errors import BadInput
from nettrim_cli.evaluation.accuracy import top1
from nettrim_cli.evaluation.comparison import OutputComparison, ReferenceOutputs, scored
from nettrim_cli.evaluation.gates import checks
from nettrim_cli.evaluation.output_error import OutputError
from nettrim_cli.graph.model import Model
from nettrim_cli.settings import Gate
from tests.support.networks import initializers, mlp, save_model
from tests.support.small import build

SCORES = np.array([[1, 2, 3], [4, 0, 1], [0, 5, 2], [1, 1, 0]], np.float32)


def batch(x, labels=None):
    return Batch({"x": x}, len(x), None if labels is None else np.array(labels))


def through(tmp_path, first, second, x=SCORES, labels=None, size=3, gate=None):
    """Compare two texts of models, held against a gate; x goes in batches of `size`."""
    models = [
        Model.load(save_model(tmp_path / name, build(text) if isinstance(text, str) else text))
        for name, text in (("one.onnx", first), ("two.onnx", second))
    ]
    batches = [
        batch(x[at : at + size], None if labels is None else labels[at : at + size])
        for at in range(0, len(x), size)
    ]
    found = ReferenceOutputs(models[0], lambda: batches, threads=1).compare(models[1])
    held_against = () if gate is None else tuple(checks(found, gate))
    return replace(found.compared(*models), checks=held_against)


def passed(tmp_path, first, second, *args, **limits):
    """Whether each limit is kept."""
    data = {key: limits.pop(key) for key in ("x", "labels") if key in limits}
    found = through(tmp_path, first, second, *args, **data, gate=Gate(**limits))
    return [each.passed for each in found.checks]


SAME = "g (float[N,3] x) => (float[N,3] y) { y = Identity(x) }"
NEGATED = "g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"
POISONED = """g (float[N,3] x) => (float[N,3] y) {
    n = Constant<value = float[3] {0.0, 0.0, 0.0}>()
    z = Div(n, n)
    y = Add(x, z)
}"""


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
    labels = [2, 0, 0, 0]
    for limits, kept in (((0.5, 2.0), [True, True]), ((0.49, 1.99), [False, False])):
        drop, error = limits
        assert (
            passed(tmp_path, SAME, NEGATED, labels=labels, max_drop=drop, max_error=error) == kept
        )


def test_a_drop_is_what_was_counted_whatever_rounding_makes_of_accuracies(tmp_path) -> None:
    x = np.tile(SCORES[:1], (10, 1))  # 2 by the model, 0 by its negative
    assert 0.8 - 0.2 > 0.6
    found = through(tmp_path, SAME, NEGATED, x, labels=[2] * 8 + [0] * 2)
    assert found.drop == 0.6
    assert passed(tmp_path, SAME, NEGATED, x, labels=[2] * 8 + [0] * 2, max_drop=0.6) == [True]


@pytest.mark.parametrize("labels", [None, [0, 0, 0, 0]])
def test_answers_that_are_not_numbers_are_wrong_and_fail_every_gate(tmp_path, labels) -> None:
    found = through(tmp_path, SAME, POISONED, labels=labels)
    assert math.isnan(found.outputs[0].error)
    assert found.outputs[0].agreement == 0
    assert found.candidate.accuracy == (None if labels is None else 0)
    assert passed(tmp_path, SAME, POISONED, labels=labels, max_error=1e9) == [False]
    assert passed(tmp_path, SAME, POISONED, labels=labels, max_drop=0.4) == [False]


def test_two_models_that_both_say_nothing_do_not_agree(tmp_path) -> None:
    assert through(tmp_path, POISONED, POISONED).outputs[0].agreement == 0


def test_a_gate_for_a_drop_needs_answers(tmp_path) -> None:
    text = "g (float[N,3] x) => (float[N,1] y) { y = ReduceSum<keepdims = 1>(x, a) }"
    proto = build(text, a=np.array([1]))
    found = through(tmp_path, proto, proto)
    assert found.drop is None
    with pytest.raises(BadInput, match="labels"):
        passed(tmp_path, proto, proto, max_drop=1.0)
    assert passed(tmp_path, proto, proto, max_error=0.0) == [True]


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
    found = OutputComparison({"y": frozenset()})
    labels = np.array([2, 0, 1, 0])
    found.add(Batch({}, 4, labels), {"y": OutputPart(SCORES)}, {"y": OutputPart(SCORES)})
    found.add(Batch({}, 4, labels), {"y": OutputPart(SCORES)}, {"y": OutputPart(SCORES[:3])})
    assert found.samples == 8
    assert found.drop == 0.5
    assert len(found.label_margins.arrays[0]) == 8


def test_nothing_to_compare_on(tmp_path) -> None:
    with pytest.raises(BadInput, match="no samples"):
        through(tmp_path, SAME, SAME, x=SCORES[:0])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (SCORES, [2, 0, 1, 0]),
        (np.array([3, 1]), [3, 1]),
        (np.zeros((2, 1), np.float32), None),
        (np.zeros(3, np.float32), None),
        (np.zeros((1, 2, 3, 4), np.float32), None),
        (np.array([["a", "b"]], object), [["a", "b"]]),
        (np.array([[0, np.nan], [0, 1]]), [-1, 1]),
        (np.array([[3, 9, 1], [0, 2, 5]]), [[3, 9, 1], [0, 2, 5]]),
        (np.array([[3], [1]]), [3, 1]),
        (np.array([[3, 9, 1], [0, 2, 5]], np.uint8), [1, 2]),
    ],
    ids=[
        *("scores", "numbers", "one-class", "values", "picture", "words", "nan", "tokens"),
        *("column", "quantised"),
    ],
)
def test_what_counts_as_an_answer(output, expected) -> None:
    found = top1(output)
    assert (None if found is None else found.tolist()) == expected


def test_labels_are_held_against_the_first_output_that_fits() -> None:
    labels = np.array([2, 0, 1, 1])
    outputs = {
        "none": OutputPart(None),
        "one": OutputPart(np.zeros((4, 1))),
        "words": OutputPart(np.array([*"abcd"], object)),
    }
    assert scored(outputs, labels) is None
    outputs |= {"first": OutputPart(SCORES), "second": OutputPart(9 - SCORES)}
    assert scored(outputs, labels) == "first"
    assert scored(outputs, None) is None


@pytest.mark.parametrize(
    ("keys", "fits"), [((0, 1, 2), True), ((1, 2, 3), False), (("a", "b", "c"), False)]
)
def test_labels_number_the_columns_of_a_map_only_by_its_keys(keys, fits) -> None:
    assert (scored({"y": OutputPart(SCORES, keys)}, np.array([2, 0, 1, 1])) == "y") == fits


def sequence(of: str, *outputs: str) -> onnx.ModelProto:
    """A model whose output is a list of some tensors."""
    proto = build(of)
    proto.graph.node.add(op_type="SequenceConstruct", input=outputs, output=["list"])
    del proto.graph.output[:]
    kind = onnx.helper.make_tensor_sequence_value_info("list", onnx.TensorProto.FLOAT, None)
    proto.graph.output.append(kind)
    return proto


TWO = "g (float[N,3] x) => (float[N,3] a, float[N,3] b) {{ a = Identity(x)\n b = {}(x) }}"


def test_tensors_inside_of_sequences_are_measured(tmp_path) -> None:
    one, two = (sequence(TWO.format(op), "a", "b") for op in ("Identity", "Neg"))
    found = through(tmp_path, one, two)
    assert [(each.name, each.error) for each in found.outputs] == [("list[0]", 0), ("list[1]", 2)]
    assert [each.agreement for each in found.outputs] == [1, 0]
    assert found.drop == 1
    assert passed(tmp_path, one, two, max_error=1.99, max_drop=0.5) == [False, False]
    labelled = through(tmp_path, one, two, labels=[2, 0, 1, 0])
    assert labelled.reference.accuracy == labelled.candidate.accuracy == 1


def test_a_tensor_that_a_sequence_lacks_is_all_wrong(tmp_path) -> None:
    one, two = (sequence(TWO.format("Neg"), *names) for names in (("a", "b"), ("a",)))
    assert [each.error for each in through(tmp_path, one, two).outputs] == [0, 1]
    assert passed(tmp_path, two, one, max_error=1e9) == [False]


def test_maps_of_other_keys_do_not_answer_the_same_question() -> None:
    found = OutputComparison({})
    one, two = (parts("y", [{key: 0.5, "b": 0.5}], 1) for key in "ac")
    with pytest.raises(BadInput, match=r"'a', 'b', the other's 'b', 'c'"):
        found.add(Batch({}, 1, None), one, two)


@pytest.mark.parametrize("value", [None, [], np.zeros((0, 4), np.float32)])
def test_a_limit_on_what_cannot_be_measured_is_neither_kept_nor_missed(value) -> None:
    found = OutputComparison({})
    for _ in range(2):
        outputs = {"x": OutputPart(SCORES), **parts("boxes", value, 4)}
        found.add(Batch({}, 4, None), outputs, outputs)
    assert list(found.unmeasured) == ["boxes"]
    assert found.errors["boxes"].facts("boxes").error is None
    assert found.error == 0  # of what is measured
    with pytest.raises(BadInput, match="boxes"):
        list(checks(found, Gate(max_error=0.5)))
    (check,) = checks(found, Gate(max_drop=0.5))
    assert check.passed


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
        OutputError().add(np.zeros((2, 3)), np.zeros((3, 3)))
