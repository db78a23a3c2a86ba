"""`nettrim pack` and `unpack`: the same bits in fewer bytes, or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli import pipeline
from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput, NothingToDo
from nettrim_cli.graph import model as model_module
from nettrim_cli.graph.model import Model
from tests.support.networks import save_model
from tests.support.small import build, normal
from tests.support.sparse import sparse

ODD = np.array([0x80000000, 1, 0x807FFFFF, 0x7F800001, 0xFFC12345, 0xFF800000], np.uint32)


def odd_weight() -> np.ndarray:
    """Sparse, with a negative zero, denormals, and what is no number."""
    weight = sparse(64, 48)
    weight[0, : len(ODD)] = ODD.view(np.float32)
    return weight


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A file with odd numbers in it."""
    proto = build(
        "g (float[N,64] x) => (float[N,48] y) { h = MatMul(x, w) y = Add(h, b) }",
        w=odd_weight(),
        b=normal(48),
    )
    return save_model(tmp_path / "model.onnx", proto)


def raw(path: Path) -> dict[str, bytes]:
    """Bits of the initializers, by name."""
    graph = onnx.load(path).graph
    return {each.name: numpy_helper.to_array(each).tobytes() for each in graph.initializer}


def test_there_and_back(odd: Path, capsys) -> None:
    assert run(["pack", str(odd)]) == 0
    packed = odd.with_name("model.packed.onnx")
    assert packed.stat().st_size < 0.5 * odd.stat().st_size
    onnx.checker.check_model(str(packed), full_check=True)
    assert "times smaller" in capsys.readouterr().out
    assert run(["unpack", str(packed), "-o", str(odd.with_name("plain.onnx"))]) == 0
    assert raw(odd.with_name("plain.onnx")) == raw(odd)
    out, err = capsys.readouterr()
    assert "times larger" in out
    assert err == ""


def test_json_has_both_files(odd: Path, capsys) -> None:
    assert run(["pack", str(odd), "--json"]) == 0
    conversion = json.loads(capsys.readouterr().out)
    assert conversion["before"]["bytes_raw"] == odd.stat().st_size
    packed = Path(conversion["after"]["path"])
    assert conversion["after"]["bytes_raw"] == packed.stat().st_size
    assert conversion["before"]["nonzeros"] == conversion["after"]["nonzeros"]


def test_what_saves_nothing_is_refused(odd: Path, capsys) -> None:
    dense = build("g (float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }", w=normal(64, 48))
    save_model(odd.with_name("dense.onnx"), dense)
    pipeline.convert(odd, compact=True)
    for words in (["pack", "dense.onnx"], ["pack", "model.packed.onnx"], ["unpack", "model.onnx"]):
        command, name = words
        output = odd.with_name("output.onnx")
        assert run([command, str(odd.with_name(name)), "-o", str(output)]) == 4
        assert "nothing was written" in capsys.readouterr().err
        assert not output.exists()


def test_old_operators_are_refused(tmp_path: Path) -> None:
    old = build(
        "g (float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }",
        head='<ir_version: 5, opset_import: ["" : 9]>',
        w=sparse(64, 48),
    )
    with pytest.raises(BadInput, match="operators of version 11"):
        pipeline.convert(save_model(tmp_path / "old.onnx", old), compact=True)


def test_an_output_stays_unless_forced(odd: Path, capsys) -> None:
    odd.with_name("model.packed.onnx").write_bytes(b"old")
    assert run(["pack", str(odd)]) == 73
    assert odd.with_name("model.packed.onnx").read_bytes() == b"old"
    assert run(["pack", str(odd), "--force"]) == 0
    assert run(["pack", str(odd), "-o", str(odd), "--force"]) == 73
    capsys.readouterr()


@pytest.mark.parametrize("name", ["w", "b"])
def test_a_bit_that_differs_is_never_written(odd: Path, monkeypatch, name: str) -> None:
    true = model_module.compacted

    def wrong(proto, external):
        """Compact, after a bit of a weight was changed."""
        copy = onnx.ModelProto.FromString(proto.SerializeToString())
        (tensor,) = (each for each in copy.graph.initializer if each.name == name)
        tensor.raw_data = tensor.raw_data[:-1] + bytes([tensor.raw_data[-1] ^ 1])
        return true(copy, external)

    monkeypatch.setattr(model_module, "compacted", wrong)
    with pytest.raises(AssertionError, match=f"tensor '{name}'"):
        pipeline.convert(odd, compact=True)
    assert [path.name for path in odd.parent.iterdir()] == ["model.onnx"]


def test_a_packed_file_of_zeros_alone_is_read(tmp_path: Path) -> None:
    proto = build(
        "g (float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }",
        w=np.zeros((64, 48), np.float32),
    )
    path = save_model(tmp_path / "model.onnx", proto)
    with pytest.raises(NothingToDo):
        pipeline.convert(path, compact=False)
    conversion = pipeline.convert(path, compact=True)
    assert conversion.after.bytes_raw < 600
    assert conversion.after.sparsity == 1
    assert Model.load(conversion.after.path).compact
