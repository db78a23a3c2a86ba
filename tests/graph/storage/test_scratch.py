"""Values that replace those of external data are on disk, and no file of theirs stays."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest

from nettrim_cli.graph.model import Model
from nettrim_cli.graph.storage import scratch as scratches
from nettrim_cli.graph.storage.scratch import Scratch
from tests.support.networks import wide_chain

LAYERS, WIDTH = 24, 512  # a megabyte each


@pytest.fixture
def model(tmp_path: Path) -> Model:
    path = tmp_path / "model" / "model.onnx"
    path.parent.mkdir()
    options = {"save_as_external_data": True, "location": "w.bin"}
    onnx.save(wide_chain(LAYERS, WIDTH), path, **options)
    return Model.load(path)


def test_memory_does_not_grow_with_the_layers_that_were_set(model, tmp_path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    model.external.scratch = Scratch(folder)
    pruned = model.clone()
    tracemalloc.start()
    for layer in model.layers:
        (weights,), biases = pruned.weight(layer)
        weights[::2] = 0
        pruned.set_weight(layer, [weights], biases)
        del weights
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1 << 20  # of 24 MB
    assert peak < 5 << 20  # that of one layer
    assert list(folder.iterdir()) == []
    for layer in model.layers:
        (dense,), _ = model.weight(layer)
        (sparse,), _ = pruned.clone().weight(layer)
        assert not sparse[::2].any()
        assert np.array_equal(sparse[1::2], dense[1::2])
    again = pruned.save(tmp_path / "pruned.onnx")
    (sparse,), _ = again.weight(again.layers[-1])
    assert np.count_nonzero(sparse) == WIDTH * WIDTH // 2


@pytest.mark.parametrize("dtype", ["f4", "f2", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back(tmp_path, dtype, order) -> None:
    array = np.asarray(np.arange(3 << 20).reshape(3, -1) % 100, dtype, order=order)
    kept = Scratch(tmp_path).keep(array)
    assert isinstance(kept, np.memmap)
    assert kept.dtype == array.dtype
    assert np.array_equal(kept, array)
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1


def test_small_arrays_and_those_of_a_full_disk_stay_in_memory(tmp_path, monkeypatch) -> None:
    small, large = np.zeros(1000), np.zeros(scratches.SPILLED_BYTES)
    assert Scratch(tmp_path).keep(small) is small
    assert Scratch().keep(large) is large
    assert Scratch(tmp_path / "none").keep(large) is large

    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(scratches.np, "memmap", full)
    assert Scratch(tmp_path).keep(large) is large
