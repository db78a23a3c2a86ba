"""Small calibration files, and what the tests ask of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.errors import BadInput
from nettrim_cli.graph.layer import Tensor

FORMATS = ("h5", "h5-chunked", "npz", "npz-deflated", "npy")
MANY = ("h5", "h5-chunked", "npz", "npz-deflated")


def save(folder: Path, form: str, name: str = "data", **arrays: np.ndarray) -> Path:
    """Write arrays in a format; dots and slashes in names pass through."""
    path = folder / f"{name}.{form.split('-')[0]}"
    if form.startswith("h5"):
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                if form == "h5-chunked" and array.ndim and array.size:
                    chunks = tuple(max(1, min(5, size)) for size in array.shape)
                    file.create_dataset(key, data=array, chunks=chunks, compression="gzip")
                elif array.dtype.kind == "U":
                    file.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
                else:
                    file[key] = array
    elif form == "npz":
        np.savez(path, **arrays)
    elif form == "npz-deflated":
        np.savez_compressed(path, **arrays)
    else:
        np.save(path, *arrays.values())
    return path


def x_input(*shape: int | str | None, dtype: str = "float32") -> Tensor:
    return Tensor("x", dtype, shape)


def feeds(path: Path, *inputs: Tensor, indices=None, size: int = 4) -> list[dict[str, np.ndarray]]:
    with Calibration.open(path, inputs) as data:
        chosen = np.arange(data.samples) if indices is None else np.asarray(indices)
        return [batch.feeds for batch in data.batches(chosen, size)]


def everything(path: Path, *inputs: Tensor, **options) -> np.ndarray:
    return np.concatenate([feed["x"] for feed in feeds(path, *inputs, **options)])


def message(path: Path, *inputs: Tensor, kind: type[Exception] = BadInput) -> str:
    with pytest.raises(kind) as caught:
        feeds(path, *inputs)
    text = str(caught.value)
    assert str(path) in text
    return text


def numbers(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def hdf5_with_filter(folder: Path, code: int) -> Path:
    path = folder / "data.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((4, 3))
        properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple((8, 3))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, properties)
        dataset.write_direct_chunk((0, 0), b"compressed", 0)
    return path
