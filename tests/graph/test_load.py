"""Files that cannot be loaded say why; models are saved whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from nettrim_cli.errors import (
    BadInput,
    CannotWrite,
    DiskFailed,
    MissingInput,
    NettrimError,
    Refused,
)
from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage import external, protobuf

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3] x) => (float[n,4] y) { [one] z = MatMul(x, w) y = Relu(z) }"""
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def proto(text: str = TEXT) -> onnx.ModelProto:
    result = parser.parse_model(text)
    result.graph.initializer.append(numpy_helper.from_array(VALUES, "w"))
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    target = tmp_path / "model.onnx"
    target.write_bytes(proto().SerializeToString())
    return target


def test_missing_files(tmp_path):
    with pytest.raises(MissingInput, match=r"none\.onnx: there is no such model: check the path"):
        Model.load(tmp_path / "none.onnx")
    with pytest.raises(MissingInput, match="folder"):
        Model.load(tmp_path)
    with pytest.raises(MissingInput, match="cannot be read"):
        Model.load("a\0b")
    with pytest.raises(MissingInput, match="not a regular file"):
        Model.load("/dev/null")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(MissingInput, match="not a regular file"):
        Model.load(tmp_path / "pipe.onnx")


@pytest.mark.parametrize(
    "payload",
    [b"", b"PK\x03\x04 not a model", b"\x08\x08", np.random.default_rng(0).bytes(4000)],
    ids=["empty", "text", "no graph", "noise"],
)
def test_files_that_are_no_models(path, payload):
    path.write_bytes(payload)
    with pytest.raises(BadInput, match=r"model\.onnx: "):
        Model.load(path)


def test_every_truncation_is_bad_input(path):
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(BadInput):
            Model.load(path)


def test_damaged_bytes_are_bad_input_or_load(path):
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(NettrimError):
            Model.load(path).count_parameters()


