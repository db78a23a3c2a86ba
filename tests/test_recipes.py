"""The recipes of docs/recipes.md run, each where its framework is installed."""

from __future__ import annotations

import importlib
import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nettrim_cli import pipeline
from nettrim_cli.report.result import Report
from tests.support.networks import Files
from tests.support.options import PLAIN

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text("utf-8")
IMAGES = np.random.default_rng(0).standard_normal((64, 1, 8, 8)).astype(np.float32)
CLASSES = np.arange(64) % 3


def blocks(heading: str) -> list[str]:
    """Blocks of code in a section."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.findall(r"(?:^(?: {4}.*)?\n)*^ {4}.*\n", section, re.MULTILINE)
    assert found
    return [textwrap.dedent(block) for block in found]


def needs(*names: str) -> None:
    """Skip a test where a library is missing, or cannot be loaded."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            pytest.skip(f"{name} cannot be imported: {error}")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with quick options beside those of the page."""

    def quickly(*words: Any, prune: Any = pipeline.prune, **options: Any) -> Report:
        *files, settings = words
        return prune(*files, replace(settings, **PLAIN), **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "prune", quickly)


def run(heading: str, **names: Any) -> Report:
    """Run a section; its report."""
    for block in blocks(heading):
        exec(block, names)
    report = names["report"]
    assert report.sparsity == pytest.approx(0.5, abs=0.1)
    onnx.checker.check_model(report.model)
    return report


def torch_network(torch: Any) -> Any:
    torch.manual_seed(0)
    layers = (
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(144, 3),
    )
    return torch.nn.Sequential(*layers)


@pytest.mark.filterwarnings("ignore")
def test_pytorch() -> None:
    needs("torch", "onnxscript")
    import torch

    network, images = torch_network(torch), torch.tensor(IMAGES)
    dataset = torch.utils.data.TensorDataset(images, network(images).argmax(1))
    loaders = {name: torch.utils.data.DataLoader(dataset, 16) for name in ("loader", "test_loader")}
    report = run("PyTorch", network=network, **loaders)
    assert [layer.op for layer in report.pruned] == ["Conv", "Gemm"]
    assert report.comparison.samples == 13
    assert report.comparison.reference.accuracy is not None


@pytest.mark.filterwarnings("ignore")
def test_tensorflow() -> None:
    needs("tensorflow", "tf2onnx")
    import tensorflow

    layers = tensorflow.keras.layers
    network = tensorflow.keras.Sequential(
        [layers.Conv2D(4, 3, activation="relu"), layers.Flatten(), layers.Dense(3)]
    )
    images = IMAGES.transpose(0, 2, 3, 1)
    labels = network(images).numpy().argmax(1)
    report = run("TensorFlow and Keras", network=network, images=images, labels=labels)
    assert [layer.op for layer in report.pruned] == ["Conv", "MatMul"]
    assert report.comparison.reference.accuracy is not None


@pytest.mark.filterwarnings("ignore")
def test_paddlepaddle() -> None:
    needs("paddle", "paddle2onnx")
    import paddle

    layers = [paddle.nn.Conv2D(1, 4, 3), paddle.nn.ReLU(), paddle.nn.Flatten()]
    samples = [(paddle.to_tensor(x), int(y)) for x, y in zip(IMAGES, CLASSES, strict=True)]
    report = run(
        "PaddlePaddle",
        network=paddle.nn.Sequential(*layers, paddle.nn.Linear(144, 3)),
        loader=paddle.io.DataLoader(samples, batch_size=16),
    )
    assert len(report.pruned) == 2


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn() -> None:
    needs("sklearn", "skl2onnx")
    table = IMAGES.reshape(64, -1)[:, :12]
    report = run("scikit-learn", table=table, classes=CLASSES)
    assert len(report.pruned) == 3


@pytest.mark.filterwarnings("ignore")
def test_hugging_face() -> None:
    needs("torch", "onnxscript", "transformers", "datasets")
    import datasets
    import tokenizers
    import transformers

    texts = [f"word{number % 7} word{number % 5} word{number % 3}" for number in range(48)]
    words = {f"word{number}": number + 2 for number in range(7)} | {"[PAD]": 0, "[UNK]": 1}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=9, intermediate_size=32, **sizes)
    report = run(
        "Hugging Face",
        network=transformers.BertModel(config),
        tokenizer=tokenizer,
        texts=texts,
        datasets=datasets,
    )
    assert len(report.pruned) >= 6


def test_checking(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.folder)
    for name in ("dense.onnx", "small.onnx"):
        files.model.with_name(name).write_bytes(files.model.read_bytes())
    files.data.rename(files.folder / "test.h5")
    names: dict[str, Any] = {}
    for block in blocks("Checking"):
        exec(block, names)
    assert names["comparison"].passed is True
    assert (files.folder / "comparison.html").is_file()
