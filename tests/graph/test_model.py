"""Nothing but the weights that are set changes, and they keep their dtype and field."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from tests.support.small import HEAD, build, normal, only


def stored(dtype: Any, typed: bool) -> onnx.TensorProto:
    values = normal(3, 4, dtype=dtype)
    if not typed:
        return numpy_helper.from_array(values, "w")
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor("w", kind, [3, 4], values.ravel().tolist())


@pytest.mark.parametrize("typed", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_set_weight_keeps_field_and_dtype_and_all_else(dtype, typed):
    name = {np.float16: "float16", np.float32: "float", np.float64: "double"}[dtype]
    proto = parser.parse_model(
        f"{HEAD} g ({name}[n,3] x) => ({name}[n,4] y) {{ y = MatMul(x, w) }}"
    )
    proto.graph.initializer.append(stored(dtype, typed))
    model, layer = only(proto)
    assert layer.dtype == np.dtype(dtype).name
    original = proto.SerializeToString(deterministic=True)
    ((matrix,), _) = model.weight(layer)
    assert matrix.dtype == (np.float64 if dtype == np.float64 else np.float32)
    model.set_weight(layer, [matrix], None)
    assert model.to_bytes() == original

    matrix[:, 1] = -0.0
    matrix[0, 2] = -1e-30  # a negative number that float16 rounds to zero
    clone = model.clone()
    clone.set_weight(layer, [matrix], None)
    ((values,), _) = clone.weight(layer)
    assert not values[:, 1].any()
    assert not np.signbit(values[values == 0]).any()
    tensor = clone.proto.graph.initializer[0]
    assert tensor.HasField("raw_data") is not typed
    assert tensor.data_type == proto.graph.initializer[0].data_type
    assert model.to_bytes() == original
    for other in (proto, clone.proto):
        other.graph.initializer[0].CopyFrom(onnx.TensorProto())
    assert proto.SerializeToString() == clone.proto.SerializeToString()


def test_values_that_do_not_fit_are_refused():
    proto = build(
        "g (float16[n,3] x) => (float16[n,4] y) { y = MatMul(x, w) }",
        w=normal(3, 4, dtype=np.float16),
    )
    model, layer = only(proto)
    before = model.to_bytes()
    for bad in (1e6, np.nan):
        with pytest.raises(BadInput, match=r"layer y: .* float16"):
            model.set_weight(layer, [np.full((3, 4), bad, np.float32)], None)
    with pytest.raises(ValueError, match="wanted"):
        model.set_weight(layer, [np.zeros((4, 3), np.float32)], None)
    with pytest.raises(ValueError, match="bias"):
        model.set_weight(layer, [np.zeros((3, 4), np.float32)], [np.zeros(4, np.float32)])
    assert model.to_bytes() == before


def test_constants_are_counted_everywhere():
    body = """
    c = Constant<value = float[2] {0.0, 3.0}>() f = Constant<value_floats=[1.0, 0.0]>()
    k = Constant<value_int=3>() q = Constant<value_float=2.0>()
    b = Cast<to=9>(q)
    y = If(b) <then_branch = t () => (float[n,2] p) { d = Constant<value = float[3] {1, 2, 0}>()
    p = Identity(x)}, else_branch = e () => (float[n,2] r) {r = Identity(x)}>
    """
    proto = build(
        f"g (float[n,2] x) => (float[n,2] y) {{ {body} }}",
        w=[[-1.0, 0.0]],
        i=np.arange(9),
    )
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [5.0])
    indices = helper.make_tensor("s_at", TensorProto.INT64, [1], [3])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [10]))
    assert Model(proto).count_parameters() == (2 + 2 + 1 + 3 + 2 + 10, 1 + 1 + 1 + 2 + 1 + 1)


def test_integer_weights_are_parameters_and_other_integers_are_not():
    weights = np.array([[7, 3, 9], [7, 7, 1]], np.uint8)
    model, layer = only(
        build(
            """g (uint8[n,2] x, int64[n] at) => (int32[n,3] y, float[n,5] e) {
                y = MatMulInteger(x, w, zero, zero) e = Gather(table, at) }""",
            w=weights,
            zero=np.array(7, np.uint8),
            table=normal(4, 5),
            lookup=np.arange(9),
        )
    )
    assert layer.prunable
    assert model.count_parameters() == (20 + weights.size, 20 + np.count_nonzero(weights != 7))


def test_metadata_is_replaced():
    model = Model(build("g (float[n,2] x) => (float[n,2] y) { y = Relu(x) }"))
    model.set_metadata("nettrim", "one")
    model.set_metadata("other", "two")
    model.set_metadata("nettrim", "three")
    found = [(entry.key, entry.value) for entry in model.proto.metadata_props]
    assert found == [("nettrim", "three"), ("other", "two")]


def test_inputs_and_outputs_are_described():
    model = Model(
        build(
            "g (float[n,3] x, int64[2] k, float[3,4] w) => (float[n,4] y) { y = MatMul(x, w) }",
            w=normal(3, 4),
        )
    )
    assert [(t.name, t.dtype, t.shape) for t in model.inputs] == [
        ("x", "float32", ("n", 3)),
        ("k", "int64", (2,)),
    ]
    assert model.outputs[0].shape == ("n", 4)
    assert model.layers[0].prunable


NORMALISED = """g (float[n,2,4,4] x) => (float[n,3,4,4] y) {
    c = Conv<pads = [1,1,1,1]>(x, w)
    y = BatchNormalization(c, s, t, m, v)
}"""


def normalised(text: str = NORMALISED, **more: np.ndarray) -> onnx.ModelProto:
    tensors = {"w": normal(3, 2, 3, 3), "s": normal(3), "t": normal(3, seed=1)}
    tensors |= {"m": normal(3, seed=2), "v": np.abs(normal(3, seed=3)) + 1}
    return build(text, **tensors, **more)


def test_the_mean_behind_a_layer_without_a_bias_stands_for_one():
    proto = normalised()
    model, layer = only(proto)
    assert layer.has_bias
    matrices, (bias,) = model.weight(layer)
    assert not bias.any()
    wanted = normal(3, seed=7)
    changed = model.clone()
    changed.set_weight(layer, matrices, [wanted])
    np.testing.assert_allclose(changed.weight(layer)[1][0], wanted, atol=1e-6)
    assert not model.weight(layer)[1][0].any()
    # The network is what it were with that bias in the convolution.
    biased = normalised(NORMALISED.replace("(x, w)", "(x, w, b)"), b=wanted)
    x = normal(5, 2, 4, 4, seed=8)
    runs = [ReferenceEvaluator(each).run(None, {"x": x})[0] for each in (biased, changed.proto)]
    np.testing.assert_allclose(*runs, atol=1e-5)
    means = [each for each in changed.proto.graph.initializer if each.name == "m"]
    means[0].CopyFrom(next(each for each in proto.graph.initializer if each.name == "m"))
    assert changed.to_bytes() == proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    "text",
    [
        # It has a bias, which is its own.
        NORMALISED.replace("(x, w)", "(x, w, b)"),
        # Something else reads the result, or the mean, or it is that of a batch.
        NORMALISED.replace("m, v)", "m, v)\n z = Relu(c)").replace(
            " y) {", " y, float[n,3,4,4] z) {"
        ),
        NORMALISED.replace("s, t, m, v", "s, m, m, v"),
        NORMALISED.replace(
            "y = BatchNormalization(", "y, o, p = BatchNormalization<training_mode = 1>("
        ),
    ],
    ids=["a bias", "another reader", "a shared mean", "training"],
)
def test_a_mean_that_does_more_stays(text):
    biased = "(x, w, b)" in text
    proto = normalised(text, **({"b": normal(3, seed=4)} if biased else {}))
    model, layer = only(proto)
    assert layer.has_bias == biased
    matrices, biases = model.weight(layer)
    model.set_weight(layer, matrices, [each + 1 for each in biases] if biases else None)
    before, after = (
        next(numpy_helper.to_array(e) for e in each.graph.initializer if e.name == "m")
        for each in (proto, model.proto)
    )
    np.testing.assert_array_equal(before, after)
