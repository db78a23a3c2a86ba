"""Samples of random numbers, arrays, tables, tensors, text and sound."""

from __future__ import annotations

import json
import struct
import wave
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nettrim_cli.cli import run
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor
from nettrim_cli.preparation.sound import window_of
from tests.preparation.test_making import classifier, said
from tests.support.networks import input_samples, mlp, save_model
from tests.support.options import FAST
from tests.support.small import build, normal

MAKE = ["--model", "model.onnx", "-o", "calib.h5"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a model that reads 16 numbers."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.onnx", mlp())
    return tmp_path


def stored(name: str = "x") -> np.ndarray:
    with h5py.File("calib.h5") as file:
        return file[name][()]


# Random numbers


def test_random_samples_are_called_so_everywhere(here, capsys) -> None:
    code, text = said(capsys, "--random", "60", *MAKE)
    assert (code, "says nothing of real data" in text) == (0, True), text
    assert stored().shape == (60, 16)
    assert len(np.unique(stored(), axis=0)) == 60
    assert run(["prune", "model.onnx", "--data", "calib.h5", "--report", "r.json", *FAST]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Not to be relied on: the samples are random numbers" in text
    told = json.loads(Path("r.json").read_text())
    assert "random-samples" in {warning["code"] for warning in told["warnings"]}
    assert "random numbers" in told["verdict"]["sureness"]
    words = ["compare", "model.onnx", "model.pruned.onnx", "--data", "calib.h5"]
    assert run([*words, "--certificate", "none"]) == 0
    assert "the samples are random numbers" in " ".join(capsys.readouterr().out.split())
    assert run(["data", "calib.h5"]) == 0
    assert "random numbers" in capsys.readouterr().out
    words = ["--model", "model.onnx", "-o", "some.h5", "--samples", "30"]
    code, text = said(capsys, "calib.h5", *words)  # a part of them is as random
    assert (code, "says nothing of real data" in text) == (0, True), text


def test_random_samples_of_any_inputs(here, capsys) -> None:
    proto = build(
        """g (int64[N,T] ids, float[2,N,4] state, float s) => (float[N,T,6] y, float[2,N,4] h) {
        e = Gather(table, ids)
        y = Mul(e, s)
        h = Identity(state)
    }""",
        table=normal(10, 6),
    )
    save_model(here / "model.onnx", proto)
    words = ["--random", "7", *MAKE, "--seed", "3"]
    code, text = said(capsys, *words)
    assert (code, "--shape ids=" in text) == (65, True), text
    code, text = said(capsys, *words, "--shape", "ids=1x5")
    assert code == 0, text
    assert (stored("ids").shape, stored("state").shape) == ((7, 5), (7, 2, 4))
    assert 0 <= stored("ids").min() <= stored("ids").max() < 10
    save_model(here / "model.onnx", classifier("4,3,8,8"))
    assert said(capsys, "--random", "8", *MAKE, "--force")[0] == 0
    assert len(np.unique(stored().reshape(8, -1), axis=0)) == 8


# Arrays


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5"])
def test_arrays_become_samples(here, capsys, suffix) -> None:
    x, labels = input_samples(mlp(), 40), np.arange(40) % 4
    name = f"data{suffix}"
    if suffix == ".npy":
        np.save(name, x)
    elif suffix == ".npz":
        np.savez_compressed(name, x=x, labels=labels)
    else:
        with h5py.File(name, "w") as file:
            file["x"], file["labels"] = x, labels
    code, text = said(capsys, name, *MAKE, "--samples", "30")
    assert code == 0, text
    assert stored().shape == (30, 16)
    rows = {row.tobytes(): label for row, label in zip(x, labels, strict=True)}
    for number, row in enumerate(stored()):
        assert row.tobytes() in rows
        if suffix != ".npy":
            assert stored("labels")[number] == rows[row.tobytes()]


@pytest.mark.parametrize("shape", [(9, 8, 8, 3), (9, 3, 8, 8), (9, 8, 8)])
def test_arrays_of_pixels_go_the_way_of_images(here, capsys, shape) -> None:
    save_model(here / "model.onnx", classifier())
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez("data.npz", x=pixels)
    code, text = said(capsys, "data.npz", *MAKE, "--preset", "tensorflow")
    assert code == 0, text
    wanted = pixels if shape[1] == 3 else np.moveaxis(pixels, -1, 1)
    if len(shape) == 3:
        wanted = np.repeat(pixels[:, None], 3, axis=1)
    assert np.allclose(stored(), wanted / 127.5 - 1, atol=1e-6)
    np.savez("data.npz", x=pixels.astype(np.float32))
    code, text = said(capsys, "data.npz", *MAKE, "--preset", "tensorflow", "--force")
    assert (code, "images of uint8" in text) == (65, True), text


def test_arrays_that_do_not_fit(here, capsys) -> None:
    np.save("data.npy", normal(20, 15))
    assert said(capsys, "data.npy", *MAKE)[0] == 65
    np.save("data.npy", np.full((20, 16), np.nan, np.float32))
    assert said(capsys, "data.npy", *MAKE)[0] == 65
    Path("data.npy").write_bytes(Path("data.npy").read_bytes()[:300])
    assert said(capsys, "data.npy", *MAKE)[0] == 65
    np.save("data.npy", np.array([{}], object))
    assert said(capsys, "data.npy", *MAKE)[0] == 77
    assert not Path("calib.h5").exists()


def test_a_folder_of_arrays(here, capsys) -> None:
    Path("rows").mkdir()
    x = input_samples(mlp(), 12)
    for number, row in enumerate(x):
        np.save(f"rows/{number:02}.npy", row)
    assert said(capsys, "rows", *MAKE)[0] == 0
    assert np.array_equal(stored(), x)
    np.save("rows/05.npy", x[0, :3])
    code, text = said(capsys, "rows", *MAKE, "--force")
    assert (code, "rows/05.npy" in text) == (65, True), text


# Tables


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_tables(here, capsys, mark) -> None:
    x = input_samples(mlp(), 30)
    names = mark.join([*(f"c{n}" for n in range(16)), "label"])
    lines = [mark.join([*(f"{v:.9g}" for v in row), str(n % 4)]) for n, row in enumerate(x)]
    Path("data.csv").write_text("\n".join(["# a comment", "", names, *lines]), "utf-8-sig")
    code, text = said(capsys, "data.csv", *MAKE)
    assert code == 0, text
    assert np.array_equal(stored(), x)
    assert stored("labels").tolist() == [n % 4 for n in range(30)]
    plain = [line.rpartition(mark)[0] for line in lines]
    Path("data.csv").write_text("\n".join(plain))
    assert said(capsys, "data.csv", *MAKE, "--samples", "11", "--force")[0] == 0
    assert stored().shape == (11, 16)
    Path("data.csv").write_text("\n".join([*plain[:20], plain[20].replace("0", "zero")]))
    code, text = said(capsys, "data.csv", *MAKE, "--force")
    assert (code, "line 21" in text) == (65, True), text
    assert said(capsys, "data.csv", *MAKE, "--force", "--skip-damaged")[0] == 0
    Path("data.csv").write_text("\n".join([names, *lines[:20], plain[20] + f"{mark}cat"]))
    code, text = said(capsys, "data.csv", *MAKE, "--force")
    assert (code, "class is no whole number" in text) == (65, True), text
    assert said(capsys, "data.csv", *MAKE, "--force", "--skip-damaged")[0] == 0
    assert len(stored("labels")) == 20
    Path("data.csv").write_text("\n".join(line + f"{mark}1" for line in plain))
    code, text = said(capsys, "data.csv", *MAKE, "--force")
    assert (code, "takes 16" in text) == (65, True), text


# Tensors of ONNX's tests


def test_test_data_sets(here, capsys) -> None:
    proto = build(
        "g (float[N,16] x, float[2,N,4] state) => (float[N,16] y, float[2,N,4] z) "
        "{\ny = Identity(x)\nz = Identity(state)\n}"
    )
    save_model(here / "model.onnx", proto)
    x, state = normal(3, 2, 16), normal(3, 2, 2, 4, seed=1)
    for number in range(3):
        folder = Path("tests", f"test_data_set_{number}")
        folder.mkdir(parents=True)
        for place, values in enumerate((x[number], state[number])):
            tensor = numpy_helper.from_array(values)
            (folder / f"input_{place}.pb").write_bytes(tensor.SerializeToString())
        (folder / "output_0.pb").write_bytes(b"")
    code, text = said(capsys, "tests", *MAKE)
    assert code == 0, text
    assert np.array_equal(stored(), x.reshape(6, 16))
    assert np.array_equal(stored("state"), state.transpose(0, 2, 1, 3).reshape(6, 2, 4))
    Path("tests/test_data_set_1/input_1.pb").write_bytes(b"\xff" * 20)
    code, text = said(capsys, "tests", *MAKE, "--force")
    assert (code, "test_data_set_1/input_1.pb" in text) == (65, True), text
    tensor = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    Path("tests/test_data_set_1/input_1.pb").write_bytes(tensor.SerializeToString())
    assert said(capsys, "tests", *MAKE, "--force")[0] == 77
    Path("tests/test_data_set_1/input_1.pb").unlink()
    assert said(capsys, "tests", *MAKE, "--force")[0] == 66


# Text


def reader(tokens: str = "T") -> onnx.ModelProto:
    axes = f"[N,{tokens}]"
    return build(
        f"g (int64{axes} input_ids, int64{axes} attention_mask) => (float[N,3] y) {{"
        """e = Gather(table, input_ids)
        f = Cast<to = 1>(attention_mask)
        m = Unsqueeze(f, axes)
        h = Mul(e, m)
        s = ReduceMean<axes = [1], keepdims = 0>(h)
        y = MatMul(s, w)
    }""",
        table=normal(20, 6),
        axes=np.array([2]),
        w=normal(6, 3),
    )


@pytest.fixture
def texts(here) -> list[str]:
    """Lines of text beside a model that reads tokens, and its tokenizer."""
    tokenizers = pytest.importorskip("tokenizers")
    words = {"[PAD]": 3, "[UNK]": 0, **{f"w{n}": n + 4 for n in range(10)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=99, pad_id=3)
    tokenizer.save("tokenizer.json")
    save_model(here / "model.onnx", reader())
    lines = ["w1 w2 w3", "w4", "what w5 w6 w7"]
    Path("lines.txt").write_text("\n\n".join(lines))
    return lines


def test_lines_of_text(texts, capsys) -> None:
    code, text = said(capsys, "lines.txt", *MAKE)
    assert code == 0, text
    assert stored("input_ids").tolist() == [[5, 6, 7, 3], [8, 3, 3, 3], [0, 9, 10, 11]]
    assert stored("attention_mask").tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    for words, length in ((["--length", "6"], 6), (["--length", "2"], 2)):
        assert said(capsys, "lines.txt", *MAKE, "--force", *words)[0] == 0
        assert stored("input_ids").shape == (3, length)
    save_model(Path("model.onnx"), reader("5"))
    assert said(capsys, "lines.txt", *MAKE, "--force")[0] == 0
    assert stored("input_ids").shape == (3, 5)
    assert said(capsys, "lines.txt", *MAKE, "--force", "--length", "6")[0] == 2


def test_files_of_text_and_what_is_none(texts, capsys) -> None:
    Path("texts").mkdir()
    for number, line in enumerate(texts):
        Path("texts", f"{number}.txt").write_text(line)
    assert said(capsys, "texts", *MAKE, "--tokenizer", "tokenizer.json")[0] == 0
    assert len(stored("input_ids")) == 3
    Path("lines.txt").write_bytes(b"\xff\xfe\x00")
    assert said(capsys, "lines.txt", *MAKE, "--force", "--tokenizer", "tokenizer.json")[0] == 65
    Path("tokenizer.json").write_text("{}")
    assert said(capsys, "texts", *MAKE, "--force")[0] == 65
    Path("tokenizer.json").unlink()
    code, text = said(capsys, "texts", *MAKE, "--force")
    assert (code, "--tokenizer FILE" in text) == (66, True), text


# Sound


def listener(window: str = "L") -> onnx.ModelProto:
    return build(f"g (float[N,1,{window}] x) => (float[N,1,{window}] y) {{ y = Relu(x) }}")


def write_sound(path: str, values: np.ndarray, rate: int = 8000) -> None:
    """Values from -1 to 1 (n,) or (n, channels) as 16 bits."""
    with wave.open(path, "wb") as file:
        file.setnchannels(1 if values.ndim == 1 else values.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(values * 32768).astype("<i2").tobytes())


def test_windows_of_sound(here, capsys) -> None:
    save_model(here / "model.onnx", listener())
    Path("sounds").mkdir()
    left, right = (np.round(normal(1000, seed=n) * 3000) / 32768 for n in range(2))
    write_sound("sounds/a.wav", left)
    write_sound("sounds/b.wav", np.stack([left, right], axis=1)[:300])
    words = ["sounds", *MAKE]
    code, text = said(capsys, *words)
    assert (code, "--window 1s" in text) == (2, True), text
    code, text = said(capsys, *words, "--window", "0.05")
    assert code == 0, text
    assert stored().shape == (4, 1, 400)
    assert np.allclose(stored()[:2, 0].ravel(), left[:800])
    assert np.allclose(stored()[2, 0], [*left[800:], *np.zeros(200)])
    assert np.allclose(stored()[3, 0, :300], (left[:300] + right[:300]) / 2)
    save_model(here / "model.onnx", listener("500"))
    assert said(capsys, *words, "--force", "--sample-rate", "4000")[0] == 0
    assert stored().shape == (2, 1, 500)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((None, 400), (400,)),
        ((None, None), (80,)),
        ((None, None, 400), (1, 400)),
        ((None, 400, 1), (400, 1)),
        (("N", "C", "L"), (1, 80)),
    ],
)
def test_axes_of_sound(shape, wanted) -> None:
    seconds = None if 400 in shape else 0.01
    assert window_of(Tensor("x", "float32", shape), seconds, 8000)[1] == wanted


