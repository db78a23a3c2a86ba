"""Constants in every field and element type; bfloat16 against another implementation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper, parser

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage import elements, tensors
from tests.support.effort import examples
from tests.support.small import HEAD, normal, only

KINDS = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.BFLOAT16: ml_dtypes.bfloat16,
}


def parsed(text: str) -> onnx.ModelProto:
    """A model to which initializers are still to be added."""
    return parser.parse_model(f"{HEAD}\n{text}")


def stored(values: np.ndarray, kind: int, *, raw: bool) -> onnx.TensorProto:
    """A tensor as others write it."""
    tensor = numpy_helper.from_array(np.asarray(values).astype(KINDS[kind]), "w")
    if not raw:
        bits = np.frombuffer(tensor.raw_data, np.uint16)
        typed = helper.make_tensor("w", kind, values.shape, np.ravel(values).tolist())
        if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            typed.int32_data[:] = bits.tolist()
        return typed
    return tensor


@examples(200)
@example(np.array(3.4028235e38, np.float32))
@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64]),
        arrays.array_shapes(min_dims=0, max_dims=2, min_side=0),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)
def test_bfloat16_is_rounded_to_nearest_even(values) -> None:
    with np.errstate(over="ignore"):
        expected = (values + np.array(0, values.dtype)).astype(ml_dtypes.bfloat16)
    if not np.isfinite(expected.astype(np.float32)).all():
        with pytest.raises(elements.Unfit, match="bfloat16"):
            elements.encode(values, TensorProto.BFLOAT16)
        return
    found = elements.encode(values, TensorProto.BFLOAT16)
    bits = expected.view(np.uint16)
    np.testing.assert_array_equal(found, np.where(bits == 0x8000, 0, bits))
    decoded = elements.decode(found.tobytes(), TensorProto.BFLOAT16)
    np.testing.assert_array_equal(decoded, expected.astype(np.float32).ravel())


@pytest.mark.parametrize("beyond", [-1e-12, 0.0, 1e-12])
def test_a_float64_is_rounded_once(beyond) -> None:
    """Rounding it to float32 first would make a tie of what is none."""
    value = np.array([1 + 2.0**-8 + beyond])  # halfway between two bfloat16 values
    expected = 1 + 2.0**-7 if beyond > 0 else 1.0
    found = elements.decode(elements.encode(value, TensorProto.BFLOAT16), TensorProto.BFLOAT16)
    assert found[0] == expected


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_each_field_stays_the_field_that_it_was(kind, raw) -> None:
    proto = parsed("g (float[N,6] x) => (float[N,5] y) { v = Cast<to = 1>(w)\n y = MatMul(x, v) }")
    if kind == TensorProto.DOUBLE:
        proto = parsed(
            "g (double[N,6] x) => (double[N,5] y) { v = Identity(w)\n y = MatMul(x, v) }"
        )
    values = normal(6, 5)
    proto.graph.initializer.append(stored(values, kind, raw=raw))
    model, layer = only(proto)
    assert layer.prunable, layer.refusal
    before = model.to_bytes()
    (matrix,), _ = model.weight(layer)
    np.testing.assert_array_equal(matrix, values.astype(KINDS[kind]).astype(matrix.dtype))
    model.set_weight(layer, [matrix], None)
    assert model.to_bytes() == before
    assert model.count_parameters() == (30, 30)
    new = np.where(normal(6, 5, seed=1) > 0, matrix * 1.37, 0).astype(matrix.dtype)
    model.set_weight(layer, [new], None)
    (tensor,) = model.proto.graph.initializer
    assert tensor.HasField("raw_data") is raw
    found = numpy_helper.to_array(tensor)
    np.testing.assert_array_equal(found, new.astype(KINDS[kind]))
    assert model.count_parameters() == (30, np.count_nonzero(new))
    onnx.checker.check_model(model.proto)


def test_a_bfloat16_layer_gets_a_bias_in_bfloat16() -> None:
    """A bias that two layers share becomes one of the layer's own, of the same type."""
    proto = parsed(
        "g (bfloat16[N,4] x) => (bfloat16[N,3] y, bfloat16[N,3] z) {\n"
        "y = Gemm(x, v, b)\n z = Gemm(x, w, b) }"
    )
    for name, shape in (("v", (4, 3)), ("w", (4, 3)), ("b", (3,))):
        tensor = numpy_helper.from_array(normal(*shape).astype(ml_dtypes.bfloat16), name)
        proto.graph.initializer.append(tensor)
    model = Model(proto)
    layer = model.layers[0]
    assert layer.dtype == "bfloat16"
    (matrix,), (bias,) = model.weight(layer)
    model.set_weight(layer, [matrix], [bias + 1])
    added = model.proto.graph.initializer[-1]
    assert added.data_type == TensorProto.BFLOAT16
    onnx.checker.check_model(model.proto, full_check=True)
    expected = (bias + 1).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(model.weight(layer)[1][0], expected)


