"""Values in smaller types: only where they keep every bit, and the same in every engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from nettrim_cli.graph.compact.expansion import check_equal, expanded
from nettrim_cli.graph.compact.packing import compacted
from nettrim_cli.graph.compact.values import LARGEST, PACKED, value_forms
from nettrim_cli.graph.storage.external import External
from tests.support.effort import examples
from tests.support.small import build
from tests.support.sparse import results, sparse

NOTHING = External()


def on_grid(*shape: int, largest: int, axis: int, bits: int = 12, seed: int = 0) -> np.ndarray:
    """Integers times a scale of so many bits for each index of an axis, most of them zero."""
    random = np.random.default_rng(seed)
    integers = random.integers(-largest, largest + 1, shape) * (random.random(shape) < 0.15)
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    scale = np.rint(random.uniform(2 ** (bits - 1), 2**bits, sizes)) * 2.0**-20
    return (integers * scale).astype(np.float32)


def pack(weight: np.ndarray) -> onnx.ModelProto:
    """A model that gives the weight, in compact form and checked."""
    name = {2: "float16", 4: "float", 8: "double"}[weight.itemsize]
    axes = ",".join(map(str, weight.shape))
    proto = build(f"g ({name}[1] x) => ({name}[{axes}] y) {{ y = Add(w, x) }}", w=weight)
    packed, _ = compacted(proto, NOTHING)
    onnx.checker.check_model(packed, full_check=True)
    check_equal(proto, NOTHING, expanded(packed, NOTHING), NOTHING)
    return packed


def stored_types(proto: onnx.ModelProto) -> set[int]:
    return {tensor.data_type for tensor in proto.graph.initializer}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("largest", [3, 7, 31, 127])
@pytest.mark.parametrize("shape", [(60, 50), (32, 16, 3, 3), (300, 130)])
def test_integers_on_a_grid(shape, largest, axis) -> None:
    weight = on_grid(*shape, largest=largest, axis=axis)
    packed = pack(weight)
    kinds = {
        3: TensorProto.INT32,
        7: TensorProto.UINT8,
        31: TensorProto.INT32,
        127: TensorProto.INT8,
    }
    assert kinds[largest] in stored_types(packed)
    for (w,) in results(packed, ["w"], {"x": np.zeros(1, np.float32)}):
        assert w.tobytes() == weight.tobytes()


@pytest.mark.parametrize("largest", [3, 7, 31, 127])
@pytest.mark.parametrize("columns", [50, 51, 101])  # all but the first fill no last word
def test_integers_without_zeros_need_no_gaps(largest, columns) -> None:
    weight = on_grid(61, columns, largest=largest, axis=0)
    weight = np.where(weight == 0, np.abs(weight).max(axis=1, keepdims=True), weight)
    packed = pack(weight)
    assert "ScatterElements" not in {node.op_type for node in packed.graph.node}
    for (w,) in results(packed, ["w"], {"x": np.zeros(1, np.float32)}):
        assert w.tobytes() == weight.tobytes()


def test_recurrent_weights_have_a_scale_for_each_unit() -> None:
    parts = [on_grid(24, 40, largest=100, axis=0, seed=seed) for seed in (0, 1)]
    packed = pack(np.stack(parts))
    assert TensorProto.INT8 in stored_types(packed)


@pytest.mark.parametrize("zeros", [0.9, 0.02])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_of_half_precision(dtype, zeros) -> None:
    weight = sparse(60, 50, zeros=zeros).astype(np.float16).astype(dtype)
    packed = pack(weight)
    assert ("ScatterElements" in {node.op_type for node in packed.graph.node}) == (zeros == 0.9)
    assert TensorProto.FLOAT16 in stored_types(packed)
    for (w,) in results(packed, ["w"], {"x": np.zeros(1, dtype)}):
        assert w.tobytes() == weight.tobytes()


def test_fewer_bits_take_fewer_bytes() -> None:
    sizes = [
        pack(weight).ByteSize()
        for weight in (
            sparse(200, 100, zeros=0.85),
            sparse(200, 100, zeros=0.85).astype(np.float16).astype(np.float32),
            on_grid(200, 100, largest=127, axis=0),
            on_grid(200, 100, largest=31, axis=0),
            on_grid(200, 100, largest=7, axis=0),
        )
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.4 * sizes[0]


ODD = np.array([-0.0, np.nan, np.inf, 1e-45, 1e-7, 70000.0], np.float32)


@pytest.mark.parametrize("value", ODD, ids=str)
def test_odd_values_keep_their_bits(value) -> None:
    for weight in (
        sparse(60, 50).astype(np.float16).astype(np.float32),
        on_grid(60, 50, largest=100, axis=0),
    ):
        weight[3, 4] = value
        packed = pack(weight)
        for (w,) in results(packed, ["w"], {"x": np.zeros(1, np.float32)}):
            assert w.tobytes() == weight.tobytes()


@examples(150)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 130),
    st.integers(2, 24),
    st.integers(-30, 30),
    st.integers(0, 2**32),
)
def test_forms_are_exact(n, m, largest, bits, power, seed) -> None:
    weight = on_grid(n, m, largest=largest, axis=0, bits=bits, seed=seed) * np.float32(2.0**power)
    for form in value_forms(weight.reshape(-1), TensorProto.FLOAT, weight.shape):
        values = form.elements.reshape(weight.shape).astype(np.float32)
        if form.scale is not None:
            values = values * form.scale
            assert np.abs(form.elements).max(initial=0) <= LARGEST[form.bits]
        assert values.tobytes() == weight.tobytes()


@pytest.mark.parametrize("bits", PACKED)
def test_digits_hold_all_integers(bits) -> None:
    digits, largest = PACKED[bits], LARGEST[bits]
    integers = np.resize(np.arange(-largest, largest + 1, dtype=np.int8), 20 * digits.count)
    found = [
        int(packed) // digits.base**place % digits.base - digits.offset
        for packed in digits.pack(integers)
        for place in range(digits.count)
    ]
    np.testing.assert_array_equal(found, integers)


def test_a_packed_weight_keeps_its_name() -> None:
    packed = pack(on_grid(60, 50, largest=100, axis=1))
    (made,) = (node for node in packed.graph.node if "w" in node.output)
    assert made.op_type == "Mul"
    (tensor,) = expanded(packed, NOTHING).graph.initializer
    np.testing.assert_array_equal(
        numpy_helper.to_array(tensor), on_grid(60, 50, largest=100, axis=1)
    )
