"""Bad calibration files: a sentence that names the file, and the right kind of error."""

from __future__ import annotations

import io
import os
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.errors import BadInput, MissingInput, Refused
from nettrim_cli.files.formats import READABLE
from nettrim_cli.graph.layer import Tensor
from tests.support.calibration_files import (
    FORMATS,
    MANY,
    everything,
    feeds,
    hdf5_with_filter,
    message,
    numbers,
    save,
    x_input,
)

# ---- bad input ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "taken", "said"),
    [
        (numbers(6, 4), ("N", 1, 2, 2), "reshape(len(data), 1, 2, 2)"),
        (numbers(6, 2, 2), ("batch", 1, 2, 2), "takes (batch, 1, 2, 2) float32"),
        (numbers(6, 2, 2), ("N", 4), "reshape(len(data), 4)"),
        (numbers(2, 2), ("N", 1, 2, 2), "reshape(1, 1, 2, 2)"),
        (numbers(6, 5), ("N", 4), "one sample per row"),
        (numbers(6, 5), (None, 4), "takes (?, 4) float32"),
        (numbers(6, 1, 1, 5), ("N", 5), "(6, 1, 1, 5) float32"),
        (numbers(6, 3, 5), (3, 4), "(6, 3, 5)"),
        (np.array(1.0, "f4"), ("N",), "()"),
        (numbers(0, 5), ("N", 5), "is empty"),
        (numbers(5, 0), ("N", "M"), "is empty"),
    ],
)
@pytest.mark.parametrize("form", ["h5", "npz", "npy"])
def test_wrong_shape(tmp_path, form, x, taken, said):
    text = message(save(tmp_path, form, x=x), x_input(*taken))
    assert said in text
    assert "model input 'x'" in text


@pytest.mark.parametrize("kind", ["sequence", "optional", "map"])
def test_inputs_that_are_no_tensors(tmp_path, kind):
    text = message(save(tmp_path, "h5", x=numbers(3, 2)), Tensor("x", kind, None))
    assert f"the model input 'x' is a {kind}" in text
    assert "let the model make it of tensors" in text


