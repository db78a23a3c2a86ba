"""Every bad input: the right exit code, one sentence that names the thing, nothing written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import helper

from nettrim_cli.cli import run
from nettrim_cli.data.dataset import Calibration
from tests.support import forked
from tests.support.networks import input_samples, mlp, residual, save_model
from tests.support.options import FAST, PATIENCE
from tests.support.small import build, normal


@pytest.fixture
def fails(files, capsys):
    """Run prune and check what every failure has in common; gives stderr."""

    def check(code: int, *says: str, options=(), model=None, data=None) -> str:
        before = {name: _content(files.folder / name) for name in files.listing}
        words = ["prune", str(model or files.model), "--data", str(data or files.data)]
        assert run([*words, *FAST, *map(str, options)]) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("nettrim: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        for text in says:
            assert str(text) in err, err
        assert {name: _content(files.folder / name) for name in files.listing} == before
        return err

    return check


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def rewrite(files, **arrays) -> Path:
    """Calibration data of other content."""
    path = files.folder / "other.h5"
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return path


def x(count: int = 40) -> np.ndarray:
    return input_samples(mlp(), count)


# The model file.


@pytest.mark.parametrize("which", ["model", "data"])
def test_a_missing_file(files, fails, which) -> None:
    missing = files.folder / ("gone.onnx" if which == "model" else "gone.h5")
    fails(66, missing, **{which: missing})


@pytest.mark.parametrize("which", ["model", "data"])
def test_a_folder_for_a_file(files, fails, which) -> None:
    folder = files.folder / ("folder.onnx" if which == "model" else "folder.h5")
    folder.mkdir()
    fails(66, folder, "folder", **{which: folder})


@pytest.mark.parametrize(
    "payload", [b"", b"hello, I am a poem", b"\x00" * 100, b"PK\x03\x04" + bytes(60)]
)
def test_a_file_that_is_no_model(files, fails, payload) -> None:
    path = files.folder / "bad.onnx"
    path.write_bytes(payload)
    fails(65, path, model=path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_model(files, fails, share) -> None:
    path = files.folder / "cut.onnx"
    whole = files.model.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    fails(65, path, model=path)


def test_a_model_without_layers(files, fails) -> None:
    path = save_model(
        files.folder / "flat.onnx", build("g (float[N,16] x) => (float[N,16] y) { y = Relu(x) }")
    )
    fails(4, path, "no layer", model=path)


def test_a_model_whose_only_layer_is_refused_says_why(files, fails) -> None:
    proto = build(
        "g (float[N,16,5] x) => (float[N,16,A] y) { y = Conv<group = 16>(x, w) }",
        w=normal(16, 1, 3),
    )
    path = save_model(files.folder / "grouped.onnx", proto)
    fails(4, path, "depthwise", model=path)


def test_external_data_that_leads_out_of_the_folder(files, fails) -> None:
    inner = files.folder / "inner"
    inner.mkdir()
    (files.folder / "weights.bin").write_bytes(mlp().graph.initializer[0].raw_data)
    proto = mlp()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")
    path = save_model(inner / "model.onnx", proto)
    fails(77, path, model=path, options=["-o", files.output])


def test_a_model_that_the_engine_cannot_run(files, fails) -> None:
    proto = mlp()
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    node = helper.make_node("Mystery", ["y"], ["secret"], domain="com.example")
    proto.graph.node.append(node)
    proto.graph.output.append(helper.make_tensor_value_info("secret", 1, ["N", 4]))
    path = save_model(files.folder / "odd.onnx", proto)
    fails(69, "Mystery", model=path)


# The calibration data.


def test_data_without_the_input(files, fails) -> None:
    fails(65, "other.h5", "x", data=rewrite(files, a=x(), b=x()))


def test_data_without_one_of_two_inputs(files, fails) -> None:
    proto = build(
        "g (float[N,4] left, float[N,4] right) => (float[N,4] y) { s = Add(left, right)\n"
        " y = MatMul(s, w) }",
        w=normal(4, 4),
    )
    path = save_model(files.folder / "two.onnx", proto)
    fails(65, "other.h5", "right", model=path, data=rewrite(files, left=normal(9, 4)))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (normal(40, 15), "15"),
        (normal(40, 4, 5), "(40, 4, 5)"),
        (normal(40), "(40,)"),
        (normal(40, 2, 15), "(40, 2, 15)"),
        (np.zeros((0, 16), np.float32), "0"),
        (np.array(3.0), "x"),
    ],
    ids=["size", "rank", "flat", "deep", "empty", "scalar"],
)
def test_data_of_a_wrong_shape(files, fails, values, says) -> None:
    fails(65, "other.h5", "x", says, data=rewrite(files, x=values))


def test_floats_where_integers_are_wanted(files, fails) -> None:
    proto = build(
        "g (int64[N,4] x) => (float[N,4,3] y) { e = Gather(table, x)\n y = MatMul(e, w) }",
        table=normal(10, 5),
        w=normal(5, 3),
    )
    path = save_model(files.folder / "embed.onnx", proto)
    data = rewrite(files, x=normal(30, 4) + 0.5)
    fails(65, "other.h5", "x", "int64", model=path, data=data)


@pytest.mark.parametrize("values", [np.full((40, 16), 2**24 + 1), np.full((40, 16), 2**60 + 1)])
def test_integers_that_floats_cannot_hold(files, fails, values) -> None:
    fails(65, "other.h5", "x", data=rewrite(files, x=values))


def test_words_where_numbers_are_wanted(files, fails) -> None:
    fails(65, "other.h5", "x", data=rewrite(files, x=np.full((40, 16), b"four")))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named_by_sample(files, fails, value) -> None:
    values = x()
    values[17, 3] = value
    fails(65, "other.h5", "'x'", "17", data=rewrite(files, x=values))


@pytest.mark.parametrize("labels", [np.zeros(39, int), np.zeros((40, 2)), np.full(40, b"cat")])
def test_labels_that_do_not_fit(files, fails, labels) -> None:
    fails(65, "other.h5", "labels", data=rewrite(files, x=x(), labels=labels))


def test_one_sample_is_too_few(files, fails) -> None:
    fails(65, "1 sample", "2 are needed", data=rewrite(files, x=x(1)))


def test_two_samples_will_do_with_a_warning(files, capsys) -> None:
    words = ["prune", str(files.model), "--data", str(rewrite(files, x=x(2))), *FAST]
    assert run([*words, "-q"]) == 0
    assert "samples would be useful, 2 were used" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".npy"])
@pytest.mark.parametrize("payload", [b"", b"hello", bytes(2000)], ids=["empty", "text", "zeros"])
def test_data_that_are_something_else(files, fails, suffix, payload) -> None:
    path = files.folder / f"bad{suffix}"
    path.write_bytes(payload)
    fails(65, path, data=path)


@pytest.mark.parametrize("suffix", [".csv", "", ".onnx"])
def test_data_of_an_unknown_kind(files, fails, suffix) -> None:
    path = files.folder / f"data{suffix}"
    path.write_bytes(b"1,2,3")
    fails(65, path, ".npz", data=path)


def test_truncated_data(files, fails) -> None:
    path = files.folder / "cut.h5"
    whole = files.data.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    fails(65, path, data=path)


@pytest.mark.parametrize("kind", ["link", "virtual", "raw"])
def test_hdf5_that_leads_out_of_the_file(files, fails, kind) -> None:
    secret = files.folder / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = x()
    path = files.folder / "trap.h5"
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["x"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "virtual":
            layout = h5py.VirtualLayout((40, 16), np.float32)
            layout[:] = h5py.VirtualSource(str(secret), "x", (40, 16))
            file.create_virtual_dataset("x", layout)
        else:
            raw = [(str(secret), 0, 40 * 16 * 4)]
            file.create_dataset("x", (40, 16), np.float32, external=raw)
    fails(77, path, "x", data=path)


def test_a_pickle_in_the_data(files, fails) -> None:
    path = files.folder / "trap.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    fails(77, path, data=path)


# The output.


@pytest.fixture
def no_work(monkeypatch):
    """Fail if anything is solved."""

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work was started")

    monkeypatch.setattr(Calibration, "batches", work)


def test_an_output_that_exists(files, fails, no_work) -> None:
    files.output.write_bytes(b"old")
    fails(73, files.output, "--force")


@pytest.mark.parametrize("way", ["same", "dotted", "symlink", "hard link", "back", "data"])
def test_an_output_that_is_the_input_even_with_force(files, fails, no_work, way) -> None:
    target = files.folder / "alias.onnx"
    model = files.model
    if way == "same":
        target = model
    elif way == "dotted":
        target = files.folder / "." / ".." / files.folder.name / "model.onnx"
    elif way == "symlink":
        target.symlink_to(model)
    elif way == "hard link":
        os.link(model, target)
    elif way == "back":
        target.symlink_to(model)
        model, target = target, model
    else:
        target = files.data
    fails(73, target, "input", model=model, options=["-o", target, "--force"])


@pytest.mark.parametrize("which", ["-o", "--report"])
def test_a_folder_that_cannot_be_written(files, fails, no_work, which) -> None:
    name = "out.onnx" if which == "-o" else "out.json"
    fails(73, name, options=[which, files.folder / "missing" / name])
    fails(73, name, options=[which, files.model / name])
    (files.folder / name).mkdir()
    fails(73, name, "folder", options=[which, files.folder / name])


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc here")
def test_a_folder_that_takes_no_files(fails, no_work) -> None:
    fails(73, "/proc/out.onnx", options=["-o", "/proc/out.onnx"])


def test_a_report_that_exists_or_is_an_input(files, fails, no_work) -> None:
    old = files.folder / "old.json"
    old.write_bytes(b"old")
    fails(73, old, "--force", options=["--report", old])
    link = files.folder / "link.json"
    link.symlink_to(files.model)
    fails(73, link, "input", options=["--report", link, "--force"])


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk(files, fails, monkeypatch, call, old) -> None:
    if old:
        files.output.write_bytes(old)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    fails(74, files.output, "No space left", options=["--force"])


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from nettrim_cli.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
def test_a_file_that_may_not_grow(files) -> None:
    files.output.write_bytes(b"old")
    words = ["prune", str(files.model), "--data", str(files.data), *FAST, "--force"]
    ended = forked.run(
        [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.returncode == 74, ended.stderr
    assert "model.pruned.onnx" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""
    assert files.output.read_bytes() == b"old"
    assert files.listing == ["calib.h5", "model.onnx", "model.pruned.onnx"]


# Compare and inspect meet the same files.


def test_inspect_and_compare_of_missing_and_bad_files(files, capsys) -> None:
    gone, bad = files.folder / "gone.onnx", files.folder / "bad.onnx"
    bad.write_bytes(b"no model")
    for path, code in ((gone, 66), (bad, 65)):
        for words in (
            ["inspect", path],
            ["compare", path, files.model, "--data", files.data],
            ["compare", files.model, path, "--data", files.data],
        ):
            assert run([str(each) for each in words]) == code
            out, err = capsys.readouterr()
            assert out == ""
            assert str(path) in err


def test_compare_of_models_that_do_not_fit(files, capsys) -> None:
    other = save_model(files.folder / "other.onnx", residual())
    words = ["compare", str(files.model), str(other), "--data", str(files.data)]
    assert run(words) in (65, 69)
    assert capsys.readouterr().out == ""


def test_a_gate_that_is_missed_exits_3(files, capsys) -> None:
    changed = mlp(seed=5)
    other = save_model(files.folder / "other.onnx", changed)
    words = ["compare", str(files.model), str(other), "--data", str(files.data)]
    assert run([*words, "--max-drop", "0.001"]) == 3
    assert "--max-drop" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["with space.onnx", "-dash.onnx", "ünï→.onnx", "new\nline.onnx"])
def test_odd_names_of_files(files, capsys, name) -> None:
    path = files.folder / name
    path.write_bytes(files.model.read_bytes())
    out = files.folder / f"out {name}"
    assert run(["prune", "--data", str(files.data), *FAST, "-o", str(out), "--", str(path)]) == 0
    assert out.is_file()
    gone = files.folder / f"gone{name}"
    assert run(["inspect", "--", str(gone)]) == 66
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8 need Linux")
def test_names_that_are_not_text(files) -> None:
    folder = os.fsencode(files.folder)
    source, target = folder + b"/\xff\xfe.onnx", folder + b"/\xff.out.onnx"
    os.link(files.model, source)
    data = folder + b"/\xfd.h5"
    os.link(files.data, data)
    ended = subprocess.run(
        [sys.executable, "-m", "nettrim_cli", "prune", source, "--data", data, *FAST]
        + ["-o", target],
        capture_output=True,
        timeout=PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    assert os.path.getsize(target) > 1000


def test_a_layer_whose_signals_are_not_finite_stays_dense(files, capsys) -> None:
    """Finite samples may still give NaN inside a model: no reason to wipe the layer out."""
    proto = build(
        "g (float[N,16] x) => (float[N,6] y, float[N,6] z) { h = MatMul(x, w1)\n r = Log(h)\n"
        " y = MatMul(r, w2)\n z = MatMul(x, w3) }",
        w1=normal(16, 6),
        w2=normal(6, 6, seed=1),
        w3=normal(16, 6, seed=2),
    )
    path = save_model(files.folder / "odd.onnx", proto)
    report = files.folder / "report.json"
    words = ["prune", str(path), "--data", str(files.data), *FAST, "--report", str(report)]
    assert run(words) == 0
    assert capsys.readouterr().err == ""
    layers = {each["name"]: each for each in json.loads(report.read_text("utf-8"))["layers"]}
    assert layers["y"]["status"] == "dense"
    assert layers["y"]["nonzeros_after"] == 36
    assert "finite" in layers["y"]["note"]
    assert layers["z"]["nonzeros_after"] < 96


@pytest.mark.parametrize("name", [".", "/"])
def test_a_model_name_that_names_no_file(files, capsys, name) -> None:
    assert run(["prune", name, "--data", str(files.data)]) == 66
    assert "folder" in capsys.readouterr().err


def test_a_result_that_the_engine_cannot_load_is_not_written(files, capsys, monkeypatch) -> None:
    from nettrim_cli.data import batching
    from nettrim_cli.errors import EngineFailed

    def refuses(*_: object, **__: object) -> None:
        raise EngineFailed("onnxruntime cannot load the model: no")

    monkeypatch.setattr(batching, "Engine", refuses)
    before = sorted(files.folder.iterdir())
    assert run(["prune", str(files.model), "--data", str(files.data), *FAST]) == 69
    assert str(files.model) in capsys.readouterr().err
    assert sorted(files.folder.iterdir()) == before
