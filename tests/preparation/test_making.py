"""Calibration files: from a folder of photographs to a pruned model, and what may go wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from nettrim_cli.cli import run
from tests.preparation.test_images import photograph
from tests.support.networks import save_model
from tests.support.options import FAST
from tests.support.small import build, normal


def classifier(axes: str = "N,3,8,8", classes: int = 3) -> onnx.ModelProto:
    return build(
        f"g (float[{axes}] x) => (float[M,{classes}] y) {{\nc = Conv(x, w)\nr = Relu(c)\n"
        "f = Flatten(r)\ny = MatMul(f, v)\n}",
        w=normal(4, 3, 3, 3),
        v=normal(4 * 36, classes),
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a model and photographs of three classes."""
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "model.onnx", classifier())
    for number in range(24):
        folder = Path("photos", ("cat", "dog", "owl")[number % 3])
        folder.mkdir(parents=True, exist_ok=True)
        photograph(12, 16, seed=number).save(folder / f"{number:02}.png")
    return tmp_path


MAKE = ["--model", "model.onnx", "-o", "calib.h5"]


def said(capsys, *words: str) -> tuple[int, str]:
    code = run(["data", *words])
    printed = capsys.readouterr()
    return code, " ".join((printed.out + printed.err).split())


def test_two_commands_from_photographs_to_a_pruned_model(here, capsys) -> None:
    code, text = said(capsys, "photos", *MAKE, "--preset", "imagenet")
    assert code == 0, text
    assert "8 of class 0, 8 of class 1, 8 of class 2" in text
    assert "preset imagenet" in text
    with h5py.File("calib.h5") as file:
        assert file["x"].shape == (24, 3, 8, 8)
        assert sorted(file["labels"]) == [0] * 8 + [1] * 8 + [2] * 8
        facts = json.loads(file.attrs["nettrim"])
    assert (facts["classes"], facts["samples"]) == (["cat", "dog", "owl"], 24)
    words = ["--data", "calib.h5", "--report", "report.json", "-q", *FAST]
    assert run(["prune", "model.onnx", *words]) == 0
    told = json.loads(Path("report.json").read_text())
    assert told["samples_made"].startswith("of images, preset imagenet, scale 255, mean 0.485,")


def test_a_file_is_the_same_each_time(here) -> None:
    words = ["photos", *MAKE, "--preset", "unit", "--samples", "9"]
    first = []
    for seed in ("0", "0", "1"):
        assert run(["data", *words, "--seed", seed, "--force"]) == 0
        with h5py.File("calib.h5") as file:
            first.append(file["x"][()])
    assert np.array_equal(first[0], first[1])
    assert first[0].shape == first[2].shape == (9, 3, 8, 8)
    assert not np.array_equal(first[0], first[2])


def test_the_order_of_files_is_that_of_their_names(here) -> None:
    assert run(["data", "photos", *MAKE, "--preset", "bytes", "--resize", "stretch"]) == 0
    with h5py.File("calib.h5") as file:
        samples = file["x"][()]
    for row, number in enumerate([*range(0, 24, 3), *range(1, 24, 3), *range(2, 24, 3)]):
        image = photograph(12, 16, seed=number).resize((8, 8), Image.Resampling.BILINEAR)
        assert np.array_equal(samples[row], np.asarray(image).transpose(2, 0, 1))


