"""Samples of every form that users have: all say the same to a model."""

from __future__ import annotations

from collections import UserDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nettrim_cli.api.samples import Draw, opened
from nettrim_cli.data.dataset import Calibration
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor

X = Tensor("x", "float32", ("N", 3))
IDS = Tensor("ids", "int64", ("N", None))
RATE = Tensor("rate", "int64", ())
STATE = Tensor("state", "float32", (2, "N", 4))
VALUES = np.arange(30, dtype=np.float32).reshape(10, 3)
CLASSES = np.arange(10) % 4
ALL = Draw()
TOKENS = np.arange(40).reshape(10, 4)


class Tensorlike:
    """What PyTorch has: no array before it is detached and on the processor."""

    def __init__(self, values: Any, ready: int = 0) -> None:
        self.values, self.ready = values, ready

    def detach(self) -> Tensorlike:
        return Tensorlike(self.values, self.ready + 1)

    def cpu(self) -> Tensorlike:
        return Tensorlike(self.values, self.ready + 1)

    def numpy(self) -> np.ndarray:
        if self.ready < 2:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return np.asarray(self.values)


class Indexed:
    """A dataset with an index, as those of PyTorch and Hugging Face are."""

    def __init__(self, items: list[Any]) -> None:
        self.items, self.asked = items, []

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        self.asked.append(index)
        return self.items[index]


def batches(size: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(VALUES[at : at + size], CLASSES[at : at + size]) for at in range(0, 10, size)]


