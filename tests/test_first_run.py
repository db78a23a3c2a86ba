"""What people type and bring at first: each mistake has its exit code and says what was meant."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from nettrim_cli.cli import run
from nettrim_cli.data.advice import RECIPES
from nettrim_cli.files.formats import FORMATS, MAGIC, identify
from tests.support.effort import thinned
from tests.support.networks import input_samples, mlp, save_model
from tests.support.options import FAST, PATIENCE
from tests.support.small import build, normal

QUIET = [*FAST, "--force", "-q"]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a model and samples, in which commands run."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.onnx", mlp())
    np.savez(tmp_path / "data.npz", x=input_samples(mlp(), 60))
    return tmp_path


def said(capsys, *words: str) -> tuple[int, str]:
    code = run(list(words))
    return code, " ".join(capsys.readouterr().err.split())


def followed(text: str) -> None:
    """Run the command that a message ends with."""
    found = re.search(r"(nettrim data|python -(c|m zipfile)) .*", text)
    assert found, text
    line = found[0].removesuffix(" (only if the file is yours)")
    for part in line.split(" && "):
        if part.startswith("nettrim "):
            assert run(shlex.split(part)[1:]) == 0
        else:
            part = part.replace("python ", f"{shlex.quote(sys.executable)} ", 1)
            subprocess.run(part, shell=True, check=True, timeout=PATIENCE)


# Files of other kinds


def archive(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"content")


OTHERS = {
    "model.h5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 90, "an HDF5 file, not an ONNX model"),
    "model.tflite": (b"\x1c\0\0\0TFL3" + b"\0" * 90, "tf2onnx.convert --tflite model.tflite"),
    "model.safetensors": (b"\x20" + b"\0" * 7 + b'{"a":{}}', "torch.onnx.export"),
    "lfs.onnx": (LFS, "run 'git lfs pull'"),
    "page.onnx": (b"\n<!DOCTYPE html>\n<html></html>", "an HTML page, not an ONNX model"),
    "model.onnx.gz": (b"\x1f\x8b\x08" + b"\0" * 40, "gzip -dk model.onnx.gz"),
    "old.pt": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "a PyTorch file"),
    "trees.pkl": (b"\x80\x04\x95abc", "skl2onnx"),
    "saved_model.pb": (b"\x08\x01\x12\x80\x02\x0a\x20", "tf2onnx.convert --saved-model"),
    "frozen.pb": (b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder", "--graphdef frozen.pb"),
    "zeros.onnx": (b"\0" * 100, "download it again"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_kind_as_model(here, capsys, name) -> None:
    content, words = OTHERS[name]
    (here / name).write_bytes(content)
    code, text = said(capsys, "prune", name, "--data", "data.npz")
    assert (code, words in text) == (65, True), text


@pytest.mark.parametrize(
    ("name", "inside", "words"),
    [
        ("model.pt", "archive/data.pkl", "torch.onnx.export"),
        ("model.keras", "model.weights.h5", "tf2onnx.convert --keras model.keras"),
        ("model.zip", "deep/net.onnx", "and give deep/net.onnx"),
    ],
)
def test_a_zip_archive_as_model(here, capsys, name, inside, words) -> None:
    archive(here / name, inside)
    code, text = said(capsys, "inspect", name)
    assert (code, words in text) == (65, True), text


def test_a_folder_as_model(here, capsys) -> None:
    (here / "saved").mkdir()
    code, text = said(capsys, "inspect", "saved")
    assert (code, "a folder; name the .onnx file in it" in text) == (66, True)
    save_model(here / "saved" / "net.onnx", mlp())
    assert "such as saved/net.onnx" in said(capsys, "inspect", "saved")[1]
    (here / "saved" / "saved_model.pb").write_bytes(b"\x08\x01")
    assert "--saved-model saved " in said(capsys, "inspect", "saved")[1]


def test_every_kind_that_is_told_has_a_sentence() -> None:
    assert {key for *_, key in MAGIC} <= set(FORMATS)
    assert set(RECIPES) - {"tensor"} <= set(FORMATS)
    assert all(each.export or key == "onnx" for key, each in FORMATS.items())


def test_the_models_of_others_are_onnx(here) -> None:
    assert identify("model.onnx") == FORMATS["onnx"]
    assert identify("data.npz") == FORMATS["npz"]
    assert identify("nowhere") is None


@pytest.mark.parametrize("command", ["prune", "compare"])
def test_model_and_samples_that_changed_places(here, capsys, command) -> None:
    models = ["data.npz"] * (1 + (command == "compare"))
    code, text = said(capsys, command, *models, "--data", "model.onnx")
    assert code == 65
    assert "data.npz is a NumPy archive (.npz) and model.onnx an ONNX model" in text
    assert "--data data.npz" in text


def test_the_content_tells_the_format_whatever_the_name(here) -> None:
    for name in ("data.h5", "data.npy", "data.zip", "data"):
        (here / "data.npz").rename(here / name)
        assert run(["prune", "model.onnx", "--data", name, *QUIET]) == 0
        (here / name).rename(here / "data.npz")


@pytest.mark.parametrize("name", ["data.h5", "calib.npz"])
def test_a_pointer_as_samples(here, capsys, name) -> None:
    (here / name).write_bytes(LFS)
    code, text = said(capsys, "prune", "model.onnx", "--data", name)
    assert (code, "run 'git lfs pull'" in text) == (65, True)


def test_nobody_is_told_to_open_a_file_for_writing(here, capsys) -> None:
    (here / "data.h5").write_bytes(b"\x01\x02" * 100)
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.h5")
    assert code == 65
    assert "copy or download it again" in text
    assert "'w'" not in text


@pytest.mark.parametrize(
    ("mark", "header"), thinned(itertools.product((",", ";", " "), (True, False)), 3)
)
def test_a_table_becomes_samples(here, capsys, header, mark) -> None:
    rows = input_samples(mlp(), 60)
    lines = [mark.join(f"{value:.9g}" for value in row) for row in rows]
    if header:
        lines = [mark.join([*(f"c{at}" for at in range(16)), "label"])] + [
            f"{line}{mark}{at % 4}" for at, line in enumerate(lines)
        ]
    (here / "my table.csv").write_text("\n".join(lines))
    code, text = said(capsys, "prune", "model.onnx", "--data", "my table.csv")
    assert (code, "is a text file" in text) == (65, True)
    followed(text)
    with h5py.File("calib.h5") as file:
        assert np.array_equal(file["x"], rows)
        assert not header or file["labels"][()].tolist() == [at % 4 for at in range(60)]
    assert run(["prune", "model.onnx", "--data", "calib.h5", *QUIET]) == 0


def images(channels: int, *, last: bool = False) -> onnx.ModelProto:
    axes = f"6,8,{channels}" if last else f"{channels},6,8"
    turned = "t = Transpose<perm = [0,3,1,2]>(x)" if last else "t = Identity(x)"
    return build(
        f"g (float[N,{axes}] x) => (float[N,5,1,1] y) {{\n{turned}\nc = Conv(t, w)\n"
        "y = GlobalAveragePool(c)\n}",
        w=normal(5, channels, 3, 3),
    )


@pytest.mark.parametrize(
    ("channels", "last", "zipped"),
    thinned(itertools.product((3, 1), (False, True), (False, True)), 3),
)
def test_images_become_samples(here, capsys, channels, last, zipped) -> None:

    save_model(here / "model.onnx", images(channels, last=last))
    folder = here / "the images [1]" / "cat"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (20, 6, 8, 3), dtype=np.uint8)
    for at, value in enumerate(values):
        Image.fromarray(value).save(folder / f"{at:02}.png")
    data = "the images [1]"
    if zipped:
        with zipfile.ZipFile("pictures.zip", "w") as file:
            for path in sorted(folder.iterdir()):
                file.write(path, f"pictures/{path.name}")
        data = "pictures.zip"
    code, text = said(capsys, "prune", "model.onnx", "--data", data)
    assert code == (65 if zipped else 66)
    followed(text)
    with h5py.File("calib.h5") as file:
        if channels == 3:
            wanted = values if last else values.transpose(0, 3, 1, 2)
            assert np.allclose(file["x"], wanted / 255, atol=1e-6)
    assert run(["prune", "model.onnx", "--data", "calib.h5", *QUIET]) == 0


def test_a_folder_of_arrays_and_other_folders(here, capsys) -> None:
    (here / "rows").mkdir()
    words = ["prune", "model.onnx", "--data", "rows"]
    assert "without files" in said(capsys, *words)[1]
    for at, row in enumerate(input_samples(mlp(), 30)):
        np.save(here / "rows" / f"{at:02}.npy", row)
    code, text = said(capsys, *words)
    assert code == 66
    followed(text)
    assert run(["prune", "model.onnx", "--data", "calib.h5", *QUIET]) == 0
    (here / "model.pruned.onnx").unlink()
    followed(said(capsys, *words)[1])  # what is there is not overwritten
    assert Path("calib-2.h5").exists()
    (here / "rows" / "all.h5").write_bytes(b"")
    assert "such as rows/all.h5" in said(capsys, *words)[1]


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.wav", "nettrim data files --model model.onnx --window 1s"), ("a.xyz", "store one")],
)
def test_folders_of_other_files(here, capsys, name, line) -> None:
    (here / "files").mkdir()
    (here / "files" / name).write_bytes(b"content")
    code, text = said(capsys, "prune", "model.onnx", "--data", "files")
    assert (code, line in text) == (66, True), text


# Files that are not there


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["prune", "modle.onnx", "--data", "data.npz"], "did you mean model.onnx?"),
        (["prune", "model.onnx", "--data", "dat.npz"], "did you mean data.npz?"),
        (["prune", "models/a.onnx", "--data", "data.npz"], "the folder models cannot be found"),
        (["prune", "https://x.org/a.onnx", "--data", "data.npz"], "download the file first"),
        (["prune", "model.onnx", "--data", "http://x.org/a.h5"], "download the file first"),
        (["inspect", "zzz.bin"], "check the path"),
        (
            ["data", "picturs", "--model", "model.onnx", "-o", "c.h5", "--preset", "unit"],
            "did you mean pictures?",
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_file_that_is_not_there(here, capsys, words, told) -> None:
    (here / "pictures").mkdir()
    code, text = said(capsys, *words)
    assert (code, told in text) == (66, True), text


def test_a_model_without_its_weights(here, capsys) -> None:
    onnx.save_model(
        mlp(), "far.onnx", save_as_external_data=True, location="far.data", size_threshold=0
    )
    (here / "far.data").unlink()
    code, text = said(capsys, "inspect", "far.onnx")
    assert (code, "copy it beside the model, under this name" in text) == (66, True), text


@pytest.mark.parametrize("content", [b"", b"\x08\x07\x12\xff"])
def test_a_model_that_is_cut_short(here, capsys, content) -> None:
    (here / "cut.onnx").write_bytes(content)
    code, text = said(capsys, "inspect", "cut.onnx")
    assert (code, "copy or download it, again" in text) == (65, True), text


@pytest.mark.parametrize(
    ("dtype", "told"),
    [("uint8", "nettrim data data.npz --model MODEL --preset unit"), ("int64", "data.astype('fl")],
)
def test_whole_numbers_for_a_model_of_reals(here, capsys, dtype, told) -> None:
    np.savez("data.npz", x=np.ones((60, 16), dtype))
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert (code, told in text, "255" in text) == (65, True, dtype == "uint8"), text


def test_models_of_other_axes_are_not_compared(here, capsys) -> None:
    save_model(here / "images.onnx", images(3))
    code, text = said(capsys, "compare", "model.onnx", "images.onnx", "--data", "data.npz")
    assert code == 65
    assert "float32 with 4 axes, that of model.onnx is float32 with 2 axes" in text


def test_a_dense_model_is_not_packed(here, capsys) -> None:
    code, text = said(capsys, "pack", "model.onnx")
    assert (code, "'nettrim prune'" in text) == (4, True), text


# The line that was meant


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["model.onnx"], "nettrim prune model.onnx --data calib.h5, or nettrim inspect"),
        (["model.onnx", "data.npz"], "nettrim prune model.onnx --data data.npz"),
        (["prune", "model.onnx", "data.npz"], "nettrim prune model.onnx --data data.npz"),
        (
            ["prune", "model.onnx", "data.npz", "--sparsity", ".7"],
            "nettrim prune model.onnx --data data.npz --sparsity .7",
        ),
        (["prune", "model.onnx"], "nettrim prune model.onnx --data calib.h5"),
        (
            ["compare", "model.onnx", "model.onnx", "data.npz"],
            "nettrim compare model.onnx model.onnx --data data.npz",
        ),
        (["prun", "model.onnx"], "Did you mean 'prune'?"),
        (["help"], "nettrim prune --help"),
        (["--sparsity", ".9", "model.onnx"], "Options stand behind a command"),
        (["prune"], "Try: nettrim prune model.onnx --data calib.h5"),
        (["inspect"], "Try: nettrim inspect model.onnx"),
        (["compare", "model.onnx", "--data", "data.npz"], "Try: nettrim compare model.onnx"),
        (["inspect", "model.onnx", "model.onnx"], "extra argument (model.onnx)"),
        (["prune", "model.onnx --data data.npz"], "--data data.npz, without quotes"),
        (["prune", "model.onnx", "--data", "data.npz", "-s", ".9"], "options have long names"),
        (
            ["prune", "model.onnx", "--data", "data.npz", "--sparsity", "0,9"],
            "'0,9' has a comma; write 0.9",
        ),
        (
            ["prune", "model.onnx", "--data", "d.npz", "--sparsity", ".9", "--max-drop", "1%"],
            "leave out all but one",
        ),
        (["prune", "", "--data", "data.npz"], "MODEL is empty: name a file"),
        (["prune", "model.onnx", "--data", ""], "--data is empty: name a file"),
        (["prune", "model.onnx", "--data", "data.npz", "-o", ""], "--output is empty"),
        (["prune", "model.onnx", "--data", "data.npz", "-o", "-"], "--output is '-'"),
        (["prune", "model.onnx", "--data", "-"], "--data is '-'"),
        (["prune", "model.onnx", "--data", "data.npz", "-o", "new/"], "as new/model.pruned.onnx"),
        (["prune", "model.onnx", "--data", "data.npz", "-q", "-v"], "opposite things"),
        (["prune", "model.onnx", "--data", "data.npz", "--gamma", "1.3"], "--gamma has no meaning"),
        (
            ["prune", "model.onnx", "--data", "data.npz", "--allocate", "error", "--epsilon", ".1"],
            "--allocate shares zeros out",
        ),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_wrong_usage_says_what_was_meant(here, capsys, words, meant) -> None:
    before = sorted(os.listdir(here))
    code, text = said(capsys, *words)
    assert (code, meant in text) == (2, True), text
    assert sorted(os.listdir(here)) == before


def bracketed() -> onnx.ModelProto:
    proto = mlp()
    for node, name in zip(
        proto.graph.node[::2], ("blocks[0].fc", "blocks0.fc", "head"), strict=True
    ):
        node.name = name
    return proto


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("blocks[0].fc", ["blocks[0].fc"]),
        ("blocks[0].*", ["blocks0.fc"]),
        ("b*", ["blocks[0].fc", "blocks0.fc"]),
    ],
)
def test_names_are_tried_as_they_are_first(here, capsys, pattern, left) -> None:
    from nettrim_cli.graph.model import Model

    save_model(here / "model.onnx", bracketed())
    words = ["prune", "model.onnx", "--data", "data.npz", *QUIET]
    assert run([*words, "--exclude", pattern]) == 0
    sparse = [
        each.name
        for each in Model.load("model.pruned.onnx").layers
        if not all(U.all() for U in Model.load("model.pruned.onnx").weight(each)[0])
    ]
    assert sorted({"blocks[0].fc", "blocks0.fc", "head"} - set(sparse)) == sorted(left)
    assert run([*words, "--limit", f"{pattern}=0:0.9"]) == 0
    assert run([*words, "--include", pattern]) == 0


@pytest.mark.parametrize("option", ["--include", "--exclude", "--limit"])
def test_a_pattern_that_names_no_layer_is_wrong_usage(here, capsys, option) -> None:
    save_model(here / "model.onnx", bracketed())
    for pattern, near in (
        ("heat", "'head'"),
        ("fc", "'blocks[0].fc', 'blocks0.fc'"),
        ("", "'head'"),
    ):
        value = f"{pattern}=0:0.5" if option == "--limit" else pattern
        code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz", option, value)
        assert code == 2, text
        if pattern or option != "--limit":
            assert near in text


def test_a_size_that_no_file_can_have_is_told_in_units(here, capsys) -> None:
    code, text = said(
        capsys, "prune", "model.onnx", "--data", "data.npz", "--max-bytes", "100", "--threads", "1"
    )
    assert code == 3
    assert "--max-bytes 100 B; the nearest was" in text
    assert re.search(r"nearest was [\d.]+ k?B at", text)


def test_a_model_that_may_not_be_read_is_no_wrong_usage(here, capsys, monkeypatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, text = said(capsys, "inspect", "model.onnx")
    assert (code, "model.onnx: the model cannot be read: Permission denied" in text) == (66, True)


# Samples that do not fit


@pytest.mark.parametrize(
    ("shape", "taken", "advice"),
    [
        ((60, 10, 10, 3), "N,3,10,10", "data.transpose(0, 3, 1, 2)"),
        ((60, 3, 10, 10), "N,10,10,3", "data.transpose(0, 2, 3, 1)"),
        ((60, 12, 10, 3), "N,3,12,10", "data.transpose(0, 3, 1, 2)"),
        ((60, 10, 12, 3), "N,3,12,10", "data.transpose(0, 3, 2, 1)"),
        ((10, 10, 3), "N,3,10,10", "data.transpose(2, 0, 1)[None]"),
        ((60, 10, 10), "N,1,10,10", "data.reshape(len(data), 1, 10, 10)"),
        ((60, 300), "N,3,10,10", "data.reshape(len(data), 3, 10, 10)"),
        ((60, 10, 10, 3), "N,3,100", "store one sample per row"),
    ],
)
def test_axes_in_another_order(here, capsys, shape, taken, advice) -> None:
    proto = build(
        f"g (float[{taken}] x) => (float[M,7] y) {{\nf = Flatten(x)\ny = MatMul(f, w)\n}}",
        w=normal(int(np.prod([int(a) for a in taken.split(",")[1:]])), 7),
    )
    save_model(here / "model.onnx", proto)
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.savez("data.npz", x=data)
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert (code, advice in text) == (65, True), text
    if "data." in advice and "None" not in advice:
        np.savez("data.npz", x=eval(advice))
        assert run(["prune", "model.onnx", "--data", "data.npz", *QUIET]) == 0


def test_channels_last_where_the_model_leaves_sizes_free(here, capsys) -> None:
    proto = images(3)
    for axis in proto.graph.input[0].type.tensor_type.shape.dim[1:]:
        axis.Clear()
    save_model(here / "model.onnx", proto)
    np.savez("data.npz", x=normal(30, 8, 8, 3))
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert (code, "data.transpose(0, 3, 1, 2)" in text) == (65, True), text


def two_inputs() -> onnx.ModelProto:
    return build(
        """g (int64[N,T] ids, float[N,T] mask) => (float[N,3] y) {
        e = Gather(table, ids)
        m = Unsqueeze(mask, axes)
        h = Mul(e, m)
        s = ReduceMean<axes = [1], keepdims = 0>(h)
        y = MatMul(s, w)
    }""",
        table=normal(10, 6),
        axes=np.array([2]),
        w=normal(6, 3),
    )


@pytest.fixture
def tokens(here) -> dict[str, np.ndarray]:
    save_model(here / "model.onnx", two_inputs())
    ids = np.random.default_rng(0).integers(0, 10, (40, 5))
    return {"ids": ids, "mask": np.ones((40, 5), np.float32)}


def test_a_token_beyond_the_vocabulary(tokens, capsys) -> None:
    tokens["ids"][:, 2] = 10
    np.savez("data.npz", **tokens)
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert code == 65
    assert "dataset 'ids', sample 0: the value 10 is too large" in text
    assert "has 10 rows, 0 to 9" in text


def test_a_single_token_beyond_the_vocabulary(tokens, capsys) -> None:
    tokens["ids"][17, 2] = 4711
    np.savez("data.npz", **tokens)
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert code == 65
    assert "dataset 'ids', sample 17: the value 4711 is too large" in text


def test_inputs_that_differ_along_a_common_axis(tokens, capsys) -> None:
    np.savez("data.npz", ids=tokens["ids"], mask=np.ones((40, 4), np.float32))
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert code == 65
    assert "axis 'T' is 5 in one and 4 in the other" in text


def test_all_inputs_that_are_missing_are_named(tokens, capsys) -> None:
    np.savez("data.npz", other=tokens["ids"])
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert code == 65
    assert "model inputs 'ids' (N, T) int64, 'mask' (N, T) float32" in text


def test_a_mask_that_is_missing_is_made_of_the_tokens(tokens, capsys) -> None:
    np.savez("data.npz", ids=tokens["ids"])
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert (code, "'mask' is numpy.ones_like of 'ids'" in text) == (65, True), text


def test_names_that_are_nearly_right(tokens, capsys) -> None:
    with h5py.File("data.h5", "w") as file:
        file["IDS"], file["train/mask"] = tokens["ids"], tokens["mask"]
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.h5")
    assert code == 65
    assert "rename 'IDS' to 'ids' and 'train/mask' to 'mask'" in text


def test_targets_of_a_regression_as_labels(here, capsys) -> None:
    x = input_samples(mlp(), 60)
    np.savez("data.npz", x=x, labels=x[:, 0])
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz")
    assert (code, "leave labels out, and use --max-error" in text) == (65, True), text


def test_samples_of_different_length(here, capsys) -> None:
    rows = np.array(
        [row[:size] for row, size in zip(normal(40, 16), [16, 9] * 20, strict=True)], object
    )
    np.savez("ragged.npz", x=rows)
    code, text = said(capsys, "prune", "model.onnx", "--data", "ragged.npz")
    assert code == 77
    followed(text)
    assert run(["prune", "model.onnx", "--data", "ragged.padded.npz", *QUIET]) == 0


# Models that only the checker refuses, and models that nobody can run


def without_shape(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def output_without_shape(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.ClearField("shape")


def output_without_type(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].ClearField("type")


def graph_without_name(proto: onnx.ModelProto) -> None:
    proto.graph.ClearField("name")


def op_of_the_engine_alone(proto: onnx.ModelProto) -> None:
    norm = helper.make_node("SimplifiedLayerNormalization", ["x", "ones"], ["n"], axis=-1)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(16, np.float32), "ones"))
    proto.graph.node[0].input[0] = "n"
    proto.graph.node.insert(0, norm)


@pytest.mark.parametrize(
    "change",
    [
        without_shape,
        output_without_shape,
        output_without_type,
        graph_without_name,
        op_of_the_engine_alone,
    ],
)
def test_what_the_engine_runs_is_taken(here, capsys, change) -> None:
    proto = mlp()
    change(proto)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(proto)
    save_model(here / "model.onnx", proto)
    assert run(["inspect", "model.onnx"]) == 0
    assert run(["prune", "model.onnx", "--data", "data.npz", *QUIET]) == 0
    words = ["compare", "model.onnx", "model.pruned.onnx", "--data", "data.npz"]
    assert run(words) == 0


@pytest.mark.parametrize("value", [-(2**63), -(2**31), 1 << 30, 1 << 31, 2**63 - 1])
@pytest.mark.parametrize("attribute", ["pads", "dilations", "strides"])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_windows_beyond_what_fits(here, capsys, op, attribute, value) -> None:
    values = [value] * (4 if attribute == "pads" else 2)
    node = helper.make_node(op, ["x", "w"], ["y"], **{attribute: values})
    weight = onnx.numpy_helper.from_array(normal(2, 2, 3, 3), "w")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    opset = [helper.make_opsetid("", 17)]
    save_model(here / "model.onnx", helper.make_model(graph, opset_imports=opset, ir_version=9))
    np.savez("data.npz", x=normal(12, 2, 6, 6))
    for words in (["inspect", "model.onnx"], ["prune", "model.onnx", "--data", "data.npz"]):
        code, text = said(capsys, *words)
        assert (code, attribute in text) == (65, True), text


@pytest.mark.parametrize("size", [2, 100, 1000])
def test_a_window_larger_than_its_input(here, capsys, size) -> None:
    proto = build(
        "g (float[N,2,6,6] x) => (float[N,K,A,B] y) "
        f"{{ y = Conv<dilations = [{size * 4}, 1]>(x, w) }}",
        w=normal(2, 2, 3, 3),
    )
    save_model(here / "model.onnx", proto)
    np.savez("data.npz", x=normal(12, 2, 6, 6))
    code, text = said(capsys, "prune", "model.onnx", "--data", "data.npz", *FAST)
    assert code in (65, 69), text


def test_a_tensor_that_is_a_segment(here, capsys) -> None:
    proto = mlp()
    proto.graph.initializer[0].segment.end = 9
    save_model(here / "model.onnx", proto)
    code, text = said(capsys, "inspect", "model.onnx")
    assert (code, "tensor 'w1' is stored in segments" in text) == (65, True)