def test_values_too_large_for_bfloat16() -> None:
    proto = parsed("g (float[N,2] x) => (float[N,2] y) { v = Cast<to = 1>(w)\n y = MatMul(x, v) }")
    proto.graph.initializer.append(stored(np.ones((2, 2)), TensorProto.BFLOAT16, raw=True))
    model, layer = only(proto)
    with pytest.raises(BadInput, match="do not fit into bfloat16"):
        model.set_weight(layer, [np.full((2, 2), 3.4e38, np.float32)], None)


@pytest.mark.parametrize(
    ("stored_as", "cast_to", "kept"),
    [
        ("BFLOAT16", "FLOAT", True),
        ("BFLOAT16", "DOUBLE", True),
        ("FLOAT16", "FLOAT", True),
        ("BFLOAT16", "FLOAT16", False),
        ("FLOAT16", "BFLOAT16", False),
        ("FLOAT", "BFLOAT16", False),
        ("DOUBLE", "FLOAT", False),
    ],
)
def test_a_cast_that_rounds_is_refused(stored_as, cast_to, kept) -> None:
    one, two = (getattr(TensorProto, name) for name in (stored_as, cast_to))
    name = {1: "float", 11: "double", 10: "float16", 16: "bfloat16"}[two]
    proto = parsed(
        f"g ({name}[N,2] x) => ({name}[N,2] y) {{ v = Cast<to = {two}>(w)\n y = MatMul(x, v) }}"
    )
    proto.graph.initializer.append(stored(np.ones((2, 2)), one, raw=True))
    _, layer = only(proto)
    assert layer.prunable is kept
    if not kept:
        assert "rounded by a Cast" in layer.refusal.text


SMALL = {
    kind: dtype
    for kind, dtype in (
        (TensorProto.INT4, ml_dtypes.int4),
        (TensorProto.UINT4, ml_dtypes.uint4),
        (getattr(TensorProto, "INT2", None), getattr(ml_dtypes, "int2", None)),
        (getattr(TensorProto, "UINT2", None), getattr(ml_dtypes, "uint2", None)),
    )
    if kind is not None
}


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", SMALL)
@given(st.integers(0, 9), st.integers(1, 3), st.integers(0, 99))
@examples(20)
def test_integers_of_which_a_byte_holds_several(kind, raw, rows, columns, seed) -> None:
    least, most = elements.limits(kind)
    random = np.random.default_rng(seed)
    old, new = (random.integers(least, most + 1, (rows, columns)) for _ in range(2))

    def tensor(values: np.ndarray) -> onnx.TensorProto:
        made = numpy_helper.from_array(values.astype(SMALL[kind]), "w")
        if not raw:
            made.int32_data[:] = list(made.raw_data)
            made.ClearField("raw_data")
        tensors.check_size(made)
        return made

    holder = tensor(old)
    np.testing.assert_array_equal(tensors.read(holder), old)
    tensors.write(holder, new.astype(np.float32))
    assert holder == tensor(new)
