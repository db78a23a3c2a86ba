"""Hostile calibration files: nothing outside is read or loaded, and memory stays bounded."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from nettrim_cli.data.dataset import Calibration
from nettrim_cli.errors import Refused
from nettrim_cli.graph.layer import Tensor
from tests.support.calibration_files import (
    FORMATS,
    everything,
    feeds,
    hdf5_with_filter,
    message,
    numbers,
    save,
    x_input,
)

# ---- security ----------------------------------------------------------------------------


@pytest.fixture
def other(tmp_path) -> Path:
    """A file that nobody offered."""
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = numbers(5, 2)
    return path


@pytest.mark.parametrize("name", ["x", "labels", "only", "group/x", "soft"])
def test_external_link(tmp_path, other, name):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        link = h5py.ExternalLink(str(other), "/secret")
        if name == "labels":
            file["x"] = numbers(5, 2)
        if name == "group/x":
            file["group"] = h5py.ExternalLink(str(other), "/")
            file["x"] = h5py.SoftLink("/group/secret")
        elif name == "soft":
            file["far"] = link
            file["x"] = h5py.SoftLink("/far")
        else:
            file[name] = link
    assert "external link" in message(path, x_input("N", 2), kind=Refused)
    assert Refused.exit_code == 77


def test_external_link_beside_the_data_is_no_matter(tmp_path, other):
    path = save(tmp_path, "h5", x=numbers(5, 2))
    with h5py.File(path, "a") as file:
        file["y"] = h5py.ExternalLink(str(other), "/secret")
        file["z"] = h5py.SoftLink("/z")
    np.testing.assert_array_equal(everything(path, x_input("N", 2)), numbers(5, 2))
    text = message(path, x_input("N", 2), Tensor("w", "float32", ("N", 2)))
    assert "'y' (leads out of the file)" in text
    assert "circle" in message(path, Tensor("z", "float32", ("N", 2)))


def test_external_storage(tmp_path):
    raw = tmp_path / "raw.bin"
    raw.write_bytes(numbers(5, 2).tobytes())
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (5, 2), "f4", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
    assert "external storage" in message(path, x_input("N", 2), kind=Refused)


def virtual(path: Path, *sources: tuple[str, str], name: str = "x") -> None:
    with h5py.File(path, "a", libver="latest") as file:
        layout = h5py.VirtualLayout((len(sources) * 5, 2), "f4")
        for k, (where, dataset) in enumerate(sources):
            layout[5 * k : 5 * k + 5] = h5py.VirtualSource(where, dataset, (5, 2))
        file.create_virtual_dataset(name, layout)


def virtual_by_pattern(path: Path, name: str) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    space = h5py.h5s.create_simple((5, 2), (h5py.h5s.UNLIMITED, 2))
    space.select_hyperslab((0, 0), (h5py.h5s.UNLIMITED, 1), (5, 1), (5, 2))
    properties.set_virtual(space, b".", b"part-%b", h5py.h5s.create_simple((5, 2)))
    space.select_all()
    with h5py.File(path, "a", libver="latest") as file:
        h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, properties)


def test_virtual_dataset(tmp_path, other):
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["part"] = numbers(5, 2)
        file["raw"] = h5py.ExternalLink(str(other), "/secret")
    inside, outside = (".", "part"), (str(other), "secret")
    virtual(path, inside, inside, name="x")
    np.testing.assert_array_equal(everything(path, x_input("N", 2))[5:], numbers(5, 2))
    virtual(path, inside, outside, name="y")
    virtual(path, (".", "y"), name="nested")
    virtual(path, (".", "raw"), name="linked")
    virtual_by_pattern(path, "pattern")
    virtual(path, (".", "own"), name="own")
    for name in ("y", "nested", "linked", "pattern"):
        message(path, Tensor(name, "float32", ("N", 2)), kind=Refused)
    assert "built on itself" in message(path, Tensor("own", "float32", ("N", 2)))


def test_other_files_are_not_even_opened(tmp_path):
    pipe = tmp_path / "pipe"  # opening it would block forever
    os.mkfifo(pipe)
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink(str(pipe), "/x")
        file.create_dataset("raw", (5, 2), "f4", external=[(str(pipe), 0, h5py.h5f.UNLIMITED)])
    virtual(path, (str(pipe), "x"), name="virtual")
    for name in ("x", "raw", "virtual"):
        message(path, Tensor(name, "float32", ("N", 2)), kind=Refused)
    text = message(path, x_input("N", 2), Tensor("w", "float32", (2,)), kind=Refused)
    assert "'x'" in text
    text = message(path, Tensor("w", "float32", (2,)))
    assert text.count("leads out of the file") == 3


@pytest.mark.parametrize("form", ["npz", "npz-deflated", "npy"])
def test_pickle(tmp_path, form):
    x = np.array([{}, print, []], dtype=object)
    path = save(tmp_path, form, x=x)
    assert "pickled" in message(path, x_input("N"), kind=Refused)
    assert "pickled" in message(path, x_input("N", dtype="str"), kind=Refused)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the loader of Linux")
def test_filter_plugins_are_not_loaded(tmp_path):
    path = hdf5_with_filter(tmp_path, 40_000)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "libhostile.so").symlink_to(Path(h5py.h5.__file__).resolve())
    plain = f"import h5py; f = h5py.File({str(path)!r}); h5py.h5z.filter_avail(40000); f['x'][:]"
    ours = (
        "from nettrim_cli.data.dataset import Calibration\n"
        "from nettrim_cli.graph.layer import Tensor\n"
        f"Calibration.open({str(path)!r}, [Tensor('x', 'float32', (None, 3))])"
    )
    environment = dict(os.environ, HDF5_PLUGIN_PATH=str(plugins), LD_DEBUG="files")
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    loaded = []
    for code in (plain, ours):
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 1
        loaded.append("libhostile.so" in run.stderr)
    if not loaded[0]:
        pytest.skip("the loader does not say what it loads")
    assert loaded == [True, False]
    assert "plugins are not loaded" in run.stderr


def test_plugin_paths_are_given_back(tmp_path):
    before = [h5py.h5pl.get(k) for k in range(h5py.h5pl.size())]
    everything(save(tmp_path, "h5", x=numbers(5, 2)), x_input("N", 2))
    message(hdf5_with_filter(tmp_path, 40_000), x_input("N", 3))
    assert [h5py.h5pl.get(k) for k in range(h5py.h5pl.size())] == before


# ---- memory ------------------------------------------------------------------------------


def peak_bytes(path: Path, indices: np.ndarray) -> int:
    tracemalloc.start()
    try:
        with Calibration.open(path, [x_input("N", 1000)]) as data:
            for batch in data.batches(indices, 16):
                assert batch.feeds["x"][0, 0] == 0
                del batch
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", [*FORMATS, "npy-fortran"])
def test_memory_does_not_grow_with_the_file(tmp_path, form):
    peaks = []
    for samples in (300, 300, 3000):  # the first warms up imports and caches
        x = np.zeros((samples, 1000), "f4")
        if form == "npy-fortran":
            x = np.asfortranarray(x)
        path = save(tmp_path, form if form != "h5-chunked" else "h5", x=x)
        if form == "h5-chunked":
            with h5py.File(path, "w") as file:
                file.create_dataset("x", data=x, chunks=(64, 1000), compression="gzip")
        peaks.append(peak_bytes(path, np.linspace(0, samples - 1, 100).astype(int)))
    assert peaks[2] < 1.05 * peaks[1] + 300_000
    assert peaks[2] < 4_500_000


def test_zip_bomb(tmp_path):
    path = tmp_path / "data.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 14, 1 << 10)}
    )
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as stream,
    ):
        stream.write(header.getvalue())
        for _ in range(64):
            stream.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        [got] = feeds(path, x_input("N", 1 << 10), indices=[3, 4])
        assert got["x"].shape == (2, 1 << 10)
        assert "reshape" in message(path, x_input("N", 1, 1 << 10))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
