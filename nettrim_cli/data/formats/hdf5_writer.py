"""HDF5 files written sample by sample, in little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from nettrim_cli.data.formats.base import PIECE_BYTES, Array
from nettrim_cli.data.formats.hdf5 import PROVENANCE, brief
from nettrim_cli.errors import BadInput, DiskFailed

ATTRIBUTE_BYTES = 60_000  # of an attribute; HDF5 takes 64 KiB


class Hdf5Writer:
    """Datasets that grow by a row a sample."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._rows: dict[str, list[Array]] = {}
        self._datasets: dict[str, Any] = {}

    def add(self, sample: Mapping[str, Array], name: str) -> None:
        """Append a sample: a row of every dataset.

        Raises
        ------
        BadInput
            Its rows have other shapes than those of the first sample.
        DiskFailed
            The rows cannot be written.
        """
        for key, value in sample.items():
            rows = self._rows.setdefault(key, [])
            shape = self._datasets[key].shape[1:] if key in self._datasets else value.shape
            if value.shape != (rows[0].shape if rows else shape):
                raise BadInput(
                    f"{name}: '{key}' would have the shape {value.shape}, but that of the samples "
                    f"before it is {rows[0].shape if rows else shape}: all samples of a file must "
                    "be of one size."
                )
            rows.append(value)
            if len(rows) * max(1, value.nbytes) >= PIECE_BYTES:
                self._flush(key)

    def share(self, name: str, value: Array) -> None:
        """Store a dataset as it is: one value for all samples.

        Raises
        ------
        DiskFailed
            It cannot be written.
        """
        with writing():
            self._file[name] = value

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Write what is left, and how the file was made; a long list in that is left out.

        Raises
        ------
        DiskFailed
            It cannot be written.
        """
        for name in self._rows:
            self._flush(name)
        text = json.dumps(provenance)
        if len(text) > ATTRIBUTE_BYTES:
            short = {key: value for key, value in provenance.items() if not isinstance(value, list)}
            text = json.dumps(short)
        with writing():
            self._file.attrs[PROVENANCE] = text
            self._file.flush()

    def _flush(self, name: str) -> None:
        if not self._rows[name]:
            return
        rows = np.stack(self._rows[name])
        with writing():
            if name not in self._datasets:
                self._datasets[name] = self._file.create_dataset(
                    name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=rows.shape
                )
            else:
                dataset = self._datasets[name]
                start = len(dataset)
                dataset.resize(start + len(rows), axis=0)
                dataset[start:] = rows
        self._rows[name] = []


@contextmanager
def hdf5_file(path: Path) -> Iterator[Hdf5Writer]:
    """Write an HDF5 file in the with-block, in place of an empty one.

    Raises
    ------
    DiskFailed
        The file cannot be written.
    """
    import h5py

    with writing():
        file = h5py.File(path, "w", locking=False)
    try:
        yield Hdf5Writer(file)
    except BaseException:
        with suppress(OSError, RuntimeError, ValueError):  # what came first is told
            file.close()
        raise
    with writing():
        file.close()


@contextmanager
def writing() -> Iterator[None]:
    """Turn what h5py raises where the disk is full into an error of ours.

    Raises
    ------
    DiskFailed
        Writing failed.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        raise DiskFailed(f"writing failed: {brief(error)}; free some space") from error