def test_null_dataset(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.Empty("f4")
    assert "is empty" in message(path, x_input("N", 2))


@pytest.mark.parametrize(
    ("stored", "taken", "said"),
    [
        ("uint8", "float32", "astype('float32') / 255"),
        ("int64", "float16", "convert them as in training"),
        ("float32", "int64", "rint(data).astype('int64')"),
        ("bool", "float32", "astype('float32')"),
        ("int8", "bool", "data != 0"),
        ("float64", "bool", "data > 0.5"),
        ("complex64", "float32", "complex64"),
        ("float32", "str", "store them as str"),
        ("U3", "float32", "holds text"),
        ("float32", "bfloat16", "cannot feed"),
        ("float32", "complex64", "cannot feed"),
        ([("a", "f4")], "float32", "void"),
        ("datetime64[s]", "int64", "datetime64"),
    ],
)
def test_wrong_dtype(tmp_path, stored, taken, said):
    path = save(tmp_path, "npy", x=np.ones((3, 2), dtype="i8").astype(stored))
    text = message(path, x_input("N", 2, dtype=taken))
    assert said in text
    assert taken in text


def test_ragged_hdf5(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (3,), dtype=h5py.vlen_dtype(np.float32))
    assert "varying length" in message(path, x_input("N"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(tmp_path, form, value):
    x = numbers(9, 2, 3)
    x[7, 1, 2] = value
    text = message(save(tmp_path, form, x=x), x_input("N", 2, 3))
    assert "sample 7, element (1, 2)" in text
    assert str(value) in text
    everything(save(tmp_path, form, x=x), x_input("N", 2, 3), indices=[0, 6, 8])  # not read


def test_overflow(tmp_path):
    path = save(tmp_path, "h5", x=np.array([[1.0], [1e39]]))
    assert "sample 1, element (0): the value 1e+39 is too large for float32" in message(
        path, x_input("N", 1)
    )
    assert everything(path, x_input("N", 1, dtype="float64")).tolist() == [[1.0], [1e39]]


@pytest.mark.parametrize("form", MANY)
def test_lengths_differ(tmp_path, form):
    path = save(tmp_path, form, x=numbers(5, 2), y=numbers(7, 2))
    text = message(path, x_input("N", 2), Tensor("y", "float32", ("N", 2)))
    assert "'x' has 5 samples, 'y' has 7" in text


def test_batches_differ(tmp_path):
    path = save(tmp_path, "h5", x=numbers(8, 2), y=numbers(8, 2))
    text = message(path, x_input(4, 2), Tensor("y", "float32", (2, 2)))
    assert "'x' takes 4" in text
    assert "'y' takes 2" in text


@pytest.mark.parametrize("form", MANY)
def test_missing_input(tmp_path, form):
    path = save(tmp_path, form, x=numbers(5, 2), z=numbers(5, 3, dtype="int8"))
    text = message(path, x_input("N", 2), Tensor("y", "float32", ("N", 4)))
    assert "input 'y' (N, 4) float32" in text
    assert "'x' (5, 2) float32, 'z' (5, 3) int8" in text


@pytest.mark.parametrize("form", MANY)
def test_several_candidates(tmp_path, form):
    path = save(tmp_path, form, a=numbers(5, 2), b=numbers(5, 3), labels=np.zeros(5, int))
    text = message(path, x_input("N", 2))
    assert "'a' (5, 2) float32, 'b' (5, 3) float32" in text
    assert "rename the right one to 'x'" in text


def test_no_datasets(tmp_path):
    assert "no datasets" in message(save(tmp_path, "h5"), x_input("N", 2))
    assert "no datasets" in message(save(tmp_path, "npz"), x_input("N", 2))


def test_many_datasets_are_not_all_listed(tmp_path):
    path = save(tmp_path, "h5", **{f"d{k:02}": numbers(1) for k in range(30)})
    text = message(path, x_input("N", 2))
    assert "'d19'" in text
    assert "'d20'" not in text
    assert "and 10 more" in text


def test_npy_feeds_one_input_only(tmp_path):
    path = save(tmp_path, "npy", x=numbers(5, 2))
    text = message(path, x_input("N", 2), Tensor("y", "float32", ("N", 2)))
    assert "one array (5, 2) float32" in text


def test_model_without_inputs(tmp_path):
    assert "no inputs" in message(save(tmp_path, "npy", x=numbers(5, 2)))


SUFFIXES = [suffix for kind in READABLE.values() for suffix in kind.suffixes]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_missing_file(tmp_path, suffix):
    assert "cannot be found" in message(tmp_path / f"none{suffix}", x_input("N"), kind=MissingInput)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    assert "is a folder" in message(folder, x_input("N"), kind=MissingInput)
    pipe = tmp_path / f"pipe{suffix}"
    os.mkfifo(pipe)
    assert "not a regular file" in message(pipe, x_input("N"), kind=MissingInput)
    secret = save(tmp_path, suffix[1:].replace("hdf5", "h5"), "secret", x=numbers(2))
    secret.chmod(0)
    if not os.access(secret, os.R_OK):  # root may read everything
        assert "may not be read" in message(secret, x_input("N"), kind=MissingInput)


def test_impossible_path():
    assert MissingInput.exit_code == 66
    with pytest.raises(MissingInput):
        Calibration.open("a\0b.h5", [x_input("N")])


def test_unknown_suffix(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("1,2\n")
    text = message(path, x_input("N"))
    assert "is a text file; calibration data are read from .h5, .npz" in text
    assert all(suffix in text for suffix in READABLE)


@pytest.mark.parametrize("suffix", [*SUFFIXES, *map(str.upper, SUFFIXES), ".dat", ""])
def test_content_tells_the_format_whatever_the_suffix(tmp_path, suffix):
    for form in FORMATS:
        path = save(tmp_path, form, x=numbers(5, 2)).rename(tmp_path / f"{form}-named{suffix}")
        with Calibration.open(path, [x_input("N", 2)]) as samples:
            assert samples.samples == 5
    path.write_text("hello")
    assert "is a text file" in message(path, x_input("N", 2))


@pytest.mark.parametrize("suffix", [*SUFFIXES, *map(str.upper, SUFFIXES), ".hdf", ".dat", ""])
def test_suffix_tells_the_format_of_unknown_content(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    path.write_bytes(b"\1nonsense" * 100)
    text = message(path, x_input("N", 2))
    assert ("again" in text) == (suffix.lower() in SUFFIXES)
    assert ("tells no known format" in text) == (suffix.lower() not in SUFFIXES)


@pytest.mark.parametrize("form", FORMATS)
def test_damaged(tmp_path, form):
    path = save(tmp_path, form, x=np.random.default_rng(0).normal(size=(50, 8)).astype("f4"))
    whole = path.read_bytes()
    for content in (b"", b"\1nonsense" * 100, whole[: len(whole) // 2], whole[: len(whole) - 3]):
        path.write_bytes(content)
        assert "again" in message(path, x_input("N", 8))


@pytest.mark.parametrize("form", FORMATS)
@given(data=st.data())
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,  # HDF5 itself may crash on a damaged file: no surprises in CI
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_flipped_bytes_give_data_or_a_sentence(tmp_path, form, data):
    path = save(tmp_path, form, x=numbers(20, 3))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(content), 2500) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(BadInput, Refused):
        assert all(feed["x"].shape[1:] == (3,) for feed in feeds(path, x_input("N", 3), size=8))


def test_deflated_fortran_order(tmp_path):
    path = save(tmp_path, "npz-deflated", x=np.asfortranarray(numbers(5, 2)))
    assert "ascontiguousarray" in message(path, x_input("N", 2))


def test_npz_by_another_compressor(tmp_path):
    path = tmp_path / "data.npz"
    stream = io.BytesIO()
    np.save(stream, numbers(5, 2))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", stream.getvalue())
    assert "NumPy does not write" in message(path, x_input("N", 2))


def test_hostile_npy_header(tmp_path):
    path = tmp_path / "data.npy"
    for shape in ("(-5, 2)", "(10**9,)", "(1000000000, 784)", "'ab'", "(1.5,)"):
        text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode())
        assert "again" in message(path, x_input("N", 784))


def test_hdf5_without_a_filter(tmp_path):
    path = hdf5_with_filter(tmp_path, 40_000)
    assert "number 40000" in message(path, x_input("N", 3))


def test_hdf5_huge_compressed_chunk(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (100, 1 << 23), "f4", chunks=(100, 1 << 23), compression="gzip")
    assert "smaller chunks" in message(path, x_input("N", "M"))


def test_huge_sample(tmp_path):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:  # never written: takes no room
        file.create_dataset("x", (100, 1 << 30), "f4", chunks=(1, 1 << 10))
    assert "really the samples" in message(path, x_input("N", "M"))