def dims_too_large(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def dims_negative(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [-3, -4]


def too_many_values(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2


def duplicate_initializer(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def duplicate_output(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "z"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def dangling_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "nowhere"


def dangling_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "nowhere"


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def unknown_op(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "NoSuchOp"


DAMAGES = [
    dims_too_large,
    dims_negative,
    too_many_values,
    duplicate_initializer,
    duplicate_output,
    cycle,
    dangling_input,
    dangling_output,
    no_opset,
    unknown_op,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_malformed_models(path, damage):
    model = proto()
    damage(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match=r"model\.onnx: ") as caught:
        Model.load(path)
    assert "\n" not in str(caught.value)


def test_wrong_shapes_do_not_break_the_detection(path):
    model = proto(TEXT.replace("MatMul(x, w)", "Transpose<perm=[0,0,5]>(w)"))
    model.graph.node.insert(0, helper.make_node("Identity", ["x"], ["unused"]))
    model.graph.node.append(helper.make_node("MatMul", ["x", "z"], ["last"]))
    path.write_bytes(model.SerializeToString())
    (layer,) = Model.load(path).layers
    assert "axes that it does not have" in layer.refusal.text


def test_non_utf8_paths(tmp_path):
    if sys.platform in ("win32", "darwin"):
        pytest.skip("paths are text here")
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))
    folder.mkdir()
    save_external(folder / "model.onnx", "w.bin")
    model = Model.load(folder / "model.onnx")
    model.save(folder / "new.onnx")
    assert Model.load(folder / "new.onnx").to_bytes() == model.to_bytes()


# -- external data


def save_external(path: Path, location: str, data: bytes | None = None, **entries: int) -> None:
    model = proto()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    if data is None and location and not Path(location).is_absolute() and ".." not in location:
        data = VALUES.tobytes()
    if data is not None:
        file = path.parent / location
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


@pytest.mark.parametrize("location", ["w.bin", "deep/er/w.bin", "./w.bin"])
def test_external_data_beside_the_model(path, location):
    save_external(path, location)
    model = Model.load(path)
    np.testing.assert_array_equal(model.weight(model.layers[0])[0][0], VALUES)
    assert model.proto.graph.initializer[0].data_location == TensorProto.DEFAULT
    model.save(path.with_name("new.onnx"))


def test_external_data_with_offset_and_length(path):
    save_external(path, "w.bin", b"#" * 16 + VALUES.tobytes() + b"##", offset=16, length=48)
    model = Model.load(path)
    np.testing.assert_array_equal(model.weight(model.layers[0])[0][0], VALUES)


@pytest.mark.parametrize(
    "location",
    ["/etc/hostname", "../w.bin", "deep/../../w.bin", "C:\\w.bin", "\\\\host\\w.bin", "..\\w.bin"],
)
def test_external_data_elsewhere_is_refused(path, location):
    (path.parent.parent / "w.bin").write_bytes(VALUES.tobytes())
    save_external(path, location, data=None if ".." in location or "/" in location else b"")
    with pytest.raises(Refused, match=r"tensor 'w'"):
        Model.load(path)


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_links_out_of_the_folder_are_refused(path, link):
    folder = path.parent / "models"
    folder.mkdir()
    outside = path.parent / "secret"
    outside.write_bytes(VALUES.tobytes())
    save_external(folder / "model.onnx", "w.bin")
    (folder / "w.bin").unlink()
    getattr(folder / "w.bin", link)(outside)
    with pytest.raises(Refused, match="link"):
        Model.load(folder / "model.onnx")


def test_a_link_to_a_folder_outside_is_refused_and_one_inside_is_not(path):
    folder = path.parent / "models"
    (folder / "real").mkdir(parents=True)
    (folder / "real" / "w.bin").write_bytes(VALUES.tobytes())
    (folder / "alias").symlink_to(folder / "real")
    save_external(folder / "model.onnx", "alias/w.bin")
    assert Model.load(folder / "model.onnx").layers[0].prunable
    (path.parent / "away").mkdir()
    (path.parent / "away" / "w.bin").write_bytes(VALUES.tobytes())
    (folder / "alias").unlink()
    (folder / "alias").symlink_to(path.parent / "away")
    with pytest.raises(Refused, match="link"):
        Model.load(folder / "model.onnx")


def test_a_missing_or_short_sidecar(path):
    save_external(path, "w.bin")
    (path.parent / "w.bin").unlink()
    with pytest.raises(MissingInput, match=r"w\.bin"):
        Model.load(path)
    save_external(path, "w.bin", VALUES.tobytes()[:-1])
    with pytest.raises(BadInput):
        Model.load(path)
    for entries, said in (
        ({"offset": 40}, "8 bytes of external data"),
        ({"offset": -4}, "a negative offset"),
        ({"length": 2**50}, "cut short"),
        ({"offset": "four"}, "malformed offset"),
    ):
        save_external(path, "w.bin", **entries)
        with pytest.raises(BadInput, match=f"tensor 'w': .*{said}"):
            Model.load(path)
    save_external(path, "")
    with pytest.raises(BadInput, match="names no file"):
        Model.load(path)


def test_models_over_the_limit(path, monkeypatch):
    save_external(path, "w.bin")
    monkeypatch.setattr(protobuf, "MAX_BYTES", path.stat().st_size + 20)
    monkeypatch.setattr(external, "MAX_BYTES", path.stat().st_size + 20)
    with pytest.raises(BadInput, match="2 GB"):
        Model.load(path)
    for module in (external, protobuf):
        monkeypatch.setattr(module, "MAX_BYTES", 20)
    with pytest.raises(BadInput, match="2 GB"):
        Model.load(path)


# -- saving


def test_save_and_load_again(path):
    model = Model.load(path)
    target = path.with_name("new.onnx")
    model.save(target)
    assert target.read_bytes() == model.to_bytes()
    assert Model.load(target).layers == model.layers
    with pytest.raises(CannotWrite, match="exists"):
        model.save(target)
    model.save(target, force=True)
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.onnx", "new.onnx"]


def test_the_input_is_never_overwritten(path):
    before = path.read_bytes()
    model = Model.load(path)
    with pytest.raises(CannotWrite, match="input"):
        model.save(path, force=True)
    assert path.read_bytes() == before


def test_a_model_that_has_become_invalid_is_not_written(path):
    model = Model.load(path)
    model.proto.graph.node[0].op_type = "NoSuchOp"
    target = path.with_name("new.onnx")
    with pytest.raises(BadInput, match="NoSuchOp"):
        model.save(target)
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]


def test_a_full_disk(path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    model = Model.load(path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFailed, match="No space left"):
        model.save(path.with_name("new.onnx"))
    assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