def read(
    data: Any, folder: Path, *inputs: Tensor, draw: Draw = ALL, size: int = 4
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """What the model is fed with, of all samples, and their labels."""
    source = opened(data, inputs, folder / "stream.h5", draw)
    with Calibration.open(source, inputs) as samples:
        read = list(samples.batches(np.arange(samples.samples), size))
    feeds = {tensor.name: [batch.feeds[tensor.name] for batch in read] for tensor in inputs}
    axes = {"state": 1}
    values = {
        name: np.concatenate(parts, axes.get(name, 0)) if parts[0].ndim else parts[0]
        for name, parts in feeds.items()
    }
    labels = [batch.labels for batch in read]
    return values, None if labels[0] is None else np.concatenate(labels)


LABELLED = {
    "a tuple of arrays": (VALUES, CLASSES),
    "lists of numbers": (VALUES.tolist(), CLASSES.tolist()),
    "a dict": {"x": VALUES, "labels": CLASSES},
    "a dict with other columns": {"x": VALUES, "y": CLASSES, "path": ["a"] * 10, "i": TOKENS},
    "a dict with another name": {"image": VALUES, "labels": CLASSES},
    "an object that is a mapping": UserDict({"x": VALUES, "labels": CLASSES}),
    "tensors": (Tensorlike(VALUES), Tensorlike(CLASSES)),
    "a list of batches": batches(),
    "a list of batches that are lists": [list(batch) for batch in batches()],
    "a loader": (batch for batch in batches(3)),
    "a function": lambda: iter(batches()),
    "batches of one": batches(1),
    "batches of tensors": [(Tensorlike(x), Tensorlike(y)) for x, y in batches()],
    "batches that are dicts": [{"x": x, "label": y} for x, y in batches()],
    "dicts with labels beside them": [({"x": x}, y) for x, y in batches()],
    "single samples": [(x, int(y)) for x, y in zip(VALUES, CLASSES, strict=True)],
    "single samples with an index": Indexed(list(zip(VALUES, CLASSES.tolist(), strict=True))),
    "rows of lists": [
        {"x": x.tolist(), "label": int(y), "text": "words"}
        for x, y in zip(VALUES, CLASSES, strict=True)
    ],
}


@pytest.mark.parametrize("form", LABELLED)
def test_every_form_gives_the_same_samples_and_labels(form: str, tmp_path: Path) -> None:
    (values, labels) = read(LABELLED[form], tmp_path, Tensor("x", "float32", ("N", 3)))
    np.testing.assert_array_equal(values["x"], VALUES)
    np.testing.assert_array_equal(labels, CLASSES)


@pytest.mark.parametrize("form", ["an array", "batches", "samples", "lists"])
def test_labels_may_be_left_out(form: str, tmp_path: Path) -> None:
    data = {
        "an array": VALUES,
        "batches": [x for x, _ in batches()],
        "samples": list(VALUES),
        "lists": VALUES.tolist(),
    }
    values, labels = read(data[form], tmp_path, X)
    np.testing.assert_array_equal(values["x"], VALUES)
    assert labels is None


def test_several_inputs_are_fed_by_place_or_by_name(tmp_path: Path) -> None:
    by_place = [(VALUES[:5], TOKENS[:5], CLASSES[:5]), (VALUES[5:], TOKENS[5:], CLASSES[5:])]
    by_name = [{"labels": y, "ids": ids, "x": x} for x, ids, y in by_place]
    for data in (by_place, by_name, (VALUES, TOKENS, CLASSES)):
        values, labels = read(data, tmp_path, X, IDS)
        np.testing.assert_array_equal(values["x"], VALUES)
        np.testing.assert_array_equal(values["ids"], TOKENS)
        np.testing.assert_array_equal(labels, CLASSES)


def test_what_is_the_same_for_all_samples_is_fed_to_each(tmp_path: Path) -> None:
    stream = [{"x": x, "ids": TOKENS[:1], "rate": 16_000} for x, _ in batches()]
    values, _ = read(stream, tmp_path, X, IDS, RATE)
    assert values["rate"] == 16_000
    np.testing.assert_array_equal(values["ids"], np.repeat(TOKENS[:1], 10, axis=0))


def test_states_come_as_the_model_takes_them(tmp_path: Path) -> None:
    states = np.arange(80, dtype=np.float32).reshape(2, 10, 4)
    stream = [(VALUES[at : at + 5], states[:, at : at + 5]) for at in (0, 5)]
    values, _ = read(stream, tmp_path, X, STATE)
    np.testing.assert_array_equal(values["state"], states)


def test_a_stream_is_read_as_far_as_samples_are_wanted(tmp_path: Path) -> None:
    def endless():
        while True:
            yield from batches()

    values, _ = read(endless, tmp_path, X, draw=Draw(6))
    np.testing.assert_array_equal(values["x"], VALUES[:6])


def test_of_a_dataset_with_an_index_samples_are_drawn(tmp_path: Path) -> None:
    dataset = Indexed(list(VALUES))
    values, _ = read(dataset, tmp_path, X, draw=Draw(4, seed=1))
    assert len(set(dataset.asked)) == 4
    assert dataset.asked == sorted(dataset.asked) != [0, 1, 2, 3]
    np.testing.assert_array_equal(values["x"], VALUES[dataset.asked])


def test_buffers_that_a_loader_fills_again_are_copied(tmp_path: Path) -> None:
    def reusing():
        buffer = np.empty((1, 3), np.float32)
        for row in VALUES:
            buffer[:] = row
            yield buffer

    values, _ = read(reusing, tmp_path, X)
    np.testing.assert_array_equal(values["x"], VALUES)


def test_arrays_are_not_copied(tmp_path: Path) -> None:
    source = opened({"x": VALUES}, [X], tmp_path / "stream.h5", Draw())
    assert source.arrays["x"] is VALUES  # type: ignore[union-attr]
    assert not list(tmp_path.iterdir())


WRONG = {
    "a path to nothing": (7.5, "dataset 'x' is"),
    "nothing": (iter([]), "<samples>: there are none"),
    "an object": (object(), "a object holds no samples: name a file"),
    "too many parts": ((VALUES, CLASSES, CLASSES), r"has 3 parts, but the model's inputs are x:"),
    "objects in batches": ([object()], "batch 0 is a object: give arrays, tuples"),
    "ragged samples": ([VALUES[0], VALUES[1, :2]], "sample 1: 'x' would have the shape"),
    "unequal batches": ([(VALUES, CLASSES[:3])], "'x' has 10, 'labels' has 3 samples in one"),
    "unequal numbers": ([{"x": VALUES, "rate": r} for r in (1, 2)], "'rate' is 1 in one batch"),
    "one-hot labels": ([(VALUES, np.eye(10))], "store labels.argmax"),
    "whole numbers": (TOKENS[:, :3], "holds int64, but model input 'x' takes float32"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(name: str, tmp_path: Path) -> None:
    data, message = WRONG[name]
    inputs = (X, RATE) if name == "unequal numbers" else (X,)
    with pytest.raises(BadInput, match=message):
        read(data, tmp_path, *inputs)


def test_onnxruntimes_readers_are_streams(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter([{"x": x} for x, _ in batches()])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    values, _ = read(Reader(), tmp_path, X)
    np.testing.assert_array_equal(values["x"], VALUES)


def test_models_without_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no inputs"):
        opened(VALUES, [], tmp_path / "stream.h5", Draw())