def test_damaged_images_are_named_or_left_out(here, capsys) -> None:
    Path("photos", "dog", "00.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Path("photos", "list.txt").write_text("not an image")
    code, text = said(capsys, "photos", *MAKE, "--preset", "unit")
    assert (code, "photos/dog/00.png: the image cannot be read" in text) == (65, True), text
    assert "--skip-damaged" in text
    assert not list(here.glob("calib*")) + list(here.glob(".nettrim*"))
    code, text = said(capsys, "photos", *MAKE, "--preset", "unit", "--skip-damaged")
    assert code == 0, text
    assert "1 damaged left out: photos/dog/00.png" in text
    assert "1 other files of the folder were left out" in text
    with h5py.File("calib.h5") as file:
        assert len(file["x"]) == len(file["labels"]) == 24


def test_nothing_but_damaged_images(here, capsys) -> None:
    Path("bad").mkdir()
    Path("bad", "a.png").write_bytes(b"nothing")
    code, text = said(capsys, "bad", *MAKE, "--preset", "unit", "--skip-damaged")
    assert (code, "are damaged" in text) == (65, True), text


@pytest.mark.parametrize(
    ("classes", "words", "labelled", "note"),
    [
        (3, [], True, "numbered by the order of their names"),
        (5, [], False, "nobody knows which is which"),
        (3, ["--labels", "none"], False, ""),
    ],
)
def test_folders_are_classes_where_they_can_be(
    here, capsys, classes, words, labelled, note
) -> None:
    save_model(here / "model.onnx", classifier(classes=classes))
    code, text = said(capsys, "photos", *MAKE, "--preset", "unit", *words)
    assert (code, note in text) == (0, True), text
    with h5py.File("calib.h5") as file:
        assert ("labels" in file) is labelled


def test_a_table_of_classes(here, capsys) -> None:
    files = sorted(Path("photos").rglob("*.png"))
    lines = [f"{path.relative_to('photos').as_posix()},{n % 2}" for n, path in enumerate(files)]
    Path("classes.csv").write_text("\n".join(["file,label", *lines]))
    words = ["photos", *MAKE, "--preset", "unit", "--labels", "classes.csv"]
    code, text = said(capsys, *words)
    assert (code, "12 of class 0, 12 of class 1" in text) == (0, True), text
    Path("classes.csv").write_text("\n".join(lines[:-1]))
    code, text = said(capsys, *words, "--force")
    assert (code, f"there is no class for {files[-1]}" in text) == (65, True), text
    Path("classes.csv").write_text("\n".join([*lines[:-1], f"{files[-1].name},3"]))
    code, text = said(capsys, *words, "--force")
    assert (code, "class 3 is too large" in text) == (65, True), text
    assert said(capsys, *words[:-1], "none.csv", "--force")[0] == 66


@pytest.mark.parametrize(
    ("words", "code", "meant"),
    [
        (["photos", *MAKE], 2, "--preset imagenet (torchvision, timm)"),
        (["photos", "-o", "calib.h5"], 2, "--model model.onnx"),
        (["photos", "--preset", "unit"], 2, "-o calib.h5"),
        (["--model", "model.onnx", "-o", "calib.h5"], 2, "--random N"),
        ([], 2, "name a SOURCE"),
        (["photos", *MAKE, "--random", "5"], 2, "either a SOURCE"),
        (["photos", "--model", "model.onnx", "-o", "calib.npz"], 2, "such as calib.h5"),
        (["nowhere", *MAKE], 66, "cannot be found"),
        (["model.onnx", *MAKE], 73, "never overwritten"),
        (["photos", "--model", "photos", "-o", "calib.h5"], 66, "a folder"),
        (["photos"], 66, "a folder"),
        (["photos", *MAKE, "--preset", "mnist", "--input", "z"], 2, "no input 'z'"),
        (["photos", *MAKE, "--preset", "unit", "--size", "9"], 2, "leave --size out"),
        (["photos", *MAKE, "--preset", "unit", "--mean", "a"], 2, "is no number"),
        (["photos", *MAKE, "--preset", "unit", "--mean", "1,2"], 2, "give --mean"),
        (["photos", *MAKE, "--preset", "unit", "--length", "2"], 2, "--length has no meaning"),
        (["--random", "9", *MAKE, "--preset", "unit"], 2, "--preset has no meaning"),
        (
            ["photos", *MAKE, "--labels", "folders", "--preset", "unit", "--set", "x=1"],
            65,
            "--input",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words(here, capsys, words, code, meant) -> None:
    if words[:1] == ["model.onnx"]:
        words = ["model.onnx", "--model", "model.onnx", "-o", "model.h5"]
        Path("model.h5").symlink_to("model.onnx")
    got, text = said(capsys, *words)
    assert (got, meant in text) == (code, True), text
    assert not Path("calib.h5").exists()


def test_outputs_are_not_replaced_by_chance(here, capsys) -> None:
    words = ["photos", *MAKE, "--preset", "unit"]
    Path("calib.h5").write_bytes(b"precious")
    code, text = said(capsys, *words)
    assert (code, "--force" in text) == (73, True)
    assert Path("calib.h5").read_bytes() == b"precious"
    save_model(here / "model.onnx", classifier("N,3,9,9"))  # whose MatMul does not fit
    code, text = said(capsys, *words, "--force")
    assert (code, "does not run on the samples" in text) == (65, True), text
    assert Path("calib.h5").read_bytes() == b"precious"


def test_a_full_disk_leaves_nothing(here, capsys, monkeypatch) -> None:
    def full(self, name, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    code, text = said(capsys, "photos", *MAKE, "--preset", "unit")
    assert (code, "writing failed" in text) == (74, True), text
    assert sorted(os.listdir()) == ["model.onnx", "photos"]


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_not_text(here) -> None:
    folder = os.fsencode("photos") + b"/\xff\xfe"
    os.mkdir(folder)
    for number in range(3):
        with open(folder + b"/\xe9%d.png" % number, "wb") as file:
            photograph(9, 9, seed=number).save(file, "PNG")
    save_model(here / "model.onnx", classifier(classes=4))
    assert run(["data", "photos", *MAKE, "--preset", "unit"]) == 0
    with h5py.File("calib.h5") as file:
        assert len(file["x"]) == 27
    assert run(["data", "calib.h5"]) == 0


def test_thousands_of_files_are_drawn_from(here) -> None:
    Path("many").mkdir()
    images = [path.read_bytes() for path in sorted(Path("photos").rglob("*.png"))]
    for number in range(2000):
        Path("many", f"{number}.png").write_bytes(images[number % len(images)])
    assert run(["data", "many", *MAKE, "--preset", "unit", "--samples", "10"]) == 0
    with h5py.File("calib.h5") as file:
        assert len(file["x"]) == 10


def test_a_model_of_fixed_batches(here, capsys) -> None:
    save_model(here / "model.onnx", classifier("4,3,8,8"))
    assert said(capsys, "photos", *MAKE, "--preset", "unit")[0] == 0
    code, text = said(capsys, "photos", *MAKE, "--preset", "unit", "--samples", "3", "--force")
    assert (code, "batches of exactly 4" in text) == (65, True), text


def test_other_inputs_get_a_number(here, capsys) -> None:
    proto = build(
        "g (float[N,3,8,8] x, float f, int64[1] k) => (float[N,3,8,8] y, int64[1] j) "
        "{\ny = Mul(x, f)\nj = Identity(k)\n}"
    )
    save_model(here / "model.onnx", proto)
    words = ["photos", *MAKE, "--preset", "unit", "--set", "f=0.5"]
    code, text = said(capsys, *words)
    assert (code, "--input" in text) == (65, True), text
    code, text = said(capsys, *words, "--set", "k=3")
    assert code == 0, text
    with h5py.File("calib.h5") as file:
        assert (file["f"][()], file["k"][()].tolist()) == (0.5, [3])


def test_doubts_are_told_at_once(here, capsys) -> None:
    proto = build(
        "g (float[N,3,8,8] x) => (float[N,3,8,8] y) {\ns = Mul(x, c)\ny = Conv(s, w)\n}",
        c=np.float32([1 / 255]),
        w=normal(3, 3, 1, 1),
    )
    save_model(here / "model.onnx", proto)
    words = ["photos", *MAKE, "--labels", "none", "--force", "--preset"]
    code, text = said(capsys, *words, "bytes")
    assert (code, "!" in text) == (0, False), text
    code, text = said(capsys, *words, "unit")
    assert (code, "! calib.h5: dataset 'x' holds values up to" in text) == (0, True), text
    assert "from 0 to 255?" in said(capsys, "calib.h5", "--model", "model.onnx")[1]


def test_looking_into_a_file(here, capsys) -> None:
    x = normal(50, 3, 8, 8)
    np.savez("data.npz", x=x, labels=np.arange(50) % 3)
    assert run(["data", "data.npz", "--model", "model.onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (facts, labels) = told["datasets"]
    assert np.allclose(
        [facts["low"], facts["high"], facts["mean"], facts["std"]],
        [x.min(), x.max(), x.mean(), x.std()],
        atol=1e-6,
    )
    assert (facts["feeds"], labels["feeds"], told["samples"]) == ("x", "", 50)
    assert told["labels"] == {"0": 17, "1": 17, "2": 16}
    np.save("bad.npy", x[:, :, :5])
    assert said(capsys, "bad.npy", "--model", "model.onnx")[0] == 65
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"x": x})
    labels = answers.argmax(axis=1)
    labels[:5] = (labels[:5] + 1) % 3
    np.savez("data.npz", x=x, labels=labels)
    assert (
        "90.0 % of the model, on 50 samples" in said(capsys, "data.npz", "--model", "model.onnx")[1]
    )
    assert said(capsys, "bad.npy")[0] == 0
    assert said(capsys, "model.onnx")[0] == 65