@pytest.mark.parametrize("shape", [(None, 3, 400), (None,), (None, 1)])
def test_inputs_that_take_no_sound(shape) -> None:
    with pytest.raises(BadInput, match="takes no sound"):
        window_of(Tensor("x", "float32", shape), 1.0, 8000)


def test_rates_that_differ_and_damaged_sounds(here, capsys) -> None:
    save_model(here / "model.onnx", listener("100"))
    Path("sounds").mkdir()
    tone = np.sin(np.arange(4000) / 8000 * 2 * np.pi * 100) / 2
    write_sound("sounds/a.wav", tone)
    write_sound("sounds/b.wav", tone[::2], rate=4000)
    code, text = said(capsys, "sounds", *MAKE)
    assert (code, "--sample-rate" in text) == (2, True), text
    assert said(capsys, "sounds", *MAKE, "--sample-rate", "4000")[0] == 0
    first, second = stored()[:20, 0].ravel(), stored()[20:, 0].ravel()
    assert np.abs(first - second)[50:-50].max() < 0.02
    Path("sounds/c.wav").write_bytes(b"RIFF" + struct.pack("<I", 50) + b"WAVEfmt " + b"\xff" * 9)
    words = ["sounds", *MAKE, "--sample-rate", "4000", "--force"]
    code, text = said(capsys, *words)
    assert (code, "sounds/c.wav" in text) == (65, True), text
    assert said(capsys, *words, "--skip-damaged")[0] == 0
