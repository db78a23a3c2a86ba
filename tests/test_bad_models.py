"""Models that are damaged, hostile or strange: the right exit code and a sentence, or a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper

from nettrim_cli.cli import run
from tests.support import options
from tests.support.networks import input_samples, mlp
from tests.support.small import HEAD, build, normal

FAST = ["--scheme", "parallel", *options.FAST]


@pytest.fixture
def attempt(tmp_path: Path, capsys) -> Callable[..., tuple[int, str]]:
    """Prune a model; gives the exit code and stderr, and checks what every failure must be."""

    def call(proto: onnx.ModelProto | bytes, **arrays: np.ndarray) -> tuple[int, str]:
        path, data = tmp_path / "model.onnx", tmp_path / "calib.h5"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        with h5py.File(data, "w") as file:
            for name, values in (arrays or {"x": input_samples(mlp(), 24)}).items():
                file[name] = values
        code = run(["prune", str(path), "--data", str(data), *FAST, "--force"])
        out, err = capsys.readouterr()
        if code:
            assert out == ""
            assert err.startswith("nettrim: ")
            assert err.count("\n") == 1
            assert str(path) in err
            assert not path.with_name("model.pruned.onnx").exists()
        return code, err

    return call


# Malformed graphs.


def cyclic(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "h1"


def dangling_input(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input[0] = "nowhere"


def dangling_output(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "nowhere"


def tensor_made_twice(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "z1"


def an_input_that_is_there_twice(proto: onnx.ModelProto) -> None:
    proto.graph.input.append(proto.graph.input[0])


def a_domain_without_version(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].domain = "com.example"


def two_initializers_of_one_name(proto: onnx.ModelProto) -> None:
    proto.graph.initializer.append(proto.graph.initializer[0])


def an_initializer_that_is_made_too(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].output[0] = "w2"


def raw_data_too_short(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def raw_data_of_half_a_number(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data += b"#"


def two_kinds_of_data(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].float_data[:] = [1.0]


def ten_gigabytes_in_forty_bytes(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [50_000, 50_000]


def sizes_that_overflow(proto: onnx.ModelProto) -> None:
    """2^33 * 2^31 is 0 in 64 bits."""
    proto.graph.initializer[0].dims[:] = [2**33, 2**31]
    proto.graph.initializer[0].raw_data = b""


def a_negative_size(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[:] = [-16, -24]


def an_element_type_that_is_none(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_type = 4711


def no_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def no_graph(proto: onnx.ModelProto) -> None:
    proto.ClearField("graph")


def no_opset(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


def an_unknown_op(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].op_type = "Frobnicate"


def weights_of_the_wrong_shape(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[2].dims[:] = [12, 24]


def a_function_that_calls_itself(proto: onnx.ModelProto) -> None:
    call = helper.make_node("Again", ["a"], ["b"], domain="mine")
    proto.functions.append(
        helper.make_function("mine", "Again", ["a"], ["b"], [call], list(proto.opset_import))
    )
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    proto.functions[0].opset_import.append(helper.make_opsetid("mine", 1))
    proto.graph.node[1].CopyFrom(helper.make_node("Again", ["z1"], ["h1"], domain="mine"))


MADE_TWICE = "is made twice; give each input and each result a name of its own"
DAMAGES = {
    cyclic: (65, "nodes 'z1' (Gemm) and 'h1' (Relu) wait for each other's results"),
    dangling_input: (65, "the tensor 'nowhere' that a node without a name (Relu) reads"),
    dangling_output: (65, "nothing makes the model output 'nowhere'"),
    tensor_made_twice: (65, f"the tensor 'z1' {MADE_TWICE}"),
    an_input_that_is_there_twice: (65, f"the tensor 'x' {MADE_TWICE}"),
    two_initializers_of_one_name: (65, "two initializers are named 'w1'"),
    an_initializer_that_is_made_too: (65, f"the tensor 'w2' {MADE_TWICE}"),
    raw_data_too_short: (65, "tensor 'w1' has 1532 bytes, its shape wants 1536"),
    raw_data_of_half_a_number: (65, "tensor 'w1' has 1537 bytes, its shape wants 1536"),
    two_kinds_of_data: (65, "w1"),
    ten_gigabytes_in_forty_bytes: (65, "tensor 'w1' has 1536 bytes, its shape wants 10000000000"),
    sizes_that_overflow: (65, "tensor 'w1' has 0 bytes, its shape wants 73786976294838206464"),
    a_negative_size: (65, "tensor 'w1' has a negative size"),
    an_element_type_that_is_none: (65, "tensor 'w1' holds type 4711 as raw data"),
    no_nodes: (65, "nothing makes the model output 'y'"),
    no_graph: (65, "there is no graph in it"),
    no_opset: (65, "opset_import"),
    an_unknown_op: (65, "no op Frobnicate is known in version 17 of its operators (by onnx "),
    weights_of_the_wrong_shape: (69, "Gemm"),
    a_function_that_calls_itself: (65, "Again"),
    a_domain_without_version: (65, "com.example"),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_a_malformed_model(attempt, damage) -> None:
    proto = mlp()
    damage(proto)
    code, err = attempt(proto)
    assert (code, DAMAGES[damage][1] in err) == (DAMAGES[damage][0], True), err


# What the engine cannot do.


def test_an_op_that_the_engine_does_not_know(attempt) -> None:
    proto = mlp()
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    proto.graph.node[1].CopyFrom(helper.make_node("Mystery", ["z1"], ["h1"], domain="com.example"))
    code, err = attempt(proto)
    assert code == 69
    assert "op Mystery of the domain 'com.example'" in err
    assert "local function" in err


def test_two_nodes_of_one_name(attempt) -> None:
    proto = mlp()
    for node in proto.graph.node:
        node.name = "same"
    code, err = attempt(proto)
    assert code == 69
    assert "two nodes are named 'same'" in err


def test_an_opset_that_is_not_known(attempt) -> None:
    proto = mlp()
    proto.opset_import[0].version = 9999
    code, err = attempt(proto)
    assert code in (65, 69)
    assert "9999" in err


def test_another_opset_that_is_not_known(attempt) -> None:
    proto = mlp()
    proto.opset_import.append(helper.make_opsetid("ai.onnx.ml", 99))
    code, err = attempt(proto)
    assert code in (65, 69)
    assert "99" in err


def test_an_ir_version_that_is_too_new(attempt) -> None:
    proto = mlp()
    proto.ir_version = 99
    code, err = attempt(proto)
    assert code in (65, 69)
    assert "99" in err


@pytest.mark.parametrize("first", ["MatMul", "Relu"])
def test_bfloat16_that_the_engine_does_not_compute_with(attempt, first) -> None:
    """The layer itself has no kernel, or a node before it."""
    body = {
        "MatMul": "c = Cast<to = 16>(x)\n z = MatMul(c, w)\n",
        "Relu": "c = Cast<to = 16>(x)\n r = Relu(c)\n z = MatMul(r, w)\n",
    }[first]
    proto = build(
        f"g (float[N,16] x) => (float[N,4] y) {{ {body} y = Cast<to = 1>(z) }}",
        w=normal(16, 4).astype(ml_dtypes.bfloat16),
    )
    code, err = attempt(proto)
    assert code == 69
    assert "bfloat16" in err or "no kernel for" in err
    assert "convert the model to float32" in err


# Depth and noise.


def nested(depth: int) -> bytes:
    """A Relu inside Ifs."""
    text = "b0 = Relu(z1)"
    for at in range(depth):
        text = (
            f"b{at + 1} = If(yes) <then_branch = t{at} () => (float[n,m] b{at}) {{ {text} }}, "
            f"else_branch = e{at} () => (float[n,m] p{at}) {{ p{at} = Relu(z1) }}>"
        )
    text = f"yes = Constant<value = bool {{1}}>() z1 = MatMul(x, w) {text}"
    values = ", ".join(map(str, range(16)))
    weights = f"w = Constant<value = float[4,4] {{ {values} }}>()"
    graph = f"g (float[N,4] x) => (float[N,4] b{depth}) {{ {weights} {text} }}"
    _, _, whole = onnx.onnx_cpp2py_export.parser.parse_model(f"{HEAD}\n{graph}")
    return whole


@pytest.mark.parametrize(
    ("depth", "codes"), [(10, (0,)), (30, (0, 65)), (45, (65,)), (2000, (65,))]
)
def test_deep_nesting(attempt, depth, codes) -> None:
    """Protobuf itself takes a hundred messages inside each other, three of them to an If."""
    assert attempt(nested(depth), x=normal(24, 4))[0] in codes


def damaged(whole: bytes, random: np.random.Generator) -> bytes:
    """Up to three bytes changed, most of them where the structure is."""
    found = bytearray(whole)
    for _ in range(random.integers(1, 4)):
        end = min(len(found), 700) if random.random() < 0.7 else len(found)
        at = int(random.integers(end))
        found[at] = (
            random.integers(256) if random.random() < 0.5 else found[at] ^ (1 << random.integers(8))
        )
    return bytes(found)


@pytest.mark.parametrize("count", [15, pytest.param(600, marks=pytest.mark.slow)])
def test_damaged_bytes(attempt, tmp_path, count) -> None:
    """Whatever is flipped: a result, or a sentence; never a defect, never a crash."""
    whole, x = mlp(sizes=(6, 5, 4, 3)).SerializeToString(), normal(12, 6)
    random = np.random.default_rng(count)
    for _ in range(count):
        code, err = attempt(damaged(whole, random), x=x)
        assert code in (0, 4, 65, 66, 69, 77), err
        tmp_path.joinpath("model.pruned.onnx").unlink(missing_ok=True)


def test_every_truncation(attempt) -> None:
    whole = mlp(sizes=(6, 5, 4, 3)).SerializeToString()
    for size in range(0, len(whole), 13):
        assert attempt(whole[:size], x=normal(12, 6))[0] == 65


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_weights_that_are_no_numbers_stay(attempt, value) -> None:
    """One layer is left alone; what cannot be computed with is said, and is no reason to stop."""
    proto = build(
        "g (float[N,16] x) => (float[N,6] y, float[N,6] z) { y = MatMul(x, v)\n z = MatMul(x, w) }",
        v=np.where(normal(16, 6) > 2, value, normal(16, 6)).astype(np.float32),
        w=normal(16, 6, seed=2),
    )
    assert attempt(proto) == (0, "")
