"""Models of all opsets, inputs and types: pruned, and all but the weights passes through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from nettrim_cli.cli import run
from tests.support.effort import thinned
from tests.support.networks import input_samples, mlp
from tests.support.options import FAST
from tests.support.small import build, normal

LAST_OPSET = min(onnx.defs.onnx_opset_version(), 28)

Prune = Callable[..., onnx.ModelProto]


@pytest.fixture
def prune(tmp_path: Path, capsys) -> Prune:
    """Prune a model; checks what must hold of the result, and gives it."""

    def call(proto: onnx.ModelProto, *options: str, **arrays: np.ndarray) -> onnx.ModelProto:
        path, data = tmp_path / "model.onnx", tmp_path / "calib.h5"
        path.write_bytes(proto.SerializeToString())
        with h5py.File(data, "w") as file:
            for name, values in arrays.items():
                if values.dtype.kind == "U":
                    file.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
                else:
                    file[name] = values
        target = tmp_path / "model.pruned.onnx"
        assert run(["prune", str(path), "--data", str(data), *FAST, *options]) == 0
        assert capsys.readouterr().err == ""
        new = onnx.load(target)
        assert [each.key for each in new.metadata_props][-1] == "nettrim"
        changed = onnx.ModelProto()
        changed.CopyFrom(new)
        del changed.metadata_props[-1]
        zeros = 0
        for one, two in zip(tensors(proto), tensors(changed), strict=True):
            if one.raw_data != two.raw_data:
                zeros += int(np.count_nonzero(numpy_helper.to_array(two) == 0))
                two.raw_data = one.raw_data
        assert changed.SerializeToString(deterministic=True) == proto.SerializeToString(
            deterministic=True
        )
        assert zeros
        ort.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        return new

    return call


def tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    owned = [a.t for node in proto.graph.node for a in node.attribute if a.HasField("t")]
    return [*proto.graph.initializer, *owned]


@pytest.mark.parametrize(
    "opset", thinned([LAST_OPSET, 23, 21, 20, 18, 17, 15, 13, 12, 11, 10, 9, 8, 7], 3)
)
def test_opsets(prune, opset) -> None:
    proto = mlp()
    proto.opset_import[0].version = opset
    proto.ir_version = 3 if opset < 9 else 8 if opset < 21 else 10
    if proto.ir_version < 4:  # initializers are inputs, too
        for each in proto.graph.initializer:
            value = helper.make_tensor_value_info(each.name, each.data_type, each.dims)
            proto.graph.input.append(value)
    prune(proto, x=input_samples(mlp(), 40))


def test_what_is_not_known_passes_through(prune) -> None:
    proto = mlp()
    proto.producer_name, proto.doc_string, proto.model_version = "some tool", "words", 7
    proto.metadata_props.add(key="author", value="somebody")
    proto.graph.metadata_props.add(key="k", value="v")
    proto.graph.node[0].metadata_props.add(key="n", value="w")
    proto.graph.initializer[0].doc_string = "weights"
    proto.graph.value_info.append(helper.make_tensor_value_info("h1", 1, ["N", "units"]))
    proto.graph.quantization_annotation.add(tensor_name="h1")
    body = [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Neg", ["c"], ["b"])]
    opsets = [helper.make_opsetid("", 17)]
    proto.functions.append(helper.make_function("mine", "Fold", ["a"], ["b"], body, opsets))
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    node = helper.make_node("Fold", ["y"], ["folded"], domain="mine")
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info("folded", 1, ["N", 4]))
    unknown = b"\xfa\x7f\x05hello"  # field 2047, which no version of ONNX has
    proto = onnx.ModelProto.FromString(proto.SerializeToString() + unknown)
    assert unknown in prune(proto, x=input_samples(mlp(), 40)).SerializeToString()


def test_a_declared_output_shape_that_is_wrong(prune) -> None:
    proto = mlp()
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 77
    prune(proto, x=input_samples(mlp(), 40))


def test_integer_inputs(prune) -> None:
    proto = build(
        "g (int64[N,T] ids, int32[N] more) => (float[N,T,4] y) {\n"
        "e = Gather(table, ids)\n y = MatMul(e, w) }",
        table=normal(11, 6),
        w=normal(6, 4, seed=1),
    )
    random = np.random.default_rng(0)
    ids, more = random.integers(0, 11, (30, 5)), np.zeros(30, np.int32)
    prune(proto, ids=ids, more=more)


def test_text_inputs_and_outputs(prune) -> None:
    proto = build(
        "g (float[N,6] x, string[N] name) => (float[N,4] y, string[N] same) {\n"
        "y = MatMul(x, w)\n same = Identity(name) }",
        w=normal(6, 4, seed=1),
    )
    prune(proto, x=normal(30, 6), name=np.array([f"sample {at}" for at in range(30)]))


def test_sequences_and_optionals_passing_by(prune) -> None:
    proto = build(
        "g (float[N,6] x) => (float[N,4] y, seq(float[N,5]) s) {\n"
        "h = MatMul(x, w1)\n r = Relu(h)\n s = SequenceConstruct(r, h)\n a = SequenceAt(s, at)\n"
        "o = Optional(a)\n b = OptionalGetElement(o)\n y = MatMul(b, w2) }",
        w1=normal(6, 5, seed=1),
        w2=normal(5, 4, seed=2),
        at=np.array(0),
    )
    prune(proto, x=normal(30, 6))


def test_tensors_of_no_size(prune) -> None:
    proto = build(
        "g (float[N,6] x, float[N,0] past) => (float[N,4] y, float[N,0] now) {\n"
        "c = Concat<axis = 1>(x, past)\n e = Concat<axis = 0>(w0, empty)\n"
        "h = MatMul(c, w1)\n r = Add(h, e)\n y = MatMul(r, w2)\n now = Identity(past) }",
        w0=normal(5),
        empty=normal(0),
        w1=normal(6, 5, seed=1),
        w2=normal(5, 4, seed=2),
    )
    prune(proto, x=normal(30, 6), past=normal(30, 0))


def test_a_state_that_is_fed_back(prune) -> None:
    """Steps are samples of their own, each with the state that it meets."""
    proto = build(
        "g (float[batch,6] x, float[2,batch,3] state, int64 rate)"
        " => (float[batch,4] y, float[2,batch,3] next) {\n"
        "t = Transpose<perm = [1,0,2]>(state)\n f = Flatten(t)\n c = Concat<axis = 1>(x, f)\n"
        "h = MatMul(c, w1)\n r = Tanh(h)\n y = MatMul(r, w2)\n k = Cast<to = 1>(rate)\n"
        "next = Mul(state, k) }",
        w1=normal(12, 8, seed=1),
        w2=normal(8, 4, seed=2),
    )
    prune(proto, x=normal(40, 6), state=normal(40, 2, 3, seed=3), rate=np.int64(16))


def test_half_weights_of_either_kind(prune) -> None:
    proto = build(
        "g (float[N,6] x) => (float[N,4] y) {\n"
        "v1 = Cast<to = 1>(w1)\n h = MatMul(x, v1)\n r = Relu(h)\n"
        "v2 = Cast<to = 1>(w2)\n y = MatMul(r, v2) }",
        w1=normal(6, 5).astype(ml_dtypes.bfloat16),
        w2=normal(5, 4).astype(np.float16),
    )
    new = prune(proto, x=normal(40, 6))
    assert [each.data_type for each in new.graph.initializer] == [
        TensorProto.BFLOAT16,
        TensorProto.FLOAT16,
    ]


def test_casts_at_the_end_of_the_file(prune) -> None:
    """The usual converter to float16 appends the casts of inputs and outputs."""
    proto = build(
        "g (float[N,6] x) => (float[N,4] y) {\n"
        "x16 = Cast<to = 10>(x)\n h = MatMul(x16, w1)\n r = Relu(h)\n y16 = MatMul(r, w2)\n"
        "y = Cast<to = 1>(y16) }",
        w1=normal(6, 5).astype(np.float16),
        w2=normal(5, 4).astype(np.float16),
    )
    proto.graph.node.append(proto.graph.node[0])
    del proto.graph.node[0]
    new = prune(proto, x=normal(40, 6))
    assert [each.op_type for each in new.graph.node] == ["MatMul", "Relu", "MatMul", "Cast", "Cast"]


@pytest.mark.parametrize("scheme", ["cascade", "parallel"])
def test_outputs_of_as_many_rows_as_the_data_decide(prune, scheme) -> None:
    """Detectors find more or fewer objects once they are pruned, or none in some batch."""
    proto = build(
        "g (float[N,4] x) => (float[M,4] y) {\n"
        "a = MatMul(x, w1)\n s = ReduceMax<axes = [1], keepdims = 0>(a)\n c = Greater(s, least)\n"
        "h = Compress<axis = 0>(a, c)\n r = Relu(h)\n y = MatMul(r, w2) }",
        w1=normal(4, 4, seed=1),
        w2=normal(4, 4, seed=2),
        least=2.0,
    )
    prune(proto, "--scheme", scheme, x=normal(60, 4))


@pytest.mark.parametrize("scheme", ["cascade", "parallel"])
def test_a_sequence_that_a_loop_fills(prune, scheme) -> None:
    proto = build(
        "g (float[N,4] x) => (float[M,3] y) {\n"
        "n = Constant<value_int = 3>()\n s0 = SequenceEmpty()\n"
        "last, s = Loop(n, , x, s0) <body = b (int64 i, bool k, float[P,4] v, seq(float[A,B]) q)"
        " => (bool k2, float[P,4] v2, seq(float[C,D]) q2) {\n"
        "k2 = Identity(k)\n h = MatMul(v, w1)\n v2 = Tanh(h)\n q2 = SequenceInsert(q, v2) }>\n"
        "c = ConcatFromSequence<axis = 0>(s)\n y = MatMul(c, w2) }",
        w1=normal(4, 4, seed=1),
        w2=normal(4, 3, seed=2),
    )
    prune(proto, "--scheme", scheme, x=normal(40, 4))
