"""What every file format hands to the calibration: named arrays that are read row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Indices = NDArray[np.integer[Any]]

PIECE_BYTES = 1 << 20  # one read covers at most this much, or a single row
GAP_BYTES = 1 << 16  # rows further apart than this are read one by one
LISTED = 20  # datasets named in an error message


class Source(Protocol):
    """A dataset of a file: nothing of it is in memory before ``read``."""

    @property
    def name(self) -> str:
        """The dataset's name in the file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape; axis 0 counts the samples."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its dtype as stored; kinds U, S and O are text."""

    def read(self, indices: Indices) -> Array:
        """Rows at sorted indices as (len(indices), ...); a scalar dataset gives itself."""


class Container(Protocol):
    """An open file with datasets in it."""

    path: Path

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How nettrim made the file; empty where it did not, or does not say."""

    def names(self) -> list[str]:
        """Name every dataset, in the file's order."""

    def find(self, name: str) -> Source | None:
        """Look a dataset up.

        Raises
        ------
        Refused
            The way to the dataset, or its data, leads out of the file.
        BadInput
            The dataset is there but cannot be read.
        """

    def describe(self, name: str) -> str:
        """Give name, shape and dtype for a message; never raises, never leaves the file."""

    def close(self) -> None:
        """Give the file back."""


def pieces(indices: Indices, row_bytes: int) -> Iterator[tuple[slice, slice, Indices]]:
    """Cut sorted indices into covering slices that are cheap to read.

    Yields (rows of the file, places in the result, rows of the piece to take). A piece bridges
    small gaps and is never larger than ``PIECE_BYTES``, unless it is a single row.
    """
    row_bytes = max(row_bytes, 1)
    gap = max(GAP_BYTES // row_bytes, 1)
    span = max(PIECE_BYTES // row_bytes, 1)
    start = 0
    for end in (*(np.flatnonzero(np.diff(indices) > gap) + 1).tolist(), len(indices)):
        while start < end:
            first = int(indices[start])
            stop = start + int(np.searchsorted(indices[start:end], first + span))
            yield (
                slice(first, int(indices[stop - 1]) + 1),
                slice(start, stop),
                indices[start:stop] - first,
            )
            start = stop


def row_bytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Bytes of one row as stored."""
    total = dtype.itemsize
    for axis in shape[1:]:
        total *= axis
    return total


def spell(shape: Sequence[object], dtype: object) -> str:
    """Shape and dtype for a message: ``(60000, 28, 28) float32``."""
    inside = ", ".join("?" if axis is None else str(axis) for axis in shape)
    kind = getattr(dtype, "kind", "")
    name = "text" if kind in {"U", "S", "O"} and kind else str(dtype)
    if kind in {"i", "u", "f", "b", "c"}:
        name = str(getattr(dtype, "name", dtype))  # without the byte order
    return f"({inside}{',' if len(shape) == 1 else ''}) {name}"


def listing(container: Container) -> str:
    """What a file holds, for a message."""
    names = container.names()
    if not names:
        return "no datasets"
    text = ", ".join(container.describe(name) for name in names[:LISTED])
    return text + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
