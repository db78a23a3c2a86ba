"""Sparse weights in compact form: the same bits in every engine, and never more bytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.errors import BadInput
from nettrim_cli.graph.compact.expansion import check_equal, expanded
from nettrim_cli.graph.compact.packing import compacted
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage.external import External
from nettrim_cli.graph.storage.tensors import elements
from tests.support.effort import examples
from tests.support.small import build, normal
from tests.support.sparse import results, sparse

NOTHING = External()


def pack(proto: onnx.ModelProto) -> onnx.ModelProto:
    """In compact form, checked: smaller, valid, and the same when it is expanded."""
    packed, _ = compacted(proto, NOTHING)
    assert packed is not proto
    assert packed.ByteSize() < proto.ByteSize()
    onnx.checker.check_model(packed, full_check=True)
    plain = expanded(packed, NOTHING)
    check_equal(proto, NOTHING, plain, NOTHING)
    assert not {"ScatterElements", "CumSum"} & {node.op_type for node in plain.graph.node}
    return packed


def product(weight: np.ndarray, opset: int = 17) -> onnx.ModelProto:
    """A matrix product."""
    kind = TensorProto.DataType.Name(helper.np_dtype_to_tensor_dtype(weight.dtype)).lower()
    kind = {"double": "double", "float": "float"}.get(kind, kind)
    n, m = weight.shape
    return build(
        f"g ({kind}[N,{n}] x) => ({kind}[N,{m}] y) {{ y = MatMul(x, w) }}",
        head=f'<ir_version: 8, opset_import: ["" : {opset}]>',
        w=weight,
    )


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 17, 21])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_engine_rebuilds_the_bits(dtype, opset) -> None:
    weight = sparse(60, 50, dtype=dtype)
    packed = pack(product(weight, opset))
    for y, w in results(packed, ["y", "w"], {"x": np.zeros((1, 60), dtype)}):
        assert w.tobytes() == weight.tobytes()
        assert y.shape == (1, 50)


def half_precision(weight: np.ndarray, opset: int) -> onnx.ModelProto:
    """A matrix product whose weight is stored as bfloat16."""
    tensor = TensorProto(
        *(), name="w", data_type=TensorProto.BFLOAT16, dims=[60, 50], raw_data=weight.tobytes()
    )
    proto = build(
        "g (float[N,60] x) => (float[N,50] y) { v = Cast<to = 1>(w) y = MatMul(x, v) }",
        head=f'<ir_version: 9, opset_import: ["" : {opset}]>',
        w=weight.astype(np.float32),
    )
    proto.graph.initializer[0].CopyFrom(tensor)
    return proto


def test_bfloat16_stays_plain_where_no_operator_makes_zeros_of_it() -> None:
    weight = sparse(60, 50).astype(ml_dtypes.bfloat16)
    for opset, packs in ((19, False), (20, True)):
        proto = half_precision(weight, opset)
        packed, _ = compacted(proto, NOTHING)
        assert (packed is not proto) is packs
        onnx.checker.check_model(packed, full_check=True)


def test_bfloat16_is_rebuilt_by_the_reference() -> None:
    weight = sparse(60, 50).astype(ml_dtypes.bfloat16)
    proto = half_precision(weight, 20)
    packed = pack(proto)
    for (y,) in results(packed, ["y"], {"x": np.eye(60, dtype=np.float32)}):
        np.testing.assert_array_equal(y, weight.astype(np.float32))


ODD = np.array([-0.0, np.nan, -np.inf, 1e-45, -1e-40, 3.4e38], np.float32)


@examples(60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.sampled_from([0, 0.2, 0.5, 0.9, 0.99, 1]),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_any_tensor_comes_back(shape, zeros, dtype, seed) -> None:
    weight = sparse(*shape, zeros=zeros, seed=seed, dtype=dtype)
    flat = weight.reshape(-1)
    with np.errstate(over="ignore"):
        flat[: len(ODD)] = ODD[: flat.size].astype(dtype)
    if dtype == np.float32 and flat.size > 9:
        flat[7:9] = np.array([0x7F800001, 0xFFC12345], np.uint32).view(np.float32)  # no numbers
    proto = onnx.helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["w"], ["y"])],
            "g",
            [],
            [helper.make_tensor_value_info("y", helper.np_dtype_to_tensor_dtype(flat.dtype), None)],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    packed, _ = compacted(proto, NOTHING)
    assert packed.ByteSize() <= proto.ByteSize()
    plain = expanded(packed, NOTHING)
    (tensor,) = plain.graph.initializer
    assert elements(tensor).tobytes() == weight.tobytes()
    if packed is not proto:
        for (w,) in results(packed, ["w"], {}):
            assert w.tobytes() == weight.tobytes()


INTEGERS = {
    "DequantizeLinear": "w = DequantizeLinear(q, s) y = MatMul(x, w)",
    "MatMulInteger": "a, b, z = DynamicQuantizeLinear(x) p = MatMulInteger(a, q, z) "
    "y = Cast<to = 1>(p)",
}


@pytest.mark.parametrize("body", INTEGERS.values(), ids=INTEGERS)
def test_integer_weights_stay_integers(body: str) -> None:
    weight = np.clip(sparse(60, 50) * 40, -127, 127).astype(np.int8)
    proto = build(
        f"g (float[N,60] x) => (float[N,50] y) {{ {body} }}",
        head='<ir_version: 9, opset_import: ["" : 19]>',
        q=weight,
        s=np.float32(0.01),
    )
    packed, x = pack(proto), normal(3, 60)
    for (expected,), (y,) in zip(
        results(proto, ["y"], {"x": x}), results(packed, ["y"], {"x": x}), strict=True
    ):
        np.testing.assert_array_equal(y, expected)


def test_vectors_stay_plain() -> None:
    proto = build("g (float[N,400] x) => (float[N,400] y) { y = Mul(x, w) }", w=sparse(400))
    assert compacted(proto, NOTHING)[0] is proto


def test_what_would_be_larger_stays_plain() -> None:
    for zeros in (0.0, 0.02):
        proto = product(sparse(60, 50, zeros=zeros))
        assert compacted(proto, NOTHING)[0] is proto
    proto = product(sparse(8, 8))
    assert compacted(proto, NOTHING)[0] is proto


def test_columns_are_taken_where_their_gaps_are_shorter() -> None:
    weight = sparse(64, 64, zeros=0.5)
    weight[:, 8:] = 0  # long gaps along rows
    packed = pack(product(weight))
    assert "Transpose" in {node.op_type for node in packed.graph.node}
    for w, _ in results(packed, ["w", "y"], {"x": np.zeros((1, 64), np.float32)}):
        assert w.tobytes() == weight.tobytes()


def test_nothing_but_zeros_takes_a_word() -> None:
    packed = pack(product(np.zeros((200, 100), np.float32)))
    assert packed.ByteSize() < 500
    for (w,) in results(packed, ["w"], {"x": np.zeros((1, 200), np.float32)}):
        assert not w.any()


WAYS = {
    "twice": "h = MatMul(x, w) y = MatMul(h, w)",
    "transposed": "v = Transpose<perm = [1, 0]>(w) y = MatMul(x, v)",
    "passed on": "v = Identity(w) y = MatMul(x, v)",
    "reshaped": "s = Constant<value = int64[2] {60, 60}>() v = Reshape(w, s) y = MatMul(x, v)",
    "scaled": "c = Constant<value = float {2.0}>() v = Mul(w, c) y = MatMul(x, v)",
}


@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
def test_readers_stay_as_they_are(body: str) -> None:
    weight = sparse(60, 60)
    proto = build(f"g (float[N,60] x) => (float[N,60] y) {{ {body} }}", w=weight)
    packed = pack(proto)
    model = Model(expanded(packed, NOTHING))
    assert [node.op_type for node in model.proto.graph.node] == [
        node.op_type for node in proto.graph.node
    ]
    x = normal(3, 60)
    (expected,) = next(results(proto, ["y"], {"x": x}))
    for (y,) in results(packed, ["y"], {"x": x}):
        np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


BRANCHES = """g (float[N,60] x, bool c) => (float[N,60] y) {
    y = If(c) <then_branch = t () => (float[N,60] a)
        <float[60,60] w2> { a = MatMul(x, w2) },
        else_branch = e () => (float[N,60] b) { v = Constant<value = float[1] {0.0}>()
        b = MatMul(x, w) }> }"""


def with_branches() -> onnx.ModelProto:
    """A weight in a branch, another one in a Constant of the other branch."""
    proto = build(BRANCHES.replace("<float[60,60] w2>", ""), w=sparse(60, 60), w2=sparse(60, 60))
    then, other = (attribute.g for attribute in proto.graph.node[0].attribute)
    (moved,) = (tensor for tensor in proto.graph.initializer if tensor.name == "w2")
    tensor = TensorProto.FromString(moved.SerializeToString())
    proto.graph.initializer.remove(moved)
    then.initializer.append(tensor)
    constant = numpy_helper.from_array(sparse(60, 60, seed=3), "w3")
    other.node[0].CopyFrom(helper.make_node("Constant", [], ["w3"], value=constant))
    other.node[1].input[1] = "w3"
    del proto.graph.initializer[:]
    onnx.checker.check_model(proto, full_check=True)
    return proto


def test_weights_in_branches_and_constants_stay_where_they_are() -> None:
    proto = with_branches()
    packed = pack(proto)
    then, other = (attribute.g for attribute in packed.graph.node[-1].attribute)
    for graph in (then, other):
        assert "ScatterElements" in {node.op_type for node in graph.node}
    x = normal(3, 60)
    for c in (True, False):
        feeds = {"x": x, "c": np.array(c)}
        (expected,) = next(results(proto, ["y"], feeds))
        for (y,) in results(packed, ["y"], feeds):
            np.testing.assert_allclose(y, expected, 1e-5, 1e-5)


def test_names_are_new_and_outputs_may_be_weights() -> None:
    proto = build(
        "g (float[N,60] z0) => (float[N,60] z2, float[60,60] z1) { z2 = MatMul(z0, z1) }",
        z1=sparse(60, 60),
    )
    packed = pack(proto)
    names = [name for node in packed.graph.node for name in node.output]
    names += [tensor.name for tensor in packed.graph.initializer]
    assert len(names) == len(set(names))
    for (w,) in results(packed, ["z1"], {"z0": np.zeros((1, 60), np.float32)}):
        np.testing.assert_array_equal(w, sparse(60, 60))


@pytest.mark.parametrize("version", [3, 8])
def test_initializers_that_are_inputs(version: int) -> None:
    proto = product(sparse(60, 50))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [60, 50]))
    proto.ir_version = version
    if version > 3:  # callers may feed others
        assert compacted(proto, NOTHING)[0] is proto
        return
    packed = pack(proto)
    assert packed.ir_version == 4
    assert [value.name for value in packed.graph.input] == ["x"]


def test_old_operators_are_refused() -> None:
    model = Model(product(sparse(60, 50), opset=10))
    with pytest.raises(BadInput, match="version 11"):
        model.store(compact=True)
    model.store(compact=False)


def test_external_values_stay_outside(tmp_path: Path) -> None:
    weight = sparse(300, 200)
    proto = product(weight)
    onnx.save(
        *(proto, tmp_path / "model.onnx"), save_as_external_data=True, location="model.weights"
    )
    model = Model.load(tmp_path / "model.onnx")
    model.store(compact=True)
    model.save(tmp_path / "packed.onnx")
    (data,) = tmp_path.glob("packed.onnx.*.data")
    assert data.stat().st_size < 0.2 * weight.nbytes
    assert (tmp_path / "packed.onnx").stat().st_size < 2000
    packed = Model.load(tmp_path / "packed.onnx")
    assert packed.compact
    np.testing.assert_array_equal(packed.weight(packed.layers[0])[0][0], weight)
    packed.store(compact=False)
    packed.save(tmp_path / "plain.onnx")
    (tensor,) = onnx.load(tmp_path / "plain.onnx").graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), weight)
    stored = onnx.load(tmp_path / "packed.onnx", load_external_data=False)
    for (w,) in results(stored, ["w"], {"x": np.zeros((1, 300), np.float32)}, str(tmp_path)):
        assert w.tobytes() == weight.tobytes()


@pytest.mark.parametrize(
    ("bits", "zeros"), [(32, 0.9), (8, 0.9), (6, 0.9), (4, 0.9), (6, 0), (4, 0)]
)
def test_openvino_gives_the_same(bits, zeros) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        openvino = pytest.importorskip("openvino")
    weight = sparse(601, 501, zeros=zeros)
    if bits < 32:
        largest = 2 ** (bits - 1) - 1
        weight = np.rint(weight.clip(-3, 3) * largest / 3) * np.float32(2**-7)
    proto = product(weight)
    x = normal(8, 601)
    core, outputs = openvino.Core(), []
    for each in (proto, pack(proto)):
        compiled = core.compile_model(
            *(core.read_model(each.SerializeToString()), "CPU"), {"INFERENCE_PRECISION_HINT": "f32"}
        )
        outputs.append(compiled([x])[0])
    np.testing.assert_array_equal(*outputs)
