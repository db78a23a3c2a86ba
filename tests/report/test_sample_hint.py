"""Lines that make calibration files are such as nettrim and Python take."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from nettrim_cli.cli import run
from nettrim_cli.preview.inspection import inspect
from nettrim_cli.report import sample_hint
from nettrim_cli.report.model_summary import TensorFacts
from tests.support.networks import residual, save_model
from tests.support.options import FAST
from tests.support.small import build, normal


def source(*inputs: TensorFacts) -> list[str]:
    words = shlex.split(sample_hint.command("m.onnx", inputs))
    assert words[:2] == ["nettrim", "data"]
    assert words[-2:] == ["-o", "calib.h5"]
    assert words[3:5] == ["--model", "m.onnx"]
    return [words[2], *words[5:-2]]


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> TensorFacts:
    return TensorFacts(name, dtype, shape, ("samples", *shape[1:]))


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([tensor("image", "N", 3, 224, 224)], ["photographs", "--preset", "imagenet"]),
        ([tensor("image", 1, 224, 224, 3)], ["photographs", "--preset", "imagenet"]),
        ([tensor("x", "N", 1, 28, 28)], ["photographs", "--preset", "unit"]),
        ([tensor("x", "N", 28, 28, 3, dtype="uint8")], ["photographs", "--preset", "bytes"]),
        (
            [tensor("input_ids", "N", "T", dtype="int64"), tensor("attention_mask", "N", "T")],
            ["lines.txt", "--tokenizer", "tokenizer.json"],
        ),
        ([tensor("waveform", "N", 16000)], ["sounds"]),
        ([tensor("x", "N", 12)], ["table.csv"]),
        ([tensor("x", "N", 12, 7)], ["arrays.npz"]),
        ([tensor("x", "N", 16, 8, 8)], ["arrays.npz"]),
        ([tensor("a", "N", 12), tensor("b", "N", 12)], ["arrays.npz"]),
        (
            [tensor("size", "N", 2, dtype="int64"), tensor("image", "N", 3, 8, 8)],
            ["photographs", "--preset", "imagenet", "--input", "image"],
        ),
        ([], ["arrays.npz"]),
        ([TensorFacts("x", "float32", None, ())], ["arrays.npz"]),
    ],
)
def test_what_samples_are_made_of(inputs, words) -> None:
    assert source(*inputs) == words


def test_the_line_makes_a_file_that_prune_takes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    proto = residual()
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    for weight in proto.graph.initializer:
        if weight.name == "w1":
            weight.CopyFrom(numpy_helper.from_array(normal(4, 3, 3, 3), "w1"))
    save_model(tmp_path / "m.onnx", proto)
    (tmp_path / "photographs").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{number}.png")
    line = sample_hint.command("m.onnx", inspect("m.onnx").inputs)
    assert run(shlex.split(line)[1:]) == 0
    assert run(["prune", "m.onnx", "--data", "calib.h5", "-q", *FAST]) == 0


def test_the_script_writes_a_file_that_prune_takes(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = """g (float[N,6] x, float[2,N,5] state) => (float[N,6] y) {
        s = ReduceSum<keepdims = 0>(state, axes)
        t = MatMul(s, v)
        m = MatMul(x, w)
        y = Add(m, t)
    }"""
    proto = build(text, w=normal(6, 6), v=normal(5, 6), axes=np.array([0], np.int64))
    save_model(tmp_path / "m.onnx", proto)
    inputs = inspect("m.onnx").inputs
    assert [each.dataset for each in inputs] == [("samples", 6), ("samples", 2, 5)]
    arrays = {"samples_1": normal(20, 6), "samples_2": normal(20, 2, 5)}
    exec("\n".join(sample_hint.script(inputs)), arrays)
    assert run(["prune", "m.onnx", "--data", "calib.h5", "-q", *FAST]) == 0
